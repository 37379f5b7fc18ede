"""Dashboards and alerts speak of metrics that raypt exports, with labels that these have.

`python -m tests.cluster.observe` evaluates every expression in a real Prometheus that scrapes a running job.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from raypt.metrics import METRICS, RUN
from tests.cluster.shell import CLUSTER

FOLDER = CLUSTER / "observability"
DASHBOARD = json.loads((FOLDER / "grafana-dashboard.json").read_text())
PANELS = [p for p in DASHBOARD["panels"] if p["type"] != "row"]
ALERTS = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"][0]["rules"]
EXPORTED = {f"ray_{name}_total" if m.kind == "counter" else f"ray_{name}": m for name, m in METRICS.items()}
"""As Prometheus names them."""


def expressions() -> list[Any]:
    panels = [pytest.param(t["expr"], id=f"{p['title']}-{t['refId']}") for p in PANELS for t in p["targets"]]
    return panels + [pytest.param(rule["expr"], id=rule["alert"]) for rule in ALERTS]


def labels_said(expression: str) -> set[str]:
    grouped = [name for group in re.findall(r"by \(([^)]*)\)", expression) for name in re.split(r",\s*", group)]
    return {*grouped, *re.findall(r"[{,]\s*(\w+)\s*=", expression)}


@pytest.mark.parametrize("expression", expressions())
def test_an_expression_names_metrics_and_labels_that_are_exported(expression: str) -> None:
    names = re.findall(r"\bray_raypt_\w+", expression)
    assert names
    assert set(names) <= set(EXPORTED)
    known = {RUN, *(label for name in names for label in EXPORTED[name].labels)}
    assert labels_said(expression) <= known


@pytest.mark.parametrize("panel", PANELS, ids=[p["title"] for p in PANELS])
def test_a_panel_shows_the_chosen_runs_and_says_what_it_is(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        assert target["expr"].count("ray_raypt_") == target["expr"].count('{run=~"$run"}')
        for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
            assert label in labels_said(target["expr"])
    assert panel["title"]
    assert panel["datasource"] == {"type": "prometheus", "uid": "$datasource"}


def test_panels_do_not_lie_over_each_other() -> None:
    cells: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        mine = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not mine & cells
        assert at["x"] + at["w"] <= 24
        cells |= mine
    assert len({p["id"] for p in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_every_stage_has_a_panel() -> None:
    shown = " ".join(t["expr"] for p in PANELS for t in p["targets"])
    for part in (
        "stage_running",
        "tasks_done",
        "documents_removed",
        "stream_tokens",
        "train_loss",
        "train_checkpoint_step",
        "starts",
        "queue_bytes",
        "actors",
        "train_mfu_stated",
        "train_group_starts",
    ):
        assert f"ray_raypt_{part}" in shown


def test_every_alert_says_whose_it_is() -> None:
    for rule in ALERTS:
        assert "{{ $labels.run }}" in rule["annotations"]["summary"]


def test_files_are_named_where_they_are() -> None:
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    assert all((FOLDER / name).exists() for name in config["rule_files"])
    assert (
        Path(config["scrape_configs"][0]["file_sd_configs"][0]["files"][0]).name
        == "prom_metrics_service_discovery.json"
    )
