"""Text as a language model sees it: one sentence a line of the text, words between single spaces."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raypt.curation.quality.config import Normalisation
from raypt.curation.quality.normalise import normalise
from raypt.text.buffers import string_buffers


@dataclass(frozen=True)
class Sentences:
    """The sentences of D documents: `data` uint8, sentence `i` is `data[offsets[i]:offsets[i + 1]]`, of document
    `document[i]`. Shapes: offsets int64[S + 1], document int64[S]."""

    data: np.ndarray
    offsets: np.ndarray
    document: np.ndarray


def sentences(text: pa.Array | pa.ChunkedArray, normalisation: Normalisation, max_bytes: int) -> Sentences:
    """Sentences of the first `max_bytes` UTF-8 bytes of each document (null counts as empty); a cut character is left
    out. Words end at ASCII white space, as KenLM's do. Linear in the bytes that are read."""
    array = text.combine_chunks() if isinstance(text, pa.ChunkedArray) else text
    whole = pc.fill_null(array, "").cast(pa.large_string())
    if int(pc.max(pc.binary_length(whole)).as_py() or 0) > max_bytes:
        whole = _cut(whole, max_bytes)
    lines = pc.split_pattern(whole, "\n")
    counts = pc.list_value_length(lines).to_numpy(zero_copy_only=False)
    normal = normalise(lines.flatten(), normalisation, max_bytes)
    if normalisation == "plain":  # words-v1 has single blanks already
        normal = pc.ascii_trim_whitespace(pc.replace_substring_regex(normal, r"[\x00\t-\r ]+", " "))
    data, offsets = string_buffers(normal)
    return Sentences(data, offsets, np.repeat(np.arange(len(array)), counts))


def _cut(text: pa.Array, max_bytes: int) -> pa.Array:
    cut = pc.binary_slice(text.cast(pa.large_binary()), 0, max_bytes)
    return pa.array([value.decode(errors="ignore") for value in cut.to_pylist()], pa.large_string())
