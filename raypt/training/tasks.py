"""Downstream tasks while a model trains: questions of `raypt.training.questions`, scored by all ranks together.

Each choice is a micro-batch of one row whose valid targets are its own tokens, so that any engine on any mesh scores it
(`TrainEngine.evaluate`); no rank needs the whole model.
"""

import itertools
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from raypt.errors import UserError
from raypt.model.batch import MicroBatch
from raypt.parallel import comm
from raypt.parallel.engine import TrainEngine
from raypt.tokens.tokenizer.tokenizer import Tokenizer
from raypt.training.config import TaskConfig
from raypt.training.questions import Choice, encode, read_questions

_TOGETHER = 16
"""Rows handed to the engine at a time."""
_STEP = 64
"""Rows are as long as the longest choice of a task, rounded up to this, or to a multiple of it that the ranks which cut
positions can share out: few shapes."""


@dataclass(frozen=True)
class Task:
    """The questions of one `train.evaluation.tasks` entry, encoded."""

    name: str
    choices: tuple[tuple[Choice, ...], ...]
    """Of each question."""
    answers: np.ndarray
    groups: tuple[str | None, ...]
    by: str
    """See TaskConfig.choose_by."""

    def length(self, cuts: int) -> int:
        """Inputs of a row whose positions are shared out over so many ranks."""
        longest, step = max(len(c.ids) - 1 for row in self.choices for c in row), math.lcm(_STEP, cuts)
        return -(-longest // step) * step

    @property
    def chance(self) -> float:
        """What guessing gets."""
        return float(np.mean([1 / len(row) for row in self.choices]))


def load_task(config: TaskConfig, tokenizer: Tokenizer, sequence_length: int) -> Task:
    """Read and encode the questions of a task. Raises UserError with the key, the file and the line."""
    questions = read_questions(config.path, config.max_questions, f"train.evaluation.tasks {config.name}")
    choices = tuple(tuple(row) for row in encode(questions, tokenizer, sequence_length))
    return Task(
        config.name,
        choices,
        np.array([q.answer for q in questions], np.int64),
        tuple(q.group for q in questions),
        config.choose_by,
    )


class Tasks:
    """The tasks of a run."""

    def __init__(self, configs: tuple[TaskConfig, ...], tokenizer: Tokenizer, sequence_length: int) -> None:
        self.configs, self.tokenizer, self.sequence_length = configs, tokenizer, sequence_length
        self._tasks: list[Task] | None = None

    def load(self) -> list[Task]:
        """Collective: rank 0 reads the files, for all; a mistake in one is raised on every rank."""
        if self._tasks is None:
            found: tuple[list[Task] | None, UserError | None] = (None, None)
            if not dist.is_initialized() or dist.get_rank() == 0:
                try:
                    found = [load_task(c, self.tokenizer, self.sequence_length) for c in self.configs], None
                except UserError as e:
                    found = None, e
            tasks, problem = comm.broadcast_object(found) if dist.is_initialized() else found
            if problem is not None:
                raise problem
            assert tasks is not None
            self._tasks = tasks
        return self._tasks

    def evaluate(self, engine: TrainEngine, device: torch.device) -> dict[str, dict[str, Any]]:
        """Collective. Of each task {accuracy, questions, chance, seconds, by_group}, the same on every rank."""
        return {task.name: _evaluate(task, engine, device) for task in self.load()}


def _evaluate(task: Task, engine: TrainEngine, device: torch.device) -> dict[str, Any]:
    started, topology = time.perf_counter(), engine.topology
    every = [c for row in task.choices for c in row]
    nats = np.zeros(len(every))
    length = task.length(topology.context_size * topology.tensor_size)
    mine = _turns(len(every), topology.data_rank, topology.data_size)
    while turn := list(itertools.islice(mine, _TOGETHER)):
        losses = engine.evaluate([row(every[at or 0], length) for at in turn])
        for at, loss in zip(turn, losses, strict=True):
            if at is not None and topology.leads_replica:
                nats[at] = loss
    total = np.array(comm.all_reduce_floats(nats.tolist(), device))
    return _figures(task, total, time.perf_counter() - started)


def _turns(count: int, rank: int, ranks: int) -> Iterator[int | None]:
    """Indices for one of so many ranks; equally many for each, since all must run each forward pass together."""
    for first in range(0, count, ranks):
        yield first + rank if first + rank < count else None


def row(choice: Choice, length: int) -> MicroBatch:
    """A choice as a micro-batch of one row: what comes behind it is padding that causal attention never looks at."""
    tokens = np.zeros((1, length + 1), np.int64)
    tokens[0, : len(choice.ids)] = choice.ids
    valid = np.zeros((1, length), bool)
    end = len(choice.ids) - 1
    valid[0, end - choice.scored : end] = True
    ids = torch.from_numpy(tokens)
    return MicroBatch(ids[:, :-1], ids[:, 1:], torch.from_numpy(valid), None, np.zeros(1, np.int64), tokens)


def _figures(task: Task, nats: np.ndarray, seconds: float) -> dict[str, Any]:
    right = np.zeros(len(task.choices), bool)
    at = 0
    for i, choices in enumerate(task.choices):
        cost = nats[at : at + len(choices)]
        at += len(choices)
        if task.by == "byte":
            cost = cost / [c.nbytes for c in choices]
        # Equal choices are no knowledge: the first of them would otherwise win, and it is often the right one.
        right[i] = (cost > cost[task.answers[i]]).sum() == len(choices) - 1
    figures: dict[str, Any] = {
        "accuracy": float(right.mean()),
        "questions": len(right),
        "chance": task.chance,
        "seconds": seconds,
    }
    names = sorted({g for g in task.groups if g is not None})
    if names:
        groups = np.array([g or "" for g in task.groups])
        figures["by_group"] = {g: float(right[groups == g].mean()) for g in names}
    return figures
