"""Slices cover the parameters once, in order, and are even."""

import pytest
import torch

from raypt.parallel.flat.layout import Flat

SHAPES = {"a": (3, 5), "b": (7,), "c": (2, 4)}


@pytest.mark.parametrize("servers", [1, 2, 3, 7, 30])
def test_slices_are_even_and_their_boxes_cover_every_parameter_once(servers: int) -> None:
    flat = Flat(SHAPES)
    values = torch.arange(flat.numel, dtype=torch.float32)
    seen = {name: torch.zeros(shape) for name, shape in SHAPES.items()}
    found = {name: torch.zeros(shape) for name, shape in SHAPES.items()}
    cuts = flat.cut(servers)
    assert max(c.numel for c in cuts) - min(c.numel for c in cuts) <= 1
    for cut in cuts:
        own = cut.of(values)
        assert sum(s.numel for s in cut.segments) == cut.numel
        for segment in cut.segments:
            for box, view in segment.piece(own).boxes(own):
                at = tuple(slice(o, o + n) for o, n in zip(*box, strict=True))
                seen[segment.name][at] += 1
                found[segment.name][at] = view
    assert all((count == 1).all() for count in seen.values())
    assert torch.equal(torch.cat([f.reshape(-1) for f in found.values()]), values)


@pytest.mark.parametrize("servers", [0, 31])
def test_a_number_of_slices_that_leaves_one_empty_is_refused(servers: int) -> None:
    with pytest.raises(ValueError, match="cannot be cut"):
        Flat(SHAPES).cut(servers)
