"""Checkpoints that exist only when whole.

    checkpoints/step-00000100-3f9a1c2e/     a fresh directory an attempt
        rank-00000.safetensors              one rank's pieces (raypt.parallel.state)
        rank-00000.json                     their size and hash, written after them
        manifest.json                       everything else, written last

A directory without a manifest does not exist for a reader. Pieces carry their global position, so any number of
workers at any ZeRO stage reads what any other wrote. The cursor of the sample stream is inside: model and data resume
together.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import xxhash

from raypt import storage
from raypt.errors import UserError
from raypt.tokens.stream.cursor import Cursor
from raypt.training.config import CheckpointConfig

log = logging.getLogger("raypt")

MANIFEST = "manifest.json"
REJECTED = "rejected.json"
FORMAT = 2


@dataclass(frozen=True)
class Progress:
    """What a run has done; the part of a checkpoint that is not tensors."""

    step: int = 0
    """Global batches consumed."""
    updates: int = 0
    """Updates applied: steps less the skipped ones."""
    tokens: int = 0
    """Valid targets trained on."""
    cursor: Cursor = field(default_factory=lambda: Cursor(0, ""))
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
    def cursor(self) -> Cursor:
        return self.progress.cursor


def read_info(uri: str) -> CheckpointInfo | None:
    """What the manifest of one checkpoint directory says; None if there is none or it is not a manifest."""
    path = storage.join(uri, MANIFEST)
    if not storage.exists(path):
        return None
    try:
        raw = storage.read_json(path)
        progress = dict(raw["progress"])
        progress["cursor"] = Cursor(**progress["cursor"])
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
