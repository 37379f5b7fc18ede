"""Where compiled kernels are kept; read without a compiler."""

import functools
import os
from pathlib import Path

from raypt.errors import UserError

PACKAGE = Path(__file__).parent

COMPILING = (
    "kernels are compiled, those that this run uses, on each machine once (kept under RAYPT_KERNEL_CACHE): up to a "
    "minute of CPU, beside other work"
)


@functools.cache
def cache_root() -> Path:
    """`~/.cache/raypt/kernels`, or RAYPT_KERNEL_CACHE. What is in it is executed, so it must be one's own.

    Raises:
        UserError: the directory belongs to, or can be written by, somebody else; or its path is relative: another place
            in the working directory of each process.
        OSError: there is no such place, and none can be made: a user without a home, a file system that is read-only.
    """
    chosen = os.environ.get("RAYPT_KERNEL_CACHE")
    if not chosen:
        try:
            home = Path.home()
        except RuntimeError as e:
            raise FileNotFoundError(f"{e} RAYPT_KERNEL_CACHE may name a directory for compiled kernels") from None
        return own(home / ".cache" / "raypt" / "kernels")
    directory = Path(chosen).expanduser()
    if not directory.is_absolute():
        raise UserError(
            f"RAYPT_KERNEL_CACHE={chosen}: compiled kernels are kept in one directory for all processes of a machine, "
            "so its path must be absolute (/fast/me/kernels) or begin with ~/; unset it for ~/.cache/raypt/kernels"
        )
    return own(directory)


@functools.cache
def own(directory: Path) -> Path:
    """`directory`, made for this user alone where it is not there.

    Raises:
        UserError: it belongs to, or can be written by, somebody else.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = directory.stat()
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise UserError(
            f"{directory}: compiled kernels in it would be executed, but other users can write to it; set "
            "RAYPT_KERNEL_CACHE to a directory of your own (chmod go-w), or delete this one"
        )
    return directory
