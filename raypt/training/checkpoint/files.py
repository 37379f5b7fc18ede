"""Reading and writing the files of a checkpoint (see `raypt.training.checkpoint.manifest` for what they are)."""

import contextlib
import json
import os
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
import xxhash
from torch import Tensor

from raypt import storage
from raypt.errors import UserError
from raypt.parallel.state import MASTER, Box, BoxIndex, StateKey, StateShard, Want
from raypt.training.checkpoint.manifest import (
    FORMAT,
    MANIFEST,
    CheckpointInfo,
    Progress,
    latest_checkpoint,
    prune,
    read_info,
)
from raypt.training.config import CheckpointConfig

_PART = 1 << 20
"""Bytes hashed and written at a time: what was just hashed is still in the cache when it is written."""
_BURST = 32 * _PART
"""Bytes between two rests of a held writer: each start of it costs a step some milliseconds, whatever it then does."""


class _File:
    """A safetensors file of float32 tensors, local or in an object store, of which only what is asked for is read."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.file = storage.open_read(uri)
        length = int.from_bytes(self.file.read(8), "little")
        header = json.loads(self.file.read(length))
        self.starts: dict[StateKey, int] = {}
        for text, entry in header.items():
            if text != "__metadata__":
                key = parse_key(text, tuple(entry["shape"]))
                self.starts[key] = 8 + length + entry["data_offsets"][0]

    def read(self, key: StateKey) -> Tensor:
        out = torch.empty(key.box.shape)
        self.file.seek(self.starts[key])
        if (got := self.file.readinto(out.numpy().data.cast("B"))) != out.nbytes:  # type: ignore[attr-defined]
            raise UserError(f"{self.uri}: ends {out.nbytes - got} bytes early in {key}; delete this checkpoint")
        return out


def key_text(key: StateKey) -> str:
    """A key as the name of a tensor in a file, where its shape stands beside it."""
    return f"{key.state}:{key.name}@{','.join(map(str, key.box.offset))}"


def parse_key(text: str, shape: tuple[int, ...]) -> StateKey:
    state, rest = text.split(":", 1)
    name, offset = rest.rsplit("@", 1)
    return StateKey(name, state, Box(tuple(map(int, filter(None, offset.split(",")))), shape))


class CheckpointReader:
    """A committed checkpoint as a source of boxes (`raypt.parallel.state.ShardSource`)."""

    def __init__(self, info: CheckpointInfo) -> None:
        self.info = info
        self._where: dict[tuple[str, str], list[tuple[StateKey, _File]]] = {}
        for name in info.files:
            file = _File(storage.join(info.uri, name))
            for key in file.starts:
                self._where.setdefault((key.name, key.state), []).append((key, file))
        self._index = {at: BoxIndex([key.box for key, _ in found]) for at, found in self._where.items()}

    @property
    def scalars(self) -> Mapping[str, float]:
        return self.info.scalars

    def states(self, name: str) -> set[str]:
        """See ShardSource."""
        return {state for parameter, state in self._where if parameter == name}

    def read(self, wants: Sequence[Want]) -> None:
        """See ShardSource. A box that the files do not cover is an error of the checkpoint, not filled with zeros."""
        for (name, state, box), out in wants:
            filled = 0
            if (name, state) in self._index:
                for i in self._index[name, state].meeting(box):
                    key, file = self._where[name, state][i]
                    common = box.meet(key.box)
                    assert common is not None
                    out[common.inside(box)].copy_(file.read(key)[common.inside(key.box)])
                    filled += common.numel
            if filled != box.numel:
                raise UserError(
                    f"{self.info.uri}: {state} of {name} has {filled} of {box.numel} elements wanted at {box.offset}; "
                    "the model's shape is not the one that was saved"
                )

    def full(self, name: str, shape: torch.Size) -> Tensor:
        """A whole parameter in fp32."""
        out = torch.empty(shape)
        self.read([Want(StateKey(name, MASTER, Box.whole(shape)), out)])
        return out


class CheckpointWriter:
    """Writes one rank's part of each checkpoint, in a thread if `config.background`; rank 0's also commits and prunes.

    Ranks meet in the file system, not in a collective, so training may go on meanwhile. At most one checkpoint is being
    written: starting the next waits for it.
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
        self._error: BaseException | None = None
        self._committed: CheckpointInfo | None = None
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
        if not self.config.background:
            self._write(name, copied, progress)
            return
        self._pace.resume()
        self._thread = threading.Thread(target=self._guarded, args=(name, copied, progress), name="checkpoint")
        self._thread.start()

    def wait(self) -> CheckpointInfo | None:
        """Wait for the checkpoint being written. A failure in the thread is raised here."""
        if self._thread is not None:
            self._pace.hurry()
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        return self._committed

    def newest_uri(self) -> str | None:
        """Directory of the newest checkpoint there is; None before the first."""
        newest = latest_checkpoint(self.uri)
        return None if newest is None else newest.uri

    @property
    def writing(self) -> bool:
        """Whether a checkpoint is being written in the background."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def committed_step(self) -> int:
        """Step of the last checkpoint this process committed (rank 0 only); 0 = none."""
        return self._committed.step if self._committed is not None else 0

    @property
    def committed(self) -> CheckpointInfo | None:
        return self._committed

    def _guarded(self, name: str, shard: StateShard, progress: Progress) -> None:
        _yield_to_training()
        try:
            self._write(name, shard, progress)
        except BaseException as e:
            self._error = e

    def _write(self, name: str, shard: StateShard, progress: Progress) -> None:
        started = time.perf_counter()
        directory = storage.join(self.uri, name)
        file = f"rank-{self.rank:05d}.safetensors"
        size, digest = write_tensors(storage.join(directory, file), shard.tensors, self._pace)
        entry = {"file": file, "size": size, "xxh3": digest, "scalars": shard.scalars}
        storage.write_json(storage.join(directory, f"rank-{self.rank:05d}.json"), entry)
        if self.rank == 0:
            self._commit(directory, progress)
        self.seconds = time.perf_counter() - started

    def _commit(self, directory: str, progress: Progress) -> None:
        entries = [self._await_entry(directory, rank) for rank in range(self.world)]
        scalars: dict[str, float] = {}
        for entry in entries:
            scalars |= entry["scalars"]
        files = {entry["file"]: {"size": entry["size"], "xxh3": entry["xxh3"]} for entry in entries}
        manifest = {
            "format": FORMAT,
            "progress": asdict(progress),
            "files": files,
            "scalars": scalars,
            "meta": {**self.meta, "world_size": self.world},
        }
        storage.write_json(storage.join(directory, MANIFEST), manifest)
        self._committed = read_info(directory)
        assert self._committed is not None
        prune(self.uri, self.config)

    def _await_entry(self, directory: str, rank: int) -> dict[str, Any]:
        path = storage.join(directory, f"rank-{rank:05d}.json")
        pause = 0.01 if storage.is_local(path) else 0.5
        deadline = time.monotonic() + self.config.commit_timeout_s
        while not storage.exists(path):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{path} did not appear in {self.config.commit_timeout_s:.0f} s")
            time.sleep(pause)
            pause = min(pause * 1.5, 1.0)
        return dict(json.loads(storage.read_bytes(path)))


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


def write_tensors(uri: str, tensors: Mapping[StateKey, Tensor], pace: Pace | None = None) -> tuple[int, str]:
    """Write a safetensors file whole or not at all; its size and hash. Nothing is copied but what is being written."""
    pace = pace or Pace(None)
    pace.start()
    digest, size = xxhash.xxh3_128(), 0
    with storage.atomic_write(uri) as f:
        for part in _serialized(tensors):
            digest.update(part)
            size += len(part)
            f.write(part)
            if size // _BURST != (size - len(part)) // _BURST:
                pace.pause()
    return size, digest.hexdigest()


def _serialized(tensors: Mapping[StateKey, Tensor]) -> Iterator[bytes | memoryview]:
    """The parts of a safetensors file: u64 length of the header, JSON header, then the float32 tensors end to end."""
    header: dict[str, Any] = {}
    end = 0
    for key, tensor in tensors.items():
        assert tensor.dtype == torch.float32 and tensor.is_contiguous()
        start, end = end, end + tensor.nbytes
        header[key_text(key)] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for tensor in tensors.values():
        whole = tensor.reshape(-1).numpy().data.cast("B")
        for start in range(0, len(whole), _PART):
            yield whole[start : start + _PART]


def _yield_to_training() -> None:
    """This thread takes only what processor time the others leave (Linux; elsewhere it shares evenly)."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
