"""Exact duplicates: xxh3-128 of the normalised text."""

import itertools
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from raypt.dedup.kernels import U32, decode, kernel
from raypt.dedup.shingles import text_buffers
from raypt.dedup.unicode import SPACE, character_classes, classify


@kernel
def _collapse(data: Any, offsets: Any, classes: Any, out: Any, ends: Any) -> None:
    written = 0
    for doc in range(offsets.shape[0] - 1):
        i, end, start = offsets[doc], offsets[doc + 1], written
        pending = False
        while i < end:
            code, width = U32(data[i]), 1
            if code >= 0x80:
                code, width = decode(data, i)
            if classify(classes, code) == SPACE:
                pending = written > start
            else:
                if pending:
                    out[written] = 32
                    written += 1
                    pending = False
                for j in range(i, i + width):
                    out[written] = data[j]
                    written += 1
            i += width
        ends[doc + 1] = written


def collapse_whitespace(text: pa.Array | pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """(bytes, offsets int64) of the text with each run of white space made one space and both ends stripped."""
    data, offsets = text_buffers(text)
    out = np.empty(int(offsets[-1] - offsets[0]), np.uint8)
    ends = np.zeros(len(offsets), np.int64)
    _collapse(data, offsets, character_classes(), out, ends)
    return out, ends


def content_hashes(text: pa.Array | pa.ChunkedArray, normalise: str) -> np.ndarray:
    """uint64[n, 2]: xxh3-128 (high, low) of each text, normalised as ExactConfig.normalise says."""
    data, ends = collapse_whitespace(text) if normalise == "whitespace" else text_buffers(text)
    view, digest = memoryview(data.data), xxhash.xxh3_128_digest
    joined = b"".join([digest(view[i:j]) for i, j in itertools.pairwise(ends.tolist())])
    return np.frombuffer(joined, ">u8").reshape(-1, 2).astype(np.uint64)
