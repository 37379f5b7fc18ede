"""Loss by time: the slope that documents of drifting periods have, and which text is of which period."""

import math
from pathlib import Path

import numpy as np
import pytest
import yaml

from raypt.config_io import read
from raypt.errors import UserError
from raypt.run.study.config import StudyConfig
from raypt.run.study.freshness import freshness, times
from raypt.run.study.variants import resolve

PERIODS = ("1990-2000", "2000-2010", "2010-2020")


def drawn(rng: np.random.Generator, cost: float, seeds: int = 3) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Nats by training period, seed and document: each decade between text and test costs `cost` bits per byte."""
    groups = [p for p in PERIODS for _ in range(40)]
    size = rng.integers(200, 4000, len(groups)).astype(float)
    hard = rng.normal(1.5, 0.3, len(groups))
    apart = np.abs(times(PERIODS)[:, None] - np.repeat(times(PERIODS), 40)[None]) / 10
    luck = rng.normal(0, 0.003, (3, seeds, 1))
    answers = rng.normal(0, 0.03, (3, 1, len(groups)))
    return (hard + cost * apart[:, None] + luck + answers) * math.log(2) * size, size, groups


def test_intervals_hold_what_a_decade_costs() -> None:
    missed = 0
    for draw in range(60):
        found = freshness(*drawn(np.random.default_rng(draw), 0.02), PERIODS, seed=draw)
        missed += not found.slope.low <= 0.002 <= found.slope.high
    assert missed <= 9  # 3 are expected of 60; more than 9 come with probability .001


def test_text_that_does_not_age_is_inside_the_noise_and_text_that_does_is_not() -> None:
    still, aging = (freshness(*drawn(np.random.default_rng(1), c), PERIODS) for c in (0.0, 0.05))
    assert still.slope.in_the_noise
    assert aging.slope.low > 0
    assert aging.toward_newer.low > 0
    assert aging.toward_older.low > 0
    assert np.allclose(np.diag(aging.gap_PP), 0)
    assert aging.gap_PP[0, 2] > aging.gap_PP[0, 1] > 0


def test_a_period_without_documents_is_named() -> None:
    nats, size, groups = drawn(np.random.default_rng(0), 0.0)
    with pytest.raises(UserError, match="0 documents of 2010-2020 are held out"):
        freshness(nats, size, [g.replace("2010-2020", "") for g in groups], PERIODS)


def test_periods_are_variants_that_train_on_nothing_else(tmp_path: Path) -> None:
    study = {
        "study": {"kind": "freshness"},
        "periods": {"column": "url", "pattern": r"/(?P<year>\d{4})/", "edges": [2000, 2010, 2020]},
        "base": {"corpus": {"sources": [{"paths": ["x.jsonl"]}]}},
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    loaded = read(StudyConfig, str(tmp_path / "study.yaml"), [])
    base, variants = resolve(loaded.config, loaded.tree["base"])
    assert [v.name for v in variants] == ["2000-2010", "2010-2020"]
    assert variants[1].config.tokens.mixture.weights == {"2010-2020": 1.0}
    assert base.tokens.mixture.by == variants[0].config.tokens.mixture.by == (r"url~/(?P<year>\d{4})/@2000,2010,2020",)
