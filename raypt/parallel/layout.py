"""What of each parameter a rank holds, and who holds the same."""

from collections.abc import Mapping
from dataclasses import dataclass

from raypt.parallel.state import Box, Shape


@dataclass(frozen=True)
class Part:
    """One rank's part of a parameter, before ZeRO cuts it further."""

    shape: Shape
    """Of the whole parameter."""
    box: Box
    """What of it the rank holds."""
    holders: tuple[int, ...]
    """The tensor ranks that hold this very box, ascending."""
    counted: bool = True
    """Whether this rank is the one of the holders that counts it in norms and writes it to checkpoints."""
    partial: bool = False
    """Each holder computes a term of the gradient, and the terms must be added up."""


Layout = Mapping[str, Part]
"""By global name; those of the whole model."""
