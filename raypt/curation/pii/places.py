"""Where in a text each scanner has to look: one pass over all bytes, for all scanners.

A scanner turns on a few bytes (a digit, '@', ':', a full-width form). Their places are kept as a bit a byte, so it goes
from one to the next without looking at what is between. The pass is counted loops without branches over slices from 0,
which LLVM compiles to 64 bytes an instruction; an index that might be negative (`data[base + j]`) is 60 times as slow.
"""

from typing import NamedTuple

import numpy as np

from raypt.kernels import kernel

BLOCK = 64
"""Bytes whose bits are one word."""
_AHEAD = 64
"""Bytes after a block that are looked at for it: an API key that begins in it goes on there."""
SHORTEST_KEY = 15
"""Characters in a row that an API key has at least (`xoxb-` has 17)."""

AT, ADDRESS, NUMBER, IDENTITY, SPELLING, SECRET = range(6)
"""Rows of `Text.places`: '@'; digits and ':'; digits, '+', and '(' before a digit or '+'; digits, and the words before
the name of an account; other spellings of ASCII, and bytes that look like one; all of a block with two hyphens, or in
which begins a row of characters as long as an API key."""
_ROWS = 6


class Text(NamedTuple):
    """A batch of documents as the scanners read it."""

    data: np.ndarray
    """uint8: document i is `data[offsets[i]:offsets[i + 1]]`."""
    offsets: np.ndarray
    """int64[n + 1], from 0."""
    places: np.ndarray
    """uint64[6, ceil(bytes / 64)]: bit k of word w of a row says whether to look at byte 64 * w + k."""


_BITS = np.uint64(0x0102040810204080)
"""Times eight bytes of 0 or 1, read as a little-endian number: its highest byte has them as bits."""
_ONES = np.uint64(0x0101010101010101)
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)


@kernel
def _of_key(b):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Whether an API key may have the byte: a letter, a digit, '-', '.', '/', '_'."""
    letter = b | np.uint8(0x20)
    return ((letter >= 0x61) & (letter <= 0x7A)) | ((b >= 0x2D) & (b <= 0x39)) | (b == 0x5F)


@kernel
def _find(data, places, key, found):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Fill `places`; `data` has _AHEAD bytes more than its blocks. `key` and `found`: scratch of two blocks and one."""
    small = np.uint8(0x20)
    four = key.view(np.uint32)
    eight = found.view(np.uint64)
    for j in range(min(BLOCK, len(data))):
        key[j + BLOCK] = _of_key(data[j])
    for k in range(places.shape[1]):
        start = k * BLOCK
        here, after = data[start : start + BLOCK], data[start + 1 : start + 1 + BLOCK]
        third, ahead = data[start + 2 : start + 2 + BLOCK], data[start + BLOCK : start + 2 * BLOCK]
        secret = False
        for j in range(BLOCK):
            b, c, d = here[j], after[j], third[j]
            bl, cl, dl = b | small, c | small, d | small
            digit = (b >= 0x30) & (b <= 0x39)
            at = b == 0x40
            address = digit | (b == 0x3A)
            number = digit | (b == 0x2B) | ((b == 0x28) & (((c >= 0x30) & (c <= 0x39)) | (c == 0x2B)))
            name = (bl == 0x77) & (cl == 0x65) & ((dl == 0x63) | (dl == 0x69))  # wec(hat), wei(xin)
            name |= (bl == 0x76) & ((cl == 0x78) | (c == 0xE4))  # vx, v信
            name |= (bl == 0x71) & (cl == 0x71)
            identity = digit | name | ((b == 0xE5) & (c == 0xBE) & (d == 0xAE))  # 微
            sign_or_letter = (d >= 0x88) & (d != 0x8C) & ((d < 0x9A) | (d > 0x9F))  # of full width; not ，：；？
            other = (b == 0xEF) & ((c == 0xBD) | ((c == 0xBC) & sign_or_letter))
            opens = (b == 0x28) | (bl == 0x7B)
            spelling = other | ((b == 0x26) & (c != 0x20)) | (opens & ((cl == 0x61) | (cl == 0x64) | (c == 0x20)))
            secret |= (b == 0x2D) & (c == 0x2D)
            found[j] = at | address << 1 | number << 2 | identity << 3 | spelling << 4
        some = np.uint64(0)
        for m in range(8):
            some |= eight[m]
        for row in range(SECRET):
            word = np.uint64(0)
            if some >> np.uint64(row) & _ONES:
                for m in range(8):
                    word |= ((eight[m] >> np.uint64(row) & _ONES) * _BITS >> np.uint64(56)) << np.uint64(8 * m)
            places[row, k] = word
        for j in range(BLOCK):
            key[j] = key[j + BLOCK]
        for j in range(BLOCK):
            key[j + BLOCK] = _of_key(ahead[j])
        for m in range(BLOCK // 4):  # 15 characters from anywhere cover 12 from a multiple of four
            secret |= (four[m] & four[m + 1] & four[m + 2]) == 0x01010101
        secret |= (four[BLOCK // 4] & four[BLOCK // 4 + 1] & four[BLOCK // 4 + 2]) == 0x01010101
        places[SECRET, k] = _ALL if secret else np.uint64(0)


def prepare(data: np.ndarray, offsets: np.ndarray) -> Text:
    """The text (`data` and `offsets` as of `string_buffers`; a view) with the places in it found."""
    first, last = int(offsets[0]), int(offsets[-1])
    data, offsets = data[first:last], offsets - first
    places = np.empty((_ROWS, -(-len(data) // BLOCK)), np.uint64)
    whole = max(0, (len(data) - _AHEAD) // BLOCK)
    rest = np.zeros((places.shape[1] - whole) * BLOCK + _AHEAD, np.uint8)
    rest[: len(data) - whole * BLOCK] = data[whole * BLOCK :]
    for array in (data, offsets, rest):
        array.flags.writeable = False  # numba would compile each kernel a second time for one that can be written to
    key, found = np.zeros(2 * BLOCK, np.uint8), np.zeros(BLOCK, np.uint8)
    _find(data, places[:, :whole], key, found)
    _find(rest, places[:, whole:], key, found)
    places.flags.writeable = False
    return Text(data, offsets, places)


def _first_bits() -> np.ndarray:
    """uint8[64]: which bit is the lowest, by the highest six bits of it times `_DE_BRUIJN`."""
    table = np.zeros(64, np.uint8)
    for k in range(64):
        table[(_DE_BRUIJN << k & 0xFFFFFFFFFFFFFFFF) >> 58] = k
    return table


_DE_BRUIJN = 0x03F79D71B4CB0A89
"""A sequence of 64 bits whose 64 windows of six all differ (Leiserson, Prokop and Randall 1998)."""
_FIRST_BIT = _first_bits()


@kernel
def next_place(row, i, high):  # type: ignore[no-untyped-def]  # pragma: no cover
    """The first place at or after i that has its bit in `row` of the places, or high."""
    if i >= high:
        return i
    k = i // BLOCK
    word = row[k] >> np.uint64(i % BLOCK) << np.uint64(i % BLOCK)
    while word == 0:
        k += 1
        if k * BLOCK >= high:
            return high
        word = row[k]
    lowest = word & (~word + np.uint64(1))
    return min(high, k * BLOCK + np.int64(_FIRST_BIT[lowest * np.uint64(_DE_BRUIJN) >> np.uint64(58)]))
