"""A training run on a few hundred generated documents, small enough for a test; also a program, to be killed."""

import json
import logging
import signal
import sys
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from types import FrameType

import numpy as np
import pyarrow as pa

from raypt import storage
from raypt.errors import Terminated
from raypt.model.config import ModelConfig
from raypt.parallel.config import ParallelConfig, ParameterServerConfig, ZeroConfig
from raypt.tokens.config import PackingConfig, TokenizerConfig, TokensConfig
from raypt.tokens.stream.dataset import StreamDataConfig, make_train_dataset
from raypt.tokens.stream.producer import tokenize_heldout_parts, tokenize_parts
from raypt.tokens.stream.spec import StorePlan, StreamSpec, plan_stream, prepare_store
from raypt.tokens.tokenizer.trainer import prepare_tokenizer
from raypt.training.config import CheckpointConfig, EvaluationConfig, OptimizerConfig, ScheduleConfig, TrainConfig
from raypt.training.on_ray.run import TrainResult, run_training
from raypt.training.sizes import readers

LENGTH, BATCH, STEPS, EVERY = 64, 16, 24, 6
WORDS = [
    "the",
    "a",
    "river",
    "stone",
    "walks",
    "under",
    "over",
    "light",
    "and",
    "dark",
    "moves",
    "slowly",
    "home",
    "wind",
]


def write_questions(path: Path) -> None:
    """Sentences of known words against the same letters in another order: a few steps teach the difference."""
    random = np.random.default_rng(5)
    lines = []
    for _ in range(30):
        words = random.choice(WORDS, 6)
        turned = " ".join(word[::-1] for word in words)
        lines.append({"good": " ".join(words), "bad": turned, "phenomenon": "words" if len(lines) % 2 else "order"})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_text(root: Path) -> list[str]:
    """Two parts of curated documents."""
    random = np.random.default_rng(3)
    uris = []
    for part in range(2):
        texts = [" ".join(random.choice(WORDS, random.integers(5, 60))) for _ in range(200)]
        n = len(texts)
        table = pa.table(
            {
                "doc_key": pa.array([(part << 32) | i for i in range(n)], pa.int64()),
                "id": pa.nulls(n, pa.string()),
                "source": ["words"] * n,
                "url": pa.nulls(n, pa.string()),
                "text": texts,
                "lang": ["en"] * n,
            }
        )
        uris.append(str(root / f"part-{part:05d}.parquet"))
        storage.write_parquet(uris[-1], table)
    return uris


@dataclass(frozen=True)
class Job:
    """A run as a driver program starts it: `python -m tests.training.tiny_run JSON`."""

    data: str
    out: str
    address: str = "local"
    """Of the cluster; "local" = one of its own."""
    steps: int = STEPS
    every: int = EVERY
    """Steps between checkpoints."""
    keep_last: int = 2
    workers: int | tuple[int, int] = 2
    tensor: int = 1
    """Workers that each matrix is cut over."""
    pipeline: int = 1
    """Workers that the layers are cut over; with more than one, embeddings are not tied."""
    cpus_per_worker: float = 0.5
    max_failures: int = 3
    resize_check_s: float = 60.0
    hidden: int = 32
    """Width of the model; a wider one has slower steps."""
    lr: float = 1e-2
    max_skipped_in_a_row: int = 50
    collective_timeout_s: float = 600.0
    stall_warning_s: float = 60.0
    strategy: str = "collective"
    zero_stage: int = 1
    staleness: int | None = 0

    def command(self) -> list[str]:
        return [sys.executable, "-m", "tests.training.tiny_run", json.dumps(asdict(self))]


