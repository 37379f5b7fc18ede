"""Small things that each process of a run would make again, kept on this machine beside the compiled kernels.

What makes them imports much or asks much, and they depend on nothing but what is in their names: the version of a
package, the hash of some code.
"""

import contextlib
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from raypt import storage
from raypt.kernel_place import cache_root, own


def kept_bytes(name: str, make: Callable[[], bytes]) -> bytes:
    """What `make` returns: as an earlier process kept it under this name, where not a byte has changed since. Where
    there is no place to keep it, it is made each time.
    """
    try:
        path = own(cache_root() / "kept") / name
    except OSError:
        return make()
    with contextlib.suppress(OSError):
        written = path.read_bytes()
        if xxhash.xxh3_128_digest(data := written[16:]) == written[:16]:
            return data
    data = make()
    with contextlib.suppress(OSError):  # whole or not at all: other processes look for it
        storage.write_bytes(str(path), xxhash.xxh3_128_digest(data) + data)
    return data


def kept_array(name: str, make: Callable[[], npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """`kept_bytes` of an array, which is read-only."""

    def saved() -> bytes:
        buffer = io.BytesIO()
        np.save(buffer, make(), allow_pickle=False)
        return buffer.getvalue()

    array: npt.NDArray[Any] = np.load(io.BytesIO(kept_bytes(f"{name}.npy", saved)), allow_pickle=False)
    array.flags.writeable = False
    return array
