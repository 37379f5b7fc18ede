"""Micro-batches on their way from the leader to a worker: numpy arrays of 5 bytes a token, 9 where rows are several
documents, in place of tensors of 21. Everything that the workers train on passes through the leader.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from raypt.model.batch import MicroBatch


class Rows(NamedTuple):
    """A micro-batch of B rows of S + 1 tokens."""

    tokens: npt.NDArray[np.int32]
    valid: npt.NDArray[np.bool_]
    """(B, S)."""
    segments: npt.NDArray[np.int32] | None
    """(B, S); None as in `MicroBatch`."""
    sample_index: npt.NDArray[np.int64]


def sent(micro: MicroBatch) -> Rows:
    """What travels."""
    segments = None if micro.segments_BS is None else np.ascontiguousarray(micro.segments_BS.numpy(), dtype=np.int32)
    valid = np.ascontiguousarray(micro.valid_BS.numpy())
    return Rows(micro.rows.astype(np.int32), valid, segments, micro.sample_index_B)


def received(rows: Rows) -> MicroBatch:
    """What it was."""
    tokens = rows.tokens.astype(np.int64)
    ids = torch.from_numpy(tokens)

    def tensor(array: npt.NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(array.copy())  # what Ray hands out is not to be written to

    return MicroBatch(
        tokens_BS=ids[:, :-1],
        targets_BS=ids[:, 1:],
        valid_BS=tensor(rows.valid),
        segments_BS=None if rows.segments is None else tensor(rows.segments),
        sample_index_B=np.array(rows.sample_index),
        rows=tokens,
    )
