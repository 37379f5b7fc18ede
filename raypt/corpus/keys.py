"""Document identity: `doc_key` is a pure function of (manifest shard, row in shard).

Never a counter, an arrival order or a random id: Ray retries tasks, and a retried task must give the same keys. The row
counts every record of the shard, unreadable ones too, so that quarantining one does not rename those behind it.
"""

import numpy as np
import numpy.typing as npt

ROW_BITS = 32
MAX_SHARDS = 1 << 31
MAX_ROWS = 1 << ROW_BITS


def doc_keys(shard: int, rows: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """int64 keys `shard << 32 | row`; sorting by key is sorting by manifest order."""
    assert 0 <= shard < MAX_SHARDS
    return np.int64(shard << ROW_BITS) | np.asarray(rows, dtype=np.int64)


def shard_of(keys: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return keys >> ROW_BITS


def row_of(keys: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return keys & np.int64(MAX_ROWS - 1)
