"""The interface of stages: tagging, deciding and accounting know none of them by name."""

import ast
from pathlib import Path
from typing import ClassVar

import pytest

import raypt.curation
from raypt.curation.config import CurationConfig
from raypt.curation.rules.base import RuleSettings

PACKAGE = Path(raypt.curation.__path__[0])


@pytest.mark.parametrize("module", ["tagger.py", "decide.py", "ledger.py", "plan.py"])
def test_no_stage_is_treated_by_its_name(module: str) -> None:
    tree = ast.parse((PACKAGE / module).read_text("utf-8"))
    known = set(CurationConfig.known_stages()) - {"url"}  # a column of every document, too
    strings = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    assert not known & set(strings)


def test_every_stage_is_named_like_its_section() -> None:
    for name in CurationConfig.known_stages():
        assert getattr(CurationConfig(), name).stage == name


@pytest.mark.parametrize("key", ["word_cont_min", "word_count_mean_max"])
def test_a_threshold_on_no_metric_is_refused_when_the_class_is_defined(key: str) -> None:
    with pytest.raises(TypeError, match=f"Typo.{key}: no metric is named"):
        type(
            "Typo",
            (RuleSettings,),
            {
                "__module__": __name__,
                "__annotations__": {
                    "stage": ClassVar[str],
                    "metrics": ClassVar[tuple[str, ...]],
                    key: float | None,
                },
                "stage": "typo",
                "metrics": ("word_count",),
                key: 3.0,
            },
        )
