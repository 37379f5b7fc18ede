"""Text as the classifier sees it. A normalisation has a name that is stored with the model: a model only ever scores
text that was normalised as its training text was.

`words-v1` lower-cases (letters below U+2000 whose lower case has the same length in UTF-8), turns white space and
control characters to single spaces, makes each ASCII punctuation mark and each character of a script written without
spaces a word of its own. fastText's control words (`</s>`, which ends a line early, and `__label__`) cannot survive it.
`plain` only turns line ends to spaces, which is what most published classifiers were trained on.
"""

import numpy as np
import pyarrow as pa

from raypt.curation.quality.config import Normalisation
from raypt.kernels import kernel
from raypt.text.buffers import string_buffers
from raypt.text.utf8 import decode, width_of

_SPACE, _LETTER, _ALONE = 0, 1, 2
_TABLE_SIZE = 0x10000

# Scripts without spaces between words: Thai and Lao, Burmese, Khmer, CJK radicals to kana and bopomofo, ideographs,
# compatibility ideographs and forms, full-width forms. (Ideographs beyond U+FFFF are handled in the kernel.)
_UNSPACED = (
    (0x0E00, 0x0EFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x2E80, 0x312F),
    (0x31A0, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0xFE30, 0xFE4F),
    (0xFF00, 0xFFEF),
)
_SPACES = (0x0085, 0x00A0, 0x1680, *range(0x2000, 0x200C), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000, 0xFEFF)


def _tables() -> tuple[np.ndarray, np.ndarray]:
    """(class, lower case) of every code point of the Basic Multilingual Plane."""
    kind = np.full(_TABLE_SIZE, _LETTER, np.uint8)
    kind[:0x21] = _SPACE
    kind[0x7F] = _SPACE
    for first, last in _UNSPACED:
        kind[first : last + 1] = _ALONE
    for c in range(0x21, 0x7F):
        if not chr(c).isalnum() and chr(c) != "'":
            kind[c] = _ALONE
    kind[list(_SPACES)] = _SPACE
    lower = np.arange(_TABLE_SIZE, dtype=np.uint16)
    for c in range(0x2000):
        low = chr(c).lower()
        if len(low) == 1 and len(low.encode()) == len(chr(c).encode()):
            lower[c] = ord(low)
    return kind, lower


_KIND, _LOWER = _tables()


@kernel
def _words_v1(data, offsets, max_bytes, kind, lower, out, out_offsets):  # type: ignore[no-untyped-def]  # pragma: no cover
    """ASCII, most of all text, goes without branches: what may have to be written is written, and counted where it has
    to (one space before a mark that follows a letter, the character, one space after a mark)."""
    w = np.uint64(0)
    for doc in range(len(offsets) - 1):
        end = min(offsets[doc + 1], offsets[doc] + max_bytes)
        start = w
        glued = np.uint8(0)  # does the last thing written still lack the space after it?
        for i in range(offsets[doc], end):
            first = data[np.uint64(i)]
            if first < 0x80:
                k = kind[first]
                out[w] = 0x20
                w += np.uint64(glued & np.uint8(k != 1))
                out[w] = lower[first]
                w += np.uint64(k != 0)
                out[w] = 0x20
                w += np.uint64(k == 2)
                glued = np.uint8(k == 1)
                continue
            if first < 0xC0:  # in a character
                continue
            n = width_of(first)
            if i + n > end:  # the bound on the length cut this character
                break
            c = np.int64(decode(data, i)[0])
            if c < 0x10000:
                k = kind[c]
                c = np.int64(lower[c])
            else:
                k = np.uint8(2) if 0x20000 <= c < 0x40000 else np.uint8(1)
            if k != 1 and glued:
                out[w] = 0x20
                w += np.uint64(1)
            glued = np.uint8(k == 1)
            if k == 0:
                continue
            if n == 2:
                out[w] = 0xC0 | (c >> 6)
                out[w + np.uint64(1)] = 0x80 | (c & 0x3F)
            elif n == 3:
                out[w] = 0xE0 | (c >> 12)
                out[w + np.uint64(1)] = 0x80 | ((c >> 6) & 0x3F)
                out[w + np.uint64(2)] = 0x80 | (c & 0x3F)
            else:
                out[w] = 0xF0 | (c >> 18)
                out[w + np.uint64(1)] = 0x80 | ((c >> 12) & 0x3F)
                out[w + np.uint64(2)] = 0x80 | ((c >> 6) & 0x3F)
                out[w + np.uint64(3)] = 0x80 | (c & 0x3F)
            w += np.uint64(n)
            if k == 2:
                out[w] = 0x20
                w += np.uint64(1)
        if w > start and out[w - np.uint64(1)] == 0x20:
            w -= np.uint64(1)
        out_offsets[doc + 1] = w
    return w


@kernel
def _plain(data, offsets, max_bytes, out, out_offsets):  # type: ignore[no-untyped-def]  # pragma: no cover
    w = 0
    for doc in range(len(offsets) - 1):
        start = offsets[doc]
        end = offsets[doc + 1]
        if end - start > max_bytes:
            end = start + max_bytes
            while end > start and data[end] & 0xC0 == 0x80:  # never inside a character
                end -= 1
        for i in range(start, end):
            out[w] = 0x20 if data[i] == 0x0A else data[i]
            w += 1
        out_offsets[doc + 1] = w
    return w


def normalise(text: pa.Array | pa.ChunkedArray, normalisation: Normalisation, max_bytes: int) -> pa.Array:
    """`text` (string or large_string, valid UTF-8, null counts as empty) as a large_string array without line ends.

    Only the first `max_bytes` bytes of each document are read, cut at a character.
    """
    if isinstance(text, pa.ChunkedArray):
        text = text.combine_chunks()
    text = text.cast(pa.large_string()).fill_null("")
    if len(text) == 0:
        return text
    data, offsets = string_buffers(text)
    read = int(np.minimum(np.diff(offsets), max_bytes).sum())
    out_offsets = np.zeros(len(text) + 1, np.int64)
    if normalisation == "words-v1":
        out = np.empty(2 * read + 8, np.uint8)  # at worst each character gets a space on one side
        n = _words_v1(data, offsets, max_bytes, _KIND, _LOWER, out, out_offsets)
    else:
        out = np.empty(read + 8, np.uint8)
        n = _plain(data, offsets, max_bytes, out, out_offsets)
    assert n <= len(out)
    return pa.LargeStringArray.from_buffers(len(text), pa.py_buffer(out_offsets), pa.py_buffer(out[:n]))
