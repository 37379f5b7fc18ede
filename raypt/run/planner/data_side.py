"""The data side of a run: CPU cores so that no accelerator waits, storage, and network, from measured costs."""

from dataclasses import dataclass, replace
from typing import Any

from raypt import storage
from raypt.errors import UserError

HEADROOM = 1.25
"""Cores over those that keep up on average: tasks are uneven and nodes fail."""


@dataclass(frozen=True)
class Speeds:
    """Bytes of text a CPU second, by stage, and how much is stored. The shipped ones were measured with `raypt bench`
    on one core of a cloud CPU; a bench JSON of one's own replaces them."""

    curate: float = 6e6
    """Raw bytes read, scored and decided."""
    dedup: float = 12e6
    """Raw bytes signed and exchanged."""
    tokenize: float = 8e6
    """Curated bytes."""
    stored_raw: float = 0.35
    """Bytes in storage of a byte of text, in compressed Parquet."""
    attributes: float = 0.1
    """Bytes of attributes, decisions and signatures of a byte of raw text."""

    @classmethod
    def of(cls, uri: str | None) -> "Speeds":
        """From the JSON of a benchmark: keys `curate`, `dedup`, `tokenize` in bytes a CPU second."""
        if uri is None:
            return cls()
        try:
            value = storage.read_json(uri)
        except OSError as e:
            raise UserError(f"plan.bench: cannot read {uri}: {e}") from None
        found = value.get("speeds", value) if isinstance(value, dict) else None
        names = ("curate", "dedup", "tokenize")
        if not isinstance(found, dict) or not any(n in found for n in names):
            raise UserError(f"plan.bench: {uri} has none of {', '.join(names)} (bytes a CPU second)")
        bad = [n for n in names if n in found and not (isinstance(found[n], int | float) and found[n] > 0)]
        if bad:
            raise UserError(f"plan.bench: {uri}: {bad[0]} must be a positive number of bytes a CPU second")
        return replace(cls(), **{n: float(found[n]) for n in names if n in found})


@dataclass(frozen=True)
class DataSide:
    """What the CPUs and the storage have to do."""

    raw_bytes: float
    curated_bytes: float
    cpu_hours: dict[str, float]
    """By stage, of one core."""
    cores_before: float
    """Cores that curate and deduplicate within a tenth of the time of training."""
    cores_beside: float
    """Cores that tokenize as fast as the accelerators train."""
    storage_bytes: dict[str, float]
    network_bytes_per_s: float
    """That a node receives of samples while it trains."""

    def to_json(self) -> dict[str, Any]:
        return {
            "raw_bytes": self.raw_bytes, "curated_bytes": self.curated_bytes, "cpu_hours": self.cpu_hours,
            "cores_before_training": self.cores_before, "cores_beside_training": self.cores_beside,
            "storage_bytes": self.storage_bytes, "network_bytes_per_s_per_node": self.network_bytes_per_s,
        }  # fmt: skip


def data_side(
    tokens: float,
    tokens_per_s: float,
    training_s: float,
    nodes: int,
    vocab: int,
    checkpoint_bytes: float,
    *,
    speeds: Speeds,
    raw_bytes: float | None,
    kept: float,
    bytes_per_token: float,
    checkpoints: int,
) -> DataSide:
    """Of a run that trains `tokens` at `tokens_per_s` in all."""
    raw = raw_bytes if raw_bytes is not None else tokens * bytes_per_token / kept
    curated = raw * kept
    unique_tokens = curated / bytes_per_token
    seconds = {"curate": raw / speeds.curate, "dedup": raw / speeds.dedup, "tokenize": curated / speeds.tokenize}
    identifier = 2 if vocab <= 1 << 16 else 4
    stored = {
        "curated text": curated * speeds.stored_raw,
        "tagged text and attributes": raw * (speeds.stored_raw + speeds.attributes),
        "token store": unique_tokens * (identifier + 0.1),
        "checkpoints": checkpoint_bytes * checkpoints,
    }
    before = (seconds["curate"] + seconds["dedup"]) / max(training_s / 10, 1.0)
    # The store is filled while training reads it for the first time.
    beside = tokens_per_s * bytes_per_token / speeds.tokenize * min(1.0, unique_tokens / tokens)
    return DataSide(
        raw,
        curated,
        {name: s / 3600 for name, s in seconds.items()},
        HEADROOM * before,
        HEADROOM * beside,
        stored,
        tokens_per_s * (identifier + 2) / nodes,
    )
