"""Each mixer against its published form in Python integers, and known values."""

import itertools

import numpy as np
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from raypt.text.hashing import degski64_all, hash_bytes, murmur64_all, power, splitmix64_all

MASK = 2**64 - 1
VALUES = st.lists(st.integers(0, MASK), max_size=20)


def mixer(multipliers: tuple[int, int], shifts: tuple[int, int, int]):  # type: ignore[no-untyped-def]
    def mix(x: int) -> int:
        x = (x ^ x >> shifts[0]) * multipliers[0] & MASK
        x = (x ^ x >> shifts[1]) * multipliers[1] & MASK
        return x ^ x >> shifts[2]

    return mix


MURMUR = mixer((0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53), (33, 33, 33))
SPLITMIX = mixer((0xBF58476D1CE4E5B9, 0x94D049BB133111EB), (30, 27, 31))


def degski(x: int) -> int:
    x = x * 0x9E3779B97F4A7C15 & MASK
    x = (x ^ x >> 32) * 0xD6E8FEB86659FD93 & MASK
    return x ^ x >> 32


@settings(deadline=None)
@given(VALUES)
@pytest.mark.parametrize(
    ("ours", "published"), [(murmur64_all, MURMUR), (splitmix64_all, SPLITMIX), (degski64_all, degski)]
)
def test_a_mixer_is_the_published_one(ours, published, values: list[int]) -> None:  # type: ignore[no-untyped-def]
    assert ours(np.array(values, np.uint64)).tolist() == [published(x) for x in values]


def test_splitmix64_gives_the_first_outputs_of_the_reference_generator_with_seed_0() -> None:
    states = np.array([0x9E3779B97F4A7C15 * k & MASK for k in (1, 2, 3)], np.uint64)
    assert splitmix64_all(states).tolist() == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


@settings(deadline=None)
@given(st.integers(0, MASK), st.integers(0, 200))
def test_power_is_that_of_integers_modulo_2_to_the_64(base: int, exponent: int) -> None:
    assert int(power(np.uint64(base), exponent)) == pow(base, exponent, 2**64)


@settings(deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=12))
def test_byte_ranges_have_equal_hashes_exactly_where_they_are_equal(ranges: list[bytes]) -> None:
    data = np.frombuffer(b"".join(ranges), np.uint8)
    ends = np.cumsum([0, *map(len, ranges)])
    hashes = [int(hash_bytes(data, a, b)) for a, b in itertools.pairwise(ends.tolist())]
    assert len(set(hashes)) == len(set(ranges))
    for i, value in enumerate(ranges):
        assert all((hashes[i] == hashes[j]) == (value == other) for j, other in enumerate(ranges))


def test_no_two_of_many_words_collide() -> None:
    words = [xxhash.xxh3_64(str(i).encode()).hexdigest()[: 3 + i % 12] for i in range(20_000)]
    words = sorted(set(words))
    data = np.frombuffer("".join(words).encode(), np.uint8)
    ends = np.cumsum([0, *map(len, words)])
    assert len({int(hash_bytes(data, a, b)) for a, b in itertools.pairwise(ends.tolist())}) == len(words)
