"""Files on any fsspec URI (local path, s3://, gs://, memory://), written so that a reader never sees half a file.

Every output is written to a temporary name, made durable, then renamed: a file that exists under its final name is
whole. That is what makes a task idempotent and a run resumable: "is it done" is "does the file exist".
"""

import contextlib
import json
import os
import posixpath
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem


def filesystem(uri: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The fsspec file system of `uri` and the path inside it."""
    fs, path = fsspec.core.url_to_fs(uri)
    return fs, path


def is_local(uri: str) -> bool:
    return isinstance(filesystem(uri)[0], LocalFileSystem)


def absolute(uri: str) -> str:
    """`uri` itself if it names a scheme, else the absolute local path (Ray workers have another working directory)."""
    return uri if "://" in uri else str(Path(uri).absolute())


def join(uri: str, *parts: str) -> str:
    return posixpath.join(uri.rstrip("/"), *parts)


def exists(uri: str) -> bool:
    fs, path = filesystem(uri)
    return bool(fs.exists(path))


def size(uri: str) -> int:
    fs, path = filesystem(uri)
    return int(fs.size(path))


def makedirs(uri: str) -> None:
    fs, path = filesystem(uri)
    fs.makedirs(path, exist_ok=True)


def listdir(uri: str) -> list[str]:
    """Sorted names (not paths) of the entries of a directory; empty if there is none. Temporary files are left out."""
    fs, path = filesystem(uri)
    if not fs.exists(path):
        return []
    names = (posixpath.basename(p.rstrip("/")) for p in fs.ls(path, detail=False, refresh=True))
    return sorted(n for n in names if not n.startswith(".tmp-"))


def remove(uri: str) -> None:
    """Delete a file or a directory tree; nothing happens if it is not there."""
    fs, path = filesystem(uri)
    if fs.exists(path):
        fs.rm(path, recursive=True)


def open_read(uri: str) -> IO[bytes]:
    fs, path = filesystem(uri)
    return fs.open(path, "rb")


def read_range(uri: str, start: int, length: int) -> bytes:
    """Bytes [start, start + length) of a file, one range request on an object store; fewer where the file ends before.

    Raises FileNotFoundError if there is no such file.
    """
    if length <= 0:
        return b""
    fs, path = filesystem(uri)
    if isinstance(fs, LocalFileSystem):
        with Path(path).open("rb", buffering=0) as f:
            f.seek(start)
            return _read_all(f, length)
    return bytes(fs.cat_file(path, start=start, end=start + length))


def _read_all(f: IO[bytes], length: int) -> bytes:
    """`length` bytes from where the file stands, fewer at its end; one call of the system gives at most 2 GiB."""
    data = f.read(length)
    while 0 < len(data) < length and (more := f.read(length - len(data))):
        data += more
    return data


@contextlib.contextmanager
def atomic_write(uri: str) -> Iterator[IO[bytes]]:
    """Open `uri` for writing bytes; it appears whole when the block ends without an exception, else not at all.

    Local files: temporary name in the same directory, fsync, rename. Object stores: the store's own put is atomic, so
    the temporary object is moved.
    """
    fs, path = filesystem(uri)
    parent, name = posixpath.split(path)
    fs.makedirs(parent, exist_ok=True)
    tmp = posixpath.join(parent, f".tmp-{uuid.uuid4().hex[:12]}-{name}")
    try:
        with fs.open(tmp, "wb") as f:
            yield f
            f.flush()
            if isinstance(fs, LocalFileSystem):
                os.fsync(f.fileno())
        if isinstance(fs, LocalFileSystem):
            os.replace(tmp, path)
        else:
            fs.mv(tmp, path)
    except BaseException:
        with contextlib.suppress(Exception):
            fs.rm(tmp)
        raise


def write_bytes(uri: str, data: bytes) -> None:
    with atomic_write(uri) as f:
        f.write(data)


def read_bytes(uri: str) -> bytes:
    with open_read(uri) as f:
        return f.read()


def write_json(uri: str, value: Any) -> None:
    write_bytes(uri, (json.dumps(value, ensure_ascii=False, indent=1) + "\n").encode())


def read_json(uri: str) -> Any:
    return json.loads(read_bytes(uri))


def write_parquet(uri: str, table: pa.Table, **options: Any) -> None:
    """One Parquet file, zstd by default; `options` go to pyarrow.parquet.write_table."""
    with atomic_write(uri) as f:
        pq.write_table(table, f, **{"compression": "zstd", **options})


def read_parquet(uri: str, columns: list[str] | None = None) -> pa.Table:
    with open_read(uri) as f:
        return pq.read_table(f, columns=columns)
