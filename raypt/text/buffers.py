"""Text of a batch of documents as the raw UTF-8 buffer of an Arrow string array, for compiled kernels."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa


@dataclass(frozen=True)
class TextBatch:
    """Document `i` is `data[offsets[i]:offsets[i + 1]]`, valid UTF-8.

    Shapes: data uint8[bytes], offsets int64[n + 1]. Shares the Arrow buffer; a null is an empty document.
    """

    data: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def nbytes(self) -> int:
        return int(self.offsets[-1] - self.offsets[0])

    @classmethod
    def from_arrow(cls, text: pa.Array) -> "TextBatch":
        """From one string or large_string array (not chunked)."""
        assert pa.types.is_string(text.type) or pa.types.is_large_string(text.type), text.type
        if text.null_count:
            text = text.fill_null("")
        dtype = np.int32 if pa.types.is_string(text.type) else np.int64
        _, offset_buffer, data_buffer = text.buffers()
        if len(text) == 0 or offset_buffer is None:
            return cls(np.empty(0, np.uint8), np.zeros(len(text) + 1, np.int64))
        offsets = np.frombuffer(offset_buffer, dtype)[text.offset : text.offset + len(text) + 1].astype(np.int64)
        data = np.empty(0, np.uint8) if data_buffer is None else np.frombuffer(data_buffer, np.uint8)
        return cls(data, offsets)

    def to_arrow(self) -> pa.Array:
        """A string array (large_string above 2 GiB)."""
        start, end = int(self.offsets[0]), int(self.offsets[-1])
        small = end - start < 2**31
        offsets = (self.offsets - start).astype(np.int32 if small else np.int64)
        kind = pa.StringArray if small else pa.LargeStringArray
        return kind.from_buffers(len(self), pa.py_buffer(offsets), pa.py_buffer(self.data[start:end]))


def byte_lengths(text: pa.Array) -> np.ndarray:
    """int64[n]: UTF-8 bytes of each document, 0 for null."""
    return np.diff(TextBatch.from_arrow(text).offsets)


def slices(text: pa.ChunkedArray, max_bytes: int) -> Iterator[tuple[int, pa.Array]]:
    """`(first row, array)` pieces of a column of about `max_bytes` each (a longer document is a piece of its own)."""
    row = 0
    for chunk in text.chunks:
        ends = np.cumsum(byte_lengths(chunk))
        start = 0
        while start < len(chunk):
            base = int(ends[start - 1]) if start else 0
            stop = max(start + 1, int(np.searchsorted(ends, base + max_bytes, side="right")))
            yield row + start, chunk.slice(start, stop - start)
            start = stop
        row += len(chunk)
