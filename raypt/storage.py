"""Files on any fsspec URI (local path, s3://, gs://, memory://), written so that a reader never sees half a file.

Local files are written to a temporary name, made durable, then renamed. On object stores the whole object is put at
once, in one request (several from 100 MB on): nothing appears before the last byte is there. Absence is only what the
storage says is absent: any other answer is an error, since what "is not there" may be made anew over what is.

A request costs some 30 ms on an object store, so what many files need is asked for once: `list_sizes` is one listing of
a directory, `read_range` fetches the bytes that are wanted and no others, `in_parallel` overlaps what must be many.
"""

import contextlib
import contextvars
import errno
import functools
import io
import json
import os
import posixpath
import tempfile
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import IO, Any, TypeVar, cast

import fsspec
import fsspec.asyn
import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from raypt import packs, written
from raypt.errors import UserError
from raypt.retries import asked

Item = TypeVar("Item")
Result = TypeVar("Result")

PARALLEL_REQUESTS = 32
"""Requests under way at a time where many small ones are made: a second for 1,000 at 30 ms."""
_IN_MEMORY = 64 << 20
"""Bytes of an object that are kept in memory until it is put; more go through a temporary file."""
_TEMPORARY = ".tmp-"


def filesystem(uri: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The fsspec file system of `uri` and the path inside it."""
    if "://" not in uri:  # a local path may hold any character, "::" (fsspec's chains of URLs) too
        return LocalFileSystem(), str(Path(uri).absolute())
    fs, path = fsspec.core.url_to_fs(uri)
    return fs, path


def arrow_filesystem(uri: str) -> tuple[pa.fs.FileSystem, str]:
    """The same file system for pyarrow, and the path inside it: one client of a storage, with one set of credentials
    and one way of trying again, for all that a run does.
    """
    fs, path = filesystem(uri)
    if isinstance(fs, LocalFileSystem):
        return pa.fs.LocalFileSystem(), path
    return pa.fs.PyFileSystem(pa.fs.FSSpecHandler(fs)), path


def is_local(uri: str) -> bool:
    return isinstance(filesystem(uri)[0], LocalFileSystem)


def absolute(uri: str) -> str:
    """`uri` itself if it names a scheme, else the absolute local path (Ray workers have another working directory)."""
    return uri if "://" in uri else str(Path(uri).absolute())


def join(uri: str, *parts: str) -> str:
    return posixpath.join(uri.rstrip("/"), *parts)


def info(uri: str) -> dict[str, Any] | None:
    """What the storage knows of a file or directory (size, type, ...); None only if it says that there is none."""
    fs, path = filesystem(uri)
    try:
        return dict(asked(uri, lambda: fs.info(path)))
    except (FileNotFoundError, NotADirectoryError):
        return None


def exists(uri: str) -> bool:
    """Whether there is a file or a directory. An error of the storage is raised: it does not mean "no"."""
    return info(uri) is not None


def is_file(uri: str) -> bool:
    """Whether there is a file, of which `exists` is not sure before it has looked for a directory of that name."""
    fs, path = filesystem(uri)
    if written.found(uri) is not None:
        return True
    if not is_s3(fs):
        return exists(uri)
    bucket, key, version = fs.split_path(path)
    try:
        asked(
            uri,
            lambda: fs.call_s3("head_object", Bucket=bucket, Key=key, **({"VersionId": version} if version else {})),
        )
    except FileNotFoundError:
        return False
    return True


def size(uri: str) -> int:
    """Bytes of a file; FileNotFoundError if there is none."""
    fs, path = filesystem(uri)
    return int(asked(uri, lambda: fs.info(path))["size"])


def makedirs(uri: str) -> None:
    """Make a local directory. Object stores have none, and a bucket that does not exist is not made."""
    fs, path = filesystem(uri)
    if isinstance(fs, LocalFileSystem):
        fs.makedirs(path, exist_ok=True)


def _entries(uri: str) -> list[dict[str, Any]]:
    fs, path = filesystem(uri)
    try:
        found = _keys(uri, fs, path) if is_s3(fs) else asked(uri, lambda: fs.ls(path, detail=True, refresh=True))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [e for e in found if not posixpath.basename(e["name"].rstrip("/")).startswith(_TEMPORARY)]


def _keys(uri: str, fs: Any, path: str) -> list[dict[str, Any]]:
    """The entries of a directory, by one request for each 1,000 (`fs.ls` asks for its parent too where it is empty)."""
    bucket, key, _ = fs.split_path(path)
    prefix = f"{key.rstrip('/')}/" if key else ""
    out: list[dict[str, Any]] = []
    for page in _listed(uri, fs, Bucket=bucket, Prefix=prefix, Delimiter="/"):
        out += [{"name": entry["Prefix"], "type": "directory"} for entry in page.get("CommonPrefixes", [])]
        files = (entry for entry in page.get("Contents", []) if entry["Key"] != prefix)
        out += [
            {"name": entry["Key"], "type": "file", "size": entry["Size"], "modified": entry["LastModified"]}
            for entry in files
        ]
    return out


def _listed(uri: str, fs: Any, **wanted: str) -> Iterator[dict[str, Any]]:
    """The pages of a listing, 1,000 keys each."""
    page: dict[str, Any] = {}
    while not page or page.get("IsTruncated"):
        more = {"ContinuationToken": page["NextContinuationToken"]} if page else {}
        page = asked(uri, functools.partial(fs.call_s3, "list_objects_v2", **wanted, **more))
        yield page


def listdir(uri: str) -> list[str]:
    """Sorted names (not paths) of the entries of a directory; empty if there is none. Temporary files are left out."""
    return sorted(posixpath.basename(e["name"].rstrip("/")) for e in _entries(uri))


def list_sizes(uri: str) -> dict[str, int]:
    """Name -> bytes of the files of a directory, by one listing; empty if there is none."""
    files = (e for e in _entries(uri) if e["type"] == "file")
    return {posixpath.basename(e["name"]): int(e["size"]) for e in files}


def list_touched(uri: str) -> dict[str, float]:
    """Name -> when it was last written, in seconds by the clock of the storage, of the files of a directory; empty if
    there is none. One listing where that tells; else a request for each file.
    """
    fs, _ = filesystem(uri)
    out = {}
    for entry in _entries(uri):
        when = entry.get("modified")
        if when is None and entry["type"] == "file":
            with contextlib.suppress(FileNotFoundError):
                when = asked(uri, functools.partial(_modified, fs, entry["name"]))
        if when is not None:
            out[posixpath.basename(entry["name"])] = when.timestamp()
    return out


def _modified(fs: fsspec.AbstractFileSystem, path: str) -> datetime:
    fs.invalidate_cache(fs._parent(path))
    return cast(datetime, fs.modified(path))


def remove(uri: str) -> None:
    """Delete a file or a directory tree; nothing happens if it is not there."""
    fs, path = filesystem(uri)
    written.forget(uri, below=True)
    with contextlib.suppress(FileNotFoundError):
        if is_s3(fs):
            _remove_keys(uri, fs, path)
        else:
            asked(uri, lambda: fs.rm(path, recursive=True))


def remove_file(uri: str) -> None:
    """Delete one file, by one request; nothing happens if it is not there. What lies below a directory stays."""
    fs, path = filesystem(uri)
    written.forget(uri)
    with contextlib.suppress(FileNotFoundError):
        if is_s3(fs):
            bucket, key, _ = fs.split_path(path)
            asked(uri, lambda: fs.call_s3("delete_object", Bucket=bucket, Key=key))
            fs.invalidate_cache()
        else:
            asked(uri, lambda: fs.rm_file(path))


def remove_files(directory: str, names: Iterable[str]) -> None:
    """Delete files of a directory, by one request for each 1,000 where the storage can; none need be there."""
    fs, path = filesystem(directory)
    names = list(names)
    if not is_s3(fs):
        in_parallel(lambda name: remove_file(join(directory, name)), names)
        return
    for name in names:
        written.forget(join(directory, name))
    bucket, key, _ = fs.split_path(path)
    for at in range(0, len(names), 1000):
        _delete(directory, fs, bucket, [join(key, name) for name in names[at : at + 1000]])
    fs.invalidate_cache()


def _delete(uri: str, fs: Any, bucket: str, keys: Sequence[str]) -> None:
    delete = {"Objects": [{"Key": key} for key in keys], "Quiet": True}
    done = asked(uri, functools.partial(fs.call_s3, "delete_objects", Bucket=bucket, Delete=delete))
    for error in done.get("Errors", []):
        raise OSError(f"{uri}: {error.get('Key')} is not deleted: {error.get('Code')} {error.get('Message')}")


def _remove_keys(uri: str, fs: Any, path: str) -> None:
    """A listing of what lies below, and one request for each 1,000 objects of it and the file of that name itself (five
    of `fs.rm` for what is not there)."""
    bucket, key, _ = fs.split_path(path)
    assert key, f"{uri}: a whole bucket is not removed"
    key = key.rstrip("/")
    found = [key]
    for page in _listed(uri, fs, Bucket=bucket, Prefix=f"{key}/"):
        found += [entry["Key"] for entry in page.get("Contents", [])]
        for at in range(0, len(found), 1000):
            _delete(uri, fs, bucket, found[at : at + 1000])
        found = []
    fs.invalidate_cache()


def move(uri: str, target: str) -> None:
    """Rename a file or a directory within one file system."""
    fs, path = filesystem(uri)
    for place in (uri, target):
        written.forget(place, below=True)
    fs.mv(path, filesystem(target)[1], recursive=True)


def _packed(uri: str) -> bytes | None:
    """A file that lies in a pack; None if it is a file by itself."""
    if (place := packs.parsed(uri)) is None:
        return None
    pack, start, size = place
    return packs.kept.get(pack, read_bytes)[start : start + size]


def open_read(uri: str) -> IO[bytes]:
    """A file to be read from its beginning to its end."""
    if (data := _packed(uri)) is not None:
        return io.BytesIO(data)
    fs, path = filesystem(uri)
    return cast(IO[bytes], asked(uri, lambda: fs.open(path, "rb")))


def open_ranges(uri: str, *, whole: bool = False, little: bool = False) -> IO[bytes]:
    """A file of which parts are read: nothing is fetched ahead of what is asked for but its last bytes. `whole`: nearly
    all of it is read, so one of up to `WHOLE_BYTES` comes by one request; `little`: so does one of up to
    `LITTLE_BYTES`.
    """
    if (data := _packed(uri)) is not None or (data := written.found(uri)) is not None:
        return io.BytesIO(data)
    fs, path = filesystem(uri)
    if isinstance(fs, LocalFileSystem):
        return cast(IO[bytes], fs.open(path, "rb"))
    if is_s3(fs):
        at_once = WHOLE_BYTES if whole else LITTLE_BYTES if little else TAIL_BYTES
        found = asked(uri, lambda: fsspec.asyn.sync(fs.loop, _tail, fs, path, at_once))
        if found is not None:
            if len(found[1]) == found[0]:
                written.note_read(uri, found[1])
            return cast(IO[bytes], _Ranges(uri, *found))
    return cast(IO[bytes], asked(uri, lambda: fs.open(path, "rb", cache_type="none")))


TAIL_BYTES = 64 << 10
"""Of an object whose parts are read, the last ones, which come with its size: what a Parquet reader asks for first, and
often all there is. Opened otherwise, it is asked for its size, its footer and its columns, one after the other."""
LITTLE_BYTES = 512 << 10
"""The same of one of which some is wanted that lies anywhere: no more than comes in the time of a request."""
WHOLE_BYTES = 32 << 20
"""The same of one that is read as a whole: the greatest shard of text (64 MB) is about as big when it is compressed."""


def is_s3(fs: fsspec.AbstractFileSystem) -> bool:
    """Whether it is s3fs, some of whose requests can be spared."""
    return "s3" in (fs.protocol if isinstance(fs.protocol, tuple | list) else (fs.protocol,))


async def _tail(fs: Any, path: str, nbytes: int) -> tuple[int, bytes] | None:
    """Size and last `nbytes` of an object, by one request; None where the server does not say the size with them (it is
    empty).
    """
    from s3fs.core import _error_wrapper

    bucket, key, version = fs.split_path(path)
    wanted = {"Bucket": bucket, "Key": key, "Range": f"bytes=-{nbytes}"}

    async def ask() -> tuple[str, bytes]:
        answer = await fs._call_s3("get_object", **wanted, **({"VersionId": version} if version else {}))
        try:
            return answer.get("ContentRange", ""), await answer["Body"].read()
        finally:
            answer["Body"].close()

    try:
        place, data = await _error_wrapper(ask, retries=fs.retries)
    except OSError as e:
        if e.errno == errno.EINVAL:  # of nothing there are no last bytes
            return None
        raise
    total = place.rpartition("/")[2]
    return (int(total), data) if total.isdigit() else None


class _Ranges(io.RawIOBase):
    """An object of which parts are read: a request for each read that is not in its last bytes."""

    def __init__(self, uri: str, size: int, tail: bytes) -> None:
        self._uri, self._size, self._tail, self._at = uri, size, tail, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        end = self._size if size is None or size < 0 else min(self._at + size, self._size)
        start, begins = self._at, self._size - len(self._tail)
        if start >= end:
            return b""
        data = self._tail[start - begins : end - begins] if start >= begins else b""
        if start < begins:
            data = read_range(self._uri, start, min(end, begins) - start) + self._tail[: max(0, end - begins)]
        self._at = start + len(data)
        return data

    def readall(self) -> bytes:
        return self.read()

    def readinto(self, buffer: Any) -> int:
        with memoryview(buffer) as view:
            data = self.read(view.nbytes)
            view.cast("B")[: len(data)] = data
        return len(data)


def read_range(uri: str, start: int, length: int) -> bytes:
    """`length` bytes from `start` on; fewer where the file ends."""
    if (data := _packed(uri)) is not None or (data := written.found(uri)) is not None:
        return data[start : start + max(length, 0)]
    fs, path = filesystem(uri)
    if length <= 0:
        return b""
    if isinstance(fs, LocalFileSystem):
        with Path(path).open("rb") as f:
            f.seek(start)
            return f.read(length)
    return bytes(asked(uri, lambda: fs.cat_file(path, start=start, end=start + length)))


def read_ranges(uri: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
    """The bytes of several (start, length) of one file, fetched side by side."""
    if is_local(uri):
        return [read_range(uri, start, length) for start, length in ranges]
    return in_parallel(lambda r: read_range(uri, *r), ranges)


def in_parallel(fn: Callable[[Item], Result], items: Iterable[Item], workers: int = PARALLEL_REQUESTS) -> list[Result]:
    """`[fn(x) for x in items]` in threads: for requests, whose time is waiting. The first exception is raised."""
    items = list(items)
    if len(items) < 2:
        return [fn(item) for item in items]
    with ThreadPoolExecutor(min(workers, len(items)), thread_name_prefix="storage") as pool:
        futures = [pool.submit(contextvars.copy_context().run, fn, item) for item in items]
        return [future.result() for future in futures]


def in_order(
    fn: Callable[[Item], Result], items: Sequence[Item], ahead: int = 2 * PARALLEL_REQUESTS
) -> Iterator[Result]:
    """`fn(x) for x in items` in their order, at most `ahead` of them under way or waiting: for what is too much to hold
    at once.
    """
    with ThreadPoolExecutor(min(PARALLEL_REQUESTS, max(len(items), 1)), thread_name_prefix="storage") as pool:
        waiting: deque[Future[Result]] = deque()
        for item in items:
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
            waiting.append(pool.submit(contextvars.copy_context().run, fn, item))
        while waiting:
            yield waiting.popleft().result()


@contextlib.contextmanager
def atomic_write(uri: str) -> Iterator[IO[bytes]]:
    """Open `uri` for writing bytes; it appears whole when the block ends without an exception, else not at all.

    Local files: temporary name in the same directory, fsync, rename. Object stores: kept in memory or in a temporary
    file, then put.
    """
    fs, path = filesystem(uri)
    if not isinstance(fs, LocalFileSystem):
        with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY, prefix="raypt-put-") as spool:
            yield cast(IO[bytes], spool)
            asked(uri, lambda: _put(fs, path, spool))
            at_hand = isinstance(spool._file, io.BytesIO) and written.remembers(uri, spool.tell())
            written.note(uri, cast(io.BytesIO, spool._file).getvalue() if at_hand else None)
        return
    parent, name = posixpath.split(path)
    fs.makedirs(parent, exist_ok=True)
    temporary = posixpath.join(parent, f"{_TEMPORARY}{uuid.uuid4().hex[:12]}-{name}")
    try:
        with Path(temporary).open("wb") as f:
            yield f
            f.flush()
            os.fsync(f.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise


def _put(fs: fsspec.AbstractFileSystem, path: str, spool: "tempfile.SpooledTemporaryFile[bytes]") -> None:
    spool.flush()
    if isinstance(spool._file, io.BytesIO):
        fs.pipe_file(path, spool._file.getvalue())
    else:
        fs.put_file(f"/proc/self/fd/{spool.fileno()}", path)
    fs.invalidate_cache()


def write_bytes(uri: str, data: bytes) -> None:
    fs, path = filesystem(uri)
    if isinstance(fs, LocalFileSystem):
        with atomic_write(uri) as f:
            f.write(data)
    else:
        asked(uri, lambda: fs.pipe_file(path, data))
        written.note(uri, data)


def read_bytes(uri: str) -> bytes:
    if (data := _packed(uri)) is not None or (data := written.found(uri)) is not None:
        return data
    fs, path = filesystem(uri)
    if isinstance(fs, LocalFileSystem):
        return Path(path).read_bytes()
    # In one piece: in several at a time, s3fs asks for the size first.
    options = {"max_concurrency": 1} if is_s3(fs) else {}
    data = bytes(asked(uri, lambda: fs.cat_file(path, **options)))
    written.note_read(uri, data)
    return data


def read_if_there(uri: str) -> bytes | None:
    """A whole file; None if there is none. One request, where `exists` before it is one or two more."""
    try:
        return read_bytes(uri)
    except FileNotFoundError:
        return None


def json_bytes(value: Any) -> bytes:
    try:
        return (json.dumps(value, ensure_ascii=False, indent=1) + "\n").encode()
    except UnicodeEncodeError:  # lone surrogates: of a file's name that is no UTF-8, say in an error
        return (json.dumps(value, indent=1) + "\n").encode()


def write_json(uri: str, value: Any) -> None:
    write_bytes(uri, json_bytes(value))


def read_json(uri: str) -> Any:
    """The JSON value of a file. UserError, naming the file, if it is not JSON."""
    return json_of(read_bytes(uri), uri)


def read_json_if_there(uri: str) -> Any:
    """As `read_json`; None if there is no such file."""
    return None if (data := read_if_there(uri)) is None else json_of(data, uri)


def json_of(data: bytes, uri: str) -> Any:
    """The JSON value of a file that was read. UserError, naming the file, if it is not JSON."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as e:
        raise UserError(f"{uri}: damaged: not JSON ({e}); delete it to have it made again") from None


def write_parquet(uri: str, table: pa.Table, **options: Any) -> None:
    """One Parquet file, zstd and with page checksums by default; `options` go to pyarrow.parquet.write_table."""
    with atomic_write(uri) as f:
        pq.write_table(table, f, **{"compression": "zstd", "write_page_checksum": True, **options})


def parquet_writer(f: IO[bytes], schema: pa.Schema, **options: Any) -> pq.ParquetWriter:
    """A writer of row groups as `write_parquet` would write them."""
    return pq.ParquetWriter(f, schema, **{"compression": "zstd", "write_page_checksum": True, **options})


class ParquetReader:
    """A Parquet file of ours: only what is asked for is fetched, and what is read is checked against its checksums.

    Every method raises UserError, naming the file, where its bytes are not those that were written.
    """

    def __init__(self, uri: str, f: IO[bytes]) -> None:
        self.uri = uri
        options = {"page_checksum_verification": True, "pre_buffer": not is_local(uri)}
        self._file: pq.ParquetFile = self._checked(lambda: pq.ParquetFile(f, **options))

    def _checked(self, read: Callable[[], Result]) -> Result:
        try:
            return read()
        except (pa.ArrowException, OSError) as e:
            if isinstance(e, OSError) and e.errno is not None:
                raise  # the storage's, not the file's
            raise UserError(f"{self.uri}: damaged Parquet file ({e}); delete it to have it made again") from None

    @property
    def schema(self) -> pa.Schema:
        return self._file.schema_arrow

    @property
    def num_rows(self) -> int:
        return int(self._file.metadata.num_rows)

    @property
    def num_row_groups(self) -> int:
        return int(self._file.num_row_groups)

    def read(self, columns: list[str] | None = None) -> pa.Table:
        return self._checked(lambda: self._file.read(columns))

    def read_row_group(self, group: int, columns: list[str] | None = None) -> pa.Table:
        return self._checked(lambda: self._file.read_row_group(group, columns))


@contextlib.contextmanager
def open_parquet(uri: str, *, whole: bool = False) -> Iterator[ParquetReader]:
    """`whole`: as `open_ranges` has it."""
    with open_ranges(uri, whole=whole) as f:
        yield ParquetReader(uri, f)


def read_parquet(uri: str, columns: list[str] | None = None, *, whole: bool = False) -> pa.Table:
    """A table, or some of its columns, of a Parquet file of ours (see `ParquetReader`); `whole` where they are most of
    it.
    """
    with open_parquet(uri, whole=whole or columns is None) as file:
        return file.read(columns)
