"""What a comparison says: of rules left out and rules added, each held against its own reference."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raypt.config_io import validate
from raypt.run.study.answer import Answer, compare
from raypt.run.study.config import StudyConfig
from raypt.run.study.results import Judged

LOSS = {"all": 1.0, "without x": 1.1, "raw": 1.5, "raw + x": 1.3, "raw + y": 1.5}
DOCUMENTS = {"all": 700, "without x": 800, "raw": 1000, "raw + x": 900, "raw + y": 990}
VARIANTS: list[dict[str, Any]] = [
    {"name": "all"}, {"name": "without x"}, {"name": "raw"},
    {"name": "raw + x", "against": "raw"}, {"name": "raw + y", "against": "raw"},
]  # fmt: skip


@pytest.fixture
def answer(tmp_path: Path) -> Answer:
    rng = np.random.default_rng(0)
    size = rng.integers(500, 4000, 80).astype(float)
    hard = rng.normal(0, 0.3, 80)
    nats, trials = {}, []
    for name, loss in LOSS.items():
        nats[name] = ((loss + hard + rng.normal(0, 0.02, 80)) * math.log(2) * size)[None]
        norms = np.ones(60)
        norms[40] = 7.0 if name.startswith("raw") else 1.0
        (tmp_path / name).mkdir()
        skipped = [0] * 59 + [2 if name == "raw" else 0]
        pq.write_table(pa.table({"grad_norm": norms, "skipped_steps": skipped}), tmp_path / name / "metrics.parquet")
        training = SimpleNamespace(uri=str(tmp_path / name))
        trials.append(SimpleNamespace(variant=SimpleNamespace(name=name), training=training, documents=DOCUMENTS[name]))
    config = validate(StudyConfig, {"variants": VARIANTS})
    return compare(config, trials, Judged(nats, size, {}, ["a"] * 80), "")  # type: ignore[arg-type]


def test_each_variant_is_held_against_its_own_reference(answer: Answer) -> None:
    found = answer.figures["differences"]
    assert {n: d["against"] for n, d in found.items()} == {
        "without x": "all", "raw": "all", "raw + x": "raw", "raw + y": "raw",
    }  # fmt: skip
    assert found["raw + x"]["value"] == pytest.approx(-0.2, abs=0.02)
    assert found["without x"]["interval"][0] > 0
    assert found["raw + y"]["in_the_noise"]


def test_a_gain_is_beside_what_it_costs_in_documents(answer: Answer) -> None:
    assert {n: d["documents"] for n, d in answer.figures["differences"].items()} == {
        "without x": 100, "raw": 300, "raw + x": -100, "raw + y": -10,
    }  # fmt: skip
    assert any(line.startswith("raw + x") and line.endswith("900 documents, -100 against raw") for line in answer.lines)


def test_the_sentence_names_what_differs_most_and_from_what(answer: Answer) -> None:
    assert answer.sentence.startswith("raw raises the held-out loss by 0.5")
    assert answer.sentence.endswith("against all.")
    assert "3 of 4 variants differ" in answer.interval


def test_raw_text_that_trains_less_calmly_says_so(answer: Answer) -> None:
    assert answer.figures["stability"]["raw"] == {"steps": 60, "spikes": 1, "highest": 7.0, "skipped": 2}
    assert answer.figures["stability"]["all"]["spikes"] == 0
    assert any("raw: 1 spikes in 60 steps" in line for line in answer.lines)
