"""What is learned when: accuracy on questions over the tokens a model has seen (Zhang et al. 2021)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from scipy import stats

from raypt.run.study.laws.bootstrap import LEVEL
from raypt.run.study.laws.robust import Array
from raypt.run.study.train import task_column
from raypt.training.config import TaskConfig
from raypt.training.questions import read_questions


@dataclass(frozen=True)
class Asked:
    """Questions of one kind, and how often they were answered rightly as training went on."""

    task: str
    name: str
    questions: int
    chance: float
    tokens_T: Array
    right_ST: Array
    """Share by seed and evaluation."""

    @property
    def right_T(self) -> Array:
        """Mean over seeds."""
        return np.asarray(self.right_ST.mean(0))

    @property
    def interval_T2(self) -> Array:
        """Low and high of the mean."""
        return np.stack(interval(self.right_ST, self.questions), axis=1)

    @property
    def learned_at(self) -> float | None:
        """Tokens from which on the interval lies above guessing; None if it does not at the end."""
        fails = np.flatnonzero(self.interval_T2[:, 0] <= self.chance)
        first = int(fails[-1]) + 1 if fails.size else 0
        return float(self.tokens_T[first]) if first < len(self.tokens_T) else None


def interval(accuracy_ST: Array, questions: int) -> tuple[Array, Array]:
    """Of the mean over seeds: Wilson's for the questions (1927; they are the same for all seeds, so that seeds do not
    narrow it), and Student's t for the seeds, which add up in squares.
    """
    seeds = len(accuracy_ST)
    p = accuracy_ST.mean(0)
    z = float(stats.norm.ppf((1 + LEVEL) / 2))
    middle = (p + z**2 / (2 * questions)) / (1 + z**2 / questions)
    half = z / (1 + z**2 / questions) * np.sqrt(p * (1 - p) / questions + z**2 / (4 * questions**2))
    if seeds > 1:
        luck = stats.t.ppf((1 + LEVEL) / 2, seeds - 1) * accuracy_ST.std(0, ddof=1) / math.sqrt(seeds)
        half = np.sqrt(half**2 + luck**2)
    return np.clip(middle - half, 0, 1), np.clip(middle + half, 0, 1)


def asked(tasks: Sequence[TaskConfig], steps: pa.Table, variant: str) -> list[Asked]:
    """Each group of each task, of one variant's trainings (`study.parquet`)."""
    rows = [row for row in steps.to_pylist() if row["variant"] == variant]
    seeds = sorted({row["seed"] for row in rows})
    out = []
    for task in tasks:
        questions = read_questions(task.path, task.max_questions, f"base.train.evaluation.tasks {task.name}")
        for group in dict.fromkeys(q.group or "" for q in questions):
            column = task_column(task.name, group)
            mine = [q for q in questions if (q.group or "") == group]
            by_seed = [[r for r in rows if r["seed"] == s and r.get(column) is not None] for s in seeds]
            tokens_T = np.array([r["tokens"] for r in by_seed[0]], float)
            right_ST = np.array([[r[column] for r in found] for found in by_seed])
            chance = float(np.mean([1 / len(q.choices) for q in mine]))
            out.append(Asked(task.name, group or task.name, len(mine), chance, tokens_T, right_ST))
    return out


def families(kinds: Sequence[Asked]) -> list[Asked]:
    """Groups whose names agree up to a colon, taken together: `agreement: across a noun` is of `agreement`."""
    out = []
    for name in dict.fromkeys((k.task, k.name.split(":")[0]) for k in kinds):
        mine = [k for k in kinds if (k.task, k.name.split(":")[0]) == name]
        count = sum(k.questions for k in mine)
        chance = sum(k.chance * k.questions for k in mine) / count
        right_ST = np.sum([k.right_ST * k.questions for k in mine], axis=0) / count
        out.append(Asked(*name, count, chance, mine[0].tokens_T, right_ST))
    return out
