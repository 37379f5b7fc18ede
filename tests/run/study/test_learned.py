"""What is learned when: intervals of accuracy, the point from which it is known, what a task must have."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml

from raypt.config_io import read
from raypt.errors import UserError
from raypt.run.study.config import StudyConfig
from raypt.run.study.learned import Asked, asked, families, interval
from raypt.training.config import TaskConfig


@pytest.mark.parametrize(("p", "seeds"), [(0.5, 1), (0.9, 1), (0.7, 4)])
def test_intervals_hold_the_share_that_would_be_right_of_all_questions(p: float, seeds: int) -> None:
    rng = np.random.default_rng(0)
    missed = 0
    for _ in range(400):
        # Each question has its own chance, the same for all seeds; their mean over all questions is p.
        hard = rng.random(150) < p
        right_ST = np.array([[np.where(rng.random(150) < 0.1, ~hard, hard).mean()] for _ in range(seeds)])
        low, high = interval(right_ST, 150)
        missed += not low[0] <= 0.9 * p + 0.1 * (1 - p) <= high[0]
    assert missed <= 32  # 5 % of 400 are 20, and three deviations more


def test_known_is_what_stays_above_guessing() -> None:
    tokens = np.array([1e5, 2e5, 3e5, 4e5])
    kind = Asked("t", "x", 400, 0.5, tokens, np.array([[0.7, 0.51, 0.6, 0.7]]))
    assert kind.learned_at == 3e5
    assert Asked("t", "x", 400, 0.5, tokens, np.array([[0.9, 0.9, 0.9, 0.5]])).learned_at is None
    assert Asked("t", "x", 400, 0.5, tokens, np.array([[0.9, 0.9, 0.9, 0.9]])).learned_at == 1e5


def test_the_table_of_steps_gives_accuracy_by_group_and_family() -> None:
    groups = {"en order: article": 0.8, "en order: modal": 0.6}
    rows = [
        {"variant": v, "seed": s, "tokens": t, **{f"tasks/p/{g}": a + s / 10 if t else None for g, a in groups.items()}}
        for v in ("base", "other")
        for s in (0, 1)
        for t in (0, 100, 200)
    ]
    kinds = asked([TaskConfig(name="p", path="builtin:pairs/en")], _with_all(rows), "base")
    found = {k.name: k for k in kinds}
    assert found["en order: article"].right_T.tolist() == pytest.approx([0.85, 0.85])
    assert found["en order: article"].tokens_T.tolist() == [100, 200]
    order = next(k for k in families(kinds) if k.name == "en order")
    assert order.questions == sum(k.questions for k in kinds if k.name.startswith("en order"))
    assert order.chance == 0.5


def _with_all(rows: list[dict]) -> pa.Table:
    from raypt.training import made

    names = {r["phenomenon"] for r in made.rows("pairs/en")}
    return pa.Table.from_pylist([{f"tasks/p/{n}": 0.5 if r["tokens"] else None for n in names} | r for r in rows])


def test_a_study_of_learning_wants_questions(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({"study": {"kind": "learned"}}))
    with pytest.raises(UserError, match="name at least one"):
        read(StudyConfig, str(tmp_path / "study.yaml"), [])
