"""KenLM's binary files, looked at before the C++ that trusts them reads them, and their models (`raypt[kenlm]`).

KenLM maps the file into memory and follows it: of a header it compares the size with the file's, of the rest nothing.
A full hash table is searched for ever, a word's number and a trie's pointer are indices without a bound. Here the
header is read first, then every entry of the tables (`kenlm_tables`) or every pointer of the trie (`kenlm_trie`). What
passes is still loaded in a child process the first time, as fastText's files are.

Layout (binary_format.cc), little-endian, version 5:

    char[56] magic; f32 0 1 -0.5; u32 1 0xffffffff 0; u64 1
    u8 order, 3 unused; f32 probing multiplier; i32 kind; u8 has words, 3 unused; u32 version; u64[order] n-grams
"""

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from raypt.curation.perplexity import kenlm_tables, kenlm_trie
from raypt.curation.perplexity.kenlm_tables import Malformed, require

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
_HASHED, _REST, _QUANTISED, _ARRAYS = 0, 1, (3, 5), (4, 5)
_VERSIONS = (0, 0, 1, 1, 1, 1)
MAX_ORDER = 6
"""The wheel's of PyPI is compiled for no more."""


@dataclass(frozen=True)
class KenlmFile:
    """What the file is."""

    kind: str
    ngrams: tuple[int, ...]
    """By order."""


def check(path: str) -> KenlmFile:
    """Look at a local file. Raises Malformed, saying what is wrong."""
    size = Path(path).stat().st_size
    with Path(path).open("rb") as f:
        head = f.read(len(_HEADER) + _FIXED.size)
        require(head[:51] == _MAGIC[:51], "it does not start as one of version 5 does")
        require(head[: len(_HEADER)] == _HEADER, "it was made by a machine with other numbers")
        require(len(head) == len(_HEADER) + _FIXED.size, "it ends within its head")
        order, multiplier, kind, _, version = _FIXED.unpack(head[len(_HEADER) :])
        require(2 <= order <= MAX_ORDER, f"its longest n-grams have {order} words, not 2 to {MAX_ORDER}")
        require(0 <= kind < len(KINDS), f"it is of the kind {kind}, which KenLM does not know")
        require(version == _VERSIONS[kind], f"its {KINDS[kind]} are of version {version}, not {_VERSIONS[kind]}")
        require(1.0 <= multiplier <= 1e6, f"its probing multiplier is {multiplier:g}")
        counts = f.read(8 * order)
        require(len(counts) == 8 * order, "it ends within its head")
    ngrams = tuple(struct.unpack(f"<{order}Q", counts))
    for n, count in enumerate(ngrams, 1):
        # a slot of the smallest trie has some bits
        require(1 <= count <= 8 * size, f"it has {count} {n}-grams in {size} bytes")
    require(ngrams[0] < 1 << 32, f"it has {ngrams[0]} words")
    at = (len(_HEADER) + _FIXED.size + 8 * order + 7) // 8 * 8
    data = np.memmap(path, np.uint8, mode="r")
    if kind in (_HASHED, _REST):
        kenlm_tables.walk(data, at, ngrams, np.float32(multiplier), 3 if kind == _REST else 2)
    else:
        kenlm_trie.walk(data, at, ngrams, quantised=kind in _QUANTISED, arrays=kind in _ARRAYS)
    return KenlmFile(KINDS[kind], ngrams)


__all__ = ["KINDS", "MAX_ORDER", "SIGNATURE", "KenlmFile", "Malformed", "check"]
