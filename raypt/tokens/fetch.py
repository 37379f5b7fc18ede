"""The actor that turns descriptions of samples into blocks of samples. Light: no torch, no ray.train."""

from collections.abc import Iterator

import numpy as np

from raypt.tokens.metrics import StreamMetrics
from raypt.tokens.plan import StreamSpec
from raypt.tokens.reader import Batch, SampleReader


class Fetcher:
    """A Ray Data actor: descriptions of runs of samples in, blocks of samples out."""

    def __init__(self, spec: StreamSpec, start: int) -> None:
        self._reader, self._spec, self._start = SampleReader(spec), spec, start
        self._metrics = StreamMetrics()

    def __call__(self, runs: dict[str, np.ndarray]) -> Iterator[Batch]:
        for first, end in zip(runs["first"], runs["end"], strict=True):
            waited_s = self._reader.waited_s
            for block in self._reader.blocks(int(first), int(end), self._start):
                rows, width = block["tokens"].shape
                waited_s, before_s = self._reader.waited_s, waited_s
                self._metrics.add(samples=rows, tokens=rows * (width - 1), wait_seconds=waited_s - before_s)
                yield with_place(block, self._start, self._spec.block_rows)


def with_place(block: Batch, start: int, block_rows: int) -> Batch:
    """The block as it travels: each row with (stream's first sample, samples of a block), which `batches` checks."""
    place = np.empty((block["sample_index"].size, 2), np.int64)
    place[:] = start, block_rows
    return {**block, "place": place}


def empty_block(spec: StreamSpec) -> Batch:
    """A block of the shape and types of all blocks of the stream."""
    segments = np.uint16 if spec.width < 1 << 16 else np.uint32
    block = {
        "sample_index": np.zeros(spec.block_rows, np.int64),
        "tokens": np.zeros((spec.block_rows, spec.width), spec.dtype),
        "segments": np.zeros((spec.block_rows, spec.width), segments),
    }
    return with_place(block, 0, spec.block_rows)
