"""Arrow strings as the raw buffers under them, for compiled kernels: the one place that takes an array apart."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def string_buffers(text: pa.Array | pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """(data uint8, offsets int64[n + 1]) of a string or large_string array; a null is empty.

    Document `i` is `data[offsets[i]:offsets[i + 1]]`. Views where Arrow allows, and read-only always: numba would
    compile each kernel a second time for arrays that can be written to.
    """
    array = text.combine_chunks() if isinstance(text, pa.ChunkedArray) else text
    if array.null_count:
        array = pc.fill_null(array, "")
    wide = pa.types.is_large_string(array.type)
    assert wide or pa.types.is_string(array.type), array.type
    _, offset_buffer, data_buffer = array.buffers()
    if len(array) == 0 or offset_buffer is None:
        return _read_only(np.empty(0, np.uint8)), _read_only(np.zeros(len(array) + 1, np.int64))
    offsets = np.frombuffer(offset_buffer, np.int64 if wide else np.int32)
    offsets = offsets[array.offset : array.offset + len(array) + 1].astype(np.int64, copy=False)
    data = np.empty(0, np.uint8) if data_buffer is None else np.frombuffer(data_buffer, np.uint8)
    return _read_only(data), _read_only(offsets)


def _read_only(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.flags.writeable = False
    return view


@dataclass(frozen=True)
class TextBatch:
    """Document `i` is `data[offsets[i]:offsets[i + 1]]`, valid UTF-8.

    Shapes: data uint8[bytes], offsets int64[n + 1]. Shares the Arrow buffer; a null is an empty document.
    """

    data: np.ndarray
    offsets: np.ndarray

    def __post_init__(self) -> None:
        for name in ("data", "offsets"):
            object.__setattr__(self, name, _read_only(getattr(self, name)))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def nbytes(self) -> int:
        return int(self.offsets[-1] - self.offsets[0])

    @classmethod
    def from_arrow(cls, text: pa.Array | pa.ChunkedArray) -> "TextBatch":
        return cls(*string_buffers(text))

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
