"""The report page is made of what the run directory has, and runs nothing that a document says."""

import html
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from raypt.dedup.config import DedupConfig
from raypt.dedup.pipeline import deduplicate
from raypt.dedup.plan import DedupShard
from raypt.ledger import Amount, Ledger, StageAccount
from raypt.run.report import build_report
from raypt.run_dir import RunDir
from raypt.tokens.stream.waits import Waits
from raypt.training.data_wait import StepWait, explain


def _ledger() -> Ledger:
    stage = StageAccount(
        entered=Amount(10, 1000),
        kept=Amount(7, 600),
        removed={"language.score_min": Amount(3, 300)},
        edited={"c4.short_line": Amount(2, 100)},
    )
    return Ledger({"language": stage})


def test_an_empty_run_directory_makes_a_page(tmp_path: Path) -> None:
    assert "<h1>empty</h1>" in build_report(RunDir(str(tmp_path)), "empty")


def test_the_funnel_shows_what_each_rule_took(tmp_path: Path) -> None:
    (tmp_path / "ledger.json").write_text(json.dumps(_ledger().to_json()))
    page = build_report(RunDir(str(tmp_path)), "run")
    assert "removed language.score_min</td><td class=n>3</td><td class=n>300" in page
    assert "cut c4.short_line</td><td class=n>2</td><td class=n>100" in page


def test_mfu_is_drawn_against_the_measured_and_the_stated_peak(tmp_path: Path) -> None:
    rows = [{"step": n, "loss": 3.0, "mfu": 0.4, "mfu_stated": 0.3} for n in (1, 2)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = build_report(RunDir(str(tmp_path)), "run")
    assert "of its own matrix products" in page
    assert "of the stated peak" in page


def test_tasks_are_drawn_over_the_steps_they_were_asked_at(tmp_path: Path) -> None:
    figures = {"blimp": {"accuracy": 0.6, "questions": 9, "chance": 0.5, "seconds": 1.0}}
    rows = [{"step": n, "loss": 3.0} | ({"tasks": figures} if n > 1 else {}) for n in (1, 2, 3)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = build_report(RunDir(str(tmp_path)), "run")
    assert "share answered rightly" in page
    assert "blimp" in page


def test_text_from_documents_is_shown_not_run(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    (tmp_path / "sample.json").write_text(json.dumps([{"prompt": evil, "text": evil}]))
    page = build_report(RunDir(str(tmp_path)), evil)
    assert evil not in page
    assert "&lt;script&gt;" in page


def test_duplicates_between_sources_and_contamination_are_shown(tmp_path: Path) -> None:
    shared = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
    exam = " ".join(reversed(shared.split()))
    shards = []
    for i, source in enumerate(("wiki", "crawl")):
        texts = [shared, f"{source} {i} of its own"] + ([exam] if source == "crawl" else [])
        table = pa.table(
            {
                "doc_key": [(i << 32) + row for row in range(len(texts))],
                "id": [f"{source}{row}" for row in range(len(texts))],
                "source": [source] * len(texts),
                "text": texts,
            }
        )
        pq.write_table(table, tmp_path / f"{source}.parquet")
        shards.append(DedupShard(i, str(tmp_path / f"{source}.parquet")))
    (tmp_path / "exam.txt").write_text(exam + "\n")
    config = DedupConfig.model_validate({"contamination": {"paths": [str(tmp_path / "exam.txt")]}})
    deduplicate(shards, config, str(tmp_path / "work"), str(tmp_path / "dedup"), source_priority={"wiki": 1})
    page = build_report(RunDir(str(tmp_path)), "run")
    assert "<td>crawl</td><td class=n>3</td><td class=n>2</td>" in page
    assert "exam.txt" in page


def test_the_loss_stands_beside_the_unigram_entropy(tmp_path: Path) -> None:
    lines = [{"step": s, "loss": 8.0 - s, "tokens_per_s": 10.0} for s in (1, 2)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "summary.json").write_text(json.dumps({"unigram_nats": 6.5}))
    assert "unigram entropy 6.5" in build_report(RunDir(str(tmp_path)), "run")


def test_the_parts_of_a_step_are_shown_by_their_median(tmp_path: Path) -> None:
    lines = [
        {"step": s, "loss": 5.0, "forward_s": forward, "backward_s": 0.02, "update_s": 0.003, "communication_s": 0.004}
        for s, forward in ((1, 9.0), (2, 0.010), (3, 0.012))
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    page = build_report(RunDir(str(tmp_path)), "run")
    assert "Parts of a step" in page
    for shown in ("12.0 ms", "20.0 ms", "3.0 ms", "4.0 ms"):
        assert shown in page


def test_the_padding_of_packing_is_shown(tmp_path: Path) -> None:
    tokens = {"packed_tokens": 9876, "padding": 124, "padding_fraction": 0.0124, "split_documents": 3}
    (tmp_path / "summary.json").write_text(json.dumps({"tokens": tokens}))
    page = build_report(RunDir(str(tmp_path)), "run")
    for name, shown in (("padding", "124"), ("padding fraction", "0.0124"), ("split documents", "3")):
        assert f"<td>{name}</td><td class=n>{shown}</td>" in page


def test_what_training_waited_for_is_shown_with_the_reasons(tmp_path: Path) -> None:
    wait = StepWait(0.5, Waits(shards=0.375, reading=0.125, shard=7, source="web", shard_tokens_per_s=1000.0))
    reason = explain(wait, 10, 5.0, 2000.0)
    row = {"loss": 8.0, "data_wait_fraction": 0.1, "data_wait_s": wait.by_cause()}
    rows = [row | {"step": 1}, row | {"step": 2, "data_wait_reason": reason}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = build_report(RunDir(str(tmp_path)), "run")
    assert "shards being tokenized 0.75 s, reading the store 0.25 s" in page
    assert f"<td class=n>2</td><td>{html.escape(reason)}</td>" in page
    assert "the producer is behind: raise tokens.stream.tokenizers" in page


def test_text_outside_the_vocabulary_has_a_row_a_source(tmp_path: Path) -> None:
    counts = {"web": {"text": 2000, "unknown": 7, "byte_fallback": 40}}
    (tmp_path / "summary.json").write_text(json.dumps({"vocabulary": counts}))
    page = build_report(RunDir(str(tmp_path)), "run")
    assert "Text outside the vocabulary" in page
    cells = "</td><td class=n>".join(["2,000", "7", "0.350%", "40", "2.000%"])
    assert f"web</td><td class=n>{cells}" in page
