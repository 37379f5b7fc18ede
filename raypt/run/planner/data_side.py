"""The data side of a run: CPU cores so that no accelerator waits, storage, and network, from measured costs."""

import json
from dataclasses import dataclass, replace
from typing import Any

from raypt import storage
from raypt.errors import UserError

HEADROOM = 1.25
"""Cores over those that keep up on average: tasks are uneven and nodes fail."""


WORKLOADS = {"curate/cascade": "curate", "W3": "dedup", "tokens/store": "tokenize"}
"""`workload` in the lines of `raypt bench curate`, `dedup` and `tokens`."""


@dataclass(frozen=True)
class Speeds:
    """Bytes of text a CPU second, by stage, and how much is stored: deduplication and tokenizing by the slowest
    measurements of docs/performance.md, the others estimated. The lines that `raypt bench` prints on machines of
    one's own replace them."""

    curate: float = 6e6
    """Raw bytes read, scored and decided, all stages: an estimate (the cascade of rules alone: 25e6)."""
    dedup: float = 47e6
    """Raw bytes signed and exchanged."""
    tokenize: float = 2e7
    """Curated bytes: 4.6 million tokens of 4.4 bytes."""
    stored_raw: float = 0.35
    """Bytes in storage of a byte of text, in compressed Parquet."""
    attributes: float = 0.1
    """Bytes of attributes, decisions and signatures of a byte of raw text."""

    @classmethod
    def of(cls, uri: str | None) -> "Speeds":
        """From a file of lines that `raypt bench` printed, or of JSON with `curate`, `dedup` or `tokenize` in bytes a
        CPU second; the last value of each counts."""
        if uri is None:
            return cls()
        try:
            text = storage.read_bytes(uri).decode()
        except (OSError, UnicodeDecodeError) as e:
            raise UserError(f"plan.bench: cannot read {uri}: {e}") from None
        names = ("curate", "dedup", "tokenize")
        found: dict[str, Any] = {}
        calibrated = False
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except ValueError as e:
                raise UserError(f"plan.bench: {uri}, line {number} is no JSON: {e}") from None
            if not isinstance(value, dict):
                continue
            if value.get("workload") in WORKLOADS and "mb_per_cpu_s" in value:
                found[WORKLOADS[value["workload"]]] = 1e6 * value["mb_per_cpu_s"]
            calibrated |= value.get("workload") == "plan"
            found |= {n: value[n] for n in names if n in value}
        if not found and not calibrated:
            raise UserError(f"plan.bench: {uri} has none of {', '.join(names)} (bytes a CPU second)")
        bad = [n for n, v in found.items() if not (isinstance(v, int | float) and v > 0)]
        if bad:
            raise UserError(f"plan.bench: {uri}: {bad[0]} must be a positive number of bytes a CPU second")
        return replace(cls(), **{n: float(v) for n, v in found.items()})


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
