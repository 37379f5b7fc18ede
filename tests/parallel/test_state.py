"""Cutting and joining ranges of flattened parameters."""

from hypothesis import given
from hypothesis import strategies as st

from raypt.parallel.state import overlaps

cuts = st.lists(st.integers(1, 30), min_size=1, max_size=8)


@given(cuts, st.data())
def test_overlaps_cover_a_range_exactly(sizes: list[int], data: st.DataObject) -> None:
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    total = sum(sizes)
    start = data.draw(st.integers(0, total - 1))
    numel = data.draw(st.integers(1, total - start))
    whole = list(range(total))
    pieces = [whole[s : s + n] for s, n in zip(starts, sizes, strict=True)]
    out = [-1] * numel
    for i, inside, at, length in overlaps(start, numel, list(zip(starts, sizes, strict=True))):
        out[at : at + length] = pieces[i][inside : inside + length]
    assert out == whole[start : start + numel]
