"""fastText model files (.bin, .ftz), checked before the C++ that trusts them reads them.

fastText 0.9.3 takes every size, index and count of a file at its word: cut or flipped files load in silence, hang,
divide by zero or read outside of memory. Here a file's whole structure is walked first: magic, version, arguments,
dictionary, pruning index, both matrices (dense or quantised), and the end where it must be. What passes cannot lead the
C++ astray; it is still loaded in a child process the first time, unless its bytes are known.

Layout (fasttext.cc, args.cc, dictionary.cc, densematrix.cc, quantmatrix.cc, productquantizer.cc), little-endian:

    i32 magic, i32 version; i32 dim ws epoch minCount neg wordNgrams loss model bucket minn maxn lrUpdateRate, f64 t
    i32 size nwords nlabels, i64 ntokens pruned; entries: word NUL, i64 count, i8 type; pruned times i32 from, i32 to
    bool quantised; input matrix; bool output quantised; output matrix
    dense matrix:      i64 rows columns, f32[rows, columns]
    quantised matrix:  bool with norms, i64 rows columns, i32 codes, u8[codes], quantiser; (u8[rows], quantiser)
    quantiser:         i32 dim parts part last, f32[dim, 256]
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import fasttext
import numpy as np
import numpy.typing as npt

from raypt.curation.outside_file import sha256_of, try_in_a_child
from raypt.errors import UserError
from raypt.kernels import kernel

U8: TypeAlias = npt.NDArray[np.uint8]

_MAGIC, _VERSIONS = 793712314, (11, 12)
_HIERARCHICAL_SOFTMAX, _LOSSES, _SUPERVISED = 1, (1, 2, 3, 4), 3
_LONGEST_NGRAM = 32
"""Of characters or words: fastText's time is linear in it, and nobody's model has more than 6."""
_LARGEST_WEIGHT = 1e6
"""Trained weights are below a hundred; with larger ones a logit could overflow, at which fastText raises."""
_MOST_COUNTS = 10**15
"""fastText builds its tree of labels with this count as infinity."""
_CENTROIDS = 256
_CHUNK = 4 << 20


class Malformed(Exception):
    """The file is not a model that fastText wrote; the message says where it stops being one."""


@dataclass(frozen=True)
class FastTextFile:
    """What the checked file is."""

    sha256: str
    labels: tuple[str, ...]
    words: int
    dimension: int
    quantised: bool


class _Cursor:
    """Reads numbers of a file in order; Malformed where it ends too early."""

    def __init__(self, data: U8) -> None:
        self.data, self.at = data, 0

    def take(self, size: int, what: str) -> U8:
        if size < 0 or self.at + size > self.data.size:
            raise Malformed(f"it ends within {what}")
        self.at += size
        return self.data[self.at - size : self.at]

    def numbers(self, layout: str, what: str) -> tuple[Any, ...]:
        form = struct.Struct("<" + layout)
        return form.unpack(self.take(form.size, what).tobytes())

    def flag(self, what: str) -> bool:
        (value,) = self.numbers("B", what)
        _require(value in (0, 1), f"{what} is {value}, neither 0 nor 1")
        return bool(value)

    def weights(self, count: int, what: str) -> None:
        """Floats, each finite and of a trained weight's size; no more than a chunk is in memory at a time."""
        raw = self.take(4 * count, what)
        for start in range(0, raw.size, _CHUNK):
            largest = np.abs(np.frombuffer(raw[start : start + _CHUNK].tobytes(), "<f4")).max()
            _require(bool(largest <= _LARGEST_WEIGHT), f"{what} holds {largest:g}")


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Malformed(otherwise)


@kernel
def _entries(data: U8, at: int, count: int, starts: Any, ends: Any, counts: Any, types: Any, hashes: Any) -> int:
    """Walk `count` entries of a dictionary from `at`; where they end, or -1 - the entry that is cut or has no word."""
    for i in range(count):
        starts[i] = at
        h = np.uint64(0xCBF29CE484222325)
        while at < data.size and data[at] != 0:
            if data[at] == 0x20 or 0x09 <= data[at] <= 0x0D:
                return -1 - i  # a word never holds a space
            h = (h ^ np.uint64(data[at])) * np.uint64(0x100000001B3)
            at += 1
        if at == starts[i] or at + 10 > data.size:
            return -1 - i
        ends[i], hashes[i] = at, h
        value = np.uint64(0)
        for k in range(8):
            value |= np.uint64(data[at + 1 + k]) << np.uint64(8 * k)
        counts[i], types[i] = np.int64(value), data[at + 9]
        at += 10
    return at


