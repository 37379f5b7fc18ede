"""The ledger adds up, merges, survives JSON, and refuses what does not add up."""

import pyarrow as pa
import pytest
from hypothesis import given, settings

from raypt.curation.config import CurationConfig
from raypt.curation.decide import decide
from raypt.curation.ledger import curation_ledger, curation_ledger_by
from raypt.curation.tagger import Tagger
from raypt.ledger import Ledger
from tests.curation.helpers import table
from tests.curation.strategies import BATCH

SETTINGS = CurationConfig(stages=("language", "gopher_repetition", "gopher_quality", "c4"))
PROSE = "The cat sat on the mat and the dog ran off. It was a good cat that they had. It slept with them. "


def curated(texts: list[str]) -> tuple[pa.Table, pa.Array]:
    tagged = Tagger(SETTINGS).tag(table(texts, source=pa.array([f"s{i % 2}" for i in range(len(texts))], pa.string())))
    return tagged, decide(tagged, SETTINGS)


@given(BATCH)
@settings(max_examples=60, deadline=None)
def test_documents_and_bytes_add_up_on_random_text(texts: list[str]) -> None:
    tagged, reasons = curated(texts)
    ledger = curation_ledger(tagged.drop_columns("text"), reasons, SETTINGS)
    first, last = ledger.stages["language"].entered, ledger.stages["c4"].kept
    assert (first.documents, first.bytes) == (len(texts), sum(len(t.encode()) for t in texts))
    kept = tagged.filter(reasons.is_null()).column("text").to_pylist()
    assert (last.documents, last.bytes) == (len(kept), sum(len(t.encode()) for t in kept))


def test_reasons_and_cuts_are_accounted_by_name() -> None:
    text = f"{PROSE}\nBlog\nThey lived with the others for years, and they never had that much to be glad of.\n"
    text += "In the end the dog came back. Nobody knew where it had been all this time. It was happy to be home."
    tagged, reasons = curated([text, "too short and of the"])
    ledger = curation_ledger(tagged, reasons, SETTINGS)
    assert ledger.stages["gopher_quality"].removed["gopher_quality.word_count_min"].documents == 1
    assert ledger.stages["c4"].edited["c4.short_line"].bytes == len("Blog")
    assert ledger.stages["c4"].kept.documents == 1


def test_parts_merge_to_the_whole() -> None:
    texts = [PROSE * 2, "short", PROSE * 3, "", "# # #"]
    tagged, reasons = curated(texts)
    whole = curation_ledger(tagged, reasons, SETTINGS)
    merged = Ledger()
    for i in range(len(texts)):
        merged.merge(curation_ledger(tagged.slice(i, 1), reasons.slice(i, 1), SETTINGS))
    merged.check()
    assert merged.to_json() == whole.to_json()
    by_source = curation_ledger_by(tagged, reasons, SETTINGS, "source")
    assert sorted(by_source) == ["s0", "s1"]
    assert by_source["s0"].merge(by_source["s1"]).to_json() == whole.to_json()


def test_a_ledger_survives_json() -> None:
    ledger = curation_ledger(*curated([PROSE, "short"]), SETTINGS)
    assert Ledger.from_json(ledger.to_json()) == ledger


def test_the_text_has_a_line_a_stage_with_the_reason_that_removed_most() -> None:
    ledger = Ledger.from_json(
        {
            "read": {"in": {"documents": 4, "bytes": 1000}, "kept": {"documents": 4, "bytes": 1000}, "removed": {}},
            "c4": {
                "in": {"documents": 4, "bytes": 1000},
                "kept": {"documents": 2, "bytes": 100},
                "removed": {"c4.few": {"documents": 1, "bytes": 100}, "c4.long": {"documents": 1, "bytes": 800}},
            },
        }
    )
    assert ledger.short().splitlines() == [
        "      documents      %  bytes      %",
        "read          4  100.0  1,000  100.0",
        "c4            2   50.0    100   10.0  most by long: 1 and 1 more",
    ]


def test_a_stage_that_loses_a_document_is_refused() -> None:
    ledger = Ledger()
    ledger.stage("x").entered.add(2, 10)
    ledger.stage("x").kept.add(1, 10)
    with pytest.raises(AssertionError, match="lost documents"):
        ledger.check()


def test_a_stage_that_does_not_receive_what_the_one_before_kept_is_refused() -> None:
    ledger = Ledger()
    for name, n in (("x", 2), ("y", 1)):
        ledger.stage(name).entered.add(n, n)
        ledger.stage(name).kept.add(n, n)
    with pytest.raises(AssertionError, match="received"):
        ledger.check()
    ledger.check(chained=False)
