import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raypt.tokens.store.packing import Packed, pack, segments_of

PAD = 9999
documents = st.lists(st.integers(0, 40), max_size=60)


def packed_of(lengths: list[int], width: int, **options: object) -> tuple[np.ndarray, Packed]:
    """Documents of distinct ids 0, 1, 2, ... and their packing."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = np.arange(offsets[-1], dtype=np.uint16)
    return ids, pack(ids, offsets, width=width, pad_id=PAD, **options)  # type: ignore[arg-type]


def segments(p: Packed) -> np.ndarray:
    return segments_of(p.lengths, p.offsets, np.arange(p.rows), p.tokens.shape[1])


@given(documents, st.integers(2, 17), st.sampled_from(["best_fit", "greedy"]), st.booleans())
@settings(deadline=None)
def test_every_token_is_packed_exactly_once_and_the_rest_is_padding(
    lengths: list[int], width: int, strategy: str, boundaries: bool
) -> None:
    ids, p = packed_of(lengths, width, strategy=strategy, document_boundaries=boundaries)
    used = segments(p) > 0
    assert np.array_equal(np.sort(p.tokens[used]), ids)
    assert (p.tokens[~used] == PAD).all()
    assert p.padding == (~used).sum()


@given(documents, st.integers(2, 17), st.sampled_from(["best_fit", "greedy"]))
@settings(deadline=None)
def test_a_segment_is_a_contiguous_part_of_one_document(lengths: list[int], width: int, strategy: str) -> None:
    _, p = packed_of(lengths, width, strategy=strategy)
    owner = np.repeat(np.arange(len(lengths)), lengths)
    for row, segment in zip(p.tokens, segments(p), strict=True):
        for s in range(1, segment.max() + 1):
            tokens = row[segment == s].astype(int)
            assert (np.diff(tokens) == 1).all()
            assert np.unique(owner[tokens]).size == 1


@given(documents, st.integers(2, 17))
@settings(deadline=None)
def test_best_fit_cuts_only_documents_longer_than_a_sample(lengths: list[int], width: int) -> None:
    _, p = packed_of(lengths, width)
    assert p.split_documents == sum(n > width for n in lengths)


@given(documents, st.integers(2, 17))
@settings(deadline=None)
def test_best_fit_puts_each_piece_where_the_least_room_is_left(lengths: list[int], width: int) -> None:
    pieces = sorted([min(width, n - at) for n in lengths for at in range(0, n, width)], reverse=True)
    rooms: list[int] = []
    for piece in pieces:
        fitting = [r for r in rooms if r >= piece]
        if fitting:
            rooms.remove(min(fitting))
            rooms.append(min(fitting) - piece)
        else:
            rooms.append(width - piece)
    _, p = packed_of(lengths, width)
    assert p.rows == len(rooms)
    assert sorted((segments(p) == 0).sum(axis=1).tolist()) == sorted(rooms)


def test_greedy_keeps_the_order_and_pads_only_the_last_sample() -> None:
    ids, p = packed_of([5, 3, 9], 4, strategy="greedy")
    assert np.array_equal(p.tokens.reshape(-1)[:17], ids)
    assert p.padding == 3
    assert segments(p).tolist() == [[1, 1, 1, 1], [1, 2, 2, 2], [1, 1, 1, 1], [1, 1, 1, 1], [1, 0, 0, 0]]


def test_without_boundaries_a_sample_is_one_segment() -> None:
    _, p = packed_of([3, 4, 2], 5, document_boundaries=False)
    assert set(segments(p)[p.tokens != PAD].tolist()) == {1}


def test_no_documents_give_no_samples() -> None:
    assert packed_of([], 8)[1].rows == 0
    assert packed_of([0, 0], 8, strategy="greedy")[1].rows == 0


def test_best_fit_wastes_little_on_documents_of_natural_lengths() -> None:
    lengths = np.random.default_rng(0).lognormal(5.5, 1.2, 4000).astype(int).tolist()
    _, p = packed_of(lengths, 1025)
    _, greedy = packed_of(lengths, 1025, strategy="greedy")
    assert p.padding / p.tokens.size < 0.01
    assert p.split_documents < 0.4 * greedy.split_documents


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
def test_the_type_of_the_ids_is_kept(dtype: type) -> None:
    p = pack(np.array([1, 2, 3], dtype), np.array([0, 3]), width=4, pad_id=0)
    assert p.tokens.dtype == dtype
