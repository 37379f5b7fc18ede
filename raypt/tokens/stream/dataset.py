"""The stream to Ray Train: a ray.data.Dataset of sample blocks, in the order of the sample clock.

The dataset's rows are descriptions of runs of samples; a pool of actors turns them into blocks of one size, read from
the token store (waiting for a shard that is still being tokenized). `preserve_order` and `streaming_split` give block g
to rank g mod n; which samples block g holds depends on n (`blocks`), so the actors are added where n is known. The
dataset is handed to Ray Train as a factory, which Ray evaluates at every start of the worker group: it reads the cursor
of the last checkpoint and starts the stream there.
"""

import math
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, Generic, Self, TypeVar

import numpy as np
import pyarrow as pa
import ray
import ray.data
import ray.train
from ray.data import ActorPoolStrategy, DataIterator, Dataset, ExecutionOptions
from ray.data._internal.delegating_block_builder import DelegatingBlockBuilder
from ray.data._internal.execution.interfaces import ExecutionResources

from raypt import metrics
from raypt.ray_loop import rest_when_idle
from raypt.tokens.stream.blocks import Layout
from raypt.tokens.stream.bookmark import set_bookmark
from raypt.tokens.stream.cursor import Cursor
from raypt.tokens.stream.fetch import Fetcher, empty_block
from raypt.tokens.stream.label import Label
from raypt.tokens.stream.reader import Batch, rows_of
from raypt.tokens.stream.spec import StreamSpec, check_fingerprint
from raypt.tokens.stream.waits import Waits

_MAX_DESCRIPTIONS = 1024
_BLOCKS_A_TASK = 8
_MIN_BLOCKS_A_RANK = 8


def _block_bytes(spec: StreamSpec, ranks: int) -> int:
    """Bytes of a block, as Ray Data counts them."""
    builder = DelegatingBlockBuilder()
    builder.add_batch(empty_block(spec, ranks))
    return int(builder.get_estimated_memory_usage())


def execution_options(spec: StreamSpec, ranks: int) -> ExecutionOptions:
    """Order preserved, memory bounded: by `memory_bytes`, but never below a few blocks for each rank."""
    options = ExecutionOptions(preserve_order=True, label_selector=dict(spec.config.labels) or None)
    block = _block_bytes(spec, ranks)
    ahead = math.ceil(spec.config.ahead_steps * spec.global_batch / spec.blocks.layout(ranks).rows) * block
    floor = _MIN_BLOCKS_A_RANK * max(ranks, 2) * block
    options.resource_limits = ExecutionResources.for_limits(
        object_store_memory=float(max(min(spec.config.memory_bytes, ahead), floor))
    )
    return options


