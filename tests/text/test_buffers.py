"""Views of Arrow strings as buffers, and the slices in which a table is worked through."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raypt.text.buffers import TextBatch, byte_lengths, slices

TEXTS = st.lists(st.none() | st.text(st.characters(exclude_categories=("Cs",)), max_size=20), max_size=12)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
@given(texts=TEXTS, skip=st.integers(0, 3))
def test_a_batch_holds_the_bytes_of_its_documents(kind: pa.DataType, texts: list[str | None], skip: int) -> None:
    batch = TextBatch.from_arrow(pa.array(texts, kind)[skip:])
    spans = zip(batch.offsets[:-1], batch.offsets[1:], strict=True)
    assert [batch.data[a:b].tobytes().decode() for a, b in spans] == [t or "" for t in texts[skip:]]
    assert batch.to_arrow().to_pylist() == [t or "" for t in texts[skip:]]


@given(TEXTS, TEXTS, st.integers(1, 40))
def test_slices_cover_every_row_once_and_are_bounded(first: list[str], second: list[str], limit: int) -> None:
    column = pa.chunked_array([pa.array(first, pa.string()), pa.array(second, pa.string())])
    at = 0
    for row, piece in slices(column, limit):
        assert row == at
        assert len(piece) == 1 or byte_lengths(piece).sum() <= limit
        at += len(piece)
    assert at == len(column)
