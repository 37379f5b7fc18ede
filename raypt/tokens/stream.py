"""The stream to Ray Train: a ray.data.Dataset of sample blocks, in the order of the sample clock.

The dataset's rows are descriptions of runs of samples; a pool of actors turns them into blocks of exactly `block_rows`
samples, read from the token store (waiting for a shard that is still being tokenized). `preserve_order` and
`streaming_split` give block g to rank g mod n. The dataset is handed to Ray Train as a factory, which Ray evaluates at
every start of the worker group: it reads the cursor of the last checkpoint and starts the stream there.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.data
import ray.train
from ray.data import ActorPoolStrategy, DataIterator, Dataset, ExecutionOptions
from ray.data._internal.delegating_block_builder import DelegatingBlockBuilder
from ray.data._internal.execution.interfaces import ExecutionResources

from raypt.errors import UserError
from raypt.tokens.fetch import Fetcher, empty_block
from raypt.tokens.plan import Cursor, StreamSpec, check_fingerprint
from raypt.tokens.reader import Batch

_MAX_DESCRIPTIONS = 1024
_BLOCKS_A_TASK = 8


def _block_bytes(spec: StreamSpec) -> int:
    """Bytes of a block, as Ray Data counts them."""
    builder = DelegatingBlockBuilder()
    builder.add_batch(empty_block(spec))
    return int(builder.get_estimated_memory_usage())


def execution_options(spec: StreamSpec) -> ExecutionOptions:
    """Order preserved, memory bounded."""
    options = ExecutionOptions(preserve_order=True, label_selector=dict(spec.config.labels) or None)
    floor = 8 * 2 * _block_bytes(spec)
    ahead = spec.config.ahead_steps * spec.global_batch // spec.block_rows * _block_bytes(spec)
    options.resource_limits = ExecutionResources.for_limits(
        object_store_memory=float(max(min(spec.config.memory_bytes, ahead), floor))
    )
    return options


def build_dataset(spec: StreamSpec, start: int) -> Dataset:
    """The stream from sample `start` on. Split it with `StreamDataConfig`, or `preserve_order` and streaming_split."""
    blocks = max(0, (spec.samples - start) // spec.global_batch) * (spec.global_batch // spec.block_rows)
    # A task a description: several blocks each spare tasks, and a long run still has no more than _MAX_DESCRIPTIONS.
    # The blocks of a task stream out one by one, so the first arrive as early as if they were alone.
    run = max(_BLOCKS_A_TASK, math.ceil(blocks / _MAX_DESCRIPTIONS)) * spec.block_rows
    end = start + blocks * spec.block_rows
    tables = [pa.table({"first": [at], "end": [min(at + run, end)]}) for at in range(start, end, run)]
    if not tables:
        tables = [pa.table({"first": pa.array([], pa.int64()), "end": pa.array([], pa.int64())})]
    least, most = spec.config.fetchers
    # Not from_arrow: that runs a task of a whole CPU a table, which a small cluster whose last stream has not quite gone
    # (the workers were just killed) may never have.
    dataset = ray.data.from_blocks(tables).map_batches(
        Fetcher,
        fn_constructor_args=(spec, start),
        batch_size=1,
        batch_format="numpy",
        compute=ActorPoolStrategy(min_size=least, max_size=max(least, most)),
        num_cpus=spec.config.fetcher_cpus,
    )
    # Ray Data gathers a task's output until it exceeds this size, and splits what exceeds it by half or more. All our
    # blocks are of one size, between the two, so each stays exactly one block. (`batches` would notice if not.)
    dataset.context.target_max_block_size = int(_block_bytes(spec) * 0.8)
    dataset.context.target_min_block_size = 1
    dataset.context.execution_options = execution_options(spec)
    # A fetcher may run this many blocks ahead of the scheduler's loop; with Ray's 2, each pair of blocks waits for a
    # turn of the loop (40-100 ms). `memory_bytes` still bounds them.
    dataset.context._max_num_blocks_in_streaming_gen_buffer = 16
    dataset.context.enable_progress_bars = False
    dataset.context.issue_detectors_config.detectors = []  # they would report every fetcher's waiting and memory
    return dataset


def make_train_dataset(spec: StreamSpec, cursor: Callable[[], Cursor | None]) -> Callable[[], Dataset]:
    """The dataset factory for Ray Train's `datasets={"train": factory}`.

    At each evaluation it asks `cursor()` where the last committed checkpoint stands (None = at the beginning). Raises
    UserError, naming what differs, if that checkpoint was trained on another stream.
    """

    def factory() -> Dataset:
        at = cursor()
        if at is None:
            return build_dataset(spec, 0)
        check_fingerprint(at.fingerprint, spec.fingerprint)
        return build_dataset(spec, at.next_sample)

    return factory


class StreamDataConfig(ray.train.DataConfig):
    """How Ray Train splits the stream: block g to rank g mod n, ends included. Pass as `dataset_config`."""

    def __init__(self, spec: StreamSpec, names: tuple[str, ...] = ("train",)) -> None:
        super().__init__(execution_options={name: execution_options(spec) for name in names})
        self._spec, self._names = spec, names

    def configure(
        self,
        datasets: dict[str, Dataset],
        world_size: int,
        worker_handles: Any = None,
        worker_node_ids: Any = None,
        **kwargs: Any,
    ) -> list[dict[str, DataIterator]]:
        per_rank, rest = divmod(self._spec.global_batch, world_size)
        if rest or per_rank % self._spec.block_rows:
            raise UserError(
                f"{world_size} workers cannot share a global batch of {self._spec.global_batch} samples in blocks of "
                f"{self._spec.block_rows}; the stream was planned for other numbers of workers"
            )
        ours = {name: ds for name, ds in datasets.items() if name in self._names}
        others = {name: ds for name, ds in datasets.items() if name not in ours}
        out: list[dict[str, DataIterator]] = [{} for _ in range(world_size)]
        if others:
            out = super().configure(others, world_size, worker_handles, worker_node_ids, **kwargs)
        for name, dataset in ours.items():
            for rank, split in enumerate(dataset.streaming_split(world_size, equal=False)):
                out[rank][name] = split
        return out


def batches(
    iterator: DataIterator,
    micro_batch: int | None = None,
    *,
    rank: int | None = None,
    world_size: int | None = None,
    prefetch_batches: int = 2,
) -> Iterator[Batch]:
    """What a rank trains on: {sample_index int64[B], tokens int32[B, S+1], segments int32[B, S+1]}, B = `micro_batch`.

    `micro_batch` None = one stream block at a time. In a Ray Train worker, rank and world size are its own; with them
    known, every sample's index is checked against the clock, and an AssertionError stops training on anything else.
    """
    if rank is None:
        rank, world_size = _train_rank()
    position = 0
    for batch in iterator.iter_batches(
        batch_size=micro_batch,  # type: ignore[arg-type]  # None = whole blocks
        batch_format="numpy",
        prefetch_batches=prefetch_batches,
        drop_last=False,
    ):
        index = batch["sample_index"]
        if rank is not None and world_size is not None:
            start, rows = (int(x) for x in batch["place"][0])
            at = position + np.arange(index.size)
            expected = start + (at // rows * world_size + rank) * rows + at % rows
            assert np.array_equal(index, expected), f"rank {rank}: samples {index[:4]}... instead of {expected[:4]}..."
            position += index.size
        yield {
            "sample_index": index,
            "tokens": batch["tokens"].astype(np.int32),
            "segments": batch["segments"].astype(np.int32),
        }


def _train_rank() -> tuple[int | None, int | None]:
    """(rank, world size) in a Ray Train worker, else (None, None)."""
    try:
        context = ray.train.get_context()
        return context.get_world_rank(), context.get_world_size()
    except Exception:
        return None, None
