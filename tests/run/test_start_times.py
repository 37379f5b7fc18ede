"""Where the seconds of a run went, from what it noted itself."""

import json
import os
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from raypt import storage
from raypt.run.bench import main as bench
from raypt.run.diary import DIARY, here
from raypt.run.start_times import FIRST, LINES, RATE, documents_of, parts_of, table
from raypt.run_dir import RunDir

pytestmark = pytest.mark.fast


def noted(place: Path, *, starts: int = 1) -> RunDir:
    """A run that began at 100 s: manifest 110-115, tokenizer 117-120, train 120-180, steps at 140 to 170; ended 190."""
    run = RunDir(str(place))
    for i in range(starts):
        start = replace(here("pretrain"), started=100.0, ended=190.0, status="done")
        storage.write_json(run.path(*DIARY, f"{i}.json"), asdict(start))
    storage.write_bytes(run.config, b"{}")
    for name, began, seconds in (("manifest", 110, 5), ("tokenizer", 117, 3), ("train", 120, 60)):
        storage.write_json(run.path("work", "stages", f"{name}.json"), {"started": began, "seconds": seconds})
    rows = [{"step": n + 1, "time": at, "loss": 1.0} for n, at in enumerate((140.0, 150.0, 170.0))]
    (place / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return run


def test_parts_are_in_order_and_add_up_to_the_whole(tmp_path: Path) -> None:
    parts = parts_of(noted(tmp_path), called=96.0, returned=191.5)
    assert parts == {
        "imports, checks": 4.0,
        "Ray up": 10.0,
        "manifest": 5.0,
        "before tokenizer": 2.0,
        "tokenizer": 3.0,
        "first step": 20.0,
        "steps": 30.0,
        "after the last step": 10.0,
        "Ray down": 10.0,
        "report, exit": 1.5,
    }
    assert list(parts)[:3] == ["imports, checks", "Ray up", "manifest"]
    assert sum(parts.values()) == 191.5 - 96.0


def test_the_command_prints_a_table_and_the_medians(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(["start", noted(tmp_path).uri]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert lines[-1].split() == ["in", "all", "90.0", "s"]
    assert any(line.split() == ["first", "step", "20.0", "s", "22.2%"] for line in lines)
    assert json.loads(last)["median_s"]["steps"] == 30.0


def test_a_run_of_two_starts_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(["start", noted(tmp_path, starts=2).uri]) == 2
    assert "2 starts" in capsys.readouterr().err


def test_the_first_tagged_document_and_the_documents_after_it_are_timed(tmp_path: Path) -> None:
    run = noted(tmp_path)
    storage.write_json(run.ledger, {"read": {"in": {"documents": 5000, "bytes": 1}}})
    for name, at in (("a", 111.0), ("b", 112.5)):
        path = tmp_path / "work" / "tagged" / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (at, at))
    # The last stage ends at 180.
    assert documents_of(run, called=96.0) == {FIRST: 15.0, RATE: 5000 / (180.0 - 111.0)}


def test_a_run_that_tagged_nothing_has_no_first_document(tmp_path: Path) -> None:
    assert documents_of(noted(tmp_path), called=96.0) == {}


def test_what_is_beside_the_parts_is_not_added_to_them() -> None:
    *lines, last = table({"run 1": {"curate": 10.0, "write": 2.0, FIRST: 3.0, RATE: 4000.0, LINES: 12.0}}).splitlines()
    assert last.split() == ["in", "all", "12.0", "s"]
    assert [line.split()[-2:] for line in lines[2:4]] == [["3.0", "s"], ["it", "4000.0"]]


def test_a_size_without_text_to_make_it_of_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        bench(["start", "--job", "curate", "--mb", "50"])
    assert ended.value.code == 2
    assert "Name files with --corpus" in capsys.readouterr().err
