"""A training run on a few hundred generated documents, small enough for a test; also a program, to be killed."""

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa

from raypt import storage
from raypt.model.config import ModelConfig
from raypt.tokens.config import PackingConfig, TokenizerConfig, TokensConfig
from raypt.tokens.plan import StorePlan, StreamSpec, plan_stream, prepare_store
from raypt.tokens.producer import tokenize_heldout_parts, tokenize_parts
from raypt.tokens.stream import StreamDataConfig, make_train_dataset
from raypt.tokens.trainer import prepare_tokenizer
from raypt.training.config import CheckpointConfig, EvaluationConfig, OptimizerConfig, ScheduleConfig, TrainConfig
from raypt.training.run import TrainResult, run_training

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


def prepare(root: Path) -> tuple[StorePlan, StreamSpec, str, ModelConfig]:
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
    stream = plan_stream(plan, config, samples=STEPS * BATCH, global_batch=BATCH, ranks=[1, 2])
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


def run(data: Path, out: Path) -> TrainResult:
    """Needs a running Ray and `prepare(data)` done."""
    plan, stream, tokenizer_uri, model = prepare(data)
    return run_training(
        model=model,
        train=train_config(),
        sequence_length=LENGTH,
        run_uri=str(out),
        make_dataset=lambda cursor: make_train_dataset(stream, cursor),
        data_config=StreamDataConfig(stream),
        stream_fingerprint=stream.fingerprint,
        heldout_uri=storage.join(plan.uri, "heldout"),
        tokenizer_uri=tokenizer_uri,
        seed=0,
        record_samples=True,
    )


if __name__ == "__main__":
    import ray

    prepare(Path(sys.argv[1]))
    ray.init(address="local", num_cpus=2, include_dashboard=False)
    run(Path(sys.argv[1]), Path(sys.argv[2]))
