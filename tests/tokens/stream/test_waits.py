"""Why a rank waited for samples: by arithmetic, and for real behind a slow producer and a slow file system."""

import functools
import http.server
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import ray

from raypt.tokens.store.shards import tokenize_shard
from raypt.tokens.stream.cursor import Cursor
from raypt.tokens.stream.dataset import Batches, StreamDataConfig, make_train_dataset
from raypt.tokens.stream.label import Label
from raypt.tokens.stream.producer import shard_schedule, tokenize_parts
from raypt.tokens.stream.spec import StreamSpec, plan_stream
from raypt.tokens.stream.waits import WORDS, Waits
from raypt.tokens.tokenizer.tokenizer import Tokenizer
from raypt.training.data_wait import StepWait, explain
from tests.tokens.conftest import PlanMaker

LABEL = Label(0, 2, 8, waited_s=3.0, read_s=1.0, shard=7, source="web", shard_tokens_per_s=5e5)


@pytest.mark.parametrize(
    ("waited", "expected"), [(2.0, (2.0, 0.0, 0.0)), (3.5, (3.0, 0.5, 0.0)), (6.0, (3.0, 1.0, 2.0))]
)
def test_waiting_is_explained_by_shards_then_reading_then_transport(
    waited: float, expected: tuple[float, float, float]
) -> None:
    waits = Waits().after(waited, LABEL)
    assert (waits.shards, waits.reading, waits.transport) == pytest.approx(expected)


def test_causes_add_up_to_all_waiting_over_any_blocks() -> None:
    waits, total = Waits(), 0.0
    for i in range(50):
        seconds = i % 7 * 0.31
        waits, total = waits.after(seconds, replace(LABEL, waited_s=i % 3 * 0.4, read_s=i % 5 * 0.2)), total + seconds
    assert waits.seconds == pytest.approx(total)


def test_a_stretch_between_two_moments_names_only_its_own_shard() -> None:
    before = Waits().after(1.0, LABEL)
    quiet = before.after(0.5, Label(0, 2, 8, read_s=1.0))
    assert quiet.since(before) == Waits(reading=0.5)
    assert before.since(Waits()).shard == 7


def test_waits_survive_an_exchange_of_integers() -> None:
    waits = Waits(1.25, 0.5, 0.000_125, 7, "书 and web", 123_456.0)
    words = waits.to_ints()
    assert words.dtype == np.int64
    assert words.size == WORDS
    assert Waits.from_ints(words) == waits


def test_the_reason_names_shard_source_both_rates_and_the_setting_to_change() -> None:
    wait = StepWait(2.2, Waits(shards=2.0, reading=0.1, transport=0.1, shard=7, source="web", shard_tokens_per_s=5e5))
    reason = explain(wait, steps=10, seconds=10.0, tokens_per_s=9e5)
    assert reason.startswith("22.0% of the last 10 steps went by waiting: 2.00 s for shards still being tokenized")
    assert "shard 7, source 'web', at 500,000 tokens/s a task; training takes 900,000" in reason
    assert reason.endswith("tokens.stream.tokenizers or ahead_shards, or give it more CPUs")


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def waits_of(spec: StreamSpec, under_way: threading.Event, ranks: int = 2) -> list[Waits]:
    """What each rank says of a whole stream after its first block, which waits for the start of actors too."""
    dataset = make_train_dataset(spec, lambda: Cursor(0, spec.fingerprint))()
    splits = [split["train"] for split in StreamDataConfig(spec).configure({"train": dataset}, ranks)]
    batches = [Batches(split, 2, rank=rank, world_size=ranks) for rank, split in enumerate(splits)]
    out = [Waits()] * ranks

    def read(rank: int) -> None:
        next(batches[rank])
        first = batches[rank].waits
        under_way.set()
        assert sum(1 for _ in batches[rank]) == spec.samples // 2 // ranks - 1
        out[rank] = batches[rank].waits.since(first)

    threads = [threading.Thread(target=read, args=(rank,)) for rank in range(ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return out


@pytest.mark.usefixtures("local_ray")
def test_behind_a_slow_producer_every_rank_blames_the_shards(make_plan: PlanMaker) -> None:
    plan, config, tokenizer_uri = make_plan(stream={"window_shards": 1, "ahead_steps": 4})
    spec = plan_stream(plan, config, samples=480, global_batch=24, ranks=(1, 2))
    tokenizer, under_way = Tokenizer.load(tokenizer_uri), threading.Event()

    def produce() -> None:
        for i, shard in enumerate(shard_schedule(plan, spec)):
            if i >= 2:  # the first block needs a shard of each source
                under_way.wait(15)
                time.sleep(5.0)  # a multiple of what passing blocks on takes on a busy machine
            tokenize_shard(plan.part_uris[shard], shard, tokenizer, config, plan.uri)

    producer = threading.Thread(target=produce)
    producer.start()
    waits = waits_of(spec, under_way)
    producer.join()
    for of_rank in waits:
        assert of_rank.shards > of_rank.reading + of_rank.transport
        assert of_rank.shard in range(5)
        assert of_rank.source in ("web", "books")
        assert of_rank.shard_tokens_per_s > 0


class SlowFiles(http.server.SimpleHTTPRequestHandler):
    """A file server with a latency of a second a request."""

    def do_GET(self) -> None:
        time.sleep(1.0)
        super().do_GET()

    def do_HEAD(self) -> None:
        time.sleep(1.0)
        super().do_HEAD()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.mark.usefixtures("local_ray")
def test_behind_a_slow_file_system_every_rank_blames_reading(make_plan: PlanMaker) -> None:
    plan, config, tokenizer_uri = make_plan(stream={"window_shards": 1, "ahead_steps": 16})
    tokenize_parts(plan, config, tokenizer_uri)
    handler = functools.partial(SlowFiles, directory=str(Path(plan.uri)))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    spec = plan_stream(plan, config, samples=480, global_batch=24, ranks=(1, 2))
    try:
        waits = waits_of(replace(spec, store_uri=f"http://127.0.0.1:{server.server_port}"), threading.Event())
    finally:
        server.shutdown()
    for of_rank in waits:
        assert of_rank.shards == 0
        assert of_rank.reading > of_rank.transport
