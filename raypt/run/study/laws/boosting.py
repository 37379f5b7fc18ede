"""Gradient-boosted regression trees on a few hundred runs, the size of RegMix's regression (Liu et al. 2024).

Squared error, trees of bounded depth, exact splits. RegMix uses LightGBM with a learning rate of 0.01 and up to 1,000
rounds; trees here are shallower and rounds fewer at a higher rate, which costs nothing measurable on its runs.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raypt.run.study.laws.robust import Array

ROUNDS = 400
RATE = 0.05
DEPTH = 4
LEAST_LEAF = 5
"""Runs in a leaf."""


@dataclass(frozen=True)
class Tree:
    """A full binary tree by level: node i has the children 2i + 1 and 2i + 2."""

    feature: NDArray[np.int64]
    threshold: Array
    """A row goes left if its feature is at most this; +inf: always."""
    value: Array
    """Of the leaves, the last 2^depth nodes."""

    def predict(self, x: Array) -> Array:
        at = np.zeros(len(x), int)
        rows = np.arange(len(x))
        while at[0] < len(self.feature):
            at = 2 * at + 1 + (x[rows, self.feature[at]] > self.threshold[at])
        return np.asarray(self.value[at - len(self.feature)])


@dataclass(frozen=True)
class Boosted:
    """A sum of trees."""

    mean: float
    trees: list[Tree]

    def predict(self, x: Array) -> Array:
        out = np.full(len(x), self.mean)
        for tree in self.trees:
            out += tree.predict(x)
        return out


def boost(x: Array, y: Array, *, rounds: int = ROUNDS, rate: float = RATE, depth: int = DEPTH) -> Boosted:
    """Fit trees to what the ones before have left over. x: (runs, features)."""
    mean = float(y.mean())
    left = y - mean
    order = np.argsort(x, axis=0, kind="stable")
    trees = []
    for _ in range(rounds):
        tree = _grow(x, order, left, rate, depth)
        left = left - tree.predict(x)
        trees.append(tree)
    return Boosted(mean, trees)


def _grow(x: Array, order: NDArray[np.int64], left: Array, rate: float, depth: int) -> Tree:
    inner = 2**depth - 1
    feature, threshold = np.zeros(inner, int), np.full(inner, np.inf)
    value = np.zeros(2**depth)
    members: list[NDArray[np.int64] | None] = [None] * (2 * inner + 1)
    members[0] = order
    for node in range(inner):
        sorted_RF = members[node]
        if sorted_RF is None:
            continue
        split = _best_split(x, sorted_RF, left)
        if split is not None:
            feature[node], threshold[node] = split
        goes_right = np.zeros(len(x), bool)
        goes_right[sorted_RF[:, 0]] = x[sorted_RF[:, 0], feature[node]] > threshold[node]
        right = goes_right[sorted_RF]  # the same rows in each column, so that each column keeps its order
        for child, chosen in ((2 * node + 1, ~right), (2 * node + 2, right)):
            count = int(chosen[:, 0].sum())
            members[child] = sorted_RF.T[chosen.T].reshape(-1, count).T if count else None
    for leaf in range(2**depth):
        rows = members[inner + leaf]
        if rows is not None:
            value[leaf] = rate * left[rows[:, 0]].mean()
    return Tree(feature, threshold, value)


def _best_split(x: Array, sorted_RF: NDArray[np.int64], left: Array) -> tuple[int, float] | None:
    """The feature and threshold that lower the squared error most; None if no split is allowed or helps."""
    count = len(sorted_RF)
    if count < 2 * LEAST_LEAF:
        return None
    values = np.take_along_axis(x, sorted_RF, 0)
    sums = np.cumsum(left[sorted_RF], axis=0)
    n_left = np.arange(LEAST_LEAF, count - LEAST_LEAF + 1)[:, None]
    at = n_left[:, 0] - 1
    total = sums[-1]
    gain = sums[at] ** 2 / n_left + (total - sums[at]) ** 2 / (count - n_left)
    gain = np.where(values[at] < values[at + 1], gain, -np.inf)
    row, column = np.unravel_index(int(np.argmax(gain)), gain.shape)
    if not gain[row, column] > total[column] ** 2 / count + 1e-15:
        return None
    low, high = values[at[row], column], values[at[row] + 1, column]
    return int(column), float((low + high) / 2)
