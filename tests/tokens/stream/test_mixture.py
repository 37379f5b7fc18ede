import json

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from raypt.tokens.stream.mixture import Mixture, Phase

weights = st.lists(st.floats(0.001, 1000), min_size=1, max_size=8).map(tuple)


def counts_at_every_prefix(drawn: np.ndarray, n_sources: int) -> np.ndarray:
    return np.cumsum(drawn[:, None] == np.arange(n_sources), axis=0)


@given(weights)
@settings(max_examples=60, deadline=None)
def test_realised_shares_stay_within_one_sample_at_every_prefix(w: tuple[float, ...]) -> None:
    drawn, _ = Mixture([Phase(0, w)]).draw(0, 3000)
    target = np.arange(1, 3001)[:, None] * (np.array(w) / sum(w))
    assert np.abs(counts_at_every_prefix(drawn, len(w)) - target).max() < 1


@given(st.integers(2, 5).flatmap(lambda k: st.lists(st.tuples(*[st.floats(0.01, 10)] * k), min_size=2, max_size=4)))
@settings(max_examples=60, deadline=None)
def test_a_curriculum_stays_within_one_sample_too(steps: list[tuple[float, ...]]) -> None:
    phases = [Phase(i * 333, w) for i, w in enumerate(steps)]
    drawn, _ = Mixture(phases).draw(0, 2000)
    share = np.array([np.array(steps[min(t // 333, len(steps) - 1)]) for t in range(2000)])
    target = np.cumsum(share / share.sum(axis=1, keepdims=True), axis=0)
    assert np.abs(counts_at_every_prefix(drawn, len(steps[0])) - target).max() < 1 + 1e-6


@given(weights, st.integers(0, 200_000), st.integers(1, 50))
@settings(max_examples=20, deadline=None)
def test_any_part_can_be_drawn_alone(w: tuple[float, ...], first: int, n: int) -> None:
    whole = Mixture([Phase(0, w)])
    source, ordinal = whole.draw(0, 200_050)
    alone_source, alone_ordinal = Mixture([Phase(0, w)]).draw(first, first + n)
    assert np.array_equal(alone_source, source[first : first + n])
    assert np.array_equal(alone_ordinal, ordinal[first : first + n])


def test_going_back_gives_the_same_samples() -> None:
    mixture = Mixture([Phase(0, (3, 1, 2))])
    late = mixture.draw(150_000, 150_010)
    early = mixture.draw(5, 15)
    assert np.array_equal(mixture.draw(150_000, 150_010)[1], late[1])
    assert np.array_equal(mixture.draw(5, 15)[0], early[0])


def test_the_ordinals_of_a_source_count_up_without_gap() -> None:
    source, ordinal = Mixture([Phase(0, (5, 2, 1))]).draw(0, 1000)
    for k in range(3):
        assert np.array_equal(ordinal[source == k], np.arange((source == k).sum()))


def test_a_source_at_its_limit_leaves_and_the_others_share_its_place() -> None:
    totals = [10, 1000, 1000]
    source, _ = Mixture([Phase(0, (1, 1, 2))], lambda k, wanted: totals[k]).draw(0, 400)
    assert (source == 0).sum() == 10
    after = source[np.flatnonzero(source == 0)[-1] + 1 :]
    assert abs((after == 1).sum() - after.size / 3) < 1.1


def test_the_stream_ends_when_every_source_has() -> None:
    mixture = Mixture([Phase(0, (1, 1))], lambda k, wanted: [7, 30][k])
    source, _ = mixture.draw(0, 100)
    assert source.size == 37
    assert mixture.draw(37, 50)[0].size == 0
    assert mixture.draw(1000, 1010)[0].size == 0


def test_limits_learnt_late_give_the_same_stream_as_limits_known_from_the_start() -> None:
    known = Mixture([Phase(0, (1, 3))], lambda k, wanted: [50, 200][k])
    growing = Mixture([Phase(0, (1, 3))], lambda k, wanted: min([50, 200][k], wanted + 2))
    whole = known.draw(0, 300)
    parts = [growing.draw(at, at + 9) for at in range(0, 300, 9)]
    assert np.array_equal(np.concatenate([p[0] for p in parts]), whole[0])
    assert np.array_equal(np.concatenate([p[1] for p in parts]), whole[1])


def test_a_stream_read_back_over_an_ended_source_repeats_itself() -> None:
    mixture = Mixture([Phase(0, (1, 1))], lambda k, wanted: [20, 500][k])
    whole = mixture.draw(0, 300)
    again = mixture.draw(30, 120)
    assert np.array_equal(again[0], whole[0][30:120])
    assert np.array_equal(again[1], whole[1][30:120])


def test_a_phase_without_living_sources_falls_back_on_the_others() -> None:
    mixture = Mixture([Phase(0, (1, 0)), Phase(50, (0, 1))], lambda k, wanted: [5, 1000][k])
    source, _ = mixture.draw(0, 60)
    assert source.tolist() == [0] * 5 + [1] * 55


@given(weights, st.integers(1, 20_000), st.lists(st.integers(0, 5000), min_size=8, max_size=8))
@settings(max_examples=40, deadline=None)
def test_a_bookmark_goes_on_where_it_was_set_whichever_sources_have_ended(
    w: tuple[float, ...], at: int, caps: list[int]
) -> None:
    phases = [Phase(0, w), Phase(3000, tuple(reversed(w)))]

    def capacity(k: int, wanted: int) -> int:
        return caps[k]

    whole = Mixture(phases, capacity)
    source, ordinal = whole.draw(0, at + 500)
    fresh = Mixture(phases, capacity)
    fresh.resume(json.loads(json.dumps(Mixture(phases, capacity).bookmark(at))))
    resumed_source, resumed_ordinal = fresh.draw(at, at + 500)
    assert np.array_equal(resumed_source, source[at:])
    assert np.array_equal(resumed_ordinal, ordinal[at:])
    early_source, _ = fresh.draw(0, min(at, 50))
    assert np.array_equal(early_source, source[: min(at, 50)])
