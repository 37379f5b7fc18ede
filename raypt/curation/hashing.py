"""A fast 64-bit hash of byte ranges, for compiled kernels: equal ranges, equal hashes; others collide by chance only.

Not stored anywhere, so it may change between versions. Indices are unsigned inside, which spares numba's check for
negative ones and lets eight loads become one.
"""

import numpy as np

from raypt.curation.text import kernel

_U = np.uint64
_A, _B = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9)


@kernel
def _load4(data, i):  # type: ignore[no-untyped-def]
    low = _U(data[i]) | _U(data[i + _U(1)]) << _U(8)
    return low | _U(data[i + _U(2)]) << _U(16) | _U(data[i + _U(3)]) << _U(24)


@kernel
def hash_bytes(data, start, end):  # type: ignore[no-untyped-def]
    """uint64 hash of data[start:end]; every bit is fit to index a table."""
    i = _U(start)
    n = _U(end) - i
    h = n * _A
    while n >= _U(8):
        h = (h ^ (_load4(data, i) | _load4(data, i + _U(4)) << _U(32))) * _A
        h ^= h >> _U(29)
        i += _U(8)
        n -= _U(8)
    if n >= _U(4):  # two loads that may overlap
        h = (h ^ (_load4(data, i) | _load4(data, i + n - _U(4)) << _U(32))) * _A
    elif n > _U(0):  # the first, the middle and the last byte are all there are
        h = (h ^ (_U(data[i]) | _U(data[i + (n >> _U(1))]) << _U(8) | _U(data[i + n - _U(1)]) << _U(16))) * _A
    h = (h ^ (h >> _U(29))) * _B
    return h ^ (h >> _U(32))
