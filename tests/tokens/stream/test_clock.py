from collections.abc import Callable

import numpy as np
import pytest

from raypt.errors import UserError
from raypt.tokens.stream.clock import ClockSource, SampleClock, Samples
from raypt.tokens.stream.mixture import Phase

ROWS = {"a": [7, 0, 5, 9, 4, 11], "b": [20, 3, 0, 0, 8, 1]}


def rows_of(shard: int, source: str) -> int:
    return ROWS[source][shard]


def sources(**limits: float | None) -> list[ClockSource]:
    return [
        ClockSource(name, tuple(i for i, n in enumerate(rows) if n), max_epochs=limits.get(name))
        for name, rows in ROWS.items()
    ]


def make(
    window: int | None = 2, seed: int = 0, rows: Callable[[int, str], int] = rows_of, **limits: float
) -> SampleClock:
    return SampleClock(sources(**limits), [Phase(0, (2, 1))], rows, seed=seed, window_shards=window)


def places(samples: Samples) -> list[tuple[int, int, int, int]]:
    columns = (samples.source, samples.epoch, samples.shard, samples.row)
    return list(zip(*(c.tolist() for c in columns), strict=True))


def same(a: Samples, b: Samples) -> bool:
    return places(a) == places(b) and np.array_equal(a.sample_index, b.sample_index)


@pytest.mark.parametrize("window", [1, 2, 3, None])
def test_every_epoch_of_a_source_visits_each_of_its_rows_once(window: int | None) -> None:
    seen = places(make(window).resolve(0, 400))
    for k, name in enumerate(ROWS):
        for epoch in range(3):
            rows = [(s, r) for source, e, s, r in seen if (source, e) == (k, epoch)]
            assert sorted(rows) == [(s, r) for s, n in enumerate(ROWS[name]) for r in range(n)]


def test_any_part_can_be_resolved_alone() -> None:
    whole = make().resolve(0, 300)
    for first, end in ((0, 1), (37, 64), (120, 300)):
        assert same(make().resolve(first, end), whole.slice(first, end))


def test_each_epoch_has_an_order_of_its_own() -> None:
    seen = [p for p in places(make().resolve(0, 400)) if p[0] == 0]
    orders = [[(s, r) for _, e, s, r in seen if e == epoch] for epoch in range(3)]
    assert orders[0] != orders[1] != orders[2] != orders[0]


def test_the_seed_decides_the_order() -> None:
    assert same(make(seed=1).resolve(0, 50), make(seed=1).resolve(0, 50))
    assert not same(make(seed=1).resolve(0, 50), make(seed=2).resolve(0, 50))


def test_the_rows_of_a_window_are_mixed_across_its_shards() -> None:
    clock = SampleClock([ClockSource("x", (0, 1, 2, 3))], [Phase(0, (1,))], lambda i, s: 50, seed=0, window_shards=2)
    shards = clock.resolve(0, 100).shard
    assert np.unique(shards).size == 2
    assert (np.diff(shards) != 0).sum() > 30


def test_a_full_permutation_mixes_all_shards_from_the_start() -> None:
    clock = SampleClock([ClockSource("x", (0, 1, 2, 3))], [Phase(0, (1,))], lambda i, s: 50, seed=0)
    assert np.unique(clock.resolve(0, 40).shard).size == 4


def test_the_first_samples_need_only_the_first_window_of_each_source() -> None:
    asked: set[tuple[int, str]] = set()

    def rows(shard: int, source: str) -> int:
        asked.add((shard, source))
        return rows_of(shard, source)

    make(1, rows=rows).resolve(0, 3)
    assert len(asked) == 2


def test_the_order_while_tokenizing_is_the_order_afterwards() -> None:
    clock, whole = make(), make().resolve(0, 200)
    for at in range(0, 200, 8):
        assert same(clock.resolve(at, at + 8), whole.slice(at, at + 8))


def test_an_epoch_limit_ends_a_source_and_a_limit_on_all_ends_the_stream() -> None:
    samples = make(a=2, b=1.5).resolve(0, 1000)
    assert (samples.source == 0).sum() == 2 * sum(ROWS["a"])
    assert (samples.source == 1).sum() == sum(ROWS["b"]) * 3 // 2
    assert len(samples) == 72 + 48


def test_a_sample_limit_ends_a_source() -> None:
    limited = [ClockSource("a", (0, 2), max_samples=5), ClockSource("b", (0, 1))]
    clock = SampleClock(limited, [Phase(0, (1, 1))], rows_of, seed=0)
    assert (clock.resolve(0, 100).source == 0).sum() == 5


def test_a_source_without_a_row_is_an_error_naming_it() -> None:
    clock = SampleClock([ClockSource("empty", (1,))], [Phase(0, (1,))], lambda i, s: 0, seed=0)
    with pytest.raises(UserError, match="'empty' has no samples"):
        clock.resolve(0, 1)


def test_the_schedule_lists_shards_in_the_order_of_first_need() -> None:
    clock = make(1)
    schedule = clock.shard_schedule({(i, s): n for s, rows in ROWS.items() for i, n in enumerate(rows)})
    assert sorted(schedule) == list(range(6))
    first_needed = list(dict.fromkeys(clock.resolve(0, 108).shard.tolist()))
    assert set(schedule[:2]) == set(first_needed[:2])


def test_the_order_of_a_run_is_the_same_on_every_machine() -> None:
    # Pinned: a change here would silently reorder the samples of runs that are resumed.
    pinned = [
        (0, 0, 2, 1),
        (1, 0, 4, 5),
        (0, 0, 3, 2),
        (0, 0, 2, 0),
        (1, 0, 4, 2),
        (0, 0, 2, 3),
        (0, 0, 3, 3),
        (1, 0, 4, 7),
        (0, 0, 3, 8),
        (0, 0, 3, 4),
        (1, 0, 4, 0),
        (0, 0, 3, 5),
    ]
    assert places(make().resolve(0, 12)) == pinned
