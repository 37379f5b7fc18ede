"""The report page is made of what the run directory has, and runs nothing that a document says."""

import json
from pathlib import Path

from raypt.analysis.report import build_report
from raypt.curation.ledger import Amount, Ledger, StageAccount
from raypt.run_dir import RunDir


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


def test_text_from_documents_is_shown_not_run(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    (tmp_path / "sample.json").write_text(json.dumps([{"prompt": evil, "text": evil}]))
    page = build_report(RunDir(str(tmp_path)), evil)
    assert evil not in page
    assert "&lt;script&gt;" in page


def test_the_loss_stands_beside_the_unigram_entropy(tmp_path: Path) -> None:
    lines = [{"step": s, "loss": 8.0 - s, "tokens_per_s": 10.0} for s in (1, 2)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "summary.json").write_text(json.dumps({"unigram_nats": 6.5}))
    assert "unigram entropy 6.5" in build_report(RunDir(str(tmp_path)), "run")
