"""What each worker does where a model is judged that no single one holds: join the group, read its cut, answer."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.distributed as dist

from raypt.errors import UserError
from raypt.model.weights import WeightFiles
from raypt.parallel.mesh import Mesh
from raypt.parallel.pulse import PULSE
from raypt.tokens.tokenizer.tokenizer import Tokenizer, load_tokenizer
from raypt.training.checkpoint.resume import agree, take
from raypt.training.config import TrainConfig
from raypt.training.engines import build_weights
from raypt.training.judged import Judged
from raypt.training.judged_on_mesh import MeshModel
from raypt.training.starting_point import StartingPoint
from raypt.training.starting_weights import StartingWeights
from raypt.training.worker import join


@dataclass(frozen=True)
class Judging:
    """A model to judge on the mesh of `train`, and how. Small and picklable."""

    found: StartingPoint
    train: TrainConfig
    """With the precision to compute in."""
    sequence_length: int
    """Of training: what the mesh was made for."""
    workers: int
    max_length: int
    """See Judged."""
    batch_size: int
    """Sequences a forward pass."""
    work: Callable[[Judged, Tokenizer], object]
    """What rank 0 does with the model and its tokenizer; it writes down what it finds."""


def judging(
    found: StartingPoint,
    train: TrainConfig,
    sequence_length: int,
    work: Callable[[Judged, Tokenizer], object],
    *,
    workers: int,
    precision: str | None = None,
    max_length: int | None = None,
    batch_size: int = 8,
) -> Judging:
    """`precision` None: that the weights are stored in, or that the run computed in; `max_length` None: the model's.

    Each worker of a pipeline has one part of the layers, whatever the schedule, and no sequences are cut between layers
    (`sequence_parallel`).
    """
    chosen = precision or _precision(found)
    alone = {"schedule": "1f1b", "virtual_stages": None, "stages": None, "sequence_parallel": False}
    parallel = train.parallel.model_copy(update=alone)
    return Judging(
        found,
        train.model_copy(update={"precision": chosen, "init": None, "compile": False, "parallel": parallel}),
        sequence_length,
        workers,
        max_length or found.model.max_length,
        batch_size,
        work,
    )


def _precision(found: StartingPoint) -> str:
    if found.checkpoint is not None:
        return str(found.checkpoint.meta["precision"])
    stored = next(iter(WeightFiles(found.uri).entries.values())).dtype
    return "bf16" if stored == torch.bfloat16 else "fp32"


def tokenizer_of(found: StartingPoint) -> Tokenizer:
    """The model's, which puts BOS before a text if documents began with it in training."""
    tokenizer = load_tokenizer(found.tokenizer_uri)
    return tokenizer if found.checkpoint is None else tokenizer.with_added(bos=found.adds_bos)


def answer(spec: Judging) -> None:
    """On every rank, in a process group or the environment of one. Raises on all of them what rank 0's work raised."""
    device, mesh = join(spec.train)
    judge(spec, hold(spec, mesh, device))


def hold(spec: Judging, mesh: Mesh, device: torch.device) -> MeshModel:
    """Collective. The model, of which this rank holds its cut on a mesh of `spec.train`.

    Raises:
        OSError, UserError: on every rank, if one could not make or read its cut; on that rank its own error.
    """
    PULSE.at("building the model")
    found, engine, error = spec.found, None, None
    try:
        engine = build_weights(found.model, spec.train, spec.sequence_length, mesh, device=device)
    except Exception as e:  # the others wait to hear of it
        error = e
    agree(error)
    assert engine is not None
    PULSE.at("reading the weights")
    info = found.checkpoint
    weights = StartingWeights(found.uri, is_checkpoint=info is not None, model=found.model, info=info)
    if (problem := take(engine, weights.open)) is not None:
        raise UserError(f"{found.uri}: {problem}")
    return MeshModel(engine, found.model.vocab, max_length=spec.max_length, batch_size=spec.batch_size, device=device)


def judge(spec: Judging, model: MeshModel) -> None:
    """Collective. `spec.work`, which rank 0 does and in which the others help it. Raises on all ranks what it raised
    there.
    """
    PULSE.at("judging")
    if dist.get_rank() != 0:
        model.follow()
        return
    model.leading(lambda: spec.work(model, tokenizer_of(spec.found)))
