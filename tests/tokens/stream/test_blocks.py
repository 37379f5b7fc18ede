import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raypt.errors import UserError
from raypt.tokens.stream.blocks import BlockPlan, plan_blocks

plans = st.builds(
    lambda batch, target, steps, unit: plan_blocks(
        12 * batch, (1, 2, 3, 4), sample_bytes=10, target_bytes=target, most_steps=steps, unit=unit
    ),
    st.integers(1, 6),
    st.integers(1, 4000),
    st.integers(1, 5),
    st.sampled_from([None, 1]),
)


@given(plans, st.integers(1, 4))
def test_the_ranks_of_a_turn_share_out_its_samples(plan: BlockPlan, ranks: int) -> None:
    layout = plan.layout(ranks)
    shares = [layout.share(rank, layout.turn) for rank in range(ranks)]
    assert {share.size for share in shares} == {layout.rows}
    assert sorted(np.concatenate(shares)) == list(range(layout.turn))


@given(plans, st.integers(1, 4))
def test_a_turn_is_a_whole_number_of_batches_or_a_part_of_one(plan: BlockPlan, ranks: int) -> None:
    turn = plan.layout(ranks).turn
    assert turn % plan.global_batch == 0 or plan.global_batch % turn == 0


@given(plans, st.integers(1, 4))
def test_every_rank_gets_its_samples_of_each_batch_before_those_of_the_next(plan: BlockPlan, ranks: int) -> None:
    layout, batch = plan.layout(ranks), plan.global_batch
    turns = max(1, 2 * batch // layout.turn)
    for rank in range(ranks):
        seen = np.concatenate([t * layout.turn + layout.share(rank, layout.turn) for t in range(turns)])
        assert (np.diff(seen // batch) >= 0).all()
        assert set(np.bincount(seen // batch)) == {batch // ranks}
        assert np.array_equal(seen, layout.place(rank, np.arange(seen.size)))


@given(plans, st.integers(1, 4))
def test_a_unit_holds_the_same_samples_whoever_gets_it(plan: BlockPlan, ranks: int) -> None:
    layout = plan.layout(ranks)
    units = np.concatenate([layout.share(rank, layout.turn).reshape(-1, plan.unit) for rank in range(ranks)])
    assert sorted(map(tuple, units)) == [tuple(range(u, u + plan.unit)) for u in range(0, layout.turn, plan.unit)]


@pytest.mark.parametrize(
    ("target", "steps", "ranks", "rows"),
    [
        (10**6, 8, 1, 8 * 64),  # as many steps as are allowed
        (10**6, 8, 4, 8 * 16),
        (2 * 640, 8, 2, 64),  # two steps fit for one rank, so two for any
        (200, 8, 1, 16),  # the share of a step does not fit: a part of it, the same for all
        (200, 8, 4, 16),
        (1, 8, 1, 4),  # never less than a unit
    ],
)
def test_a_block_is_as_large_as_bytes_and_steps_allow(target: int, steps: int, ranks: int, rows: int) -> None:
    plan = plan_blocks(64, (1, 2, 4), sample_bytes=10, target_bytes=target, most_steps=steps, unit=4)
    assert plan.layout(ranks).rows == rows


def test_a_number_of_workers_that_does_not_divide_the_batch_is_refused() -> None:
    with pytest.raises(UserError, match="10 samples cannot be divided among 4 workers"):
        plan_blocks(10, (1, 4), sample_bytes=1, target_bytes=1000, most_steps=1)
    with pytest.raises(UserError, match="8 samples cannot be divided among 4 workers in micro-batches of 4"):
        plan_blocks(8, (1, 4), sample_bytes=1, target_bytes=1000, most_steps=1, unit=4)
