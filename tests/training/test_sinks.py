"""Where the figures of a step go besides metrics.jsonl."""

import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
import torch

from raypt import storage
from raypt.training.config import ProfileConfig, TrainConfig
from raypt.training.sinks import RayMetrics, TensorBoard, Tracer, WeightsAndBiases, build_sinks

ROW = {"step": 7, "loss": 2.5, "grad_norm": None, "lr": 1e-3, "tokens_per_s": 1234.0, "heldout": {"a/en": {}}}


def test_tensorboard_hides_the_steps_that_a_resumed_run_does_again(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    first = TensorBoard(str(tmp_path), resume_step=0)
    for step in range(1, 6):
        first.write({"step": step, "loss": float(step)})
    first.close()
    second = TensorBoard(str(tmp_path), resume_step=3)
    second.write({"step": 4, "loss": 40.0})
    second.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(1, 1), (2, 2), (3, 3), (4, 40)]


def test_tensorboard_shows_the_held_out_figures_by_source_and_language(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = TensorBoard(str(tmp_path), resume_step=0)
    board.write({"step": 3, "heldout": {"wiki/zh": {"loss": 2.0, "bits_per_byte": None}}})
    board.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("heldout/wiki/zh/loss")] == [(3, 2.0)]


def test_a_trace_holds_the_chosen_steps_and_no_other(tmp_path: Path) -> None:
    tracer = Tracer(ProfileConfig(first_step=2, steps=2), str(tmp_path))
    for step in range(1, 6):
        with tracer.step(step):
            torch.ones(3, 100 + step) @ torch.ones(100 + step, 3)
    (file,) = (tmp_path / "profile").iterdir()
    assert file.name == "steps-2-3.json"
    events = json.loads(file.read_text())["traceEvents"]
    inner = {e["args"]["Input Dims"][0][1] for e in events if e.get("name") == "aten::mm" and e["ph"] == "X"}
    assert inner == {102, 103}


def test_a_run_resumed_among_the_chosen_steps_traces_the_rest(tmp_path: Path) -> None:
    tracer = Tracer(ProfileConfig(first_step=2, steps=3), str(tmp_path))
    for step in (3, 4, 5):
        with tracer.step(step):
            torch.ones(3, 3) @ torch.ones(3, 3)
    assert [file.name for file in (tmp_path / "profile").iterdir()] == ["steps-3-4.json"]


def test_a_trace_of_steps_that_never_come_is_refused() -> None:
    with pytest.raises(ValueError, match=r"train\.profile: its last step, 11, is after train\.steps=10"):
        TrainConfig(steps=10, profile=ProfileConfig(first_step=10))


def test_without_the_switch_no_trace_is_written(tmp_path: Path) -> None:
    tracer = Tracer(None, str(tmp_path))
    with tracer.step(1):
        pass
    assert not (tmp_path / "profile").exists()


def test_weights_and_biases_keeps_the_figures_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="W&B (extra wandb) is not installed: its sink is untested")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    sink = WeightsAndBiases("raypt-test", str(tmp_path / "a-run"))
    sink.write(ROW)
    summary = dict(sink.run.summary)
    sink.close()
    assert (summary["loss"], summary["tokens_per_s"]) == (2.5, 1234.0)
    assert "grad_norm" not in summary
    (record,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    assert b"tokens_per_s" in record.read_bytes()


def test_on_an_object_store_events_come_in_files_that_are_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setattr("raypt.training.sinks.EVENTS_EVERY_S", 0.0)
    uri = f"memory://board/{tmp_path.name}"
    for resume, steps in ((0, range(1, 6)), (3, range(4, 6))):
        (board,) = build_sinks(TrainConfig(tensorboard=True), uri, resume, ray=False)
        for step in steps:
            board.write({"step": step, "loss": float(step + 10 * resume)})
        board.close()
        time.sleep(1)  # files sort by the second in which they were begun
    names = storage.listdir(f"{uri}/tensorboard")
    assert len(names) == 6 + 3
    for name in names:
        (tmp_path / name).write_bytes(storage.read_bytes(f"{uri}/tensorboard/{name}"))
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(1, 1), (2, 2), (3, 3), (4, 34), (5, 35)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of the node's Prometheus endpoint."""
    ray.init(address="local", num_cpus=1, include_dashboard=False, _system_config={"metrics_report_interval_ms": 500})
    try:
        (node,) = ray.nodes()
        yield f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    finally:
        ray.shutdown()


def test_figures_show_on_the_prometheus_endpoint_of_the_node(cluster: str) -> None:
    @ray.remote(num_cpus=0)
    class Rank:
        def __init__(self) -> None:
            self.sink = RayMetrics("s3://bucket/runs/first/")

        def write(self, row: dict) -> None:
            self.sink.write(row)

    rank = Rank.remote()
    ray.get(rank.write.remote(ROW))
    deadline, text = time.monotonic() + 60, ""
    while "ray_raypt_train_loss" not in text and time.monotonic() < deadline:
        time.sleep(0.5)
        try:
            text = urllib.request.urlopen(cluster, timeout=5).read().decode()
        except OSError:  # the node's agent is still starting
            continue
    assert 'run="first"' in next(line for line in text.splitlines() if line.startswith("ray_raypt_train_loss{"))
    values = {
        line.split("{")[0]: float(line.rsplit(" ", 1)[1])
        for line in text.splitlines()
        if line.startswith("ray_raypt_train_")
    }
    assert values["ray_raypt_train_loss"] == 2.5
    assert values["ray_raypt_train_step"] == 7
    assert values["ray_raypt_train_tokens_per_s"] == 1234.0
    assert "ray_raypt_train_grad_norm" not in values
