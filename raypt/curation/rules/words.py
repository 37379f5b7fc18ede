"""What kernels of several rules ask about the characters at a place."""

import numpy as np

from raypt.curation import features as s
from raypt.kernels import kernel
from raypt.text import unicode as u


def spelled(characters: str) -> np.ndarray:
    """uint8[n, 5]: the UTF-8 bytes of each character, and how many they are."""
    out = np.zeros((len(characters), 5), np.uint8)
    for row, character in zip(out, characters, strict=True):
        encoded = character.encode()
        row[: len(encoded)], row[4] = list(encoded), len(encoded)
    return out


@kernel
def starts_with(data, start, end, characters):  # type: ignore[no-untyped-def]
    """Whether data[start:end] starts with one of the characters, as `spelled` spells them."""
    for k in range(len(characters)):
        n = characters[k, 4]
        if start + n <= end:
            same = True
            for m in range(n):
                same = same and data[start + m] == characters[k, m]
            if same:
                return True
    return False


@kernel
def begins_with_alnum(data, p, pages, blocks):  # type: ignore[no-untyped-def]
    """Whether the character at p is a letter or a digit."""
    b = data[p]
    if b < 0x80:
        return 0x30 <= b <= 0x39 or 0x41 <= b <= 0x5A or 0x61 <= b <= 0x7A
    n = 2 if b < 0xE0 else (3 if b < 0xF0 else 4)
    c = np.int64(b & (0xFF >> (n + 1)))
    for m in range(1, n):
        c = c << 6 | data[p + m] & 0x3F
    return blocks[pages[c >> 8], c & 0xFF] & (u.ALPHA | u.DIGIT) != 0


@kernel
def count_spoken(data, token_flags, token_start, first, last, pages, blocks):  # type: ignore[no-untyped-def]
    """Words among tokens [first, last) that begin with a letter or digit: what stands between blanks, and each
    character of an unspaced script."""
    n = 0
    for t in range(first, last):
        flags = token_flags[t]
        if flags & s.UNSPACED or (flags & s.AFTER_SPACE and begins_with_alnum(data, token_start[t], pages, blocks)):
            n += 1
    return n