def _dictionary(cursor: _Cursor, loss: int) -> tuple[int, list[bytes], int]:
    """(words, labels, entries of the pruning index or -1); leaves the cursor before the pruning index."""
    size, words, labels, _tokens, pruned = cursor.numbers("iiiqq", "the dictionary's sizes")
    _require(
        words >= 0 and labels >= 1 and size == words + labels,
        f"its dictionary claims {size} entries, {words} words and {labels} labels",
    )
    _require(11 * size <= cursor.data.size - cursor.at, f"it is too short for a dictionary of {size} entries")
    starts, ends, counts = (np.empty(size, np.int64) for _ in range(3))
    types, hashes = np.empty(size, np.uint8), np.empty(size, np.uint64)
    end = int(_entries(cursor.data, cursor.at, size, starts, ends, counts, types, hashes))
    _require(end >= 0, f"entry {-1 - end} of its dictionary is cut or no word")
    cursor.at = end
    _require(
        bool((types[:words] == 0).all() and (types[words:] == 1).all()),
        "its dictionary does not hold all words and then all labels",
    )
    order = np.argsort(hashes, kind="stable")
    for i in np.flatnonzero(hashes[order][1:] == hashes[order][:-1]):
        first, second = (cursor.data[starts[k] : ends[k]].tobytes() for k in order[i : i + 2])
        _require(first != second, f"its dictionary holds {first!r} twice")
    of_labels = counts[words:]
    _require(bool((counts > 0).all() and counts.max() < _MOST_COUNTS), "its dictionary has a count of an absurd size")
    if loss == _HIERARCHICAL_SOFTMAX:
        falling = bool((of_labels[1:] <= of_labels[:-1]).all()) and int(of_labels.sum(dtype=np.uint64)) < _MOST_COUNTS
        _require(falling, "its labels are not ordered by falling count, as its tree of labels needs")
    return words, [cursor.data[starts[i] : ends[i]].tobytes() for i in range(words, size)], pruned


def _matrix(cursor: _Cursor, quantised: bool, rows: int, columns: int, what: str) -> None:
    if not quantised:
        m, n = cursor.numbers("qq", what)
        _require((m, n) == (rows, columns), f"{what} is {m} x {n}, not {rows} x {columns}")
        cursor.weights(rows * columns, what)
        return
    norms = cursor.flag(f"the norms' flag of {what}")
    m, n, codes = cursor.numbers("qqi", what)
    _require((m, n) == (rows, columns), f"{what} is {m} x {n}, not {rows} x {columns}")
    cursor.take(codes, f"the codes of {what}")
    parts = _quantiser(cursor, columns, what)
    _require(codes == rows * parts, f"{what} has {codes} codes for {rows} rows of {parts}")
    if norms:
        cursor.take(rows, f"the codes of the norms of {what}")
        _quantiser(cursor, 1, f"the norms of {what}")


