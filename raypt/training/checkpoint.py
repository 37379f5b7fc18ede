"""Checkpoints that exist only when whole.

    checkpoints/step-00000100-3f9a1c2e/     a fresh directory an attempt
        rank-00000.safetensors              one rank's pieces (raypt.parallel.shards)
        rank-00000.json                     their size and hash, written after them
        manifest.json                       everything else, written last

A directory without a manifest does not exist for a reader. Pieces carry their global position, so any number of
workers at any ZeRO stage reads what any other wrote. The cursor of the sample stream is inside: model and data resume
together.
"""

import json
import logging
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import safetensors
import safetensors.torch
import torch
import xxhash
from torch import Tensor

from raypt import storage
from raypt.errors import UserError
from raypt.parallel.shards import MASTER, StateShard, overlaps, parse_key
from raypt.training.config import CheckpointConfig

log = logging.getLogger("raypt")

MANIFEST = "manifest.json"
REJECTED = "rejected.json"
FORMAT = 1


@dataclass(frozen=True)
class StreamCursor:
    """Where the sample stream goes on."""

    next_sample: int
    """Global index of the first sample not trained on."""
    fingerprint: str
    """What the order of samples depends on (manifest, tokenizer, packing, mixture, seed)."""


@dataclass(frozen=True)
class Progress:
    """What a run has done; the part of a checkpoint that is not tensors."""

    step: int = 0
    """Global batches consumed."""
    updates: int = 0
    """Updates applied: steps less the skipped ones."""
    tokens: int = 0
    """Valid targets trained on."""
    cursor: StreamCursor = field(default_factory=lambda: StreamCursor(0, ""))
    heldout_loss: float | None = None
    """Last held-out loss, nats a token."""
    recent_losses: tuple[float, ...] = ()
    """The window of the spike rule, where there is one."""


@dataclass(frozen=True)
class CheckpointInfo:
    """A committed checkpoint."""

    uri: str
    progress: Progress
    files: Mapping[str, Mapping[str, Any]]
    """name -> {size, xxh3}."""
    scalars: Mapping[str, float]
    meta: Mapping[str, Any]
    """World size, ZeRO stage, precision, model configuration at the time of writing."""

    @property
    def step(self) -> int:
        return self.progress.step

    @property
    def cursor(self) -> StreamCursor:
        return self.progress.cursor


def hash_bytes(data: bytes | memoryview) -> str:
    return xxhash.xxh3_128_hexdigest(data)


def read_info(uri: str) -> CheckpointInfo | None:
    """What the manifest of one checkpoint directory says; None if there is none or it is not a manifest."""
    path = storage.join(uri, MANIFEST)
    if not storage.exists(path):
        return None
    try:
        raw = storage.read_json(path)
        progress = dict(raw["progress"])
        progress["cursor"] = StreamCursor(**progress["cursor"])
        progress["recent_losses"] = tuple(progress.get("recent_losses", ()))
        if raw["format"] != FORMAT:
            raise UserError(f"{path}: format {raw['format']} is not {FORMAT}: written by another version")
        return CheckpointInfo(uri, Progress(**progress), raw["files"], raw["scalars"], raw["meta"])
    except (ValueError, KeyError, TypeError) as e:
        log.warning("%s is not a manifest (%s): the checkpoint does not count", path, e)
        return None


def list_checkpoints(uri: str) -> list[CheckpointInfo]:
    """All committed checkpoints under `uri` that were not found damaged, oldest step first."""
    found = []
    for name in storage.listdir(uri):
        directory = storage.join(uri, name)
        if name.startswith("step-") and not storage.exists(storage.join(directory, REJECTED)):
            info = read_info(directory)
            if info is not None:
                found.append(info)
    return sorted(found, key=lambda info: (info.step, info.uri))


def damage(info: CheckpointInfo) -> str | None:
    """Read every file of a checkpoint and compare it with the manifest: what is wrong, or None."""
    for name, expected in info.files.items():
        path = storage.join(info.uri, name)
        if not storage.exists(path):
            return f"{name} is missing"
        if storage.size(path) != expected["size"]:
            return f"{name} has {storage.size(path)} bytes, not {expected['size']}"
        if _hash_file(path) != expected["xxh3"]:
            return f"{name} does not have the hash in the manifest"
    return None


def _hash_file(uri: str, chunk: int = 16 << 20) -> str:
    digest = xxhash.xxh3_128()
    with storage.open_read(uri) as f:
        while data := f.read(chunk):
            digest.update(data)
    return digest.hexdigest()


def latest_checkpoint(uri: str) -> CheckpointInfo | None:
    """The newest checkpoint under `uri` whose files are whole. A damaged one is named in the log, marked, and passed
    over for the one before it.
    """
    for info in reversed(list_checkpoints(uri)):
        problem = damage(info)
        if problem is None:
            return info
        log.error("checkpoint %s is damaged (%s): falling back to the one before it", info.uri, problem)
        storage.write_json(storage.join(info.uri, REJECTED), {"problem": problem})
    return None


