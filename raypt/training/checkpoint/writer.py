"""Writing a checkpoint: each rank its file and the rows that describe it, rank 0 the manifest."""

import contextlib
import json
import logging
import os
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pyarrow as pa
import torch
import xxhash

from raypt import storage
from raypt.parallel.state import StateKey, StateShard
from raypt.training.checkpoint import pieces
from raypt.training.checkpoint.directory import Kept
from raypt.training.checkpoint.manifest import MANIFEST, PIECES, CheckpointInfo, Progress
from raypt.training.checkpoint.pieces import CHUNK, Pieces, Rows
from raypt.training.checkpoint.sealed import carefully
from raypt.training.config import CheckpointConfig

log = logging.getLogger("raypt")

_PART = 1 << 20
"""Bytes hashed and written at a time: what was just hashed is still in the cache when it is written."""
_BURST = 32 * _PART
"""Bytes between two rests of a held writer: each start of it costs a step some milliseconds, whatever it then does."""
_STAMP = b"raypt"
"""Key of the table's metadata under which a rank's rows say what else is known of its file."""


class Abandoned(Exception):
    """The attempt was given up, because another rank could not write its part."""


class CheckpointWriter:
    """Writes one rank's part of each checkpoint, in a thread; rank 0's also commits and prunes.

    Ranks meet in the file system, not in a collective, so training may go on meanwhile. At most one checkpoint is being
    written: starting the next waits for it. An error is kept until `end` or `wait` is called.
    """

    def __init__(
        self,
        uri: str,
        config: CheckpointConfig,
        *,
        rank: int,
        world: int,
        meta: Mapping[str, Any],
        use_gpu: bool = False,
    ) -> None:
        self.uri, self.config, self.rank, self.world, self.meta = uri, config, rank, world, meta
        self._thread: threading.Thread | None = None
        self._pace = Pace(config.cpu_share if config.background and not use_gpu else None)
        self._own_part = threading.Event()
        self._give_up = threading.Event()
        self._committed: CheckpointInfo | None = None
        self._kept = Kept(uri, config)
        self.error: BaseException | None = None
        """Why the last attempt failed on this rank; None while there is nothing to say."""
        self.directory: str | None = None
        """Of the last attempt."""
        self.seconds = 0.0
        """How long the last write took, its commit included."""

    @staticmethod
    def new_name(step: int) -> str:
        """A directory name nobody has used; rank 0 makes it and tells the others."""
        return f"step-{step:08d}-{uuid.uuid4().hex[:8]}"

    def save(self, name: str, shard: StateShard, progress: Progress) -> None:
        """Begin writing. `shard` may hold live views: it is copied before this returns."""
        self.wait()
        copied = shard.copied()
        self.directory = storage.join(self.uri, name)
        self._own_part.clear()
        self._give_up.clear()
        self._pace.resume()
        self._thread = threading.Thread(target=self._run, args=(copied, progress), name="checkpoint")
        self._thread.start()

    def hurry(self) -> None:
        """Somebody waits: write at full speed."""
        self._pace.hurry()

    @property
    def own_part_done(self) -> bool:
        """Whether this rank's own files are written, or have failed."""
        return self._own_part.is_set()

    def end(self, *, give_up: bool = False) -> BaseException | None:
        """Wait for the attempt's end and forget it; why it failed on this rank. `give_up`: do not wait for the other
        ranks' files.
        """
        if give_up:
            self._give_up.set()
        if self._thread is not None:
            self.hurry()
            self._thread.join()
            self._thread = None
        error, self.error = self.error, None
        return error

    def wait(self) -> CheckpointInfo | None:
        """Wait for the checkpoint being written. A failure in the thread is raised here."""
        if (error := self.end()) is not None:
            raise error
        return self._committed

    def look_again(self) -> None:
        """A checkpoint was rejected: what is kept is looked at anew."""
        self._kept.look_again()

    @property
    def writing(self) -> bool:
        """Whether a checkpoint is being written."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def committed_step(self) -> int:
        """Step of the last checkpoint this process committed (rank 0 only); 0 = none."""
        return self._committed.step if self._committed is not None else 0

    @property
    def committed(self) -> CheckpointInfo | None:
        return self._committed

    def _run(self, shard: StateShard, progress: Progress) -> None:
        if self.config.background:
            _yield_to_training()
        try:
            self._write(shard, progress)
        except BaseException as e:
            self.error = e
        finally:
            self._own_part.set()

    def _write(self, shard: StateShard, progress: Progress) -> None:
        assert self.directory is not None
        started = time.perf_counter()
        file = f"rank-{self.rank:05d}.safetensors"
        written = write_tensors(storage.join(self.directory, file), shard, file, self._pace)
        stamp = {"file": file, **written.stamp, "scalars": shard.scalars}
        table = written.rows.replace_schema_metadata({_STAMP: json.dumps(stamp)})
        if self.rank > 0:
            storage.write_bytes(storage.join(self.directory, _rows_name(self.rank)), pieces.to_bytes(table))
        self._own_part.set()
        if self.rank == 0:
            self._commit(self.directory, progress, table)
        self.seconds = time.perf_counter() - started

    def _commit(self, directory: str, progress: Progress, own: pa.Table) -> None:
        names = [_rows_name(rank) for rank in range(1, self.world)]
        sizes = self._await(directory, names)
        others = storage.in_parallel(
            lambda name: pieces.from_bytes(carefully(lambda: storage.read_bytes(storage.join(directory, name)))), names
        )
        tables = [own, *others]
        files: dict[str, dict[str, Any]] = {}
        scalars: dict[str, float] = {}
        for table in tables:
            stamp = json.loads(table.schema.metadata[_STAMP])
            scalars |= stamp.pop("scalars")
            file = stamp.pop("file")
            files[file] = stamp
            if sizes.get(file) != stamp["size"]:
                raise OSError(f"{storage.join(directory, file)} has {sizes.get(file)} bytes after {stamp['size']}")
        joined = pa.concat_tables([table.replace_schema_metadata() for table in tables])
        Pieces(joined).check_cover()
        data = pieces.to_bytes(joined)
        storage.write_bytes(storage.join(directory, PIECES), data)
        stamp = {"size": len(data), "xxh3": xxhash.xxh3_128_hexdigest(data)}
        info = CheckpointInfo(directory, progress, files, stamp, scalars, {**self.meta, "world_size": self.world})
        storage.write_bytes(storage.join(directory, MANIFEST), manifest := info.to_bytes())
        self._committed = CheckpointInfo.from_bytes(manifest, directory)
        try:
            self._kept.add(self._committed, left=names)
        except Exception as e:  # the checkpoint is whole all the same
            log.error("%s is whole, but what is no longer needed could not be deleted: %s", directory, e)

    def _await(self, directory: str, names: list[str]) -> dict[str, int]:
        """Sizes of the directory's files once all of `names` are there."""
        pause = 0.01 if storage.is_local(directory) else 0.5
        deadline = time.monotonic() + self.config.commit_timeout_s
        if names and not storage.is_local(directory):
            self._give_up.wait(_ABOUT_AS_LONG_S)
        while True:
            sizes = carefully(lambda: storage.list_sizes(directory))
            missing = [name for name in names if name not in sizes]
            if not missing:
                return sizes
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"{storage.join(directory, missing[0])} and {len(missing) - 1} more did not appear in "
                    f"train.checkpoint.commit_timeout_s={self.config.commit_timeout_s:.0f} s"
                )
            if self._give_up.wait(pause):
                raise Abandoned(directory)
            pause = min(pause * 1.5, 1.0)


