"""Checkpoints that exist only when whole.

    checkpoints/step-00000100-3f9a1c2e/     a fresh directory an attempt
        rank-00000.safetensors              one rank's boxes (raypt.parallel.state)
        pieces.parquet                      where each box lies, and the hashes of its bytes
        manifest.json                       everything else, written last
    checkpoints/committed.json              which attempts were ever whole

A directory without a manifest does not exist for a reader. Boxes carry their global position, so any number of workers
on any mesh reads what any other wrote. The cursor of the sample stream is inside: model and data resume together.
Every byte is checked as it is read, by the rank that reads it.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from raypt import storage
from raypt.errors import UserError
from raypt.tokens.stream.cursor import Cursor
from raypt.training.checkpoint.sealed import Damaged, carefully, seal, unseal

MANIFEST = "manifest.json"
PIECES = "pieces.parquet"
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
    recent_norms: tuple[float, ...] = ()
    """The same of the gradient's norm."""


@dataclass(frozen=True)
class CheckpointInfo:
    """A committed checkpoint."""

    uri: str
    progress: Progress
    files: Mapping[str, Mapping[str, Any]]
    """name -> {size, header: bytes before the data, xxh3: hash of those}."""
    pieces: Mapping[str, Any]
    """{size, xxh3} of `PIECES`."""
    scalars: Mapping[str, float]
    meta: Mapping[str, Any]
    """World size, ZeRO stage, precision, model configuration at the time of writing."""

    @property
    def step(self) -> int:
        return self.progress.step

    @property
    def cursor(self) -> Cursor:
        return self.progress.cursor

    @property
    def name(self) -> str:
        return self.uri.rsplit("/", 1)[-1]

    def to_bytes(self) -> bytes:
        """The manifest: some hundred bytes a file, whatever the number of boxes."""
        return seal(
            {
                "format": FORMAT,
                "progress": asdict(self.progress),
                "files": self.files,
                "pieces": self.pieces,
                "scalars": self.scalars,
                "meta": self.meta,
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes, uri: str) -> "CheckpointInfo":
        """Raises Damaged if a byte is not as it was written, UserError if another version of raypt wrote it."""
        path = storage.join(uri, MANIFEST)
        try:
            raw = unseal(data, path)
        except Damaged:
            if (first := _unsealed_format(data)) is not None:
                raise _other_version(path, first) from None
            raise
        if raw["format"] != FORMAT:
            raise _other_version(path, raw["format"])
        progress = raw["progress"]
        progress["cursor"] = Cursor(**progress["cursor"])
        for window in ("recent_losses", "recent_norms"):
            progress[window] = tuple(progress.get(window, ()))
        return cls(uri, Progress(**progress), raw["files"], raw["pieces"], raw["scalars"], raw["meta"])


def _unsealed_format(data: bytes) -> int | None:
    """The format of a manifest from before they were sealed."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    found = value.get("format") if isinstance(value, dict) else None
    return found if found == 1 else None


def _other_version(path: str, found: Any) -> UserError:
    return UserError(
        f"{path}: checkpoint format {found}, written by another version of raypt; this one reads format {FORMAT}. "
        "Finish the run with the version that began it, or start under another run.name"
    )


def read_info(uri: str) -> CheckpointInfo | None:
    """What the manifest of one checkpoint directory says; None if the storage says that there is none.

    Raises:
        Damaged: it has been read twice and is not what was written.
        OSError: the storage does not answer.
    """

    def read() -> CheckpointInfo | None:
        try:
            data = storage.read_bytes(storage.join(uri, MANIFEST))
        except FileNotFoundError:
            return None
        return CheckpointInfo.from_bytes(data, uri)

    return carefully(read)
