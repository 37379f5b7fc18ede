"""What a user sees of a mistake: exit status 2, the key or the file and row, and how to mend it."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.jobs.helpers import rows, run_here, run_job

SMALL = ["ray.dashboard=false", "curation.stages=[language]", "curation.language.score_min=null"]
PROSE = "The committee met again in the old town hall, and the {} members spoke for hours about bridges and roads. "


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train.stesp=3"], "train.stesp: unknown key; did you mean train.steps?"),
        (["train.steps=-1"], "train.steps: "),
        (["--config", "nowhere.yaml"], "--config nowhere.yaml: no such file"),
        (["train.global_batch_tokens=1000"], "train.global_batch_tokens=1000 is not a multiple of"),
        (["train.workers=3"], "train.workers=3: "),
        (["train.zero.deepspeed.gradient_cliping=5"], "did you mean train.optimizer.clip_norm?"),
        (["tokens.packing.sequence_length=4096"], "is more than model.max_length=2048"),
        (["corpus.sources[0].paths=builtin:wikipedia"], "the one embedded corpus is builtin:python-docs"),
    ],
)
def test_a_mistake_in_the_configuration_is_told_before_anything_starts(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    done = run_here("pretrain", *arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()


def test_the_script_ends_as_the_command_does(tmp_path: Path) -> None:
    done = run_job("pretrain.py", "train.stesp=3", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stderr == "\nraypt pretrain: train.stesp: unknown key; did you mean train.steps?\n"


def test_a_cluster_too_small_is_told_before_it_starts(tmp_path: Path) -> None:
    done = run_job("pretrain.py", "ray.dashboard=false", "ray.num_cpus=1", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "the cluster has 1 CPUs, but 1.55 must be free at once: 2 training workers 1" in done.stderr
    assert not (tmp_path / "runs" / "default" / "curated").exists()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: None, "no file matches"),
        (lambda p: pq.write_table(pa.table({"content": ["x"]}), p / "x.parquet"), "no column 'text'"),
        (lambda p: (p / "x.jsonl").write_text(""), "the input holds no document"),
        (lambda p: (p / "x.jsonl").write_text('{"body": "x"}\n' * 5), "x.jsonl, record 0: no field 'text'"),
    ],
)
def test_input_that_cannot_be_used_is_named(cluster_address: str, tmp_path: Path, make, message: str) -> None:
    make(tmp_path)
    done = run_job("curate.py", *SMALL, "corpus.sources[0].paths=x.*", cwd=tmp_path, address=cluster_address)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr


@pytest.fixture(scope="module")
def mixed(cluster_address: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run over every kind of bad input at once, among enough good documents."""
    work = tmp_path_factory.mktemp("mixed")
    good = [json.dumps({"id": f"g{i}", "text": PROSE.format(f"{i} and {i * 7919} ") * 20}) for i in range(200)]
    bad = [b"{not json", b'{"id": "n", "text": null}', b'{"id": "u", "text": "\xff\xfe"}', b'{"id": "e", "text": ""}']
    huge = json.dumps({"id": "huge", "text": "x" * 50_000_000}).encode()
    (work / "a.jsonl").write_bytes(b"\n".join([*(g.encode() for g in good[:100]), *bad, huge]) + b"\n")
    (work / "b.jsonl.gz").write_bytes(gzip.compress("\n".join(good[100:]).encode())[:-100])
    (work / "c.jsonl").write_bytes(b"")
    paths = "corpus.sources[0].paths=[a.jsonl,b.jsonl.gz,c.jsonl]"
    done = run_job("curate.py", *SMALL, paths, cwd=work, address=cluster_address)
    assert done.returncode == 0, done.stderr
    return work / "runs" / "default", done.stderr


def test_bad_records_are_quarantined_with_file_and_row(mixed: tuple[Path, str]) -> None:
    entries = [json.loads(line) for p in (mixed[0] / "quarantine").iterdir() for line in p.read_text().splitlines()]
    found = {(e["kind"], Path(e["file"]).name, e["row"]) for e in entries}
    assert {
        ("not_json", "a.jsonl", 100),
        ("null_text", "a.jsonl", 101),
        ("invalid_utf8", "a.jsonl", 102),
        ("too_long", "a.jsonl", 104),
    } <= found
    assert any(kind == "broken_file" and name == "b.jsonl.gz" for kind, name, _ in found)


def test_bad_records_are_counted_and_none_is_lost(mixed: tuple[Path, str]) -> None:
    read = json.loads((mixed[0] / "ledger.json").read_text())["read"]
    assert read["removed"]["read.empty_text"]["documents"] == 1
    assert sum(a["documents"] for r, a in read["removed"].items() if r != "read.empty_text") == 5
    kept = rows(mixed[0] / "curated").num_rows + rows(mixed[0] / "removed").num_rows
    assert kept == read["kept"]["documents"] == read["in"]["documents"] - 6


def test_a_warning_says_what_could_not_be_read_and_what_is_empty(mixed: tuple[Path, str]) -> None:
    assert "could not be read" in mixed[1]
    assert "1 input files are empty" in mixed[1]


def test_a_changed_setting_is_refused_in_the_same_run_directory(mixed: tuple[Path, str]) -> None:
    work = mixed[0].parents[1]
    done = run_here("curate", *SMALL, "run.seed=7", "corpus.sources[0].paths=[a.jsonl,b.jsonl.gz,c.jsonl]", cwd=work)
    assert done.returncode == 2
    assert "run.seed: was 0, now 7" in done.stderr
