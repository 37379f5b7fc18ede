"""Every recipe runs whole on a part of the shared corpus, with the user's files named."""

import json
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from raypt.config_io import load
from raypt.curation.quality.fit import fit
from raypt.packages import package_version
from raypt.run.check import check
from raypt.run.config import RunConfig
from raypt.run.curate import curate
from raypt.run.open import open_run
from raypt.tokens.parts import part_uris
from tests.curation.test_recipes import LCTT, RECIPES, SPEECHES
from tests.curation.text_sets import CORPORA, rows

pytestmark = pytest.mark.skipif(not CORPORA.exists(), reason="the real corpora beside the checkout are absent")

CHARS = 2500
EACH = 20
QUICK = [
    "curation.perplexity.max_documents=8",
    # Of so few texts of one kind the classifier is trained and asked, and its threshold held to nothing.
    "curation.quality.heldout_fraction=0.3",
    "curation.quality.threshold.percentile=0",
    "curation.quality.threshold.min_documents=1",
]
OF_FEW = {
    "fineweb2": ["curation.words.segmenters={zh: jieba}"],  # the text has no Japanese and no Thai
    "dolma3": [
        "curation.classify.percentiles.quality_hq.min_documents=1",
        "curation.classify.decisions.quality_hq_percentile.min=0",
    ],
}
"""As above of a recipe's own. Dolma 3's percentiles: a classifier that has learned so little ties most documents."""
REMOVED: dict[str, dict[str, int]] = {
    "c4": {},  # spans and lines are cut out of documents, which stay
    "ccnet": {},
    "chinesewebtext": {},
    "culturax": {"dedup.fuzzy": 2, "dedup.url": 1},
    "dclm": {"dedup.fuzzy": 1},
    "dolma3": {"dedup.fuzzy": 1},
    "fineweb": {},
    "fineweb-edu": {},
    "fineweb2": {"dedup.fuzzy": 1},
    "gopher": {"dedup.fuzzy": 1},
    "nemotron-cc": {"dedup.fuzzy": 1},
    "refinedweb": {"dedup.remainder": 1},
    "roots": {"dedup.fuzzy": 2},
    "skypile": {"dedup.fuzzy": 1},
    "slimpajama": {"dedup.fuzzy": 2},
}
PLAIN = "corpus.html.engine=raypt"
ENGLISH = {"c4", "dclm", "dolma3", "fineweb", "nemotron-cc", "refinedweb"}
CHINESE = {"chinesewebtext", "skypile"}
CUT = {"c4", "ccnet", "chinesewebtext", "skypile"}
"""Recipes that cut what is said twice out of the text."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """crawl.jsonl: speeches and Chinese articles, of each kind one once more but for a sentence at its end, and one of
    another's address; good.jsonl: other such texts; models of two labels."""
    where = tmp_path_factory.mktemp("recipes")
    english, chinese = ([row["text"][:CHARS] for row in rows(name, 3 * EACH)] for name in (SPEECHES, LCTT))
    crawl = english[:EACH] + chinese[:EACH]
    crawl += [crawl[0] + " It was so.", chinese[0] + "就是这样。"]
    documents = [{"text": text, "url": f"https://x.org/{i}"} for i, text in enumerate(crawl)]
    documents.append({"text": english[EACH], "url": "https://www.x.org/1?utm_source=news"})
    documents = [{**row, "int_score": 3 - i % 2} for i, row in enumerate(documents)]
    good = [{"text": text} for text in english[EACH + 1 :] + chinese[EACH:]]
    for name, found in (("crawl", documents), ("good", good)):
        (where / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
    for name, labels in {"topic": ("law", "war"), "quality": ("hq", "cc"), "edu": ("high", "low")}.items():
        lines = [f"__label__{labels[i % 2]} {' '.join(text[:400].split())}\n" for i, text in enumerate(english)]
        (where / "train.txt").write_text("".join(lines))
        fit(str(where / "train.txt"), str(where / f"{name}.bin"), dim=2, epoch=1, minCount=1)
    return where


def han(text: str) -> bool:
    """Whether a text is Chinese: a third of its characters are."""
    return sum("\u4e00" <= c <= "\u9fff" for c in text) > len(text) / 3


def test_every_recipe_is_run() -> None:
    assert set(REMOVED) == set(RECIPES)


@pytest.mark.parametrize("recipe", REMOVED)
def test_a_recipe_runs_whole_keeps_good_text_and_finds_the_copies(recipe: str, files: Path, tmp_path: Path) -> None:
    crawl, _, rest = RECIPES[recipe].read_text("utf-8").partition("\ncuration:")
    rest = rest.replace("s3://BUCKET/models/fasttext-oh-eli5", f"{files}/quality")
    rest = rest.replace("s3://BUCKET/models", str(files))
    text = re.sub(r"s3://\S+", f"{files}/crawl.jsonl", crawl) + "\ncuration:"
    text += re.sub(r"s3://\S+", f"{files}/good.jsonl", rest)
    (tmp_path / "recipe.yaml").write_text(text, encoding="utf-8")
    settings = [f"run.dir={tmp_path}/run", *QUICK, *OF_FEW.get(recipe, [])]
    config = load(RunConfig, str(tmp_path / "recipe.yaml"), settings)
    for package, install in config.curation.packages().items():
        pytest.importorskip(package, reason=f"{package} is not installed: {install}")
    if any(package_version(name) is None for name in config.corpus.html.packages()):  # the text here is no HTML
        config = load(RunConfig, str(tmp_path / "recipe.yaml"), [*settings, PLAIN])
    check(config)
    with open_run(config, "test") as run:
        ledger = curate(config, run, in_process=True).ledger
        rows = [row for uri in part_uris(run.path("curated")) for row in pq.read_table(uri).to_pylist()]
    dedup = ledger.stages.get("dedup")
    assert ({r: a.documents for r, a in dedup.removed.items()} if dedup else {}) == REMOVED[recipe]
    if recipe in CUT:
        assert dedup and sum(amount.documents for amount in dedup.edited.values()) >= 1
    if recipe == "ccnet":  # the whole of a copy goes, but for the sentence at its end
        assert dedup and sum(amount.bytes for amount in dedup.edited.values()) >= CHARS
    if recipe == "fineweb-edu":
        assert [row["int_score"] for row in rows] == ["3"] * (EACH + 2)  # every other one
        return
    chinese = sum(han(row["text"]) for row in rows)
    if recipe not in CHINESE:
        assert len(rows) - chinese >= 0.9 * EACH
    if recipe not in ENGLISH:
        assert chinese >= 0.5 * EACH
    if config.curation.runs("quality"):
        assert all(0 < row["quality_score"] <= 1 for row in rows)
    if config.curation.runs("perplexity"):
        assert any(row["perplexity"]["per_token"] is not None for row in rows)
    if config.curation.runs("classify"):
        assert all(row["classify"] is not None for row in rows)
