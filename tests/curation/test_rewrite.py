"""Documents put together from pieces."""

import numpy as np
import pyarrow as pa

from raypt.curation.rewrite import Pieces, assemble
from raypt.text.buffers import TextBatch


def test_pieces_are_joined_by_their_separators_within_a_document_only() -> None:
    text = TextBatch.from_arrow(pa.array(["abcdef", "", "xyz"]))
    pieces = Pieces(
        np.array([[0, 2], [4, 5], [5, 6], [7, 9]]), np.array([10, 10, 0, 10], np.uint8), np.array([0, 3, 3, 4])
    )
    assert assemble(text, pieces).to_arrow().to_pylist() == ["ab\nef", "", "yz"]
