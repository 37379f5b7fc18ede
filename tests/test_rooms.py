"""The rule of the tree: a file directly under raypt/ is ground, a folder a room, run/ the roof; arrows run down."""

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "raypt"

ARROWS = {
    "ground": set(),
    "text": {"ground"},
    "model": {"ground"},
    "parallel": {"model", "ground"},
    "corpus": {"text", "ground"},
    "curation": {"corpus", "text", "ground"},
    "dedup": {"corpus", "text", "ground"},
    "tokens": {"corpus", "text", "ground"},
    "training": {"tokens", "dedup", "corpus", "parallel", "model", "text", "ground"},
    "bench": {"training", "tokens", "dedup", "curation", "corpus", "parallel", "model", "text", "ground"},
    "run": {"bench", "training", "tokens", "dedup", "curation", "corpus", "parallel", "model", "text", "ground"},
}
"""What a room may import, besides itself. Curation, dedup and tokens stand side by side; only run/ joins rooms."""

TOP = {
    *(".ci", ".github", ".gitignore", ".mkdocs.yml", ".pre-commit-config.yaml", "LICENSE", "README.md"),
    *("cluster", "docs", "jobs", "pyproject.toml", "raypt", "tests"),
}
"""What the repository's top level holds, and nothing that a test, a job or a cache left there."""


def _imports(file: Path) -> Iterator[str]:
    """Dotted names that a file imports, at its top or inside a function."""
    for node in ast.walk(ast.parse(file.read_text(), str(file))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: imports are absolute here"
            # `from raypt import storage` names a module, `from raypt.storage import join` something in one.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            yield from (a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str))


def _room(dotted: str) -> str | None:
    """The room of a dotted name, None outside raypt."""
    steps = dotted.split(".")
    if steps[0] != "raypt":
        return None
    return steps[1] if len(steps) > 1 and (PACKAGE / steps[1]).is_dir() else "ground"


def _files(directory: Path) -> list[Path]:
    found = sorted(directory.rglob("*.py"))
    assert found, directory
    return found


def test_the_top_level_holds_what_it_should_and_no_more() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip("no git checkout")
    assert {name.split("/")[0] for name in listed.stdout.split("\0") if name} == TOP


def test_every_folder_is_a_room_with_its_arrows() -> None:
    folders = {p.name for p in PACKAGE.iterdir() if p.is_dir() and p.name != "__pycache__"}
    assert folders == ARROWS.keys() - {"ground"}


@pytest.mark.parametrize("room", ARROWS)
def test_imports_run_down_only(room: str) -> None:
    files = sorted(PACKAGE.glob("*.py")) if room == "ground" else _files(PACKAGE / room)
    wrong = [
        f"{file.relative_to(ROOT)} imports {name}"
        for file in files
        for name in _imports(file)
        if (target := _room(name)) not in (None, room) and target not in ARROWS[room]
    ]
    assert not wrong, f"{room}/ may import {', '.join(sorted(ARROWS[room])) or 'no room'}:\n" + "\n".join(wrong)


def test_the_arrows_have_no_circle() -> None:
    done: set[str] = set()
    while len(done) < len(ARROWS):
        free = {room for room, below in ARROWS.items() if room not in done and below <= done}
        assert free, f"a circle among {ARROWS.keys() - done}"
        done |= free


def test_scripts_know_the_roof_alone() -> None:
    wrong = [
        f"{file.relative_to(ROOT)} imports {name}"
        for file in _files(ROOT / "jobs")
        for name in _imports(file)
        if (target := _room(name)) is not None and target != "run"
    ]
    assert not wrong, "\n".join(wrong)


def test_deepspeed_is_imported_by_its_engine_alone() -> None:
    found = {
        (str(file.relative_to(ROOT)), name)
        for file in (*_files(PACKAGE), *_files(ROOT / "jobs"))
        if not file.is_relative_to(PACKAGE / "parallel" / "zero")
        for name in _imports(file)
        if name.split(".")[0] == "deepspeed"
    }
    assert not found
