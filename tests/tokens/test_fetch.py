import numpy as np
import pytest

from raypt.tokens.fetch import Fetcher, empty_block
from raypt.tokens.metrics import StreamMetrics
from raypt.tokens.plan import StreamSpec, plan_stream
from raypt.tokens.producer import tokenize_parts
from raypt.tokens.reader import SampleReader
from tests.tokens.conftest import PlanMaker


@pytest.fixture
def spec(make_plan: PlanMaker) -> StreamSpec:
    plan, config, tokenizer_uri = make_plan()
    tokenize_parts(plan, config, tokenizer_uri)
    return plan_stream(plan, config, samples=240, global_batch=24, ranks=(1, 2))


def fetch(spec: StreamSpec, first: int, end: int, start: int = 0) -> list[dict[str, np.ndarray]]:
    return list(Fetcher(spec, start)({"first": np.array([first]), "end": np.array([end])}))


def test_a_description_becomes_the_blocks_of_its_samples(spec: StreamSpec) -> None:
    blocks = fetch(spec, 24, 120, start=24)
    direct = list(SampleReader(spec).rank_blocks(0, 1, start=24))[: len(blocks)]
    assert np.concatenate([b["sample_index"] for b in blocks]).tolist() == list(range(24, 120))
    for ours, theirs in zip(blocks, direct, strict=True):
        assert np.array_equal(ours["tokens"], theirs["tokens"])


def test_every_block_has_the_shapes_and_types_that_the_stream_counts_on(spec: StreamSpec) -> None:
    expected = {k: (v.shape, v.dtype) for k, v in empty_block(spec).items()}
    for block in fetch(spec, 0, 240):
        assert {k: (v.shape, v.dtype) for k, v in block.items()} == expected


def test_each_row_says_where_the_stream_started_and_how_large_its_blocks_are(spec: StreamSpec) -> None:
    (block, *_) = fetch(spec, 48, 72, start=48)
    assert np.unique(block["place"], axis=0).tolist() == [[48, spec.block_rows]]


def test_without_ray_there_is_nothing_to_count_into() -> None:
    StreamMetrics().add(samples=3, wait_seconds=0.0)
