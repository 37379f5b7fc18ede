"""Model files from outside that C++ reads: a local copy, and a trial in a child process, where a crash hurts nobody."""

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from raypt import storage
from raypt.errors import UserError

_CHUNK = 4 << 20
_SECONDS, _BYTES_A_SECOND = 60.0, 20e6
"""How long a child may take to load a model: at least that, and so much for its bytes (a slow disk)."""

_tried: set[str] = set()
"""sha256 of the files that this process has seen a child survive."""


@contextlib.contextmanager
def local_copy(uri: str) -> Iterator[str]:
    """A path of the file: the libraries read local files only."""
    if storage.is_local(uri):
        yield storage.filesystem(uri)[1]
        return
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "model" + Path(uri).suffix)
        with storage.open_read(uri) as f, path.open("wb") as copy:
            shutil.copyfileobj(f, copy, _CHUNK)
        yield str(path)


def sha256_of(uri: str) -> str:
    """Of a file, in hex; it is read in blocks of 4 MB."""
    digest = hashlib.sha256()
    with storage.open_read(storage.absolute(uri)) as f:
        while block := f.read(_CHUNK):
            digest.update(block)
    return digest.hexdigest()


def try_in_a_child(path: str, sha256: str, module: str, library: str, key: str, shown: str) -> None:
    """Run `python -m MODULE PATH`, which loads the model and uses it, unless this process has seen that for the same
    bytes.

    `library`: whose model it is; `key`: the configuration key that named the file; `shown`: what it named.

    Raises:
        UserError: the child failed, died or did not end in time.
    """
    if sha256 in _tried:
        return
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    limit = _SECONDS + Path(path).stat().st_size / _BYTES_A_SECOND
    command = [sys.executable, "-m", module, path]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        raise UserError(f"{key}: {library} did not load {shown} within {limit:.0f} s in a process of its own") from None
    if done.returncode != 0:
        why = (
            done.stderr.strip().rsplit("\n", 1)[-1] if done.returncode > 0 else f"it died of signal {-done.returncode}"
        )
        raise UserError(f"{key}: {library} cannot use {shown}: {why}")
    _tried.add(sha256)
