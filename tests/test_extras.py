"""Extras of the package, `pip install 'raypt[NAME]'`."""

import re
import tomllib
from pathlib import Path

from raypt.corpus.config import HtmlConfig

ROOT = Path(__file__).resolve().parents[1]
NAMED = re.compile(r"raypt\[([a-z0-9-]+)\]")


def test_every_extra_that_code_or_docs_name_is_one() -> None:
    files = [p for place in ("raypt", "jobs", "cluster", "docs") for p in (ROOT / place).rglob("*")]
    texts = [p.read_text("utf-8") for p in (ROOT / "README.md", *files) if p.suffix in (".py", ".md", ".yaml", ".toml")]
    named = {name for text in texts for name in NAMED.findall(text)}
    assert named
    assert named <= set(extras())


def test_an_extractor_has_all_that_it_imports() -> None:
    needed = HtmlConfig(engine="trafilatura").packages()
    for extra in ("trafilatura", "test"):
        assert set(needed) <= {re.split(r"[<>=;\[]", one)[0] for one in extras()[extra]}


def extras() -> dict[str, list[str]]:
    """Requirements by extra."""
    found: dict[str, list[str]] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"][
        "optional-dependencies"
    ]
    return found
