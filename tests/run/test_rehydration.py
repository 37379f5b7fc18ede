"""Documents are drawn by the size of the cluster they stand for: from deduplication to the groups of the mixture."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from raypt.config_io import load, validate
from raypt.errors import UserError
from raypt.run.check import check
from raypt.run.config import RunConfig
from raypt.run.curate import curate
from raypt.run.open import open_run
from raypt.tokens.parts import part_uris, summarize_part
from raypt.tokens.upsampling import factors
from tests.curation.test_recipes import RECIPES

pytestmark = pytest.mark.fast

PUBLISHED = {"2-3": 2.0, "3-5": 3.0, "5-100": 5.0, "100-1000": 8.0}
"""FineWeb-2's weights by cluster size (huggingface/fineweb-2, README)."""


def config_of(root: Path, **more: object) -> RunConfig:
    rule = {"edges": [2, 3, 5, 100, 1000], "weights": PUBLISHED}
    return validate(
        RunConfig,
        {
            "run": {"dir": str(root / "run")},
            "corpus": {"sources": [{"name": "text", "paths": str(root / "*.jsonl")}], "shard_bytes": 2000},
            "curation": {"stages": []},
            "tokens": {"mixture": {"by": "dedup.cluster_size", "upsample": {"dedup.cluster_size": rule}}},
            **more,
        },
    )


def test_a_document_is_drawn_by_how_many_it_stands_for(tmp_path: Path) -> None:
    copies = {"alone": 1, "twice": 2, "four": 4, "seven": 7}
    texts = [f"{name} " + " ".join(f"{name}{i}" for i in range(40)) for name, n in copies.items() for _ in range(n)]
    for part in range(3):
        lines = "".join(json.dumps({"text": text}) + "\n" for text in texts[part::3])
        (tmp_path / f"{part}.jsonl").write_text(lines)
    config = config_of(tmp_path)
    check(config)
    with open_run(config, "test") as run:
        assert curate(config, run, in_process=True).documents == 4
        uris = part_uris(run.path("curated"))
        rows = [row for uri in uris for row in pq.read_table(uri).to_pylist()]
    assert {row["text"].split()[0]: row["dedup"]["cluster_size"] for row in rows} == copies
    mixture = config.tokens.mixture
    sizes: dict[str, int] = {}
    for uri in uris:
        for group, n in summarize_part(uri, by=mixture.by, edges=mixture.edges).bytes.items():
            sizes[group] = sizes.get(group, 0) + n
    recipe = load(RunConfig, str(RECIPES["fineweb2"]), []).tokens.mixture
    assert factors(sizes, mixture) == factors(sizes, recipe) == {"<2": 1.0, "2-3": 2.0, "3-5": 3.0, "5-100": 5.0}


def test_the_recipe_has_the_published_weights() -> None:
    mixture = load(RunConfig, str(RECIPES["fineweb2"]), []).tokens.mixture
    sizes = dict.fromkeys(("<2", *PUBLISHED, ">=1000"), 1)
    assert mixture.by == ("dedup.cluster_size",)
    assert factors(sizes, mixture) == {"<2": 1.0, **PUBLISHED, ">=1000": 1.0}


def test_without_deduplication_the_sizes_are_refused_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "0.jsonl").write_text(json.dumps({"text": "one"}) + "\n")
    with pytest.raises(UserError, match=r"dedup\.cluster_size is not known without deduplication"):
        check(config_of(tmp_path, dedup={"enabled": False}))


def test_a_column_of_the_input_by_that_name_is_refused(tmp_path: Path) -> None:
    source = {"name": "text", "paths": str(tmp_path / "*.jsonl"), "columns": {"dedup": "dedup"}}
    with pytest.raises(UserError, match=r"\['dedup'\] are columns of every document"):
        config_of(tmp_path, corpus={"sources": [source]})
