"""The text that a run ends with: its model continues a few beginnings.

The workers that have trained it write it before they go (`raypt.training.afterwards`). Where they have not, new ones do
(`judge_on_workers`): on one replica with its tensor and pipeline cuts (`train.parallel`), and under ZeRO 3 on as many
as cut the weights between them. Either way they hold the weights alone, read from the last checkpoint piece by piece;
no process holds what none held in training. Beginnings are short, so that positions are not cut over workers
(`train.parallel.context`), and the workers of a context each hold a whole model.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from raypt import storage
from raypt.model import ModelConfig
from raypt.run.stages import timed_stage
from raypt.run_dir import RunDir
from raypt.tokens.tokenizer.tokenizer import Tokenizer
from raypt.training.checkpoint.manifest import CheckpointInfo
from raypt.training.config import TrainConfig
from raypt.training.judged import Judged
from raypt.training.judging import Judging, judging
from raypt.training.sizes import check_workers
from raypt.training.starting_point import StartingPoint

if TYPE_CHECKING:  # workers take a Sampling, and need not read what a whole configuration is made of
    from raypt.run.config import RunConfig

log = logging.getLogger("raypt")

PROMPTS = ("The ", "Returns a ", "This function ", "")
MAX_NEW_TOKENS = 64
TEMPERATURE = 0.8
TOP_P = 0.95
NAME = "sample.json"
"""In the run directory."""
_FAILURES = 3
"""Workers that may be lost meanwhile; they begin anew."""


@dataclass(frozen=True)
class Sampling:
    """What is written of a run's last model, and where. Small and picklable."""

    uri: str
    tokenizer_uri: str
    train: TrainConfig
    sequence_length: int
    seed: int
    precision: str | None
    """That is computed in; None = what the run computed in."""

    @classmethod
    def of(cls, config: "RunConfig", run: RunDir) -> "Sampling":
        return cls(
            uri=run.path(NAME),
            tokenizer_uri=run.tokenizer,
            train=config.train,
            sequence_length=config.tokens.packing.sequence_length,
            seed=config.run.seed,
            precision=config.export.precision,
        )

    def judging(self, checkpoint: CheckpointInfo) -> Judging:
        """What workers are to do with the checkpoint's model."""
        train, workers = workers_for_sample(self.train, self.sequence_length)
        origin = self._origin(checkpoint)
        model = ModelConfig.model_validate(checkpoint.meta["model"])
        return judging(
            StartingPoint(checkpoint.uri, model, self.tokenizer_uri, checkpoint),
            train,
            self.sequence_length,
            partial(write_sample, uri=self.uri, prompts=PROMPTS, seed=self.seed, origin=origin),
            workers=workers,
            precision=origin["precision"],
        )

    def made(self, checkpoint: CheckpointInfo) -> bool:
        """Whether there is a text, and it is of this checkpoint."""
        try:
            entries = storage.read_json(self.uri)
        except (FileNotFoundError, ValueError):
            return False
        return bool(entries) and all(entry.items() >= self._origin(checkpoint).items() for entry in entries)

    def _origin(self, checkpoint: CheckpointInfo) -> dict[str, str]:
        """What tells the text of one model from another's."""
        return {"checkpoint": checkpoint.name, "precision": self.precision or str(checkpoint.meta["precision"])}


def ensure_sample(sampling: Sampling, run: RunDir, checkpoint: CheckpointInfo) -> None:
    """Leave a text of the checkpoint's model in the run directory, or none. One that cannot be generated is a line in
    the log: the model is there without it. Ray must be initialised.
    """
    try:
        if not sampling.made(checkpoint):
            with timed_stage(run, "sample"):
                sample_on_workers(sampling, run.uri, checkpoint)
    except Exception as e:
        why = (str(e).strip() or repr(e)).splitlines()[-1]
        log.warning("no text was generated with the model: %s. The same command (raypt pretrain) tries it again", why)


def sample_on_workers(sampling: Sampling, run_uri: str, checkpoint: CheckpointInfo) -> None:
    """Write a text of the checkpoint's model on new workers, in the place of any that is there. Raises as
    `judge_on_workers` does.
    """
    from raypt.training.on_ray.judging import judge_on_workers  # seldom needed

    storage.remove(sampling.uri)
    judge_on_workers(sampling.judging(checkpoint), run_uri, failures=_FAILURES)


def workers_for_sample(train: TrainConfig, sequence_length: int) -> tuple[TrainConfig, int]:
    """On what mesh, and on how many new workers, a model is sampled that `train` has trained."""
    parallel = train.parallel.model_copy(update={"context": 1})
    train = train.model_copy(update={"parallel": parallel})
    if train.zero.stage < 3:
        return train, parallel.replica
    return train, check_workers(train, sequence_length)[0]


def write_sample(
    model: Judged,
    tokenizer: Tokenizer,
    *,
    uri: str,
    prompts: Sequence[str],
    seed: int,
    origin: Mapping[str, str],
) -> None:
    """A continuation of each prompt, written to `uri` as [{prompt, text} and `origin`]. A prompt begins as a document
    did in training: with BOS if the tokenizer adds it; an empty one is left out where it does not, for then the model
    knows no beginning.
    """
    sample = []
    for prompt in prompts:
        ids = tokenizer.encode(prompt, bos=tokenizer.adds_bos)
        if not ids:
            continue
        new = model.generate(
            ids, max_new_tokens=MAX_NEW_TOKENS, temperature=TEMPERATURE, top_p=TOP_P, seed=seed, stop=tokenizer.eos_id
        )
        sample.append({"prompt": prompt, "text": tokenizer.decode(new), **origin})
    storage.write_json(uri, sample)
