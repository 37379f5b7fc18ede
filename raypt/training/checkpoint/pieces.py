"""Where each box of a checkpoint lies, and the hashes of its bytes.

One row a box; the bytes of a box are hashed in chunks of `CHUNK` counted from the box's beginning, so that a reader can
check what it reads without reading more. Each rank writes the rows of its own file, rank 0 joins them: a rank that
resumes reads one table, however many files there are, and opens those that it needs.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from raypt.parallel.state import Box, BoxIndex, Shape, StateKey

CHUNK = 4 << 20
"""Bytes under one hash: what a reader reads too much at most, at each end of what it wants. 840 GB are 200,000."""

_AXES = pa.list_(pa.int64())
SCHEMA = pa.schema(
    [
        ("name", pa.string()), ("state", pa.string()), ("offset", _AXES), ("shape", _AXES), ("whole", _AXES),
        ("file", pa.string()), ("start", pa.int64()), ("xxh3", pa.list_(pa.uint64())),
    ]
)  # fmt: skip


@dataclass
class Rows:
    """The rows of one file, as they are written."""

    file: str
    columns: dict[str, list[object]] = field(default_factory=lambda: {name: [] for name in SCHEMA.names})

    def add(self, key: StateKey, whole: Shape, start: int, hashes: Sequence[int]) -> None:
        """A box whose bytes begin at `start` of the file."""
        row = (key.name, key.state, key.box.offset, key.box.shape, whole, self.file, start, hashes)
        for column, value in zip(self.columns.values(), row, strict=True):
            column.append(value)

    def table(self) -> pa.Table:
        return pa.table(self.columns, schema=SCHEMA)


def to_bytes(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def from_bytes(data: bytes) -> pa.Table:
    """`data` must have been checked: Parquet's reader trusts it."""
    return pq.read_table(io.BytesIO(data))


@dataclass(frozen=True)
class Row:
    """A box in a file."""

    number: int
    """Of the row in the table."""
    key: StateKey
    file: str
    start: int
    hashes: tuple[int, ...]


class Pieces:
    """The rows of a checkpoint, to be asked for those that hold a box."""

    def __init__(self, table: pa.Table) -> None:
        names, states, files = (_Words(table[column]) for column in ("name", "state", "file"))
        self._file, self._start = files, table["start"].to_numpy()
        self._offset, self._shape, self._whole, self._xxh3 = (
            _Lists(table[column]) for column in ("offset", "shape", "whole", "xxh3")
        )
        codes = names.codes * len(states.words) + states.codes
        order = np.argsort(codes, kind="stable")
        found, first = np.unique(codes[order], return_index=True)
        self._rows: dict[tuple[str, str], npt.NDArray[np.int64]] = {
            (names.words[code // len(states.words)], states.words[code % len(states.words)]): rows
            for code, rows in zip(found.tolist(), np.split(order, first[1:]), strict=True)
        }
        self._states: dict[str, set[str]] = {}
        for name, state in self._rows:
            self._states.setdefault(name, set()).add(state)
        self._index: dict[tuple[str, str], BoxIndex] = {}

    def states(self, name: str) -> set[str]:
        """The states there are of a parameter."""
        return set(self._states.get(name, ()))

    def wholes(self) -> dict[str, Shape]:
        """Name and shape of every parameter."""
        return {name: self._whole.of(int(rows[0])) for (name, _), rows in self._rows.items()}

    def meeting(self, key: StateKey) -> list[Row]:
        """The boxes that share an element with this one."""
        at = (key.name, key.state)
        rows = self._rows.get(at)
        if rows is None or len(self._whole.of(int(rows[0]))) != len(key.box.shape):
            return []
        if at not in self._index:
            self._index[at] = BoxIndex(self._offset.array(rows), self._shape.array(rows))
        return [self._row(at, int(row)) for row in rows[self._index[at].meeting(key.box)]]

    def _row(self, at: tuple[str, str], row: int) -> Row:
        box = Box(self._offset.of(row), self._shape.of(row))
        file = self._file.words[self._file.codes[row]]
        return Row(row, StateKey(*at, box), file, int(self._start[row]), self._xxh3.of(row))

    def check_cover(self) -> None:
        """The boxes of every state of every parameter have its number of elements, and no two begin at one place."""
        for (name, state), rows in self._rows.items():
            whole = np.array(self._whole.of(int(rows[0])), np.int64)
            covered, expected = int(self._shape.array(rows).prod(axis=1).sum()), int(whole.prod())
            strides = np.append(np.cumprod(whole[::-1])[::-1][1:], 1)[: len(whole)]
            places = len(np.unique(self._offset.array(rows) @ strides))
            assert covered == expected and places == len(rows), (
                f"the ranks' boxes of {state} of {name} hold {covered} elements in {len(rows)} boxes at {places} "
                f"places, not its {expected} elements once"
            )


class _Words:
    """A column of few different strings."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        encoded = column.combine_chunks().dictionary_encode()
        self.words: list[str] = encoded.dictionary.to_pylist()
        self.codes: npt.NDArray[np.int64] = encoded.indices.to_numpy().astype(np.int64)


class _Lists:
    """A column of short lists of integers."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        array = column.combine_chunks()
        self._at, self._values = array.offsets.to_numpy(), array.values.to_numpy()

    def of(self, row: int) -> tuple[int, ...]:
        return tuple(self._values[self._at[row] : self._at[row + 1]].tolist())

    def array(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Those of some rows, all as long as the first."""
        length = int(self._at[rows[0] + 1] - self._at[rows[0]])
        return np.asarray(self._values[self._at[rows][:, None] + np.arange(length)], np.int64)
