"""Megatron-LM's indexed dataset: `<prefix>.bin` with the tokens of all documents, `<prefix>.idx` with where they are.

As megatron/core/datasets/indexed_dataset.py reads it; a sequence is a document here. The index, little-endian:

    9 bytes "MMIDIDX" NUL NUL, u64 version 1, u8 type (4: int32, 8: uint16), u64 sequences, u64 documents + 1
    i32[sequences] lengths in tokens, i64[sequences] byte offsets in .bin, i64[documents + 1] first sequence of each
"""

import struct
from typing import Any

import numpy as np
import numpy.typing as npt

from raypt import storage
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


def check(vocab_size: int) -> None:
    """Every vocabulary fits."""
    assert vocab_size <= _LARGEST_OF_ALL


def write(out_uri: str, name: str, documents: Documents, vocab_size: int, length: int) -> list[dict[str, Any]]:
    """Write `name`.bin and .idx; what they hold, for the list of files."""
    code = 8 if vocab_size < _LARGEST_SHORT else 4
    kind = _TYPES[code]
    lengths = documents.lengths
    with storage.atomic_write(storage.join(out_uri, f"{name}.bin")) as f:
        f.write(np.ascontiguousarray(documents.ids, kind).data)
    with storage.atomic_write(storage.join(out_uri, f"{name}.idx")) as f:
        f.write(_HEADER.pack(MAGIC, VERSION, code, len(documents), len(documents) + 1))
        f.write(lengths.astype("<i4").tobytes())
        f.write((documents.offsets[:-1] * kind.itemsize).astype("<i8").tobytes())
        f.write(np.arange(len(documents) + 1, dtype="<i8").tobytes())
    return [{"file": name, "documents": len(documents), "tokens": int(lengths.sum())}]


def finish(out_uri: str, entries: list[dict[str, Any]]) -> None:
    """Nothing: the prefixes are passed to Megatron one by one."""


def read(prefix: str, source: str) -> Documents:
    """The documents of `<prefix>.bin` and `<prefix>.idx`; sequences of one document are joined.

    Raises UserError, saying what is wrong where, if the two are no such files.
    """
    index_uri, data_uri = f"{prefix}.idx", f"{prefix}.bin"
    try:
        index, data = storage.read_bytes(index_uri), storage.read_bytes(data_uri)
    except OSError as e:
        raise UserError(f"{prefix}: cannot read .idx and .bin: {e}") from None

    def refuse(why: str) -> UserError:
        return UserError(f"{index_uri}: not the index of a Megatron data set: {why}")

    if len(index) < _HEADER.size:
        raise refuse("it is shorter than a header")
    magic, version, code, sequences, boundaries = _HEADER.unpack_from(index)
    if magic != MAGIC or version != VERSION:
        raise refuse("it does not start as one does")
    if code not in _TYPES:
        raise refuse(f"its tokens are of type {code}")
    expected = _HEADER.size + 12 * sequences + 8 * boundaries
    if len(index) not in (expected, expected + sequences):  # the last array, modes of sequences, is optional
        raise refuse(
            f"it has {len(index)} bytes, not the {expected} of {sequences} sequences and {boundaries - 1} documents"
        )
    kind = _TYPES[code]
    lengths = np.frombuffer(index, "<i4", sequences, _HEADER.size).astype(np.int64)
    starts = np.frombuffer(index, "<i8", sequences, _HEADER.size + 4 * sequences)
    first = np.frombuffer(index, "<i8", boundaries, _HEADER.size + 12 * sequences)
    ends = starts + lengths * kind.itemsize
    inside = bool((lengths >= 0).all() and (starts >= 0).all() and (starts % kind.itemsize == 0).all())
    if not inside or (sequences and int(ends.max()) > len(data)):
        raise refuse(f"its sequences lie outside of the {len(data)} bytes of {data_uri}")
    ordered = boundaries >= 1 and first[0] == 0 and first[-1] == sequences and bool((np.diff(first) >= 0).all())
    if not ordered:
        raise refuse("its documents do not share out its sequences")
    tokens = np.frombuffer(data, kind, len(data) // kind.itemsize)
    ids = _gather(tokens, starts // kind.itemsize, lengths)
    if ids.size and int(ids.min()) < 0:
        raise refuse(f"{data_uri} holds the token {int(ids.min())}")
    sums = np.concatenate([[0], np.cumsum(lengths)])[first]
    return Documents.of(ids, np.diff(sums), {source: int(ids.size)})


def _gather(
    tokens: npt.NDArray[Any], starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]
) -> npt.NDArray[Any]:
    """The sequences one after another; no copy where they lie so already."""
    if starts.size == 0:
        return tokens[:0]
    if starts[0] == 0 and bool((starts[1:] == np.cumsum(lengths)[:-1]).all()):
        return tokens[: int(lengths.sum())]
    return np.concatenate([tokens[a : a + n] for a, n in zip(starts, lengths, strict=True)])
