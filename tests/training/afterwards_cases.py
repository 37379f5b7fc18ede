"""What ranks do that have trained, and then judge what they have trained."""

import gc
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from raypt.parallel.config import ParallelConfig, ZeroConfig
from raypt.run.sample import NAME, Sampling
from raypt.tokens.tokenizer.tokenizer import Tokenizer
from raypt.training.afterwards import Afterwards, judge_trained
from raypt.training.checkpoint.directory import latest_checkpoint
from raypt.training.checkpoint.manifest import CheckpointInfo
from raypt.training.config import TrainConfig
from raypt.training.judged import Judged
from raypt.training.judged_on_mesh import MeshModel
from raypt.training.judging import Judging
from tests.training import tiny_run
from tests.training.scenarios import Scenario

STEPS = 5
KINDS: dict[str, dict[str, Any]] = {
    "dp2": {},
    "tp2": {"parallel": ParallelConfig(tensor=2)},
    "pp2": {"parallel": ParallelConfig(pipeline=2, schedule="zero_bubble")},
    "cp2": {"parallel": ParallelConfig(context=2)},
    "zero3": {"zero": ZeroConfig(stage=3)},
}
"""What two workers train with, beside the defaults."""


def train_for(kind: str) -> TrainConfig:
    return tiny_run.train_config(STEPS).model_copy(update=KINDS[kind])


def sampling_for(data: str, run: Path, train: TrainConfig) -> Sampling:
    return Sampling(
        uri=str(run / NAME),
        tokenizer_uri=str(Path(data) / "tokenizer"),
        train=train,
        sequence_length=tiny_run.LENGTH,
        seed=0,
        precision=None,
    )


def trained(s: Scenario, out: Path, kind: str) -> CheckpointInfo | None:
    """The last checkpoint of a run, on rank 0."""
    s.run(out, last=STEPS * tiny_run.BATCH, untied=True, steps=STEPS, **KINDS[kind])
    return latest_checkpoint(str(out / "checkpoints")) if s.rank == 0 else None


def held_elements() -> int:
    """Of all tensors of this process with memory of their own, in float32."""
    storages = {}
    for o in gc.get_objects():
        if isinstance(o, torch.Tensor) and o.device.type == "cpu":
            storages[o.untyped_storage().data_ptr()] = o.untyped_storage().nbytes() // 4
    return sum(storages.values())


def noting(sampling: Sampling, held: list[int]) -> Afterwards:
    """The same, noting what this process holds of tensors when rank 0 begins, and what the weights alone are of that,
    as float32 elements.
    """

    def afterwards(info: CheckpointInfo) -> Judging:
        spec = sampling.judging(info)

        def work(model: Judged, tokenizer: Tokenizer) -> None:
            assert isinstance(model, MeshModel)
            held.extend((held_elements(), model.engine.nbytes // 4))
            spec.work(model, tokenizer)

        return replace(spec, work=work)

    return afterwards


def on_ranks(data: str, root: str) -> dict[str, Any]:
    """By kind of training, what rank 0 held of tensors when it began to write a text afterwards: see `noting`."""
    s, out = Scenario(data), {}
    for kind in KINDS:
        run, train = Path(root) / kind, train_for(kind)
        held: list[int] = []
        saved = trained(s, run, kind)
        done = judge_trained(noting(sampling_for(data, run, train), held), saved, train)
        assert done, kind
        out[kind] = held
    return out


def one_fails(data: str, root: str) -> bool:
    """Whether rank 0 believes that it is done where another fails alone, in the midst of a text."""
    s, run, train = Scenario(data), Path(root) / "failed", train_for("tp2")
    saved = trained(s, run, "tp2")
    following = MeshModel._following

    def out_of_memory(self: MeshModel, new: list[int]) -> torch.Tensor:
        if len(self._text) > 20:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return following(self, new)

    if s.rank == 1:
        MeshModel._following = out_of_memory  # type: ignore[method-assign]
    return judge_trained(sampling_for(data, run, train).judging, saved, train)
