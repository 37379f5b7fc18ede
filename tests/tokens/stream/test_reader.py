import threading
import time

import numpy as np
import pytest

from raypt import storage
from raypt.errors import UserError
from raypt.tokens.store.files import shard_uri
from raypt.tokens.store.shards import tokenize_shard
from raypt.tokens.stream.producer import tokenize_parts
from raypt.tokens.stream.reader import FAILURE_FILE, Batch, SampleReader, StoreRows
from raypt.tokens.stream.spec import StreamSpec, plan_stream
from raypt.tokens.tokenizer.tokenizer import Tokenizer
from tests.tokens.conftest import PlanMaker


def stored(make_plan: PlanMaker, samples: int = 960, batch: int = 24, **overrides: object) -> StreamSpec:
    plan, config, tokenizer_uri = make_plan(**overrides)
    tokenize_parts(plan, config, tokenizer_uri)
    return plan_stream(plan, config, samples=samples, global_batch=batch, ranks=(1, 2, 3, 4))


def stream(spec: StreamSpec, ranks: int = 1, start: int = 0) -> list[Batch]:
    """The turns of all ranks, each put back into the order of the clock."""
    per_rank = [list(SampleReader(spec).rank_blocks(rank, ranks, start)) for rank in range(ranks)]
    assert len({len(blocks) for blocks in per_rank}) == 1
    out = []
    for turn in zip(*per_rank, strict=True):
        joined = {name: np.concatenate([block[name] for block in turn]) for name in turn[0]}
        order = np.argsort(joined["sample_index"], kind="stable")
        out.append({name: values[order] for name, values in joined.items()})
    return out


def column(blocks: list[Batch], name: str) -> np.ndarray:
    return np.concatenate([b[name] for b in blocks])


@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_any_number_of_ranks_reads_the_same_samples_in_the_same_order(make_plan: PlanMaker, ranks: int) -> None:
    spec = stored(make_plan)
    one, many = stream(spec), stream(spec, ranks)
    for name in ("sample_index", "tokens", "segments"):
        assert np.array_equal(column(many, name), column(one, name))
    assert np.array_equal(column(one, "sample_index"), np.arange(960))


@pytest.mark.parametrize(("start", "ranks"), [(24, 1), (240, 3), (936, 4)])
def test_a_resumed_stream_goes_on_at_the_next_sample(make_plan: PlanMaker, start: int, ranks: int) -> None:
    spec = stored(make_plan)
    whole, rest = stream(spec), stream(spec, ranks, start)
    assert np.array_equal(column(rest, "tokens"), column(whole, "tokens")[start:])
    assert column(rest, "sample_index")[0] == start


def test_each_epoch_reads_every_stored_sample_once(make_plan: PlanMaker) -> None:
    spec = stored(make_plan, samples=10_000, mixture={"limits": {s: {"epochs": 2} for s in ("web", "books")}})
    tokens = column(stream(spec), "tokens")
    unique, counts = np.unique(tokens, axis=0, return_counts=True)
    total = sum(StoreRows(spec.store_uri, timeout_s=1)(i, s.name) for s in spec.sources for i in s.shards)
    assert counts.sum() == 2 * total // 24 * 24
    assert (counts <= 2).mean() > 0.99
    assert unique.shape[0] >= 0.9 * total


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_a_stream_that_ends_stops_all_ranks_at_the_same_whole_batch(make_plan: PlanMaker, ranks: int) -> None:
    limits = {s: {"epochs": 1} for s in ("web", "books")}
    spec = stored(make_plan, samples=10**9, mixture={"limits": limits})
    blocks = stream(spec, ranks)
    total = sum(StoreRows(spec.store_uri, timeout_s=1)(i, s.name) for s in spec.sources for i in s.shards)
    assert column(blocks, "sample_index").size == total // 24 * 24


def test_a_store_that_is_still_being_written_gives_the_same_stream(make_plan: PlanMaker) -> None:
    finished = stored(make_plan, name="finished")
    plan, config, tokenizer_uri = make_plan(name="live")
    live = plan_stream(plan, config, samples=960, global_batch=24, ranks=(1, 2, 3, 4))
    got: list[Batch] = []
    reader = threading.Thread(target=lambda: got.extend(stream(live)))
    reader.start()
    first_seen = None
    for shard in (3, 0, 4, 1, 2):
        time.sleep(0.15)
        first_seen = first_seen or (shard if got else None)
        tokenize_shard(plan.part_uris[shard], shard, Tokenizer.load(tokenizer_uri), config, plan.uri)
    reader.join(20)
    assert np.array_equal(column(got, "tokens"), column(stream(finished), "tokens"))


def test_a_failure_of_tokenization_reaches_a_waiting_reader(make_plan: PlanMaker) -> None:
    plan, config, _ = make_plan()
    spec = plan_stream(plan, config, samples=960, global_batch=24, ranks=(1,))
    storage.write_json(storage.join(plan.uri, FAILURE_FILE), {"error": "disk full"})
    with pytest.raises(UserError, match="tokenization failed: disk full"):
        next(SampleReader(spec).rank_blocks(0, 1))


def test_a_shard_that_never_comes_is_an_error_naming_it(make_plan: PlanMaker) -> None:
    plan, config, _ = make_plan(stream={"stall_timeout_s": 0.3})
    spec = plan_stream(plan, config, samples=960, global_batch=24, ranks=(1,))
    with pytest.raises(UserError, match=r"shard-0000\d\.json: .*not tokenized within"):
        next(SampleReader(spec).rank_blocks(0, 1))


def test_a_shard_that_vanished_stops_the_stream_by_name(make_plan: PlanMaker) -> None:
    spec = stored(make_plan)
    storage.remove(shard_uri(spec.store_uri, 2))
    with pytest.raises(UserError, match=r"shard-00002\.tok: the token-store shard is missing"):
        stream(spec)


def test_samples_are_drawn_by_weights_over_any_group(make_plan: PlanMaker) -> None:
    spec = stored(make_plan, samples=960, mixture={"by": ["lang"], "weights": {"en": 3, "zh": 1}})
    assert [s.name for s in spec.sources] == ["en", "zh"]
    drawn = np.bincount(SampleReader(spec).resolve(0, 960).source)
    assert drawn.tolist() == [720, 240]
