"""Megatron-LM's indexed dataset: `<prefix>.bin` with the tokens of all documents, `<prefix>.idx` with where they are.

As megatron/core/datasets/indexed_dataset.py reads it; a sequence is a document here. The index, little-endian:

    9 bytes "MMIDIDX" NUL NUL, u64 version 1, u8 type (4: int32, 8: uint16), u64 sequences, u64 documents + 1
    i32[sequences] lengths in tokens, i64[sequences] byte offsets in .bin, i64[documents + 1] first sequence of each
"""

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from raypt import storage
from raypt.artefact import Output
from raypt.errors import UserError
from raypt.tokens.formats.documents import Documents

MAGIC, VERSION = b"MMIDIDX\x00\x00", 1
_HEADER = struct.Struct("<9sQBQQ")
_TYPES: dict[int, np.dtype[Any]] = {
    code: np.dtype(name).newbyteorder("<")
    for code, name in {1: "u1", 2: "i1", 3: "i2", 4: "i4", 5: "i8", 8: "u2"}.items()
}
_LARGEST_SHORT = 65500
"""Megatron takes uint16 for vocabularies below this."""
_LARGEST_OF_ALL = 2**31 - 1
_GAP = 1 << 20
"""Bytes of .bin that are read for nothing rather than in another request."""


def check(vocab_size: int) -> None:
    """Every vocabulary fits."""
    assert vocab_size <= _LARGEST_OF_ALL


def write(output: Output, at: str, documents: Documents, vocab_size: int, length: int) -> list[dict[str, Any]]:
    """Write `at`.bin and .idx."""
    code = 8 if vocab_size < _LARGEST_SHORT else 4
    kind = _TYPES[code]
    with output.open(f"{at}.bin") as f:
        f.write(np.ascontiguousarray(documents.ids, kind).data)
    with output.open(f"{at}.idx") as f:
        f.write(_HEADER.pack(MAGIC, VERSION, code, len(documents), len(documents) + 1))
        f.write(documents.lengths.astype("<i4").tobytes())
        f.write((documents.offsets[:-1] * kind.itemsize).astype("<i8").tobytes())
        f.write(np.arange(len(documents) + 1, dtype="<i8").tobytes())
    return []


def finish(output: Output, at: str, entries: list[dict[str, Any]], parts: list[str]) -> None:
    """Nothing: the prefixes are passed to Megatron one by one."""


