"""What two data sides have in common, made once: files of one are linked (or copied) into the other."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from raypt import storage
from raypt.run_dir import RunDir

INPUTS = ("input",)
TAGGED = ("quality", "quarantine", "work/tagged")
INDEX = "work/tagged/index.zst"


def share_inputs(source: RunDir, target: RunDir) -> None:
    """The manifest, and the embedded corpus that it speaks of."""
    _share(source, target, INPUTS)
    _link(source.manifest, target.manifest)


def share_tagged(source: RunDir, target: RunDir) -> None:
    """Documents as they were read and tagged, with the classifier that scored them; their index, which says that all
    are there, last.
    """
    share_inputs(source, target)
    _share(source, target, TAGGED)
    _link(source.path(INDEX), target.path(INDEX))


def share_directory(source: str, target: str, last: str) -> None:
    """All files of a directory; `last` of them that which says that all are there."""
    names = list(_files(source, ""))
    for name in sorted(names, key=lambda name: name == last):
        _link(storage.join(source, name), storage.join(target, name))


def _share(source: RunDir, target: RunDir, directories: tuple[str, ...]) -> None:
    names = [name for d in directories for name in _files(source.uri, d) if name != INDEX]
    storage.in_parallel(lambda name: _link(source.path(name), target.path(name)), names)


def _files(root: str, directory: str) -> Iterator[str]:
    """Paths under `root`, of a directory and those below it."""
    fs, path = storage.filesystem(storage.join(root, directory))
    _, base = storage.filesystem(root)
    if fs.exists(path):
        for found in sorted(fs.find(path)):
            yield found[len(base.rstrip("/")) + 1 :]


def _link(source: str, target: str) -> None:
    """The same bytes under another name. Files of a run are written whole and renamed, never changed in place."""
    fs, path = storage.filesystem(source)
    _, copy = storage.filesystem(target)
    if not storage.is_local(source):
        if not fs.exists(copy):
            fs.copy(path, copy)
        return
    Path(copy).parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.link(path, copy)
