"""The text that a run ends with: its model continues a few beginnings, on workers as those that trained it.

They hold the weights alone, read from the last checkpoint piece by piece; no process holds what none held in training.
One replica is enough, with its tensor and pipeline cuts (`train.parallel`), and under ZeRO 3 as many workers as cut the
weights between them. Beginnings are short, so that positions are not cut over workers (`train.parallel.context`), and
the workers of a context each hold a whole model.
"""

from collections.abc import Sequence
from functools import partial

from raypt import storage
from raypt.model import ModelConfig
from raypt.run.config import RunConfig
from raypt.run_dir import RunDir
from raypt.tokens.tokenizer.tokenizer import Tokenizer
from raypt.training.checkpoint.manifest import CheckpointInfo
from raypt.training.config import TrainConfig
from raypt.training.judged import Judged
from raypt.training.judging import judging
from raypt.training.on_ray.judging import judge_on_workers
from raypt.training.sizes import check_workers
from raypt.training.starting_point import StartingPoint

PROMPTS = ("The ", "Returns a ", "This function ", "")
MAX_NEW_TOKENS = 64
TEMPERATURE = 0.8
TOP_P = 0.95
NAME = "sample.json"
"""In the run directory."""
_FAILURES = 3
"""Workers that may be lost meanwhile; they begin anew."""


def sample_on_workers(config: RunConfig, run: RunDir, checkpoint: CheckpointInfo) -> None:
    """Leave a sample of the checkpoint's model in the run directory, and none of an earlier one. Ray must be
    initialised.
    """
    sample_uri = run.path(NAME)
    storage.remove(sample_uri)
    length = config.tokens.packing.sequence_length
    train, workers = workers_for_sample(config.train, length)
    model = ModelConfig.model_validate(checkpoint.meta["model"])
    spec = judging(
        StartingPoint(checkpoint.uri, model, run.tokenizer, checkpoint),
        train,
        length,
        partial(write_sample, uri=sample_uri, prompts=PROMPTS, seed=config.run.seed),
        workers=workers,
        precision=config.export.precision,
    )
    judge_on_workers(spec, run.uri, failures=_FAILURES)


def workers_for_sample(train: TrainConfig, sequence_length: int) -> tuple[TrainConfig, int]:
    """On what mesh, and on how many workers, a model is sampled that `train` has trained."""
    parallel = train.parallel.model_copy(update={"context": 1})
    train = train.model_copy(update={"parallel": parallel})
    if train.zero.stage < 3:
        return train, parallel.replica
    return train, check_workers(train, sequence_length)[0]


def write_sample(model: Judged, tokenizer: Tokenizer, *, uri: str, prompts: Sequence[str], seed: int) -> None:
    """A continuation of each prompt, written to `uri` as [{prompt, text}]. A prompt begins as a document did in
    training: with BOS if the tokenizer adds it; an empty one is left out where it does not, for then the model knows no
    beginning.
    """
    sample = []
    for prompt in prompts:
        ids = tokenizer.encode(prompt, bos=tokenizer.adds_bos)
        if not ids:
            continue
        new = model.generate(
            ids, max_new_tokens=MAX_NEW_TOKENS, temperature=TEMPERATURE, top_p=TOP_P, seed=seed, stop=tokenizer.eos_id
        )
        sample.append({"prompt": prompt, "text": tokenizer.decode(new)})
    storage.write_json(uri, sample)
