"""Exact duplicates: xxh3-128 of the normalised text."""

import itertools
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from raypt.kernels import kernel
from raypt.text.buffers import string_buffers
from raypt.text.hashing import U32, U64
from raypt.text.unicode import WHITE, classify, word_classes
from raypt.text.utf8 import ONE, decode


@kernel
def _collapse(data: Any, offsets: Any, classes: Any, out: Any, ends: Any) -> None:
    written = U64(0)
    for doc in range(offsets.shape[0] - 1):
        i, end, start = U64(offsets[doc]), U64(offsets[doc + 1]), written
        pending = False
        while i < end:
            byte = data[i]
            if 0x20 < byte < 0x7F and not pending:
                out[written] = byte
                written += ONE
                i += ONE
                continue
            code, width = U32(byte), 1
            if code >= 0x80:
                code, width = decode(data, i)
            if classify(classes, code) == WHITE:
                pending = bool(written > start)
            else:
                if pending:
                    out[written] = 0x20
                    written += ONE
                    pending = False
                for j in range(width):
                    out[written] = data[i + U64(j)]
                    written += ONE
            i += U64(width)
        ends[doc + 1] = written


def collapse_whitespace(text: pa.Array | pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """(bytes, offsets int64) of the text with each run of white space made one space and both ends stripped."""
    data, offsets = string_buffers(text)
    out = np.empty(int(offsets[-1] - offsets[0]), np.uint8)
    ends = np.zeros(len(offsets), np.int64)
    _collapse(data, offsets, word_classes(), out, ends)
    return out, ends


def content_hashes(text: pa.Array | pa.ChunkedArray, normalise: str) -> np.ndarray:
    """uint64[n, 2]: xxh3-128 (high, low) of each text, normalised as ExactConfig.normalise says."""
    data, ends = collapse_whitespace(text) if normalise == "whitespace" else string_buffers(text)
    view, digest = memoryview(data.data), xxhash.xxh3_128_digest
    joined = b"".join([digest(view[i:j]) for i, j in itertools.pairwise(ends.tolist())])
    return np.frombuffer(joined, ">u8").reshape(-1, 2).astype(np.uint64)
