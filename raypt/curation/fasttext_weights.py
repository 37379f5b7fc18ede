"""The weights of a fastText classifier whose file was checked: `raypt.curation.fasttext_file`, which has the layout."""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

F32: TypeAlias = npt.NDArray[np.float32]

_HIERARCHICAL_SOFTMAX, _SOFTMAX = 1, 3
_CENTROIDS = 256
_MOST_BYTES = 1 << 28
"""Of unpacked weights: a model that has more is left to fastText."""
_PREFIX = "__label__"


@dataclass(frozen=True)
class Weights:
    """Of a classifier whose texts are bags of words and of their letters' n-grams."""

    words: tuple[bytes, ...]
    labels: tuple[str, ...]
    label_counts: tuple[int, ...]
    rows: F32
    """[words and n-grams, dimension]"""
    output: F32
    """[labels, dimension]; of a tree of labels, its inner nodes."""
    tree: bool
    """Whether the labels are the leaves of a tree (hierarchical softmax)."""
    buckets: int
    minn: int
    maxn: int
    places: npt.NDArray[np.int32]
    """Of each bucket its row behind the words', or -1: pruned."""


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def numbers(self, layout: str) -> tuple[Any, ...]:
        found = struct.unpack_from(f"<{layout}", self.data, self.at)
        self.at += struct.calcsize(f"<{layout}")
        return found

    def array(self, dtype: str, count: int) -> npt.NDArray[Any]:
        out = np.frombuffer(self.data, dtype, count, self.at)
        self.at += out.nbytes
        return out

    def word(self) -> bytes:
        end = self.data.index(b"\0", self.at)
        word, self.at = self.data[self.at : end], end + 1
        return word


def read_weights(path: str) -> Weights | None:
    """Of a local file that passed the check; None for a model of another kind: of several words' n-grams, of labels
    that do not exclude each other, with a quantised output, of more than `_MOST_BYTES`.
    """
    reader = _Reader(Path(path).read_bytes())
    _, version = reader.numbers("ii")
    dim, _, _, _, _, word_ngrams, loss, _, bucket, minn, maxn, _, _ = reader.numbers("12id")
    maxn = maxn if version > 11 else 0
    if word_ngrams > 1 or loss not in (_HIERARCHICAL_SOFTMAX, _SOFTMAX):
        return None
    size, n_words, n_labels, _, pruned = reader.numbers("iiiqq")
    words, counts = [], []
    for _ in range(size):
        words.append(reader.word())
        counts.append(reader.numbers("qb")[0])
    places = np.arange(max(bucket, 1), dtype=np.int32)
    if pruned >= 0:
        places = np.full(max(bucket, 1), -1, np.int32)
        pairs = reader.array("<i4", 2 * pruned).reshape(-1, 2)
        places[pairs[:, 0]] = pairs[:, 1]
    rows = n_words + (bucket if pruned < 0 else pruned)
    if 4 * rows * dim > _MOST_BYTES:
        return None
    (quantised,) = reader.numbers("?")
    inner = _matrix(reader, quantised)
    (output_quantised,) = reader.numbers("?")
    if quantised and output_quantised:
        return None
    output = _matrix(reader, False)
    labels = tuple(label.decode().removeprefix(_PREFIX) for label in words[n_words:])
    assert inner.shape == (rows, dim) and len(labels) == n_labels
    tree = loss == _HIERARCHICAL_SOFTMAX
    return Weights(
        tuple(words[:n_words]), labels, tuple(counts[n_words:]), inner, output, tree, max(bucket, 1), minn, maxn, places
    )


def _matrix(reader: _Reader, quantised: bool) -> F32:
    if not quantised:
        m, n = reader.numbers("qq")
        return reader.array("<f4", m * n).reshape(m, n).copy()
    norms, m, n, size = reader.numbers("?qqi")
    codes = reader.array("u1", size).reshape(m, -1)
    parts = _centroids(reader)
    out = np.concatenate([part[codes[:, i]] for i, part in enumerate(parts)], axis=1)
    if norms:
        of = reader.array("u1", m)
        (lengths,) = _centroids(reader)
        out = out * lengths[of]
    return np.ascontiguousarray(out, np.float32)


def _centroids(reader: _Reader) -> list[F32]:
    """Of each part of a product quantiser, its centroids [256, numbers of the part]."""
    dim, parts, part, last = reader.numbers("iiii")
    flat = reader.array("<f4", dim * _CENTROIDS)
    out, at = [], 0
    for i in range(parts):
        width = last if i == parts - 1 else part
        out.append(flat[at : at + _CENTROIDS * width].reshape(_CENTROIDS, width))
        at += _CENTROIDS * width
    return out
