"""The site is built from docs/, with every warning an error."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

pytest.importorskip("material", reason="pip install -e '.[docs]'")


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", ".mkdocs.yml", "-d", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert "train.zero.stage" in (tmp_path / "site" / "configuration" / "index.html").read_text()
    built = [path.relative_to(tmp_path / "site").as_posix() for path in (tmp_path / "site").rglob("index.html")]
    for page in (ROOT / "docs").rglob("*.md"):
        place = page.relative_to(ROOT / "docs")
        assert (place.parent / ("" if place.stem == "index" else place.stem) / "index.html").as_posix() in built
