"""The documentation says what is: its links lead somewhere, its commands are understood, its translations keep up."""

import re
from pathlib import Path

import pytest
import yaml

from raypt.config_io import read
from raypt.run.bench import BENCHES
from raypt.run.cli import JOBS, TOOLS
from raypt.run.config import RunConfig
from raypt.run.job import parse_arguments
from raypt.run.study.config import StudyConfig
from tests.docs.pages import PAGES, ROOT, blocks, name, raypt_commands, slug

ON_DISK = ("runs/", "plan.html", "runs.csv", "mine.jsonl")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_and_pictures_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        if anchor:
            assert anchor in {slug(h) for h in re.findall(r"^#+ (.*)$", there.read_text(), re.MULTILINE)}, target


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_are_understood(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for job, *arguments in raypt_commands(page):
        if job == "bench":
            assert arguments[0] in BENCHES
        elif job in TOOLS:
            assert arguments
        elif arguments[:1] != ["fit"]:
            assert job in JOBS
            schema = StudyConfig if job == "study" else RunConfig
            asked = parse_arguments(["plan.json_only=true" if a == "--json" else a for a in arguments])
            if asked.config_uri is None or Path(asked.config_uri).exists():
                read(schema, asked.config_uri, asked.overrides)
            else:
                assert asked.config_uri in ("my.yaml", "best.yaml", "STUDY.yaml"), asked.config_uri


def test_the_readme_is_a_page_that_people_read() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 150
    assert "<!-- run -->" in lines and "<!-- tests -->" in lines


def test_the_chinese_pages_have_the_commands_of_the_english_ones() -> None:
    for page in sorted((ROOT / "docs" / "zh").rglob("*.md")):
        english = ROOT / "docs" / page.relative_to(ROOT / "docs" / "zh")
        if page.name == "index.md" and page.parent.name == "zh":
            english = ROOT / "README.md"
            assert set(blocks(page)[:2]) <= set(blocks(english))
        else:
            assert blocks(page) == blocks(english), name(page)


def test_every_page_is_in_the_sites_navigation() -> None:
    def leaves(entry: object) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        values = entry.values() if isinstance(entry, dict) else entry
        return [leaf for value in values for leaf in leaves(value)]

    found = leaves(yaml.safe_load((ROOT / ".mkdocs.yml").read_text())["nav"])
    assert sorted(found) == sorted(
        [*(str(p.relative_to(ROOT / "docs")) for p in PAGES if p.is_relative_to(ROOT / "docs")), "configuration.md"]
    )
