"""Whether the inputs of a run are still those of its manifest."""

import os
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from raypt import storage
from raypt.corpus.formats.raw import changed, content_hash, difference, hashed, known_by_content
from raypt.corpus.listing import THREADS
from raypt.corpus.manifest import Manifest
from raypt.retries import asked

MANY_IN_A_DIRECTORY = 4
"""Files of one remote directory that are asked for by listing it instead of one by one."""


def check_unchanged(manifest: Manifest, run_uri: str) -> None:
    """Raise UserError if an input file is gone or differs from what the manifest recorded."""
    by_folder: defaultdict[str, list[int]] = defaultdict(list)
    for i in range(len(manifest.files)):
        by_folder[manifest.file_uri(i, run_uri).rpartition("/")[0]].append(i)

    def check(item: tuple[str, list[int]]) -> None:
        folder, indices = item
        fs, path = storage.filesystem(folder)
        known: dict[str, dict[str, Any]] = {}
        if (
            not isinstance(fs, LocalFileSystem)
            and len(indices) >= MANY_IN_A_DIRECTORY
            and not folder.startswith("http")
        ):
            fs.invalidate_cache(path)
            listed = asked(folder, lambda: fs.ls(path, detail=True, refresh=True))
            known = {info["name"].rpartition("/")[2]: info for info in listed}
        for i in indices:
            uri, file = manifest.file_uri(i, run_uri), manifest.files[i]
            try:
                info = known.get(uri.rpartition("/")[2]) if known else _info(uri)
            except FileNotFoundError:
                info = None
            if info is None:
                raise changed(uri, "is gone")
            if error := difference(uri, file.size, file.etag, info):
                raise error
            if hashed(file.etag) and known_by_content(uri, "") and content_hash(uri) != file.etag:
                raise changed(uri, "was changed (its bytes are others)")

    with ThreadPoolExecutor(THREADS) as pool:
        for _ in pool.map(check, by_folder.items()):
            pass


def _info(uri: str) -> dict[str, Any]:
    fs, path = storage.filesystem(uri)
    if isinstance(fs, LocalFileSystem):
        status = os.stat(path)
        return {"size": status.st_size, "mtime": status.st_mtime}
    fs.invalidate_cache(path)
    return dict(asked(uri, lambda: fs.info(path)))
