"""All ranks together: which checkpoint to go on from, and taking it."""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal

from raypt.errors import UserError
from raypt.parallel import comm
from raypt.parallel.engine import Restores
from raypt.parallel.state import ShardSource, Want
from raypt.training.checkpoint.directory import latest_checkpoint, reject
from raypt.training.checkpoint.manifest import CheckpointInfo
from raypt.training.checkpoint.reader import CheckpointReader
from raypt.training.checkpoint.sealed import Damaged

log = logging.getLogger("raypt")


class GoneBack(Exception):
    """The newest checkpoint has turned out damaged and is marked as such: the workers have to start again, with the
    stream of samples where the one before it stands.
    """


def agree_on_newest(
    uri: str, problem_of: Callable[[CheckpointInfo], str | None] = lambda info: None
) -> CheckpointInfo | None:
    """Collective. The newest usable checkpoint under `uri`, as rank 0 finds it; None if there never was one.

    Raises:
        UserError: on every rank, if checkpoints are there and none can be used, or if the newest has a problem.
    """

    def find() -> CheckpointInfo | None:
        info = latest_checkpoint(uri)
        if info is not None and (problem := problem_of(info)) is not None:
            raise UserError(problem)
        return info

    return comm.from_first(find)


def restore(engine: Restores, info: CheckpointInfo, rank: int) -> str | None:
    """Collective. Each rank reads its own part of the checkpoint; what is damaged in it, or None. If any rank finds
    damage, all hear of it, the checkpoint is marked, and the engine's state is of no use until another is restored.

    Raises:
        OSError, UserError: on every rank, if one could not read its part for another reason.
    """
    problem = take(engine, partial(CheckpointReader, info))
    if problem is not None and rank == 0:
        reject(info, problem)
    comm.barrier()
    return problem


def take(engine: Restores, open_source: Callable[[], ShardSource]) -> str | None:
    """Collective. Each rank reads its own part of a saved state; what is damaged in it, or None.

    Raises:
        OSError, UserError: on every rank, if one could not read its part for another reason.
    """
    source = _Reading(open_source)
    if (problem := agree(source.error)) is None:
        engine.restore(source)
        problem = agree(source.error)
    return problem


class _Reading:
    """A state that keeps an error to itself, so that this rank goes on to meet the others in the collectives of the
    engine.
    """

    def __init__(self, open_source: Callable[[], ShardSource]) -> None:
        self.error: Exception | None = None
        self._reader: ShardSource | None = None
        try:
            self._reader = open_source()
        except Exception as e:
            self.error = e

    @property
    def scalars(self) -> Mapping[str, float]:
        assert self._reader is not None
        return self._reader.scalars

    def states(self, name: str) -> set[str]:
        assert self._reader is not None
        return self._reader.states(name)

    def read(self, wants: Sequence[Want]) -> None:
        assert self._reader is not None
        if self.error is None:
            try:
                self._reader.read(wants)
            except Exception as e:
                self.error = e


_Kind = Literal["damaged", "mistake", "failed"]


def agree(error: Exception | None) -> str | None:
    """What one of the ranks found damaged, or None. Raises, on every rank, what else went wrong on one."""
    mine: tuple[_Kind, str] | None = None
    if error is not None:
        kind: _Kind = "failed"
        if isinstance(error, UserError):
            kind = "damaged" if isinstance(error, Damaged) else "mistake"
        mine = kind, str(error) or repr(error)
    everyone = comm.gather_objects(mine)
    for rank, other in enumerate(everyone):
        if other is not None and other[0] != "damaged":
            if error is not None:
                raise error
            raise UserError(other[1]) if other[0] == "mistake" else OSError(f"rank {rank}: {other[1]}")
    return next((other[1] for other in everyone if other is not None), None)
