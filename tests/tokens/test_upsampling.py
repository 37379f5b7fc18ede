"""Upsampling by buckets: which document is in which, what each bucket's factor is, and that the stream keeps to it."""

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raypt.errors import UserError
from raypt.tokens.config import MixtureConfig, Upsampling
from raypt.tokens.parts import PartSummary, group_names, summarize_part
from raypt.tokens.store.shards import groups_identity
from raypt.tokens.stream.clock import SampleClock
from raypt.tokens.stream.spec import StorePlan, mixture_of
from raypt.tokens.upsampling import bucket_names, buckets_of, factors

EDGES = (0.25, 0.5, 0.75)
NAMES = ["<0.25", "0.25-0.5", "0.5-0.75", ">=0.75"]


def mixture(rule: dict[str, object], **more: object) -> MixtureConfig:
    return MixtureConfig.model_validate({"by": ["quality_score"], "upsample": {"quality_score": rule}, **more})


def plan(sizes: dict[str, int]) -> StorePlan:
    part = PartSummary(dict.fromkeys(sizes, 1), sizes, {}, dict.fromkeys(sizes, 1), "")
    return StorePlan("memory://store", ("part",), (part,), {}, "uint16", 1)


def test_a_bucket_begins_at_its_edge_and_what_has_no_value_has_no_bucket() -> None:
    values = pa.array([0.0, 0.25, 0.4999, 0.75, 9.0, None, float("nan")], pa.float32())
    assert buckets_of(values, EDGES, "x").to_pylist() == ["<0.25", "0.25-0.5", "0.25-0.5", *NAMES[3:] * 2, "", ""]
    assert bucket_names(EDGES) == NAMES
    with pytest.raises(UserError, match=r"upsample\.lang: edges cut a column of numbers"):
        buckets_of(pa.array(["en"]), EDGES, "tokens.mixture.upsample.lang")


def test_parts_are_measured_by_bucket_and_the_store_is_named_by_the_edges(tmp_path: Path) -> None:
    columns = {"doc_key": [0, 1, 2], "source": ["a"] * 3, "text": ["xx", "yyy", "z"], "quality_score": [0.1, 0.9, None]}
    pq.write_table(pa.table(columns), tmp_path / "part-00000.parquet")
    config = mixture({"edges": EDGES, "power": 1.0}, by=["source", "quality_score"])
    found = summarize_part(str(tmp_path / "part-00000.parquet"), None, 0, config.by, config.edges)
    assert found.bytes == {"a/": 1, "a/<0.25": 2, "a/>=0.75": 3}
    other = mixture({"edges": (0.3,), "power": 1.0})
    assert groups_identity(config.by, config.edges) != groups_identity(other.by, other.edges)
    (batch,) = pa.table(columns).to_batches()
    assert group_names(batch, config.by, "x", config.edges).to_pylist() == ["a/<0.25", "a/>=0.75", "a/"]


def test_a_power_is_of_the_middle_of_the_bucket_among_all_bytes() -> None:
    sizes = {"<0.25": 50, "0.25-0.5": 30, ">=0.75": 20, "": 7}
    found = factors(sizes, mixture({"edges": EDGES, "power": 2.0}))
    assert found == pytest.approx({"<0.25": 0.25**2, "0.25-0.5": 0.65**2, ">=0.75": 0.9**2, "": 0.25**2})
    assert factors(sizes, mixture({"edges": EDGES, "power": 2.0, "missing": 0.5}))[""] == 0.5


def test_factors_of_several_columns_multiply() -> None:
    config = MixtureConfig(
        by=("topic", "quality_score"),
        upsample={
            "topic": Upsampling(weights={"science": 3.0}),
            "quality_score": Upsampling(edges=(0.5,), steps=(1.0, 4.0)),
        },
    )
    sizes = {"science/<0.5": 1, "science/>=0.5": 1, "sport/>=0.5": 1, "sport/<0.5": 1}
    assert factors(sizes, config) == {
        "science/<0.5": 3.0, "science/>=0.5": 12.0, "sport/>=0.5": 4.0, "sport/<0.5": 1.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"edges": [0.5, 0.5], "power": 1}, "ascend"),
        ({"edges": [0.5], "steps": [1, 2, 3]}, "1 edges make 2 buckets, not 3"),
        ({"edges": [0.2, 0.5], "steps": [1, 3, 2]}, "rise or fall"),
        ({"edges": [0.5], "steps": [1, 2], "power": 1}, "exclude each other"),
        ({"power": 1}, "power needs edges"),
    ],
)
def test_a_curve_that_is_none_is_refused(rule: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mixture(rule)


def test_what_cannot_be_upsampled_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"upsample.topic: not a column of by"):
        MixtureConfig(upsample={"topic": Upsampling(weights={"a": 1.0})})
    with pytest.raises(UserError, match=r"upsample.source.weights: no such value .* \['wbe'\]"):
        factors({"web": 1}, MixtureConfig(upsample={"source": Upsampling(weights={"wbe": 2.0})}))
    with pytest.raises(UserError, match="cannot be told apart"):
        factors({"a/b/<0.25": 1}, mixture({"edges": EDGES, "power": 1.0}, by=["source", "quality_score"]))


def test_buckets_are_drawn_by_their_factors_until_max_repeats_and_a_resumed_stream_goes_on_alike() -> None:
    rows = {"<0.5": 600, ">=0.5": 100}
    config = mixture({"edges": [0.5], "steps": [1, 10]}, max_repeats=3.0)
    sources, phases = mixture_of(plan({name: 10 * n for name, n in rows.items()}), config, 16)

    def clock() -> SampleClock:
        return SampleClock(sources, phases, lambda shard, source: rows[source], seed=3, window_shards=4)

    def drawn(first: int, end: int) -> list[tuple[str, int]]:
        found = clock().resolve(first, end)
        return [(sources[s].name, row) for s, row in zip(found.source.tolist(), found.row.tolist(), strict=True)]

    head = Counter(name for name, _ in drawn(0, 320))
    # 6,000 bytes at 1 against 1,000 at 10: 3 of 8 samples are of the low bucket, within one at every prefix.
    assert head["<0.5"] == pytest.approx(120, abs=1)
    whole = drawn(0, 3 * 700)
    counts = Counter(whole)
    assert {counts[">=0.5", row] for row in range(100)} == {3}, "the good bucket comes max_repeats times, and no more"
    assert {counts["<0.5", row] for row in range(600)} == {3}
    assert drawn(700, 900) == whole[700:900]
