"""Extras of the package, `pip install 'raypt[NAME]'`."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAMED = re.compile(r"raypt\[([a-z0-9-]+)\]")


def test_every_extra_that_code_or_docs_name_is_one() -> None:
    files = [p for place in ("raypt", "jobs", "cluster", "docs") for p in (ROOT / place).rglob("*")]
    texts = [p.read_text("utf-8") for p in (ROOT / "README.md", *files) if p.suffix in (".py", ".md", ".yaml", ".toml")]
    named = {name for text in texts for name in NAMED.findall(text)}
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    assert named
    assert named <= set(extras)
