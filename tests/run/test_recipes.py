"""Recipes with models, percentiles and passes of their own run as they are, with the user's files named."""

import json
import re
from pathlib import Path

import pytest

from raypt.config_io import load
from raypt.curation.quality.fit import fit
from raypt.run.check import check
from raypt.run.config import RunConfig
from raypt.run.curate import curate
from raypt.run.open import open_run
from tests.curation.test_recipes import LCTT, RECIPES, SPEECHES
from tests.curation.text_sets import CORPORA, rows

pytestmark = pytest.mark.skipif(not CORPORA.exists(), reason="the real corpora beside the checkout are absent")

CHARS = 2500
EACH = 6
# Texts this few train no classifier of quality that could be held to anything.
QUICK = ["curation.quality.reference=[]", "curation.perplexity.max_documents=8"]
REMOVED = {
    "ccnet": {},  # copies of lines are cut out of documents, which stay
    "culturax": {"dedup.fuzzy": 2, "dedup.url": 1},
    "dolma3": {"dedup.fuzzy": 1},  # English alone
    "nemotron-cc": {"dedup.fuzzy": 1},
    "roots": {"dedup.fuzzy": 2},
    "skypile": {"dedup.fuzzy": 1},  # Chinese alone
}


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
    good = [{"text": text} for text in english[EACH + 1 :] + chinese[EACH:]]
    for name, found in (("crawl", documents), ("good", good)):
        (where / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
    for name, labels in {"topic": ("law", "war"), "quality": ("hq", "cc"), "edu": ("high", "low")}.items():
        lines = [f"__label__{labels[i % 2]} {' '.join(text[:400].split())}\n" for i, text in enumerate(english)]
        (where / "train.txt").write_text("".join(lines))
        fit(str(where / "train.txt"), str(where / f"{name}.bin"), dim=2, epoch=1, minCount=1)
    return where


@pytest.mark.parametrize("recipe", REMOVED)
def test_a_recipe_runs_and_finds_the_copies(recipe: str, files: Path, tmp_path: Path) -> None:
    crawl, _, rest = RECIPES[recipe].read_text("utf-8").partition("\ncuration:")
    rest = rest.replace("s3://BUCKET/models/fasttext-oh-eli5", f"{files}/quality")
    rest = rest.replace("s3://BUCKET/models", str(files))
    text = re.sub(r"s3://\S+", f"{files}/crawl.jsonl", crawl) + "\ncuration:"
    text += re.sub(r"s3://\S+", f"{files}/good.jsonl", rest)
    (tmp_path / "recipe.yaml").write_text(text, encoding="utf-8")
    config = load(RunConfig, str(tmp_path / "recipe.yaml"), [f"run.dir={tmp_path}/run", *QUICK])
    check(config)
    with open_run(config, "test") as run:
        dedup = curate(config, run, in_process=True).ledger.stages["dedup"]
    assert {reason: account.documents for reason, account in dedup.removed.items()} == REMOVED[recipe]
    if recipe == "ccnet":
        assert sum(amount.bytes for amount in dedup.edited.values()) >= CHARS
