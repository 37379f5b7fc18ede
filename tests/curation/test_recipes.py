"""Every recipe of jobs/configs/recipes is a configuration of today's keys, and curates a part of the shared corpus."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from raypt.config_io import load
from raypt.curation.config import CurationConfig
from raypt.curation.decide import decide
from raypt.curation.plan import StageEntry
from raypt.curation.tagger import Tagger
from raypt.run.config import RunConfig
from tests.curation.text_sets import CORPORA, documents

ROOT = Path(__file__).resolve().parents[2]
RECIPES = {path.stem: path for path in sorted((ROOT / "jobs" / "configs" / "recipes").glob("*.yaml"))}
SPEECHES, WIKIPEDIA_ZH = "reference/speeches_en.dev.jsonl.gz", "reference/wikipedia_zh.dev.jsonl.gz"
LCTT = "reference/lctt_zh_ccbysa.dev.jsonl.zst"
GOOD = {
    "chinesewebtext": [WIKIPEDIA_ZH],
    "skypile": [WIKIPEDIA_ZH, LCTT],
    "ccnet": [SPEECHES, LCTT],
    "culturax": [SPEECHES, WIKIPEDIA_ZH],
    "roots": [SPEECHES, WIKIPEDIA_ZH],
}
CASES = [(recipe, text) for recipe in RECIPES for text in GOOD.get(recipe, [SPEECHES])]
LEAST = {"chinesewebtext": 0.55}  # as in test_preset_shares.py: EvalWeb itself drops nearly half

NEAR: dict[str, tuple[str, int, int, int]] = {
    "fineweb": ("word", 5, 14, 8),  # arXiv:2406.17557, section 3.4
    "fineweb2": ("word", 5, 14, 8),  # fineweb-2-pipeline.py
    "slimpajama": ("character", 13, 9, 13),  # dedup/to_hash.py; datasketch's bands for 0.8 of 128 hashes
    "dolma3": ("word", 5, 26, 11),  # allenai/dolma3, alldressed_README.md
    "nemotron-cc": ("character", 24, 20, 13),  # step_2b-fuzzy_dedup.py
}
"""Published `(unit, n-gram, bands, rows)`."""


ENGINES = {
    "refinedweb": "trafilatura",  # arXiv:2306.01116, section 3.1
    "fineweb": "trafilatura",  # datatrove, examples/fineweb.py
    "fineweb2": "trafilatura",  # fineweb-2-pipeline.py
    "dclm": "resiliparse",  # arXiv:2406.11794, section 4.2
    "dolma3": "resiliparse",  # allenai/dolma3, alldressed_README.md
}
"""Published extractors that raypt has; the other recipes read text, or have one that raypt has not."""


def settings(recipe: str, **values: Any) -> CurationConfig:
    """A recipe's curation without the stages whose models a run trains, or that are the user's."""
    curation = load(RunConfig, str(RECIPES[recipe]), []).curation
    stages = [stage for stage in curation.stages if stage not in ("quality", "classify", "perplexity")]
    words = {"segmenters": {}}  # of other languages than the texts here; the packages are big
    rest = {"stages": stages, "preset": None, "words": words, **values}
    return CurationConfig.model_validate({**curation.model_dump(), **rest})


def test_every_recipe_is_in_the_table() -> None:
    table = (ROOT / "docs" / "recipes.md").read_text("utf-8")
    assert RECIPES
    for recipe in RECIPES:
        assert f"| `{recipe}` |" in table


@pytest.mark.parametrize("recipe", RECIPES)
def test_html_becomes_text_by_the_published_extractor(recipe: str) -> None:
    config = load(RunConfig, str(RECIPES[recipe]), [])
    assert config.corpus.html.engine == ENGINES.get(recipe, "raypt")


@pytest.mark.parametrize("recipe", NEAR)
def test_near_duplicates_have_the_published_figures(recipe: str) -> None:
    fuzzy = load(RunConfig, str(RECIPES[recipe]), []).dedup.fuzzy
    assert (fuzzy.unit, fuzzy.ngram, *fuzzy.layout) == NEAR[recipe]


@pytest.mark.skipif(not CORPORA.exists(), reason="the real corpora beside the checkout are absent")
@pytest.mark.parametrize(("recipe", "text"), CASES)
def test_a_recipe_curates_a_part_of_the_corpus(recipe: str, text: str) -> None:
    config = settings(recipe)
    for package, install in config.packages().items():
        pytest.importorskip(package, reason=f"{package} is not installed: {install}")
    docs = documents(text, 100)
    if recipe == "chinesewebtext":
        docs = docs.filter(pc.equal(docs["declared"], "zh"))  # the rest is Traditional, which the recipe drops
    docs = docs.slice(0, 20)
    docs = docs.append_column("int_score", pa.array([3, 2] * 10))
    docs = docs.append_column("classify.good", pa.array([20.0] * 20))
    kept = [reason is None for reason in decide(Tagger(config).tag(docs), config).to_pylist()]
    if recipe == "fineweb-edu":
        assert kept == [True, False] * 10
    else:
        assert sum(kept) >= LEAST.get(recipe, 0.9) * len(kept)


def test_nemotron_cc_asks_heuristics_of_low_quality_only() -> None:
    """Of three copies of a text that repeats itself the one of high quality stays, as does one without a score."""
    config = settings("nemotron-cc")
    entries = [stage for stage in config.stages if isinstance(stage, StageEntry)]
    assert {"gopher_quality", "gopher_repetition"} <= {entry.stage for entry in entries}
    text = "The people of the town had to leave their houses because of the river.\n" * 30
    docs = pa.table({"doc_key": range(3), "text": [text] * 3, "classify.good": [10.0, 90.0, None]})
    reasons = decide(Tagger(config).tag(docs), config).to_pylist()
    assert reasons == ["gopher_repetition.duplicate_line_fraction_max", None, None]
