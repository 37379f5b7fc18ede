import numpy as np
import pytest

from raypt.tokens.stream.fetch import Fetcher, empty_block
from raypt.tokens.stream.label import Label
from raypt.tokens.stream.producer import tokenize_parts
from raypt.tokens.stream.reader import SampleReader
from raypt.tokens.stream.spec import StreamSpec, plan_stream
from tests.tokens.conftest import PlanMaker


@pytest.fixture
def spec(make_plan: PlanMaker) -> StreamSpec:
    plan, config, tokenizer_uri = make_plan()
    tokenize_parts(plan, config, tokenizer_uri)
    return plan_stream(plan, config, samples=240, global_batch=24, ranks=(1, 2))


def fetch(spec: StreamSpec, first: int, end: int, start: int = 0, ranks: int = 2) -> list[dict[str, np.ndarray]]:
    return list(Fetcher(spec, ranks)({"start": np.array([start]), "first": np.array([first]), "end": np.array([end])}))


def test_a_description_becomes_the_blocks_of_its_samples_for_rank_after_rank(spec: StreamSpec) -> None:
    blocks = fetch(spec, 24, 216, start=24)
    direct = [list(SampleReader(spec).rank_blocks(rank, 2, start=24)) for rank in range(2)]
    in_turn = [block for turn in zip(*direct, strict=True) for block in turn]
    for ours, theirs in zip(blocks, in_turn, strict=False):
        assert np.array_equal(ours["tokens"][: theirs["sample_index"].size], theirs["tokens"])
    got = np.concatenate([b["sample_index"][: Label.gather(b["label"]).rows] for b in blocks])
    assert sorted(got) == list(range(24, 216))


@pytest.mark.parametrize("samples", [192, 240])
def test_every_block_has_the_shapes_and_types_that_the_stream_counts_on(spec: StreamSpec, samples: int) -> None:
    expected = {k: (v.shape, v.dtype) for k, v in empty_block(spec, 2).items()}
    for block in fetch(spec, 0, samples):
        assert {k: (v.shape, v.dtype) for k, v in block.items()} == expected


def test_a_label_says_where_the_stream_started_and_how_many_rows_are_no_padding(spec: StreamSpec) -> None:
    whole, _, last, _ = (Label.gather(block["label"]) for block in fetch(spec, 24, 24 + 2 * 192, start=24))
    assert (whole.start, whole.rows) == (24, 96)
    assert (last.start, last.rows) == (24, 12)


def test_a_label_cut_in_two_or_joined_with_another_is_noticed(spec: StreamSpec) -> None:
    label = fetch(spec, 0, 192)[0]["label"]
    for rows in (label[:50], np.concatenate([label, label])):
        with pytest.raises(ValueError, match=r"Extra data|50 rows of a block"):
            Label.gather(rows)
