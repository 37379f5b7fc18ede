"""A data set's own language is read, and believed or not."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from raypt.config_io import validate
from raypt.run.check import check
from raypt.run.config import RunConfig
from raypt.run.curate import curate
from raypt.run.open import open_run
from raypt.tokens.parts import part_uris

pytestmark = pytest.mark.fast

ENGLISH = "The river bends twice before it reaches the old mill, and then it runs straight to the lake."
GIVEN = {"de": "German", "en": None, "xx": "xx"}


@pytest.mark.parametrize(
    ("curation", "languages"),
    [
        ({"stages": []}, ["German", None, "xx"]),
        ({"stages": ["language"]}, ["en", "en", "en"]),
        ({"stages": ["language"], "language": {"trust_column": True}}, ["de", "en", "en"]),
    ],
)
def test_the_language_of_the_input(curation: dict[str, object], languages: list[str | None], tmp_path: Path) -> None:
    rows = [{"id": i, "text": f"{ENGLISH} {i}", "meta": {"language": name}} for i, name in enumerate(GIVEN.values())]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = {"name": "text", "paths": str(tmp_path / "in.jsonl"), "columns": {"lang": "meta.language"}}
    config = validate(
        RunConfig,
        {
            "run": {"dir": str(tmp_path / "run")},
            "corpus": {"sources": [source]},
            "curation": curation,
            "dedup": {"enabled": False},
        },
    )
    check(config)
    with open_run(config, "test") as run:
        curate(config, run, in_process=True)
        found = [row for uri in part_uris(run.path("curated")) for row in pq.read_table(uri).to_pylist()]
    assert [row["lang"] for row in sorted(found, key=lambda row: row["id"])] == languages