def _quantiser(cursor: _Cursor, dimension: int, what: str) -> int:
    """A product quantiser; the number of its parts."""
    dim, parts, part, last = cursor.numbers("iiii", f"the quantiser of {what}")
    sound = dim == dimension and part >= 1 and parts == -(-dim // part) and last == dim - (parts - 1) * part
    _require(sound, f"the quantiser of {what} cuts {dim} numbers into {parts} parts of {part} and {last}")
    cursor.weights(dim * _CENTROIDS, f"the centroids of {what}")
    return int(parts)


def _structure(data: U8) -> tuple[list[bytes], int, int, bool]:
    """(labels, words, dimension, quantised) of a whole file. Raises Malformed."""
    cursor = _Cursor(data)
    magic, version = cursor.numbers("ii", "the first eight bytes")
    _require(magic == _MAGIC, "it does not start as one does")
    _require(version in _VERSIONS, f"its format version is {version}, not {_VERSIONS[0]} or {_VERSIONS[1]}")
    arguments = cursor.numbers("12id", "its arguments")
    dim, _, _, _, _, word_ngrams, loss, kind, bucket, minn, maxn, _, _ = arguments
    _require(kind == _SUPERVISED, f"it is a model of kind {kind}, not a classifier ({_SUPERVISED})")
    _require(loss in _LOSSES, f"its loss is {loss}")
    _require(1 <= dim <= 1 << 16, f"its vectors have {dim} numbers")
    _require(1 <= word_ngrams <= _LONGEST_NGRAM, f"its word n-grams go up to {word_ngrams}")
    subwords = maxn > 0 and version > _VERSIONS[0]
    _require(0 <= minn <= _LONGEST_NGRAM and 0 <= maxn <= _LONGEST_NGRAM, f"its subwords have {minn} to {maxn} letters")
    hashed = word_ngrams > 1 or subwords
    _require(bucket >= (1 if hashed else 0), f"it has {bucket} buckets for its n-grams")
    words, labels, pruned = _dictionary(cursor, loss)
    _require(-1 <= pruned <= bucket, f"its pruning index has {pruned} entries of {bucket} buckets")
    if pruned > 0:
        pairs = np.frombuffer(cursor.take(8 * pruned, "its pruning index").tobytes(), "<i4").reshape(-1, 2)
        inside = (pairs[:, 0] >= 0) & (pairs[:, 0] < bucket) & (pairs[:, 1] >= 0) & (pairs[:, 1] < pruned)
        _require(bool(inside.all()) and len(np.unique(pairs[:, 0])) == pruned, "its pruning index points outside of it")
    quantised = cursor.flag("the flag of its input matrix")
    _require(quantised or pruned < 0, "it is pruned and not quantised, which fastText never writes")
    rows = words + (bucket if pruned < 0 else pruned)
    _require(rows < 1 << 31, f"its input matrix would have {rows} rows")
    _matrix(cursor, quantised, rows, dim, "its input matrix")
    output_quantised = cursor.flag("the flag of its output matrix")
    _matrix(cursor, quantised and output_quantised, len(labels), dim, "its output matrix")
    _require(cursor.at == data.size, f"{data.size - cursor.at} bytes follow its end")
    return labels, words, dim, quantised


def check(path: str) -> FastTextFile:
    """Walk a local model file. Raises Malformed, saying what is wrong where, if fastText did not write it."""
    if Path(path).stat().st_size == 0:
        raise Malformed("it is empty")
    digest = sha256_of(path)
    labels, words, dim, quantised = _structure(np.memmap(path, np.uint8, mode="r"))
    try:
        names = tuple(label.decode() for label in labels)
    except UnicodeDecodeError:
        raise Malformed("the name of a label is not UTF-8") from None
    return FastTextFile(digest, names, words, dim, quantised)


@dataclass(frozen=True)
class Expected:
    """The hash that a file must have, and who says so (for the message)."""

    sha256: str
    said_by: str
    known: bool = False
    """The bytes come with raypt: they need no trial."""


def load(
    path: str, key: str, *, shown: str | None = None, expected: Expected | None = None
) -> tuple[Any, FastTextFile]:
    """The fastText model of a local file, after `check`; the first time in this process, after a child has loaded it.

    `key` is the configuration key that named the file, `shown` what it named (None: the path). Raises UserError for a
    file that fastText did not write, and for another one than expected.
    """
    shown = shown or path
    try:
        found = check(path)
    except Malformed as e:
        raise UserError(f"{key}: {shown} is not a fastText model: {e}; download or train it again") from None
    if expected is not None and found.sha256 != expected.sha256.lower():
        raise UserError(
            f"{key}: {shown} is not the file that {expected.said_by} (sha256 {found.sha256[:12]}, expected "
            f"{expected.sha256[:12]}); copy, download or train it again"
        )
    if not (expected is not None and expected.known):
        try_in_a_child(path, found.sha256, "raypt.curation.fasttext_child", "fastText", key, shown)
    return fasttext.load_model(path), found
