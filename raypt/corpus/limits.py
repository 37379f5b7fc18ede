"""Bounds on what input may cost, whatever its malice."""

from dataclasses import dataclass


@dataclass(frozen=True)
class UnpackLimits:
    """How far a compressed file is followed; each has a key of the same name in `corpus`."""

    max_window_bytes: int = 1 << 31
    max_unpack_ratio: float | None = 1000.0
    max_unpacked_bytes: int | None = 1 << 40