def prepare(root: Path, steps: int = STEPS) -> tuple[StorePlan, StreamSpec, str, ModelConfig]:
    """Text, tokenizer, token store and stream; the same every time, and done already the second time."""
    config = TokensConfig(
        tokenizer=TokenizerConfig(vocab_size=300),
        packing=PackingConfig(sequence_length=LENGTH),
        heldout={"fraction": 0.1},
    )
    uris = write_text(root)
    tokenizer_uri = str(root / "tokenizer")
    tokenizer = prepare_tokenizer(uris, config.tokenizer, tokenizer_uri, 0)
    plan = prepare_store(uris, tokenizer, config, str(root / "tokens"), 0)
    stream = plan_stream(plan, config, samples=steps * BATCH, global_batch=BATCH, ranks=[1, 2, 4])
    tokenize_heldout_parts(plan, config, tokenizer_uri)
    tokenize_parts(plan, config, tokenizer_uri, stream)
    model = ModelConfig(
        hidden_size=32, intermediate_size=64, num_layers=2, num_heads=2, num_kv_heads=1, max_length=LENGTH
    ).for_vocabulary(tokenizer.vocab_size)
    return plan, stream, tokenizer_uri, model


def train_config(steps: int = STEPS) -> TrainConfig:
    return TrainConfig(
        steps=steps,
        workers=2,
        cpus_per_worker=0.5,
        global_batch_tokens=LENGTH * BATCH,
        micro_batch_size=2,
        optimizer=OptimizerConfig(lr=1e-2),
        schedule=ScheduleConfig(warmup_steps=4),
        checkpoint=CheckpointConfig(every_steps=EVERY),
        evaluation=EvaluationConfig(every_steps=8, max_samples=8),
        peak_tflops=0.1,
        tensorboard=False,
    )


def run(job: Job) -> TrainResult:
    """Needs a running Ray and `prepare(data, steps)` done."""
    plan, stream, tokenizer_uri, model = prepare(Path(job.data), job.steps)
    model = model.model_copy(
        update={
            "hidden_size": job.hidden,
            "intermediate_size": 2 * job.hidden,
            "tie_embeddings": job.pipeline == 1,
        }
    )
    train = train_config(job.steps).model_copy(
        update={
            "workers": job.workers,
            "parallel": ParallelConfig(tensor=job.tensor, pipeline=job.pipeline),
            "strategy": job.strategy,
            "zero": ZeroConfig.model_validate({"stage": job.zero_stage}),
            "parameter_server": ParameterServerConfig(servers=2, cpus_per_server=0.1, staleness=job.staleness),
            "cpus_per_worker": job.cpus_per_worker,
            "max_failures": job.max_failures,
            "max_skipped_in_a_row": job.max_skipped_in_a_row,
            "collective_timeout_s": job.collective_timeout_s,
            "stall_warning_s": job.stall_warning_s,
            "resize_check_s": job.resize_check_s,
            "checkpoint": CheckpointConfig(every_steps=job.every, keep_last=job.keep_last),
            "optimizer": OptimizerConfig(lr=job.lr),
        }
    )
    return run_training(
        model=model,
        train=train,
        sequence_length=LENGTH,
        run_uri=job.out,
        make_dataset=lambda cursor: make_train_dataset(stream, cursor),
        data_config=StreamDataConfig(stream, readers=partial(readers, train)),
        stream_fingerprint=stream.fingerprint,
        heldout_uri=storage.join(plan.uri, "heldout"),
        tokenizer_uri=tokenizer_uri,
        seed=0,
        record_samples=True,
    )


def terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated("SIGTERM")


if __name__ == "__main__":
    import ray

    logging.basicConfig(level=logging.INFO)
    job = Job(**json.loads(sys.argv[1]))
    if not isinstance(job.workers, int):
        job = replace(job, workers=(job.workers[0], job.workers[1]))
    prepare(Path(job.data), job.steps)
    if job.address == "local":
        ray.init(address="local", num_cpus=2, include_dashboard=False)
    else:
        ray.init(address=job.address)
    signal.signal(signal.SIGTERM, terminate)  # as a job does; ray.init has set one of its own
    try:
        run(job)
    except Terminated:
        sys.exit(143)
