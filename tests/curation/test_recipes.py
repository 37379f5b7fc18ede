"""Every recipe of jobs/configs/recipes is a configuration of today's keys, and curates a part of the shared corpus."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from raypt.config_io import load
from raypt.curation.config import CurationConfig
from raypt.curation.decide import decide
from raypt.curation.tagger import Tagger
from raypt.run.config import RunConfig
from tests.curation.text_sets import CORPORA, documents

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted((ROOT / "jobs" / "configs" / "recipes").glob("*.yaml"))
GOOD = {"chinesewebtext": "reference/wikipedia_zh.dev.jsonl.gz"}
LEAST = {"chinesewebtext": 0.55}  # as in test_preset_shares.py: EvalWeb itself drops nearly half


def test_every_recipe_is_in_the_table() -> None:
    table = (ROOT / "docs" / "recipes.md").read_text("utf-8")
    assert RECIPES
    for recipe in RECIPES:
        assert f"| `{recipe.stem}` |" in table


@pytest.mark.skipif(not CORPORA.exists(), reason="the real corpora beside the checkout are absent")
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_curates_a_part_of_the_corpus(recipe: Path) -> None:
    curation = load(RunConfig, str(recipe), []).curation
    # Classifiers and language models are trained in a run; here the other stages.
    stages = [stage for stage in curation.stages if stage not in ("quality", "perplexity")]
    config = CurationConfig.model_validate({**curation.model_dump(), "stages": stages, "preset": None})
    docs = documents(GOOD.get(recipe.stem, "reference/speeches_en.dev.jsonl.gz"), 100)
    if recipe.stem in GOOD:
        docs = docs.filter(pc.equal(docs["declared"], "zh"))  # the rest is Traditional, which the recipe drops
    docs = docs.slice(0, 20)
    docs = docs.append_column("int_score", pa.array([3, 2] * 10))
    kept = [reason is None for reason in decide(Tagger(config).tag(docs), config).to_pylist()]
    if recipe.stem == "fineweb-edu":
        assert kept == [True, False] * 10
    else:
        assert sum(kept) >= LEAST.get(recipe.stem, 0.9) * len(kept)
