"""What a stream block says about itself: where its samples stand, and what its fetcher waited for.

A block is a table, all of whose columns have one row a sample; the label is JSON, spread over the rows of a column of
bytes. Every block of a stream has a label of one size, so that Ray Data sees blocks of one size.
"""

import json
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

_BYTES = 384
_MAX_NAME = 48


@dataclass(frozen=True)
class Label:
    """Times are those of the fetcher since the block before for the same rank."""

    start: int
    """First sample of the stream."""
    unit: int
    """Samples dealt to a rank at a time."""
    rows: int
    """Samples in the block; the rows after them are padding."""
    waited_s: float = 0.0
    """Seconds for which the fetcher waited for shards that were not tokenized yet."""
    read_s: float = 0.0
    """Seconds for which it read samples from the store."""
    shard: int = -1
    """The last shard that it waited for; -1 = none."""
    source: str = ""
    """The source whose samples of that shard were due."""
    shard_tokens_per_s: float = 0.0
    """How fast that shard was tokenized, by the task that made it."""

    def blaming(self, shard: int, source: str, tokens_per_s: float) -> "Label":
        return replace(self, shard=shard, source=source, shard_tokens_per_s=tokens_per_s)

    def spread(self, rows: int) -> npt.NDArray[np.uint8]:
        """uint8[rows, k]."""
        value = asdict(self) | {"source": self.source[:_MAX_NAME], "size": rows}
        for key in ("waited_s", "read_s", "shard_tokens_per_s"):
            value[key] = round(value[key], 6)
        text = json.dumps(value, ensure_ascii=False).encode()
        assert len(text) <= _BYTES, text
        width = -(-_BYTES // rows)
        return np.frombuffer(text.ljust(rows * width), np.uint8).reshape(rows, width)

    @classmethod
    def gather(cls, spread: npt.NDArray[Any]) -> "Label":
        """Inverse of `spread`; raises ValueError if the rows are not those of one block."""
        value = json.loads(np.ascontiguousarray(spread, np.uint8).tobytes())
        if value.pop("size") != len(spread):
            raise ValueError(f"{len(spread)} rows of a block")
        return cls(**value)
