"""raypt.curation.quality.holdout: what is measured has no page of its site and no near copy among what is learnt."""

import numpy as np
import pyarrow as pa
import pytest
import xxhash

from raypt.curation.quality.copies import groups_of, joined
from raypt.curation.quality.holdout import Split, hold_out, host_of


def split_of(lines: list[str], hosts: list[str | None], fraction: float = 0.25) -> Split:
    hashes = np.array([xxhash.xxh3_64_intdigest(line.encode()) for line in lines], np.uint64)
    return hold_out(pa.array(lines, pa.large_string()), hashes, hosts, fraction, 3, "test")


def pages(n: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(f"w{w}" for w in rng.integers(0, 10**6, 40)) for _ in range(n)]


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://www.Example.org/a?b", "example.org"),
        ("http://user:pw@example.org:8080", "example.org"),
        ("example.org/page", "example.org"),
        ("https://例え.jp/", "例え.jp"),
        ("http://[::1", None),
        ("", None),
        (None, None),
    ],
)
def test_the_host_of_a_url(url: str | None, host: str | None) -> None:
    assert host_of(url) == host


def test_a_host_and_what_near_copies_connect_to_it_are_on_one_side() -> None:
    lines = pages(400)
    hosts: list[str | None] = [f"h{i // 4}" for i in range(400)]
    for i in range(0, 200, 8):  # a page of each second host is copied by the next
        lines[i + 4] = lines[i] + " and more"
    lines += pages(100, seed=1)
    hosts += [None] * 100
    split = split_of(lines, hosts)
    by_pair = split.heldout[:200].reshape(-1, 8)
    assert (by_pair.all(axis=1) | ~by_pair.any(axis=1)).all()
    by_host = split.heldout[200:400].reshape(-1, 4)
    assert (by_host.all(axis=1) | ~by_host.any(axis=1)).all()
    assert 0.1 < split.heldout.mean() < 0.4
    assert split.figures == {"texts": 500, "hosts": 100, "without_host": 100, "in_big_hosts": 0, "in_big_groups": 0}


def test_a_host_too_big_is_split_but_not_its_near_copies() -> None:
    lines = [copy for page in pages(150) for copy in (page, page + " again")]
    hosts: list[str | None] = ["big"] * 300
    lines += pages(300, seed=1)
    hosts += [f"h{i // 3}" for i in range(300)]
    split = split_of(lines, hosts)
    pairs = split.heldout[:300].reshape(-1, 2)
    assert (pairs[:, 0] == pairs[:, 1]).all()
    assert 0.1 < pairs[:, 0].mean() < 0.4
    small = split.heldout[300:].reshape(-1, 3)
    assert (small.all(axis=1) | ~small.any(axis=1)).all()
    assert (split.figures["in_big_hosts"], split.figures["in_big_groups"]) == (300, 0)


def test_near_copies_too_many_are_split_text_by_text(caplog: pytest.LogCaptureFixture) -> None:
    page = pages(1)[0]
    split = split_of([f"{page} {i}" for i in range(200)] + pages(200, seed=1), [None] * 400)
    assert 0.1 < split.heldout[:200].mean() < 0.4
    assert split.figures["in_big_groups"] == 200
    assert "too good by what they share" in caplog.text


def test_the_split_does_not_depend_on_the_order() -> None:
    lines, hosts = pages(300), [f"h{i // 3}" if i % 5 else None for i in range(300)]
    lines[7] = lines[100] + " more"
    order = np.random.default_rng(2).permutation(300)
    shuffled = split_of([lines[i] for i in order], [hosts[i] for i in order])
    assert np.array_equal(shuffled.heldout, split_of(lines, hosts).heldout[order])


def test_groupings_are_joined_through_what_they_share() -> None:
    a, b = np.array([0, 0, 2, 3, 3, 5]), np.array([0, 1, 1, 3, 4, 4])
    assert joined(a, b).tolist() == [0, 0, 0, 3, 3, 3]
    lines = pa.array(pages(3), pa.large_string())
    assert groups_of(lines).tolist() == joined(groups_of(lines), np.arange(3)).tolist() == [0, 1, 2]
