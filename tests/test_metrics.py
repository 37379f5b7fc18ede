"""raypt.metrics: what a run tells Ray's metrics."""

from typing import Any

import pytest

from raypt import metrics


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, float, dict[str, str]]]:
    """What reaches Ray's metric objects: (kind, name, value, tags)."""
    import ray
    import ray.util.metrics

    calls: list[tuple[str, str, float, dict[str, str]]] = []

    class Kept:
        def __init__(self, name: str, description: str, tag_keys: tuple[str, ...]) -> None:
            self.name, self.keys = name, tag_keys

        def set(self, value: float, tags: dict[str, str]) -> None:
            assert set(tags) == set(self.keys)
            calls.append(("gauge", self.name, value, tags))

        def inc(self, value: float, tags: dict[str, str]) -> None:
            assert set(tags) == set(self.keys)
            calls.append(("counter", self.name, value, tags))

    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray.util.metrics, "Gauge", Kept)
    monkeypatch.setattr(ray.util.metrics, "Counter", Kept)
    monkeypatch.setattr(metrics, "_made", {})
    return calls


def test_a_metric_has_the_label_of_its_run(told: list[Any]) -> None:
    metrics.put("raypt_train_loss", 2.5, metrics.label_of("s3://bucket/runs/first/"))
    metrics.set_run("second")
    metrics.put("raypt_stage_running", 1, stage="curate")
    metrics.set_run(None)
    metrics.put("raypt_stage_running", 1, stage="nobody's")
    assert told == [
        ("gauge", "raypt_train_loss", 2.5, {"run": "first"}),
        ("gauge", "raypt_stage_running", 1.0, {"run": "second", "stage": "curate"}),
    ]


def test_counters_only_grow(told: list[Any]) -> None:
    for amount in (3, 0, 4.5):
        metrics.put("raypt_stream_wait_seconds", amount, "a")
    assert [value for _, _, value, _ in told] == [3.0, 4.5]


def test_a_ledger_is_told_by_stage_and_rule(told: list[Any]) -> None:
    account = {"in": {"documents": 5, "bytes": 50}, "kept": {"documents": 4, "bytes": 30}}
    removed = {"gopher.words": {"documents": 1, "bytes": 20}}
    metrics.set_run("a")
    metrics.put_ledger({"gopher": {**account, "removed": removed, "edited": {}}})
    metrics.set_run(None)
    by_name = {(name, tags.get("rule")): value for _, name, value, tags in told}
    assert by_name["raypt_documents_removed", "gopher.words"] == 1
    assert by_name["raypt_bytes_kept", None] == 30


def test_without_ray_they_go_nowhere() -> None:
    metrics.put("raypt_train_loss", 2.5, "a")
    assert "raypt_train_loss" not in metrics._made


def test_names_are_ones_that_prometheus_takes_and_counters_leave_its_ending_to_ray() -> None:
    for name, metric in metrics.METRICS.items():
        assert name.startswith("raypt_")
        assert name.replace("_", "").isalnum()
        assert not name.endswith("_total")
        assert metric.text
