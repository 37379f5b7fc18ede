"""KenLM's binary files, looked at before the C++ that trusts them reads them, and their models (`raypt[kenlm]`).

KenLM maps the file into memory and follows it: of a header it compares the size with the file's, of the rest nothing. A
full hash table is searched for ever, the number of a word is an index without a bound. Here the header is read first,
and of hash tables every entry: a free slot, words that there are, numbers that are numbers. The pointers of a trie, which
are packed in bits, are not followed. Whatever passes is loaded in a child process the first time, as fastText's are.

Layout (binary_format.cc, vocab.hh, search_hashed.hh, probing_hash_table.hh), little-endian, version 5:

    char[56] magic; f32 0 1 -0.5; u32 1 0xffffffff 0; u64 1
    u8 order, 3 unused; f32 probing multiplier; i32 kind; u8 has words, 3 unused; u32 version; u64[order] n-grams
    hash tables: u32 version, u32 bound; words: slots of u64 hash, u32 number
                 f32[n-grams + 1, 2] of one word; of two and more: slots of u64 key, f32 log10, f32 back-off;
                 of the longest: slots of u64 key, f32 log10
"""

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SIGNATURE = b"mmap lm http://kheafield.com/code"
"""What files of all versions start with."""
_MAGIC = b"mmap lm http://kheafield.com/code format version 5\n\0"
_HEADER = _MAGIC.ljust(56, b"\0") + struct.pack("<fffIIIQ", 0.0, 1.0, -0.5, 1, 0xFFFFFFFF, 0, 1)
_FIXED = struct.Struct("<B3xfiB3xI")
KINDS = (
    "hash tables",
    "hash tables with rest costs",
    "trie",
    "quantised trie",
    "trie with array-compressed pointers",
    "quantised trie with array-compressed pointers",
)
_HASHED, _REST = 0, 1
_VERSIONS = (0, 0, 1, 1, 1, 1)
MAX_ORDER = 6
"""The wheel's of PyPI is compiled for no more."""
_WORD = np.dtype([("key", "<u8"), ("value", "<u4")])
_LONGEST = np.dtype([("key", "<u8"), ("values", "<f4", (1,))])
_CHUNK = 1 << 20
"""Slots looked at together."""


class Malformed(Exception):
    """The file is not a model that KenLM wrote; the message says where it stops being one."""


@dataclass(frozen=True)
class KenlmFile:
    """What the file is."""

    kind: str
    ngrams: tuple[int, ...]
    """By order."""


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Malformed(otherwise)


def check(path: str) -> KenlmFile:
    """Look at a local file. Raises Malformed, saying what is wrong."""
    size = Path(path).stat().st_size
    with Path(path).open("rb") as f:
        head = f.read(len(_HEADER) + _FIXED.size)
        _require(head[:51] == _MAGIC[:51], "it does not start as one of version 5 does")
        _require(head[: len(_HEADER)] == _HEADER, "it was made by a machine with other numbers")
        _require(len(head) == len(_HEADER) + _FIXED.size, "it ends within its head")
        order, multiplier, kind, _, version = _FIXED.unpack(head[len(_HEADER) :])
        _require(2 <= order <= MAX_ORDER, f"its longest n-grams have {order} words, not 2 to {MAX_ORDER}")
        _require(0 <= kind < len(KINDS), f"it is of the kind {kind}, which KenLM does not know")
        _require(version == _VERSIONS[kind], f"its {KINDS[kind]} are of version {version}, not {_VERSIONS[kind]}")
        _require(1.0 <= multiplier <= 1e6, f"its probing multiplier is {multiplier:g}")
        counts = f.read(8 * order)
        _require(len(counts) == 8 * order, "it ends within its head")
    ngrams = tuple(struct.unpack(f"<{order}Q", counts))
    for n, count in enumerate(ngrams, 1):
        # a slot of the smallest trie has some bits
        _require(1 <= count <= 8 * size, f"it has {count} {n}-grams in {size} bytes")
    _require(ngrams[0] < 1 << 32, f"it has {ngrams[0]} words")
    if kind in (_HASHED, _REST):
        at = (len(_HEADER) + _FIXED.size + 8 * order + 7) // 8 * 8
        _hash_tables(path, at, ngrams, np.float32(multiplier), 3 if kind == _REST else 2)
    return KenlmFile(KINDS[kind], ngrams)


def _hash_tables(path: str, at: int, ngrams: tuple[int, ...], multiplier: np.float32, width: int) -> None:
    """Every entry of the tables, which begin at the byte `at`; `width`: numbers of an n-gram that others extend."""
    data = np.memmap(path, np.uint8, mode="r")

    def slots(count: int, layout: np.dtype, what: str) -> np.ndarray:
        nonlocal at
        buckets = max(count + 1, int(np.float32(multiplier) * np.float32(count)))
        end = at + buckets * layout.itemsize
        _require(end <= data.size, f"it ends within {what}")
        found = data[at:end].view(layout)
        at = end
        return found

    _require(at + 8 <= data.size, "it ends within its words")
    at += 8
    words = slots(ngrams[0], _WORD, "its words")
    for start in range(0, len(words), _CHUNK):
        part = words[start : start + _CHUNK]
        _require(bool((part["value"] <= ngrams[0]).all()), "a word has a number beyond those of its n-grams of one word")
    _free(words, "its words")
    end = at + 4 * width * (ngrams[0] + 1)
    _require(end <= data.size, "it ends within its 1-grams")
    _finite(data[at:end].view("<f4"), "1-grams")
    at = end
    middle = np.dtype([("key", "<u8"), ("values", "<f4", (width,))])
    for n, count in enumerate(ngrams[1:], 2):
        table = slots(count, middle if n < len(ngrams) else _LONGEST, f"its {n}-grams")
        _free(table, f"its {n}-grams")
        for start in range(0, len(table), _CHUNK):
            part = table[start : start + _CHUNK]
            _finite(part["values"][part["key"] != 0], f"{n}-grams")


def _free(table: np.ndarray, what: str) -> None:
    parts = (table["key"][start : start + _CHUNK] for start in range(0, len(table), _CHUNK))
    _require(any(bool((keys == 0).any()) for keys in parts), f"the table of {what} has no free slot")


def _finite(values: np.ndarray, what: str) -> None:
    for start in range(0, len(values), _CHUNK):
        _require(bool(np.isfinite(values[start : start + _CHUNK]).all()), f"its {what} hold a number that is none")