def describe(spec: StreamSpec, start: int) -> Dataset:
    """What the stream gives from sample `start` on, as rows {start, first, end}; small, and the same for any ranks."""
    size = spec.global_batch
    batches = max(0, (spec.samples - start) // size)
    # A task a description: several blocks each spare tasks, and a long run still has no more than _MAX_DESCRIPTIONS.
    # The blocks of a task stream out one by one, so the first arrive as early as if they were alone. Turns (`blocks`)
    # begin at the same samples for any number of ranks, every `steps` batches or in every batch.
    steps = max(1, spec.blocks.steps)
    blocks = 1 if spec.blocks.steps else size // (spec.blocks.unit * spec.blocks.units)
    least = steps * math.ceil(_BLOCKS_A_TASK / 2 / blocks)
    run = math.ceil(max(least, batches / _MAX_DESCRIPTIONS) / steps) * steps * size
    end = start + batches * size
    starts = range(start, end, run)
    tables = [pa.table({"start": [start], "first": [at], "end": [min(at + run, end)]}) for at in starts]
    if not tables:
        tables = [pa.table({name: pa.array([], pa.int64()) for name in ("start", "first", "end")})]
    # Not from_arrow: that runs a task of a whole CPU a table, which a small cluster whose last stream has not quite
    # gone (the workers were just killed) may never have.
    dataset: Dataset = ray.data.from_blocks(tables)
    return dataset


def with_blocks(descriptions: Dataset, spec: StreamSpec, ranks: int) -> Dataset:
    """The blocks of the descriptions for so many ranks, to be split by `preserve_order` and streaming_split."""
    least, most = spec.config.fetchers
    dataset = descriptions.map_batches(
        Fetcher,
        fn_constructor_args=(spec, ranks),
        batch_size=1,
        batch_format="numpy",
        compute=ActorPoolStrategy(min_size=least, max_size=max(least, most)),
        num_cpus=spec.config.fetcher_cpus,
    )
    # Ray Data gathers a task's output until it exceeds this size, and splits what exceeds it by half or more. All our
    # blocks are of one size, between the two, so each stays exactly one block. (`Batches` would notice if not.)
    dataset.context.target_max_block_size = int(_block_bytes(spec, ranks) * 0.8)
    dataset.context.target_min_block_size = 1
    dataset.context.execution_options = execution_options(spec, ranks)
    # A fetcher may run this many blocks ahead of the scheduler's loop; with Ray's 2, each pair of blocks waits for a
    # turn of the loop (40-100 ms). `memory_bytes` still bounds them.
    dataset.context._max_num_blocks_in_streaming_gen_buffer = 16
    dataset.context.enable_progress_bars = False
    rest_when_idle(dataset.context, metrics.label_of(spec.store_uri.rstrip("/").rpartition("/")[0]))
    dataset.set_name("stream")
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
            return describe(spec, 0)
        check_fingerprint(at.fingerprint, spec.fingerprint)
        set_bookmark(spec, spec.clock(rows_of(spec)), at.next_sample)
        return describe(spec, at.next_sample)

    return factory


class StreamDataConfig(ray.train.DataConfig):
    """How Ray Train makes and splits the stream: block g to reader g mod n, ends included. Pass as `dataset_config`.

    `readers(workers)` says which reader each worker is, None for one that does not read; all read unless it is given.
    """

    def __init__(
        self,
        spec: StreamSpec,
        names: tuple[str, ...] = ("train",),
        readers: Callable[[int], Sequence[int | None]] = range,
    ) -> None:
        super().__init__()
        self._spec, self._names, self._readers = spec, names, readers

    def configure(
        self,
        datasets: dict[str, Dataset],
        world_size: int,
        worker_handles: Any = None,
        worker_node_ids: Any = None,
        **kwargs: Any,
    ) -> list[dict[str, DataIterator]]:
        ours = {name: ds for name, ds in datasets.items() if name in self._names}
        others = {name: ds for name, ds in datasets.items() if name not in ours}
        out: list[dict[str, DataIterator]] = [{} for _ in range(world_size)]
        if others:
            out = super().configure(others, world_size, worker_handles, worker_node_ids, **kwargs)
        readers = self._readers(world_size)
        count = len({reader for reader in readers if reader is not None})
        for name, dataset in ours.items():
            splits = with_blocks(dataset, self._spec, count).streaming_split(count, equal=False)
            for worker, reader in enumerate(readers):
                # Ray wants an entry for every worker; those that do not read never ask for theirs.
                out[worker][name] = splits[reader] if reader is not None else None  # type: ignore[assignment]
        return out


class Batches:
    """What a rank trains on: an iterator of {sample_index int64[B], tokens int32[B, S+1], segments int32[B, S+1]}.

    B is `micro_batch`, or a stream block where that is None. In a Ray Train worker, rank and world size are its own;
    with them known, every sample's index is checked against the clock, and an AssertionError stops training on anything
    else. A block in hand is cut without copying; its micro-batches become int32 one by one. A reader that stops before
    the end closes it (or uses `with`): a thread reads ahead, and must not call a Ray that has been shut down.
    """

    def __init__(
        self,
        iterator: DataIterator,
        micro_batch: int | None = None,
        *,
        rank: int | None = None,
        world_size: int | None = None,
        prefetch_blocks: int = 2,
    ) -> None:
        self._rank, self._ranks = (rank, world_size) if rank is not None else _train_rank()
        self._micro_batch = micro_batch
        blocks = iterator.iter_batches(
            batch_size=None,  # type: ignore[arg-type]  # None = whole blocks
            batch_format="numpy",
            prefetch_batches=0,
            drop_last=False,
        )
        self._ahead = _Ahead(iter(blocks), prefetch_blocks)
        self._blocks = iter(self._ahead)
        self._position = 0
        self._waits = Waits()
        self._batches = self._cut()

    @property
    def waits(self) -> Waits:
        """How long this rank has waited for blocks so far, and why."""
        return self._waits

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        return next(self._batches)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Take no more blocks; Ray is told that this rank's reading has ended."""
        self._ahead.close()

    def _next_block(self) -> Batch | None:
        began = time.monotonic()
        block: Batch | None = next(self._blocks, None)
        if block is None or not block["sample_index"].size:
            return None
        waited = time.monotonic() - began
        try:
            label = Label.gather(block.pop("label"))
        except (ValueError, TypeError):
            raise AssertionError(f"rank {self._rank}: Ray Data gave rows that are no block of the stream") from None
        self._waits = self._waits.after(waited, label)
        block = {name: column[: label.rows] for name, column in block.items()}
        if self._rank is not None and self._ranks is not None:
            index = block["sample_index"]
            layout = Layout(label.unit, 1, self._ranks)
            expected = label.start + layout.place(self._rank, self._position + np.arange(index.size))
            assert np.array_equal(index, expected), (
                f"rank {self._rank}: samples {index[:4]}... instead of {expected[:4]}..."
            )
        self._position += label.rows
        return block

    def _cut(self) -> Iterator[Batch]:
        left: Batch | None = None
        while (block := self._next_block()) is not None:
            if left is not None:
                block = {name: np.concatenate([left[name], column]) for name, column in block.items()}
            rows = block["sample_index"].size
            size = self._micro_batch or rows
            for at in range(0, rows - size + 1, size):
                yield _batch(block, at, at + size)
            whole = rows // size * size
            left = {name: column[whole:] for name, column in block.items()} if whole < rows else None
        if left is not None:
            yield _batch(left, 0, left["sample_index"].size)


_Item = TypeVar("_Item")


class _Ahead(Generic[_Item]):
    """The same items, of which up to `count` are taken ahead by a thread.

    Ray Data's own prefetching hands a block on only when `count` further ones are there, so a trainer would stand
    still with blocks at hand while the fetcher waits for a shard.
    """

    def __init__(self, items: Iterator[_Item], count: int) -> None:
        self._items = items
        self._ready: queue.Queue[tuple[_Item | None, BaseException | None]] = queue.Queue(count)
        self._dropped = threading.Event()
        self._thread = threading.Thread(target=self._take, name="raypt-stream", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[_Item]:
        while True:
            item, error = self._ready.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            assert item is not None
            yield item

    def close(self, timeout_s: float = 10.0) -> None:
        """Stop the thread; one that waits for a block ends with it, or with the process."""
        self._dropped.set()
        self._thread.join(timeout_s)

    def _put(self, item: _Item | None, error: BaseException | None = None) -> bool:
        while not self._dropped.is_set():
            try:
                self._ready.put((item, error), timeout=0.1)
                return True
            except queue.Full:
                pass
        return False

    def _take(self) -> None:
        try:
            if all(self._put(item) for item in self._items):
                self._put(None, StopIteration())
            elif isinstance(self._items, Generator):
                self._items.close()  # here and now: its end calls Ray
        except BaseException as e:
            self._put(None, e)


def _batch(block: Batch, first: int, end: int) -> Batch:
    return {
        "sample_index": block["sample_index"][first:end],
        "tokens": block["tokens"][first:end].astype(np.int32),
        "segments": block["segments"][first:end].astype(np.int32),
    }


def _train_rank() -> tuple[int | None, int | None]:
    """(rank, world size) in a Ray Train worker, else (None, None)."""
    try:
        context = ray.train.get_context()
        return context.get_world_rank(), context.get_world_size()
    except Exception:
        return None, None
