"""Text put together anew from the pieces of each document that a rule keeps."""

from dataclasses import dataclass

import numpy as np

from raypt.kernels import kernel
from raypt.text.buffers import TextBatch


@dataclass(frozen=True)
class Pieces:
    """What is kept: spans of bytes in reading order, those of document d at `offsets[d:d + 2]`.

    Shapes: spans int64[P, 2]; before uint8[P], the byte written before a piece that is not its document's first
    (0: none); offsets int64[D + 1].
    """

    spans: np.ndarray
    before: np.ndarray
    offsets: np.ndarray


@kernel
def _assemble(data, spans, before, offsets, out, out_offsets):  # type: ignore[no-untyped-def]
    at = 0
    for d in range(len(offsets) - 1):
        out_offsets[d] = at
        for p in range(offsets[d], offsets[d + 1]):
            if at > out_offsets[d] and before[p] != 0:
                out[at] = before[p]
                at += 1
            for i in range(spans[p, 0], spans[p, 1]):
                out[at] = data[i]
                at += 1
    out_offsets[len(offsets) - 1] = at


def assemble(text: TextBatch, pieces: Pieces) -> TextBatch:
    """The documents made of `pieces` of `text`."""
    size = int((pieces.spans[:, 1] - pieces.spans[:, 0]).sum()) + len(pieces.spans)
    out, out_offsets = np.empty(size, np.uint8), np.empty(len(text) + 1, np.int64)
    _assemble(text.data, pieces.spans, pieces.before, pieces.offsets, out, out_offsets)
    return TextBatch(out, out_offsets)
