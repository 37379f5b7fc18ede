"""A fast 64-bit hash of byte ranges, for compiled kernels: equal ranges, equal hashes; others collide by chance only.

Not stored anywhere, so it may change between versions. Words are short: up to eight bytes are one masked load, without
a branch on the length. Indices are unsigned inside, which spares numba's check for negative ones and lets the compiler
make one load of eight.
"""

import numpy as np

from raypt.kernels import kernel

_U = np.uint64
_A, _B = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9)
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)


@kernel
def _load8(data, i):  # type: ignore[no-untyped-def]
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
def _load_last(data, i, n):  # type: ignore[no-untyped-def]
    """The last n < 8 bytes of the buffer; apart, so that `hash_bytes` stays small enough to be inlined."""
    x = _U(0)
    for k in range(n):
        x |= _U(data[i + _U(k)]) << _U(8 * k)
    return x


@kernel
def hash_bytes(data, start, end):  # type: ignore[no-untyped-def]
    """uint64 hash of data[start:end]; every bit is fit to index a table."""
    i = _U(start)
    n = _U(end) - i
    h = n * _A
    while n > _U(8):
        h = (h ^ _load8(data, i)) * _A
        h ^= h >> _U(29)
        i += _U(8)
        n -= _U(8)
    if i + _U(8) <= _U(len(data)):
        x = _load8(data, i) & (_ALL >> (_U(64) - (n << _U(3)) & _U(63)))
        if n == _U(0):
            x = _U(0)
    else:
        x = _load_last(data, i, n)
    h = (h ^ x) * _A
    h = (h ^ (h >> _U(29))) * _B
    return h ^ (h >> _U(32))
