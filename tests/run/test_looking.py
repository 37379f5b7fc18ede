"""What looks at runs: status, report, compare, ls, rm, on runs that ended well, badly, or not at all."""

import errno
import json
import re
import time
from pathlib import Path

import pytest

from raypt.config_io import validate
from raypt.errors import UserError
from raypt.lease import hold
from raypt.progress import TaskProgress
from raypt.run.cli import run as command
from raypt.run.config import RunConfig
from raypt.run.diary import DIARY, starts
from raypt.run.open import open_run
from raypt.run.stages import timed_stage
from raypt.run_dir import RunDir


def config_of(place: Path, **train: object) -> RunConfig:
    source = {"name": "text", "paths": "in.jsonl"}
    return validate(RunConfig, {"run": {"dir": str(place)}, "corpus": {"sources": [source]}, "train": train})


def trained(place: Path, losses: list[float], **train: object) -> Path:
    """A run whose stage `train` left metrics."""
    with open_run(config_of(place, steps=100, **train), "pretrain") as run, timed_stage(run, "train"):
        rows = [
            {"step": i + 1, "loss": loss, "tokens": 1000 * (i + 1), "tokens_per_s": 50.0, "step_s": 2.0}
            for i, loss in enumerate(losses)
        ]
        rows[-1] |= {"heldout_loss": 5.5, "heldout_bits_per_byte": 2.25}
        (place / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return place


def assert_no_longer(said: str, out: str, began: float) -> None:
    """Whether `out` has `said`, with seconds for its `#` of which no more have gone by since the test `began`."""
    found = re.search(re.escape(said).replace(r"\#", r"(\d+)"), out)
    assert found is not None, out
    assert int(found[1]) <= time.monotonic() - began + 0.5  # they are rounded


def test_a_run_that_ended_says_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    assert command(["status", str(trained(tmp_path / "run", [7.0, 6.5]))]) == 0
    out = capsys.readouterr().out
    assert_no_longer("done # s ago", out, began)
    assert "(first start)" in out
    assert "step 2 of 100 (2.0%), loss 6.5000, held-out 5.5000, 50 tokens/s, about 3 min 16 s left" in out


def test_a_run_that_failed_says_where_and_why_and_has_a_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place, began = tmp_path / "run", time.monotonic()
    with pytest.raises(UserError), open_run(config_of(place), "curate") as run, timed_stage(run, "curate"):
        (place / "samples").mkdir()
        raise UserError("corpus.sources[0]: s3://me:secret@host/x cannot be <read>")
    command(["status", str(place)])
    out = capsys.readouterr().out
    assert_no_longer("mistake # s ago", out, began)
    assert "ago in curate: corpus.sources[0]: s3://***@host/x cannot be <read>" in out
    page = (place / "report.html").read_text()
    assert "The last start was refused in stage curate." in page
    assert "cannot be &lt;read&gt;" in page
    assert "secret" not in page + out + "".join(p.read_text() for p in place.glob("work/diary/*"))


def test_a_run_that_goes_on_says_what_it_is_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place, began = tmp_path / "run", time.monotonic()
    with open_run(config_of(place), "curate") as run, timed_stage(run, "curate"):
        command(["status", str(place)])
        assert command(["rm", str(place), "--all", "--yes"]) == 2
    captured = capsys.readouterr()
    assert_no_longer("running for # s (first start); curate on ", captured.out, began)
    assert_no_longer("at: curate, stage 3 of 6, for # s", captured.out, began)
    assert "nothing is deleted" in captured.err
    assert place.exists()


def test_a_run_that_works_through_many_files_says_how_far_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place, clock = tmp_path / "run", 0.0
    with open_run(config_of(place), "curate") as run:
        beside = TaskProgress("tokenize", 2, lambda: clock)
        with timed_stage(run, "curate"):
            progress = TaskProgress("curate", 4, lambda: clock)
            clock = 40.0
            beside.add()
            progress.add()
            command(["status", str(place)])
            clock = 160.0
            progress.add(3)
        with timed_stage(run, "decide"):
            command(["status", str(place)])
    first, second = capsys.readouterr().out.split("at: decide, stage 4 of 6, for ")
    assert re.search(r"at: curate, stage 3 of 6, for \d+ s\n", first)
    assert re.search(
        r"  curate: \[#{5}\.{15}\] 1/4 tasks, 0\.025/s, (2 min|1 min \d+ s) left \(told \d+ s ago\)", first
    )
    assert "curate: [" not in second  # it is done
    assert "tokenize: [##########..........] 1/2 tasks" in second  # it goes on beside the stages


def test_a_run_that_was_killed_is_called_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = trained(tmp_path / "run", [7.0])
    (note,) = place.joinpath(*DIARY).iterdir()
    started = json.loads(note.read_text()) | {"ended": None, "status": "running"}
    note.write_text(json.dumps(started))
    command(["status", str(place)])
    assert "was killed, begun " in capsys.readouterr().out
    command(["ls", str(tmp_path)])
    assert "run  killed  " in capsys.readouterr().out


def test_each_start_is_noted_with_what_it_ran_on(tmp_path: Path) -> None:
    place = tmp_path / "run"
    for _ in range(2):
        with open_run(config_of(place), "curate"):
            time.sleep(1.1)  # names are of seconds
    first, second = starts(RunDir(str(place)))
    assert (first.status, second.status) == ("done", "done")
    assert first.started < second.started
    assert set(first.packages) >= {"ray", "torch", "deepspeed"}
    assert first.cpus > 0 and first.memory_bytes > 1 << 20


@pytest.mark.parametrize("damage", [b"", b"{", b"[1]", b'{"job": 1}', b'{"stage": null, "tasks": [7]}', b"\xff\xfe"])
def test_a_damaged_note_hides_nothing_else(damage: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = trained(tmp_path / "run", [7.0])
    place.joinpath(*DIARY, "20000101T000000-damage.json").write_bytes(damage)
    (place / "work" / "now.json").write_bytes(damage)
    assert command(["status", str(place)]) == 0
    assert re.search(r"done \d+ s ago", capsys.readouterr().out)  # seconds: the machine may be busy


def test_runs_are_compared_by_settings_figures_and_losses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = trained(tmp_path / "one", [7.0, 6.0], micro_batch_size=4)
    two = trained(tmp_path / "two", [7.0, 5.0], micro_batch_size=8)
    assert command(["compare", str(one), str(two), "--out", str(tmp_path / "c.html")]) == 0
    out = capsys.readouterr().out
    assert "train.micro_batch_size  4  8" in out
    assert "run.dir" not in out
    assert "held-out bits a byte  2.2500  2.2500" in out
    page = (tmp_path / "c.html").read_text()
    assert page.count("<polyline") == 8  # two charts of two runs, each for two widths
    assert "train.micro_batch_size" in page


def test_what_may_go_is_listed_and_goes_when_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = trained(tmp_path / "run", [7.0])
    for step in (10, 20):
        folder = place / "checkpoints" / f"step-{step:08d}-abc"
        folder.mkdir(parents=True)
        (folder / "x").write_bytes(bytes(100))
    command(["rm", str(place), "--work"])
    assert "would delete" in capsys.readouterr().out
    assert (place / "work").exists()
    command(["rm", str(place), "--work", "--yes"])
    assert sorted(p.name for p in place.iterdir() if p.is_dir()) == ["checkpoints"]


@pytest.mark.parametrize("tool", ["status", "report", "compare", "ls", "rm"])
def test_every_tool_has_a_page_of_help_and_refuses_what_is_no_run(
    tool: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command([tool, "--help"]) == 0
    assert f"raypt {tool}" in capsys.readouterr().out
    places = [str(tmp_path), str(tmp_path)] if tool == "compare" else [str(tmp_path)]
    assert command([tool, *places]) == 2
    assert "no run" in capsys.readouterr().err


def test_a_lease_that_was_let_go_holds_nothing(tmp_path: Path) -> None:
    from raypt.lease import holder_of

    with hold(str(tmp_path / "l"), "job"):
        found = holder_of(str(tmp_path / "l"))
        assert found is not None and found[0].what == "job"
    assert holder_of(str(tmp_path / "l")) is None


def test_what_to_do_about_a_failure_of_the_machines_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "run"
    with pytest.raises(OSError), open_run(config_of(place), "curate") as run, timed_stage(run, "curate"):
        (place / "samples").mkdir()
        raise OSError(errno.ENOSPC, "No space left on device")
    command(["status", str(place)])
    page = (place / "report.html").read_text()
    assert "<b>What to do:</b> the disk is full: make room" in page
    assert "what to do: the disk is full: make room" in capsys.readouterr().out
