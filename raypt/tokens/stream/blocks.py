"""How samples are dealt to the ranks, and how many of them travel in one block.

Samples are dealt in units (a trainer's micro-batch): unit u of the stream goes to rank u mod n, so micro-batch u holds
the same samples whoever trains on it. A block is several units of one rank, since each block costs Ray Data about 10 ms
whatever its size: the rank's share of whole optimizer steps where that is small, else an even part of its share of one
step. A turn is one block for each rank, in rank order; it covers consecutive samples.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from raypt.errors import UserError


@dataclass(frozen=True)
class Layout:
    """Blocks for a given number of ranks."""

    unit: int
    """Samples of a unit."""
    units: int
    """Units of a block."""
    ranks: int

    @property
    def rows(self) -> int:
        """Samples of a block."""
        return self.unit * self.units

    @property
    def turn(self) -> int:
        """Samples of a turn."""
        return self.rows * self.ranks

    def share(self, rank: int, samples: int) -> npt.NDArray[np.int64]:
        """Which of a turn's first `samples` samples are the rank's, in order: whole units, as many for each."""
        assert samples % (self.unit * self.ranks) == 0, (samples, self)
        return np.arange(samples).reshape(-1, self.ranks, self.unit)[:, rank].ravel()

    def place(self, rank: int, at: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The samples, counted from the start of the stream, that are the at-th of those that the rank receives."""
        return (at // self.unit * self.ranks + rank) * self.unit + at % self.unit


@dataclass(frozen=True)
class BlockPlan:
    """The size of blocks, for any number of ranks that the run may have."""

    global_batch: int
    unit: int
    steps: int
    """A block holds a rank's share of this many optimizer steps; 0 = a part of its share of one."""
    units: int
    """Units of such a part."""

    def layout(self, ranks: int) -> Layout:
        """Raises UserError if the units cannot be dealt evenly to so many ranks."""
        share, rest = divmod(self.global_batch, ranks * self.unit)
        if rest or (not self.steps and share % self.units):
            raise UserError(
                f"{ranks} workers cannot share a global batch of {self.global_batch} samples in blocks of "
                f"{self.unit * (self.units or 1)}; the stream was planned for other numbers of workers"
            )
        return Layout(self.unit, share * self.steps or self.units, ranks)


def plan_blocks(
    global_batch: int,
    ranks: Sequence[int],
    *,
    sample_bytes: int,
    target_bytes: int,
    most_steps: int,
    unit: int | None = None,
) -> BlockPlan:
    """Blocks of at most `target_bytes` and `most_steps` optimizer steps for every number of ranks in `ranks`.

    Without `unit`, it is the largest number of samples that fits and divides every rank's share of the global batch.
    Raises UserError if some number of ranks does not divide the global batch into whole units.
    """
    bad = [n for n in ranks if global_batch % (n * (unit or 1))]
    if bad:
        of = "" if unit is None else f" in micro-batches of {unit}"
        raise UserError(f"a global batch of {global_batch} samples cannot be divided among {bad[0]} workers{of}")
    share = math.gcd(*(global_batch // n for n in ranks))
    fit = max(1, target_bytes // sample_bytes)
    unit = unit or _largest_divisor(share, fit)
    largest = global_batch // min(ranks)
    steps = min(most_steps, fit // largest)
    return BlockPlan(global_batch, unit, steps, 0 if steps else _largest_divisor(share // unit, max(1, fit // unit)))


def _largest_divisor(n: int, most: int) -> int:
    return max(d for d in range(1, min(n, most) + 1) if n % d == 0)