_ABOUT_AS_LONG_S = 0.2
"""What ranks with as much to write are apart, and some more: a look before that is one in vain."""


def _rows_name(rank: int) -> str:
    return f"rank-{rank:05d}.parquet"


class Pace:
    """Holds a thread to a share of one core, until somebody waits for it.

    A matrix product shared out over all cores is as slow as its slowest core, so whatever a writer takes from one of
    them, all lose; a low priority does not help, since the kernel still gives it turns of milliseconds.
    """

    def __init__(self, share: float | None) -> None:
        self._share = share
        self._hurry = threading.Event()
        self._before = 0.0

    def hurry(self) -> None:
        self._hurry.set()

    def resume(self) -> None:
        self._hurry.clear()

    def start(self) -> None:
        """Called by the thread to be held, before its work."""
        self._before = time.thread_time()

    def pause(self) -> None:
        """Called by that thread after a piece of work: rest as long as that piece is worth."""
        if self._share is not None and not self._hurry.is_set():
            self._hurry.wait((time.thread_time() - self._before) * (1 / self._share - 1))
        self._before = time.thread_time()


class Written(NamedTuple):
    """A file of boxes."""

    stamp: dict[str, Any]
    """size, header (bytes before the data), xxh3 (hash of those)."""
    rows: pa.Table
    """See raypt.training.checkpoint.pieces."""


def key_text(key: StateKey) -> str:
    """A key as the name of a tensor in a file, where its shape stands beside it."""
    return f"{key.state}:{key.name}@{','.join(map(str, key.box.offset))}"


def write_tensors(uri: str, shard: StateShard, file: str, pace: Pace | None = None) -> Written:
    """Write a safetensors file whole or not at all. Nothing is copied but what is being written."""
    pace = pace or Pace(None)
    pace.start()
    rows, head = Rows(file), _header(shard)
    size = len(head)
    with storage.atomic_write(uri) as f:
        f.write(head)
        for key, tensor in shard.tensors.items():
            data = tensor.reshape(-1).numpy().data.cast("B")
            hashes = []
            for chunk in _parts(data, CHUNK):
                digest = xxhash.xxh3_64()
                for part in _parts(chunk, _PART):
                    digest.update(part)
                    f.write(part)
                    size += len(part)
                    if size // _BURST != (size - len(part)) // _BURST:
                        pace.pause()
                hashes.append(digest.intdigest())
            rows.add(key, shard.shapes[key.name], size - len(data), hashes)
    return Written({"size": size, "header": len(head), "xxh3": xxhash.xxh3_64_intdigest(head)}, rows.table())


def _parts(data: memoryview, size: int) -> Iterator[memoryview]:
    return (data[start : start + size] for start in range(0, len(data), size))


def _header(shard: StateShard) -> bytes:
    """What stands before the data of a safetensors file: u64 length, then JSON."""
    header: dict[str, Any] = {}
    end = 0
    for key, tensor in shard.tensors.items():
        assert tensor.dtype == torch.float32 and tensor.is_contiguous() and tuple(tensor.shape) == key.box.shape
        start, end = end, end + tensor.nbytes
        header[key_text(key)] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _yield_to_training() -> None:
    """This thread takes only what processor time the others leave (Linux; elsewhere it shares evenly)."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
