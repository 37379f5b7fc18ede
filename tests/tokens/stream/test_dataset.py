"""The stream through a real Ray: order, cursor, the end, mistakes. (Kills, resumption: test_stream_cluster.)"""

import threading
from collections.abc import Iterator

import numpy as np
import pytest
import ray
from ray.data import DataIterator

from raypt.errors import UserError
from raypt.tokens.stream.cursor import Cursor
from raypt.tokens.stream.dataset import Batches, StreamDataConfig, make_train_dataset
from raypt.tokens.stream.producer import tokenize_parts
from raypt.tokens.stream.reader import Batch, SampleReader
from raypt.tokens.stream.spec import StreamSpec, plan_stream
from tests.tokens.conftest import PlanMaker
from tests.tokens.on_ray import iterators


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def specification(make_plan: PlanMaker, samples: int = 240, **overrides: object) -> StreamSpec:
    plan, config, tokenizer_uri = make_plan(**overrides)
    tokenize_parts(plan, config, tokenizer_uri)
    return plan_stream(plan, config, samples=samples, global_batch=24, ranks=(1, 2, 3, 4))


def consume(splits: list[DataIterator], micro_batch: int | None = 2, limit: int | None = None) -> list[list[Batch]]:
    """The batches of each rank, read at the same time; `Batches` itself checks each index."""
    out: list[list[Batch]] = [[] for _ in splits]
    errors: list[BaseException] = []

    def read(rank: int) -> None:
        try:
            with Batches(splits[rank], micro_batch, rank=rank, world_size=len(splits)) as batches:
                for batch in batches:
                    out[rank].append(batch)
                    if limit is not None and len(out[rank]) == limit:
                        break
        except BaseException as e:
            errors.append(e)

    threads = [threading.Thread(target=read, args=(rank,)) for rank in range(len(splits))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    if errors:
        raise errors[0]
    return out


def in_order(per_rank: list[list[Batch]]) -> tuple[np.ndarray, np.ndarray]:
    """(sample indices, tokens) of all ranks, by sample index."""
    index = np.concatenate([b["sample_index"] for rank in per_rank for b in rank])
    tokens = np.concatenate([b["tokens"] for rank in per_rank for b in rank])
    order = np.argsort(index, kind="stable")
    return index[order], tokens[order]


def direct(spec: StreamSpec, start: int = 0) -> np.ndarray:
    return np.concatenate([b["tokens"] for b in SampleReader(spec).rank_blocks(0, 1, start)])


@pytest.mark.usefixtures("local_ray")
def test_ranks_receive_the_samples_of_the_clock_from_the_cursor_on(make_plan: PlanMaker) -> None:
    spec, ranks, start = specification(make_plan), 3, 120
    received = consume(iterators(spec, ranks, start))
    index, tokens = in_order(received)
    assert np.array_equal(index, np.arange(start, 240))
    assert np.array_equal(tokens, direct(spec, start))
    for step in range((240 - start) // 24):
        share = [b["sample_index"] for rank in received for b in rank[step * 4 : (step + 1) * 4]]
        assert sorted(np.concatenate(share) - start) == list(range(24 * step, 24 * (step + 1)))


@pytest.mark.usefixtures("local_ray")
def test_a_batch_has_the_documented_types_and_shapes(make_plan: PlanMaker) -> None:
    ((batch,),) = consume(iterators(specification(make_plan, samples=24), 1), micro_batch=24)
    assert set(batch) == {"sample_index", "tokens", "segments"}
    assert batch["tokens"].shape == batch["segments"].shape == (24, 33)
    assert [batch[k].dtype for k in ("sample_index", "tokens", "segments")] == [np.int64, np.int32, np.int32]


@pytest.mark.usefixtures("local_ray")
def test_a_limited_stream_ends_every_rank_at_the_same_whole_batch(make_plan: PlanMaker) -> None:
    limits = {s: {"epochs": 0.1} for s in ("web", "books")}
    spec = specification(make_plan, samples=100_000, mixture={"limits": limits})
    received = consume(iterators(spec, 2))
    index, tokens = in_order(received)
    assert len(received[0]) == len(received[1])
    assert np.array_equal(tokens, direct(spec))
    assert index.size % 24 == 0


@pytest.mark.usefixtures("local_ray")
def test_a_checkpoint_of_another_stream_is_refused(make_plan: PlanMaker) -> None:
    spec = specification(make_plan)
    other = spec.fingerprint.replace('"seed": "0"', '"seed": "7"')
    with pytest.raises(UserError, match="seed: was '7', is '0'"):
        make_train_dataset(spec, lambda: Cursor(24, other))()


@pytest.mark.usefixtures("local_ray")
def test_a_number_of_workers_that_the_blocks_do_not_fit_is_refused(make_plan: PlanMaker) -> None:
    spec = specification(make_plan)
    dataset = make_train_dataset(spec, lambda: None)()
    with pytest.raises(UserError, match="5 workers cannot share a global batch of 24"):
        StreamDataConfig(spec).configure({"train": dataset}, 5)


@pytest.mark.usefixtures("local_ray")
def test_samples_out_of_the_order_of_the_clock_stop_training(make_plan: PlanMaker) -> None:
    spec = specification(make_plan, samples=48)
    splits = iterators(spec, 2)
    with pytest.raises(AssertionError, match="instead of"):
        consume(splits[::-1])


@pytest.mark.usefixtures("local_ray")
def test_a_reader_that_stops_early_leaves_no_thread_behind(make_plan: PlanMaker) -> None:
    consume(iterators(specification(make_plan), 2), limit=1)
    assert [t.name for t in threading.enumerate() if t.name == "raypt-stream"] == []