@dataclass(frozen=True)
class Index:
    """The header of an .idx, from which any run of documents is read by ranges of both files."""

    prefix: str
    kind: np.dtype[Any]
    sequences: int
    documents: int
    data_bytes: int
    """Of the .bin."""

    @classmethod
    def of(cls, prefix: str) -> "Index":
        """Raises UserError, saying what is wrong where, if the two files are none of Megatron's."""
        uri = f"{prefix}.idx"
        try:
            head, size = storage.read_range(uri, 0, _HEADER.size), storage.size(uri)
            data_bytes = storage.size(f"{prefix}.bin")
        except OSError as e:
            raise UserError(f"{prefix}: cannot read .idx and .bin: {e}") from None
        if len(head) < _HEADER.size:
            raise _refusal(uri, "it is shorter than a header")
        magic, version, code, sequences, boundaries = _HEADER.unpack(head)
        if magic != MAGIC or version != VERSION:
            raise _refusal(uri, "it does not start as one does")
        if code not in _TYPES:
            raise _refusal(uri, f"its tokens are of type {code}")
        expected = _HEADER.size + 12 * sequences + 8 * boundaries
        if size not in (expected, expected + sequences):  # the last array, modes of sequences, is optional
            raise _refusal(
                uri, f"it has {size} bytes, not the {expected} of {sequences} sequences and {boundaries - 1} documents"
            )
        if boundaries < 1:
            raise _refusal(uri, "its documents do not share out its sequences")
        return cls(prefix, _TYPES[code], sequences, boundaries - 1, data_bytes)

    def _boundaries(self, first: int, last: int) -> npt.NDArray[np.int64]:
        """int64[last - first + 1]: the first sequence of each document, and of the one after them."""
        uri = f"{self.prefix}.idx"
        start = _HEADER.size + 12 * self.sequences + 8 * first
        found = np.frombuffer(storage.read_range(uri, start, 8 * (last - first + 1)), "<i8")
        whole = (first > 0 or found[0] == 0) and (last < self.documents or found[-1] == self.sequences)
        inside = int(found[0]) >= 0 and int(found[-1]) <= self.sequences
        if not whole or not inside or not bool((np.diff(found) >= 0).all()):
            raise _refusal(uri, "its documents do not share out its sequences")
        return found

    def cuts(self, tokens: int) -> list[int]:
        """Documents at which to cut the data set into runs of about so many tokens each: from 0 to `documents`."""
        bounds = self._boundaries(0, self.documents)
        lengths = np.frombuffer(storage.read_range(f"{self.prefix}.idx", _HEADER.size, 4 * self.sequences), "<i4")
        ends = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])[bounds]
        runs = max(1, -(-int(ends[-1]) // tokens))
        inner = np.searchsorted(ends, ends[-1] * np.arange(1, runs) // runs)
        return [0, *sorted({int(i) for i in inner} - {0, self.documents}), self.documents]

    def read(self, source: str, first: int = 0, last: int | None = None) -> Documents:
        """Documents first..last - 1; sequences of one document are joined. Raises UserError, naming the file."""
        last = self.documents if last is None else last
        bounds = self._boundaries(first, last)
        start, count = int(bounds[0]), int(bounds[-1] - bounds[0])
        uri, data_uri = f"{self.prefix}.idx", f"{self.prefix}.bin"
        at = _HEADER.size
        found = storage.read_ranges(
            uri, [(at + 4 * start, 4 * count), (at + 4 * self.sequences + 8 * start, 8 * count)]
        )
        lengths = np.frombuffer(found[0], "<i4").astype(np.int64)
        places = np.frombuffer(found[1], "<i8")
        inside = bool((lengths >= 0).all() and (places >= 0).all() and (places % self.kind.itemsize == 0).all())
        if not inside or (count and int((places + lengths * self.kind.itemsize).max()) > self.data_bytes):
            raise _refusal(uri, f"its sequences lie outside of the {self.data_bytes} bytes of {data_uri}")
        ids = _gather(data_uri, self.kind, places, lengths)
        if ids.size and int(ids.min()) < 0:
            raise _refusal(uri, f"{data_uri} holds the token {int(ids.min())}")
        sums = np.concatenate([[0], np.cumsum(lengths)])[bounds - start]
        return Documents.of(ids, np.diff(sums), {source: int(ids.size)})


def read(prefix: str, source: str) -> Documents:
    """All documents of `<prefix>.bin` and `<prefix>.idx`."""
    return Index.of(prefix).read(source)


def _refusal(index_uri: str, why: str) -> UserError:
    return UserError(f"{index_uri}: not the index of a Megatron data set: {why}")


def _gather(
    uri: str, kind: np.dtype[Any], places: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]
) -> npt.NDArray[Any]:
    """The sequences one after another. Those that lie close together are read at once."""
    order = np.argsort(places, kind="stable")
    ends = places + lengths * kind.itemsize
    gaps = places[order][1:] - np.maximum.accumulate(ends[order])[:-1]
    groups = np.split(order, np.flatnonzero(gaps > _GAP) + 1) if order.size else []
    spans = [(int(places[g].min()), int(ends[g].max() - places[g].min())) for g in groups]
    blocks = [np.frombuffer(data, kind) for data in storage.read_ranges(uri, spans)]
    if len(blocks) == 1 and bool((places[1:] == ends[:-1]).all()):
        return blocks[0]
    out = np.empty(int(lengths.sum()), kind)
    targets = np.concatenate([[0], np.cumsum(lengths)])
    for group, block, (start, _) in zip(groups, blocks, spans, strict=True):
        for i in group:
            place = int(places[i] - start) // kind.itemsize
            out[targets[i] : targets[i + 1]] = block[place : place + int(lengths[i])]
    return out
