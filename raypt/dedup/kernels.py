"""The numba pieces shared by the kernels of this package: UTF-8, integer hashing, the MinHash inner loop."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba as nb
import numpy as np

from raypt.kernels import kernel

F = TypeVar("F", bound=Callable[..., Any])


def inlined(function: F) -> F:
    """A piece of a kernel."""
    return cast(F, nb.njit(inline="always")(function))


U32, U64 = np.uint32, np.uint64
MIX_A, MIX_B, SHIFT_33 = U64(0xFF51AFD7ED558CCD), U64(0xC4CEB9FE1A85EC53), U64(33)
MIX32_A, MIX32_B = U32(0x85EBCA6B), U32(0xC2B2AE35)
SHIFT_6, SHIFT_12, SHIFT_13, SHIFT_16, SHIFT_18 = U32(6), U32(12), U32(13), U32(16), U32(18)
LOW_6, LOW_5, LOW_4, LOW_3 = U32(0x3F), U32(0x1F), U32(0x0F), U32(0x07)
ONE = U64(1)
"""Byte positions in the hot loops are unsigned, which spares the test for negative indices."""
BLOCK = 512
"""Shingle hashes folded into a signature at a time: they stay in the first-level cache."""


@inlined
def mix64(x: Any) -> Any:
    """MurmurHash3's 64-bit finaliser: a bijection of uint64 in which every input bit moves every output bit."""
    x = (x ^ (x >> SHIFT_33)) * MIX_A
    x = (x ^ (x >> SHIFT_33)) * MIX_B
    return x ^ (x >> SHIFT_33)


@inlined
def fmix32(h: Any) -> Any:
    """MurmurHash3's 32-bit finaliser of a uint32: datasketch's affine32 mixes each hash with it before permuting."""
    h = U32((h ^ (h >> SHIFT_16)) * MIX32_A)
    h = U32((h ^ (h >> SHIFT_13)) * MIX32_B)
    return h ^ (h >> SHIFT_16)


@kernel
def power(base: Any, exponent: int) -> Any:
    """base ** exponent mod 2^64."""
    result = U64(1)
    for _ in range(exponent):
        result *= base
    return result


@kernel
def decode(data: Any, i: Any) -> tuple[Any, int]:
    """(code point uint32, its bytes) of the multi-byte UTF-8 character at `i`; Arrow strings are valid UTF-8."""
    c = U32(data[i])
    second = U32(data[i + 1]) & LOW_6
    if c < 0xE0:
        return ((c & LOW_5) << SHIFT_6) | second, 2
    third = U32(data[i + 2]) & LOW_6
    if c < 0xF0:
        return ((c & LOW_4) << SHIFT_12) | (second << SHIFT_6) | third, 3
    return ((c & LOW_3) << SHIFT_18) | (second << SHIFT_12) | (third << SHIFT_6) | (U32(data[i + 3]) & LOW_6), 4


@kernel
def fold(signature: Any, a: Any, b: Any, hashes: Any, count: int) -> None:
    """signature[k] = min over the first `count` hashes h of a[k] * h + b[k] mod 2^32, and what it was before."""
    for k in range(signature.shape[0]):
        least, ak, bk = signature[k], a[k], b[k]
        for j in range(count):
            least = min(least, U32(ak * hashes[j] + bk))
        signature[k] = least


@kernel
def mix_all(values: Any) -> Any:
    """mix64 of each int64 or uint64."""
    out = np.empty(values.shape[0], np.uint64)
    for i in range(values.shape[0]):
        out[i] = mix64(np.uint64(values[i]))
    return out
