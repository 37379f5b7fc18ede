"""What a node of a cluster has, as a task on it finds: compared with the driver's before a run begins its work."""

import functools
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import xxhash

from raypt import __version__, storage
from raypt.errors import UserError
from raypt.packages import package_version
from raypt.retries import StorageError
from raypt.schemes import check_scheme

PACKAGES = ("ray", "torch", "deepspeed", "pyarrow", "numpy", "tokenizers")


@dataclass(frozen=True)
class Facts:
    """One node's (or the driver's)."""

    python: str
    """Major and minor version."""
    raypt: str
    """Version, and a hash of its source."""
    packages: dict[str, str]
    """Versions without what names a build (`+cu128`), by package; an absent one is left out."""
    missing: tuple[str, ...] = ()
    """What is said of each scheme whose package is not there."""
    run_dir: str | None = None
    """Why the run directory cannot be seen."""


@functools.cache
def source_hash() -> str:
    """Of the .py files of the raypt that is imported."""
    digest, package = xxhash.xxh3_64(), Path(__file__).parent
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def facts(probe_uri: str, uris: Sequence[str], extras: Sequence[str] = ()) -> Facts:
    """Of the machine that this runs on. `probe_uri`: a file that the driver has written into the run directory; `uris`:
    one of each scheme that the run reads or writes; `extras`: packages that it needs beside raypt's own."""
    versions = {name: package_version(name) for name in (*PACKAGES, *extras)}
    packages = {name: found for name, found in versions.items() if found is not None}
    missing = []
    for uri in uris:
        try:
            check_scheme(uri, uri.partition("://")[0])
        except UserError as e:
            missing.append(str(e))
    return Facts(
        python=".".join(platform.python_version_tuple()[:2]),
        raypt=f"{__version__} ({source_hash()[:8]})",
        packages=packages,
        missing=tuple(missing),
        run_dir=None if missing else _unseen(probe_uri),
    )


def _unseen(probe_uri: str) -> str | None:
    try:
        return (
            None
            if storage.exists(probe_uri)
            else "it is not there: run.dir must be a disk that all nodes see, or a URI"
        )
    except StorageError as e:
        return str(e)


def problems(driver: Facts, node: Facts) -> list[str]:
    """Why this node cannot work on the driver's run, each in a line."""
    found = [f"{package}: {theirs}, the driver has {ours}" for package, ours, theirs in _versions(driver, node)]
    if node.raypt != driver.raypt:
        found.append(f"raypt {node.raypt}, the driver has {driver.raypt}: install one everywhere")
    found += node.missing
    if node.run_dir is not None:
        found.append(f"run.dir cannot be seen: {node.run_dir}")
    return found


def _versions(driver: Facts, node: Facts) -> list[tuple[str, str, str]]:
    ours = {"Python": driver.python, **driver.packages}
    theirs = {"Python": node.python, **node.packages}
    return [(name, ours[name], theirs.get(name, "not installed")) for name in ours if theirs.get(name) != ours[name]]