class CheckpointReader:
    """A committed checkpoint as a source of pieces (`raypt.parallel.shards.ShardSource`)."""

    def __init__(self, info: CheckpointInfo) -> None:
        self.info = info
        self._where: dict[tuple[str, str], list[tuple[int, int, str, str]]] = {}
        self._open: dict[str, Any] = {}
        for name in info.files:
            if name.endswith(".safetensors"):
                self._index(name)

    def _index(self, file: str) -> None:
        path = storage.join(self.info.uri, file)
        if storage.is_local(path):
            handle = safetensors.safe_open(storage.filesystem(path)[1], framework="pt")
            sizes = {k: handle.get_slice(k).get_shape()[0] for k in handle.keys()}  # noqa: SIM118 (not a mapping)
            self._open[file] = handle
        else:
            tensors = safetensors.torch.load(storage.read_bytes(path))
            sizes = {k: t.numel() for k, t in tensors.items()}
            self._open[file] = tensors
        for text, numel in sizes.items():
            name, state, start = parse_key(text)
            self._where.setdefault((name, state), []).append((start, numel, file, text))

    @property
    def scalars(self) -> Mapping[str, float]:
        return self.info.scalars

    def states(self) -> set[str]:
        return {state for _, state in self._where}

    def read(self, name: str, state: str, start: int, numel: int) -> Tensor:
        """See ShardSource. A range that the files do not cover is an error of the checkpoint, not filled with zeros."""
        pieces = self._where.get((name, state), [])
        out = torch.empty(numel, dtype=torch.float32)
        filled = 0
        for i, inside, at, length in overlaps(start, numel, [(s, n) for s, n, _, _ in pieces]):
            _, _, file, text = pieces[i]
            source = self._open[file]
            tensor = source[text] if isinstance(source, dict) else source.get_slice(text)
            out[at : at + length] = tensor[inside : inside + length]
            filled += length
        if filled != numel:
            raise UserError(
                f"{self.info.uri}: {state} of {name} has {filled} of {numel} elements wanted at {start}; "
                "the model's shape is not the one that was saved"
            )
        return out

    def full(self, name: str, shape: torch.Size) -> Tensor:
        """A whole parameter in fp32."""
        return self.read(name, MASTER, 0, shape.numel()).view(shape)


class CheckpointWriter:
    """Writes one rank's part of each checkpoint, in a thread if `config.background`; rank 0's also commits and prunes.

    Ranks meet in the file system, not in a collective, so training may go on meanwhile. At most one checkpoint is being
    written: starting the next waits for it.
    """

    def __init__(self, uri: str, config: CheckpointConfig, *, rank: int, world: int, meta: Mapping[str, Any]) -> None:
        self.uri, self.config, self.rank, self.world, self.meta = uri, config, rank, world, meta
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._committed: CheckpointInfo | None = None

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
        self._thread = threading.Thread(target=self._guarded, args=(name, copied, progress), name="checkpoint")
        self._thread.start()

    def wait(self) -> CheckpointInfo | None:
        """Wait for the checkpoint being written. A failure in the thread is raised here."""
        if self._thread is not None:
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
    def committed_step(self) -> int:
        """Step of the last checkpoint this process committed (rank 0 only); 0 = none."""
        return self._committed.step if self._committed is not None else 0

    @property
    def committed(self) -> CheckpointInfo | None:
        return self._committed

    def _guarded(self, name: str, shard: StateShard, progress: Progress) -> None:
        try:
            self._write(name, shard, progress)
        except BaseException as e:
            self._error = e

    def _write(self, name: str, shard: StateShard, progress: Progress) -> None:
        directory = storage.join(self.uri, name)
        file = f"rank-{self.rank:05d}.safetensors"
        data = safetensors.torch.save(shard.tensors)
        storage.write_bytes(storage.join(directory, file), data)
        entry = {"file": file, "size": len(data), "xxh3": hash_bytes(data), "scalars": shard.scalars}
        storage.write_json(storage.join(directory, f"rank-{self.rank:05d}.json"), entry)
        if self.rank == 0:
            self._commit(directory, progress)

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


def kept(checkpoints: list[CheckpointInfo], config: CheckpointConfig) -> list[CheckpointInfo]:
    """The checkpoints that the policy keeps, oldest first: the last k, every n-th step, the best k by held-out loss."""
    keep = {info.uri for info in checkpoints[-config.keep_last :]}
    if config.keep_every is not None:
        keep |= {info.uri for info in checkpoints if info.step % config.keep_every == 0}
    scored = [info for info in checkpoints if info.progress.heldout_loss is not None]
    scored.sort(key=lambda info: info.progress.heldout_loss or 0.0)
    keep |= {info.uri for info in scored[: config.keep_best]}
    return [info for info in checkpoints if info.uri in keep]


def prune(uri: str, config: CheckpointConfig) -> None:
    """Delete what the policy does not keep. The newest committed checkpoint is always kept; directories without a
    manifest are left to `sweep`, since another may be being written.
    """
    checkpoints = list_checkpoints(uri)
    keep = {info.uri for info in kept(checkpoints, config)}
    for info in checkpoints:
        if info.uri not in keep:
            # The manifest goes first: a directory half deleted must not look like a checkpoint.
            storage.remove(storage.join(info.uri, MANIFEST))
            storage.remove(info.uri)


def sweep(uri: str) -> None:
    """Delete the leftovers of attempts that never committed. Only while nobody writes: as a worker group starts."""
    for name in storage.listdir(uri):
        directory = storage.join(uri, name)
        if name.startswith("step-") and not storage.exists(storage.join(directory, MANIFEST)):
            log.warning("removing %s: a checkpoint that was never finished", directory)
            storage.remove(directory)
