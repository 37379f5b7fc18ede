"""Seeded, stateless permutations and hashes: the sources of every "random" order in this room.

Nothing here depends on a random generator's state, on the platform or on Python's hash seed, so any worker can compute
any part of an order by itself.
"""

import numpy as np
import numpy.typing as npt
import xxhash

from raypt.kernels import allocating_kernel
from raypt.text.hashing import splitmix64

_ROUNDS = 6


def key_of(*parts: int | str) -> int:
    """A 64-bit key from a seed and names; distinct part lists give independent keys."""
    return xxhash.xxh3_64_intdigest("\x1f".join(f"{type(p).__name__}:{p}" for p in parts).encode())


@allocating_kernel
def _hash_array(values: npt.NDArray[np.int64], key: np.uint64) -> npt.NDArray[np.uint64]:
    out = np.empty(values.size, np.uint64)
    for i in range(values.size):
        out[i] = splitmix64(splitmix64(np.uint64(values[i]) + key) ^ key)
    return out


def hash_array(values: npt.NDArray[np.int64], key: int) -> npt.NDArray[np.uint64]:
    """uint64[n]: a uniform hash of each value under `key`."""
    return _hash_array(np.ascontiguousarray(values, np.int64), np.uint64(key))


@allocating_kernel
def _permute(index: npt.NDArray[np.int64], n: int, key: np.uint64) -> npt.NDArray[np.int64]:
    half = np.uint64(1)
    while (np.uint64(1) << (np.uint64(2) * half)) < np.uint64(n):
        half += np.uint64(1)
    mask = (np.uint64(1) << half) - np.uint64(1)
    limit = np.uint64(n)
    out = np.empty(index.size, np.int64)
    for i in range(index.size):
        x = np.uint64(index[i])
        while True:
            left, right = x >> half, x & mask
            for r in range(_ROUNDS):
                left, right = right, left ^ (splitmix64(right ^ splitmix64(key + np.uint64(r))) & mask)
            x = (left << half) | right
            if x < limit:
                break
        out[i] = np.int64(x)
    return out


def permute(index: npt.NDArray[np.int64], n: int, key: int) -> npt.NDArray[np.int64]:
    """Where each `index` (in [0, n)) goes under the permutation of n items that `key` names.

    A Feistel network with cycle walking (Black and Rogaway 2002): no table, so a permutation of a billion samples costs
    no memory and any slice of it can be computed alone.
    """
    assert n > 0, n
    return _permute(np.ascontiguousarray(index, np.int64), n, np.uint64(key))
