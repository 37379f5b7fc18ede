"""Arrays that depend on nothing but the version of a package, kept on this machine beside the compiled kernels.

They are small, and what makes them imports much or asks much: each process of a run would do it again.
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
from raypt.packages import package_version


def kept(name: str, package: str, make: Callable[[], npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """What `make` returns, read-only: as it was kept by an earlier process, where the package has the same version and
    not a byte has changed since. Where there is no place to keep it, it is made each time.
    """
    try:
        path = own(cache_root() / "arrays") / f"{name}-{package}-{package_version(package)}.npy"
    except OSError:
        path = None
    array = None
    if path is not None:
        with contextlib.suppress(OSError, ValueError):
            written = path.read_bytes()
            if xxhash.xxh3_128_digest(data := written[16:]) == written[:16]:
                array = np.load(io.BytesIO(data), allow_pickle=False)
    if array is None:
        array = make()
        if path is not None:
            buffer = io.BytesIO()
            np.save(buffer, array, allow_pickle=False)
            data = buffer.getvalue()
            with contextlib.suppress(OSError):  # whole or not at all: other processes look for it
                storage.write_bytes(str(path), xxhash.xxh3_128_digest(data) + data)
    array.flags.writeable = False
    return array
