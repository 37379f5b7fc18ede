"""The actor that turns descriptions of samples into blocks of samples. Light: no torch, no ray.train."""

import time
from collections import deque
from collections.abc import Iterator

import numpy as np

from raypt import metrics
from raypt.tokens.store.packing import segment_type
from raypt.tokens.stream.label import Label
from raypt.tokens.stream.reader import Batch, SampleReader
from raypt.tokens.stream.spec import StreamSpec


class Fetcher:
    """A Ray Data actor: descriptions of runs of samples in, blocks for rank 0, 1, ... `ranks` - 1, 0, 1, ... out."""

    def __init__(self, spec: StreamSpec, ranks: int) -> None:
        self._reader, self._spec, self._ranks = SampleReader(spec), spec, ranks
        self._rows = spec.blocks.layout(ranks).rows
        self._run = metrics.label_of(spec.store_uri.rstrip("/").rpartition("/")[0])

    def __call__(self, runs: dict[str, np.ndarray]) -> Iterator[Batch]:
        for start, first, end in zip(*(runs[k].tolist() for k in ("start", "first", "end")), strict=True):
            # A rank's block comes after one for each other rank: what delayed those delayed it.
            times: deque[tuple[float, float]] = deque(maxlen=self._ranks)
            blocks = self._reader.blocks(first, end, start, self._ranks)
            while True:
                before, began = self._reader.awaited.seconds, time.monotonic()
                block = next(blocks, None)
                if block is None:
                    break
                awaited = self._reader.awaited
                waited = awaited.seconds - before
                times.append((waited, time.monotonic() - began - waited))
                waited_s, read_s = (sum(column) for column in zip(*times, strict=True))
                rows, width = block["tokens"].shape
                metrics.put("raypt_stream_samples", rows, self._run)
                metrics.put("raypt_stream_tokens", rows * (width - 1), self._run)
                metrics.put("raypt_stream_wait_seconds", waited, self._run)
                label = Label(start, self._spec.blocks.unit, rows, waited_s, read_s)
                if waited_s:
                    label = label.blaming(awaited.shard, awaited.source, awaited.tokens_per_s)
                yield labelled(block, label, self._rows)


def labelled(block: Batch, label: Label, rows: int) -> Batch:
    """The block as it travels: with its label, and padded to `rows` rows, so that all blocks are of one size."""
    missing = rows - label.rows
    if missing:
        block = {k: np.concatenate([v, np.zeros((missing, *v.shape[1:]), v.dtype)]) for k, v in block.items()}
    return {**block, "label": label.spread(rows)}


def empty_block(spec: StreamSpec, ranks: int) -> Batch:
    """A block of the shape and types of all blocks of the stream to so many ranks."""
    rows = spec.blocks.layout(ranks).rows
    block = {
        "sample_index": np.zeros(rows, np.int64),
        "tokens": np.zeros((rows, spec.width), spec.dtype),
        "segments": np.zeros((rows, spec.width), segment_type(spec.width)),
    }
    return labelled(block, Label(0, spec.blocks.unit, rows), rows)
