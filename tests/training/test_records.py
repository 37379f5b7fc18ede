"""Metrics and the audit trail survive restarts without doubles."""

from pathlib import Path

import numpy as np
import pytest

from raypt import storage
from raypt.model.batch import MicroBatch, micro_batch
from raypt.parallel.engine import Update
from raypt.training.records import (
    TOGETHER,
    MetricsFile,
    SampleRecorder,
    UpdateRecorder,
    cut_records,
    merge_samples,
    read_last_metrics,
    read_metrics,
    read_updates,
)


def batch(first: int, n: int = 2) -> MicroBatch:
    index = np.arange(first, first + n)
    tokens = index[:, None] * 10 + np.arange(5)
    return micro_batch({"tokens": tokens, "segments": np.ones_like(tokens), "sample_index": index})


def test_lines_after_the_checkpoint_are_cut_when_a_run_resumes(tmp_path: Path) -> None:
    first = MetricsFile(str(tmp_path), resume_step=0)
    for step in range(1, 6):
        first.write({"step": step, "loss": float(step)})
    first.close()
    second = MetricsFile(str(tmp_path), resume_step=3)
    second.write({"step": 4, "loss": 40.0})
    second.close()
    assert [(r["step"], r["loss"]) for r in read_metrics(str(tmp_path))] == [(1, 1), (2, 2), (3, 3), (4, 40)]


def test_a_line_cut_short_by_a_crash_is_left_out(tmp_path: Path) -> None:
    metrics = MetricsFile(str(tmp_path), resume_step=0)
    metrics.write({"step": 1})
    metrics.close()
    with (tmp_path / "metrics.jsonl").open("ab") as f:
        f.write(b'{"step": 2, "lo')
    assert [r["step"] for r in read_metrics(str(tmp_path))] == [1]


def test_the_last_lines_are_read_without_the_others(tmp_path: Path) -> None:
    run = str(tmp_path)
    assert read_last_metrics(run) == []
    lines = [f'{{"step": {step}}}\n'.encode() for step in range(1, 1001)]
    storage.write_bytes(storage.join(run, "metrics.jsonl"), b"".join(lines) + b'{"step": 10')
    assert read_last_metrics(run) == read_metrics(run)
    few = read_last_metrics(run, 1000)
    assert few == read_metrics(run)[-len(few) :] and len(b"".join(lines[-len(few) :])) > 900
    storage.write_bytes(storage.join(run, "metrics", "000000999-000001001.jsonl"), b'{"step": 999}\n{"step": 1001}\n')
    assert [row["step"] for row in read_last_metrics(run)[-2:]] == [1000, 1001]


def test_what_is_not_finite_becomes_null(tmp_path: Path) -> None:
    metrics = MetricsFile(str(tmp_path), resume_step=0)
    metrics.write({"step": 1, "loss": float("nan"), "grad_norm": None})
    metrics.close()
    assert read_metrics(str(tmp_path)) == [{"step": 1, "loss": None, "grad_norm": None}]


def test_an_object_store_gets_what_is_new_at_each_flush_and_one_file_at_the_end(tmp_path: Path) -> None:
    uri = f"memory://records/{tmp_path.name}"
    metrics = MetricsFile(uri, resume_step=0)
    for first in (1, 4):
        for step in range(first, first + 3):
            metrics.write({"step": step, "loss": float(step)})
        metrics.flush()
    metrics.write({"step": 7, "loss": 7.0})  # not flushed: its machine is lost
    assert storage.listdir(f"{uri}/metrics") == ["000000001-000000003.jsonl", "000000004-000000006.jsonl"]
    assert not storage.is_file(f"{uri}/metrics.jsonl")
    assert [row["step"] for row in read_metrics(uri)] == [1, 2, 3, 4, 5, 6]
    resumed = MetricsFile(uri, resume_step=5)
    assert storage.listdir(f"{uri}/metrics") == []
    resumed.write({"step": 6, "loss": 60.0})
    resumed.close()
    assert storage.listdir(f"{uri}/metrics") == []
    assert [row["loss"] for row in read_metrics(uri)] == [1, 2, 3, 4, 5, 60]


def test_a_part_that_was_gathered_and_not_removed_counts_once(tmp_path: Path) -> None:
    uri = f"memory://records/{tmp_path.name}"
    metrics = MetricsFile(uri, resume_step=0)
    metrics.write({"step": 1, "loss": 1.0})
    metrics.flush()
    part = storage.read_bytes(f"{uri}/metrics/000000001-000000001.jsonl")
    metrics.close()
    storage.write_bytes(f"{uri}/metrics/000000001-000000001.jsonl", part)
    assert [row["step"] for row in read_metrics(uri)] == [1]


