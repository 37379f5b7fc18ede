"""Hash functions of integers and byte ranges for compiled kernels, each by the name it has in the literature.

What is stored (signatures, band hashes, sample orders, the index of deduplication) names its function in a fingerprint
or a format version: these never change. `hash_bytes`, `chain` and `spread` are not stored anywhere and may.
"""

from typing import Any

import numpy as np

from raypt.kernels import allocating_kernel, inlined, kernel

U32, U64 = np.uint32, np.uint64
_U, _U32 = U64, U32
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
"""2^64 / golden ratio, odd: Knuth's multiplier (TAOCP 6.4), whose products spread over the high bits."""
_B = np.uint64(0xBF58476D1CE4E5B9)
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_MURMUR_A, _MURMUR_B, _33 = _U(0xFF51AFD7ED558CCD), _U(0xC4CEB9FE1A85EC53), _U(33)
_MURMUR32_A, _MURMUR32_B, _13, _16 = _U32(0x85EBCA6B), _U32(0xC2B2AE35), _U32(13), _U32(16)
_SPLIT_A, _SPLIT_B, _30, _27, _31 = _B, _U(0x94D049BB133111EB), _U(30), _U(27), _U(31)
_DEGSKI, _32 = _U(0xD6E8FEB86659FD93), _U(32)
FNV_BASIS, FNV_PRIME = _U(0xCBF29CE484222325), _U(0x100000001B3)
"""FNV-1a of 64 bits (Fowler, Noll, Vo): h = (h ^ item) * FNV_PRIME, from FNV_BASIS."""


@inlined
def murmur64(x: Any) -> Any:
    """MurmurHash3's 64-bit finaliser (Appleby): a bijection of uint64 in which every bit moves every other."""
    x = (x ^ (x >> _33)) * _MURMUR_A
    x = (x ^ (x >> _33)) * _MURMUR_B
    return x ^ (x >> _33)


@inlined
def murmur32(h: Any) -> Any:
    """MurmurHash3's 32-bit finaliser of a uint32: datasketch's affine32 mixes each hash with it before permuting."""
    h = _U32((h ^ (h >> _16)) * _MURMUR32_A)
    h = _U32((h ^ (h >> _13)) * _MURMUR32_B)
    return h ^ (h >> _16)


@inlined
def splitmix64(x: Any) -> Any:
    """The finaliser of splitmix64 (Steele et al. 2014; Stafford's mix 13): a bijection of uint64."""
    x = (x ^ (x >> _30)) * _SPLIT_A
    x = (x ^ (x >> _27)) * _SPLIT_B
    return x ^ (x >> _31)


@inlined
def degski64(x: Any) -> Any:
    """A round of degski64's mixer (Mueller's multiplier) of the product with GOLDEN: a bijection of uint64."""
    x = x * GOLDEN
    x = (x ^ (x >> _32)) * _DEGSKI
    return x ^ (x >> _32)


@inlined
def spread(x: Any) -> Any:
    """A multiplication by GOLDEN and a fold (Fibonacci hashing): enough for a table of keys that are spread already."""
    x = x * GOLDEN
    return x ^ (x >> _U(29))


@inlined
def chain(h: Any, item: Any) -> Any:
    """The hash of a sequence made longer by the hash of an item."""
    h = (h ^ (h >> _31) ^ item) * GOLDEN
    return h ^ (h >> _U(32)) * _B


@allocating_kernel
def murmur64_all(values: Any) -> Any:
    """murmur64 of each int64 or uint64."""
    out = np.empty(values.shape[0], np.uint64)
    for i in range(values.shape[0]):
        out[i] = murmur64(np.uint64(values[i]))
    return out


@allocating_kernel
def splitmix64_all(values: Any) -> Any:
    """splitmix64 of each int64 or uint64."""
    out = np.empty(values.shape[0], np.uint64)
    for i in range(values.shape[0]):
        out[i] = splitmix64(np.uint64(values[i]))
    return out


@allocating_kernel
def degski64_all(values: Any) -> Any:
    """degski64 of each uint64."""
    out = np.empty(values.shape[0], np.uint64)
    for i in range(values.shape[0]):
        out[i] = degski64(values[i])
    return out


@kernel
def power(base: Any, exponent: int) -> Any:
    """base ** exponent mod 2^64: what a polynomial (rolling) hash takes its oldest item away with."""
    result = _U(1)
    for _ in range(exponent):
        result *= base
    return result


@kernel
def _load8(data: Any, i: Any) -> Any:
    return (
        _U(data[i])
        | _U(data[i + _U(1)]) << _U(8)
        | _U(data[i + _U(2)]) << _U(16)
        | _U(data[i + _U(3)]) << _U(24)
        | _U(data[i + _U(4)]) << _U(32)
        | _U(data[i + _U(5)]) << _U(40)
        | _U(data[i + _U(6)]) << _U(48)
        | _U(data[i + _U(7)]) << _U(56)
    )


@kernel
def _load_last(data: Any, i: Any, n: Any) -> Any:
    """The last n < 8 bytes of the buffer; apart, so that `hash_bytes` stays small enough to be inlined."""
    x = _U(0)
    for k in range(n):
        x |= _U(data[i + _U(k)]) << _U(8 * k)
    return x


# Equal ranges, equal hashes; others collide by chance only. Words are short: up to eight bytes are one masked load,
# without a branch on the length. Indices are unsigned inside, which spares numba's check for negative ones and lets the
# compiler make one load of eight.
@kernel
def hash_bytes(data: Any, start: Any, end: Any) -> Any:
    """uint64 hash of data[start:end]; every bit is fit to index a table."""
    i = _U(start)
    n = _U(end) - i
    h = n * GOLDEN
    while n > _U(8):
        h = (h ^ _load8(data, i)) * GOLDEN
        h ^= h >> _U(29)
        i += _U(8)
        n -= _U(8)
    if i + _U(8) <= _U(len(data)):
        x = _load8(data, i) & (_ALL >> (_U(64) - (n << _U(3)) & _U(63)))
        if n == _U(0):
            x = _U(0)
    else:
        x = _load_last(data, i, n)
    h = (h ^ x) * GOLDEN
    h = (h ^ (h >> _U(29))) * _B
    return h ^ (h >> _U(32))
