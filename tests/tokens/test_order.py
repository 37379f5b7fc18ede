import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from raypt.tokens.order import hash_array, key_of, permute


@given(st.integers(1, 5000), st.integers(0, 2**64 - 1))
def test_a_permutation_visits_every_item_once(n: int, key: int) -> None:
    assert np.array_equal(np.sort(permute(np.arange(n), n, key)), np.arange(n))


def test_any_slice_of_a_permutation_can_be_computed_alone() -> None:
    whole = permute(np.arange(1000), 1000, 7)
    assert np.array_equal(permute(np.arange(400, 500), 1000, 7), whole[400:500])


def test_different_keys_give_different_orders() -> None:
    a, b = (permute(np.arange(1000), 1000, key) for key in (1, 2))
    assert (a == b).mean() < 0.02


def test_a_permutation_leaves_no_trace_of_the_old_order() -> None:
    moved = permute(np.arange(100_000), 100_000, 3)
    assert abs(np.corrcoef(np.arange(100_000), moved)[0, 1]) < 0.02
    assert (np.diff(moved) == 1).sum() < 20


def test_a_permutation_of_a_billion_items_needs_no_table() -> None:
    out = permute(np.arange(10), 10**9, 5)
    assert np.unique(out).size == 10
    assert out.max() < 10**9


def test_the_orders_are_the_same_on_every_machine() -> None:
    # Pinned: a change here would silently reorder the samples of runs that are resumed.
    assert key_of("rows", 0, "web", 1) == 5394899484825897214
    assert permute(np.arange(8), 8, 42).tolist() == [4, 7, 5, 6, 1, 2, 3, 0]
    assert hash_array(np.array([0, 1]), 1).tolist() == [9506087726907147786, 4522410275139603566]


def test_names_and_numbers_in_a_key_do_not_run_together() -> None:
    assert len({key_of("a", 1), key_of("a1"), key_of("a", "1"), key_of("", "a1"), key_of(1, "a")}) == 5


def test_hashes_are_uniform() -> None:
    high = hash_array(np.arange(100_000), 9) >> np.uint64(60)
    counts = np.bincount(high.astype(int), minlength=16)
    assert abs(counts - 6250).max() < 5 * np.sqrt(6250)