def test_the_audit_trail_has_each_surviving_sample_once(tmp_path: Path) -> None:
    run = str(tmp_path)
    for rank in range(2):
        recorder = SampleRecorder(run, rank)
        for step in (1, 2, 3):
            recorder.add(step, [batch(4 * (step - 1) + 2 * rank)])
            if step == 2:
                recorder.flush()
        recorder.flush()
    cut_records(run, resume_step=1)
    for rank in range(2):
        recorder = SampleRecorder(run, rank)
        recorder.add(2, [batch(4 + 2 * rank)])
        recorder.flush()
    assert merge_samples(run) == 8
    table = storage.read_parquet(storage.join(run, "samples.parquet"))
    assert table.column("sample_index").to_pylist() == list(range(8))
    assert table.column("step").to_pylist() == [1] * 4 + [2] * 4
    assert table.column("rank").to_pylist() == [0, 0, 1, 1] * 2


def test_updates_that_came_out_of_the_order_of_steps_survive_a_restart_once(tmp_path: Path) -> None:
    """A slow worker's update of step 1 comes after those of step 2; a checkpoint is of all of some first steps."""
    run = str(tmp_path)
    first, samples = UpdateRecorder(run), SampleRecorder(run, 0)
    for number, (step, worker) in enumerate([(1, 0), (2, 0), (1, 1), (2, 1), (3, 0), (3, 1)]):
        first.add(update(number, step, worker))
        samples.add(step, [batch(4 * (step - 1) + 2 * worker)], worker)
        if number in (3, 5):
            first.flush()
            samples.flush()
    cut_records(run, resume_step=2)
    assert read_updates(run).column("step").to_pylist() == [1, 2, 1, 2]
    second = UpdateRecorder(run)
    second.add(update(0, 3, 1))
    second.flush()
    assert read_updates(run).column("number").to_pylist() == [0, 1, 2, 3, 0]
    merge_samples(run)
    merged = storage.read_parquet(storage.join(run, "samples.parquet"))
    assert merged.column("sample_index").to_pylist() == list(range(8))
    assert merged.column("rank").to_pylist() == [0, 0, 1, 1] * 2


def update(number: int, step: int, worker: int) -> Update:
    return Update(
        number=number, step=step, worker=worker, first_sample=4 * (step - 1) + 2 * worker, samples=2, stale_steps=0,
        stale_versions=number % 2, loss_sum=2.0, z_sum=0.0, tokens=8, norm=1.0, lr_scale=1.0, skipped=False, time=0.0,
    )  # fmt: skip


def test_the_hash_is_of_the_token_ids_alone(tmp_path: Path) -> None:
    recorder = SampleRecorder(str(tmp_path), 0)
    wide, narrow = batch(0), batch(0)
    recorder.add(1, [wide])
    recorder.add(2, [micro_batch({
        "tokens": narrow.rows.astype(np.uint16), "segments": np.ones_like(narrow.rows), "sample_index": np.arange(2),
    })])  # fmt: skip
    recorder.flush()
    merge_samples(str(tmp_path))
    hashes = storage.read_parquet(str(tmp_path / "samples.parquet")).column("tokens_xxh3").to_pylist()
    assert hashes[:2] == hashes[2:]
    assert hashes[0] != hashes[1]


def test_parts_of_many_flushes_are_put_together_and_read_as_one(tmp_path: Path) -> None:
    uri = f"memory://records/{tmp_path.name}-many"
    metrics = MetricsFile(uri, resume_step=0)
    for step in range(1, 2 * TOGETHER + 2):
        metrics.write({"step": step, "loss": float(step)})
        metrics.flush()
    assert storage.listdir(f"{uri}/metrics") == [
        "000000001-000000016.jsonl",
        "000000017-000000032.jsonl",
        "000000033-000000033.jsonl",
    ]
    assert [row["step"] for row in read_metrics(uri)] == list(range(1, 34))
    resumed = MetricsFile(uri, resume_step=20)
    resumed.write({"step": 21, "loss": 0.0})
    resumed.close()
    assert storage.listdir(f"{uri}/metrics") == []
    assert [row["step"] for row in read_metrics(uri)] == list(range(1, 22))


def test_parts_that_are_put_together_while_they_are_read_leave_no_hole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"memory://records/{tmp_path.name}-meanwhile"
    metrics = MetricsFile(uri, resume_step=0)
    for step in range(1, TOGETHER):
        metrics.write({"step": step, "loss": float(step)})
        metrics.flush()
    real = storage.listdir

    def listed_before(place: str) -> list[str]:
        names = real(place)
        monkeypatch.setattr(storage, "listdir", real)
        metrics.write({"step": TOGETHER, "loss": 1.0})
        metrics.flush()
        return names

    monkeypatch.setattr(storage, "listdir", listed_before)
    assert [row["step"] for row in read_metrics(uri)] == list(range(1, TOGETHER + 1))
