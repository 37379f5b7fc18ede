"""UTF-8 to code points, for compiled kernels; Arrow strings are valid UTF-8, so nothing is checked.

Positions may be signed or unsigned: unsigned ones spare numba's test for negative indices in hot loops.
"""

from typing import Any

import numpy as np

from raypt.kernels import kernel

_U32 = np.uint32
ONE = np.uint64(1)
"""A byte, where positions are unsigned."""
_6, _12, _18 = _U32(6), _U32(12), _U32(18)
_LOW_6, _LOW_5, _LOW_4, _LOW_3 = _U32(0x3F), _U32(0x1F), _U32(0x0F), _U32(0x07)


@kernel
def decode(data: Any, i: Any) -> tuple[Any, int]:
    """(code point uint32, its bytes) of the character at `i`, which takes several bytes: data[i] >= 0x80."""
    c = _U32(data[i])
    second = _U32(data[i + 1]) & _LOW_6
    if c < 0xE0:
        return ((c & _LOW_5) << _6) | second, 2
    third = _U32(data[i + 2]) & _LOW_6
    if c < 0xF0:
        return ((c & _LOW_4) << _12) | (second << _6) | third, 3
    return ((c & _LOW_3) << _18) | (second << _12) | (third << _6) | (_U32(data[i + 3]) & _LOW_6), 4


@kernel
def character(data: Any, i: Any) -> tuple[Any, int]:
    """(code point uint32, its bytes) of the character at `i`, ASCII or not."""
    c = _U32(data[i])
    return decode(data, i) if c >= 0x80 else (c, 1)


@kernel
def width_of(first: Any) -> int:
    """Bytes of a character that begins with the byte `first`."""
    return 1 if first < 0x80 else (2 if first < 0xE0 else (3 if first < 0xF0 else 4))


@kernel
def character_start(data: Any, i: Any, low: Any) -> Any:
    """Where the character begins that the byte at `i` belongs to; not before `low`."""
    while i > low and data[i] & 0xC0 == 0x80:
        i -= 1
    return i
