"""What a rank keeps, reckoned once for the layouts that share it."""

from dataclasses import replace
from random import Random

import pytest

from raypt.run.planner.memory import cut
from raypt.run.planner.shape import Layout, Shape
from raypt.run.planner.states import gathered, groups, held, states, updated_together

SHAPE = Shape(512, 1500, 4, 8, 2, 64, 32000, False)
VALUES = {
    "data": [1, 2, 8],
    "tensor": [1, 2],
    "pipeline": [1, 2],
    "context": [1, 2],
    "virtual": [1, 2],
    "schedule": ["1f1b", "zero_bubble"],
    "micro_batch": [1, 4],
    "accumulation": [1, 8],
    "length": [128, 2048],
    "checkpointing": ["none", "selective", "full"],
    "sequence_parallel": [False, True],
    "precision": ["fp32", "bf16"],
    "compiled": [False, True],
    "attention": ["flash", "math"],
    "chunk": [64, 512],
    "fused_norms": [False, True],
    "communication_bytes": [2, 4],
    "optimizer": ["adamw", "lion", "muon"],
    "bucket": [10_000, 50_000_000],
    "persistent": [0, 100_000],
    "live": [100_000, 1_000_000_000],
    "prefetched": [50_000, 50_000_000],
    "sub_group": [10_000, 1_000_000_000],
    "offload": ["none", "same", "other"],
    "offload_params": [False, True],
    "exact": [False, True],
}


@pytest.mark.parametrize("stage", range(4))
def test_what_is_reckoned_once_is_what_each_layout_keeps(stage: int) -> None:
    """Of layouts that differ in anything: a field that is left out of the shared reckoning would show."""
    random = Random(stage)
    for _ in range(200):
        layout = replace(Layout(zero=stage), **{name: random.choice(values) for name, values in VALUES.items()})
        shape = cut(SHAPE, layout)
        found, once = states(shape, layout), held(shape, layout)
        for part in ("weights", "gradients", "optimizer", "buffers"):
            assert getattr(once, part) == sum(s.bytes for s in found if s.part == part), layout
        if stage == 3:
            assert once.gathered == gathered(shape, layout), layout
            assert once.copied == max(n for g, _ in groups(shape, layout) for n in updated_together(g, layout)), layout


def test_every_field_of_a_layout_is_varied() -> None:
    assert set(VALUES) | {"zero"} == set(Layout.__dataclass_fields__)
