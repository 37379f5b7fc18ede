"""The snippets of the documentation do what they say: Python is executed, and so is every command that needs no Ray."""

import contextlib
import io
import re
import shlex
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from raypt.run.cli import run
from tests.docs.pages import PAGES, ROOT, blocks, name, raypt_commands

WITH_PYTHON = [page for page in PAGES if blocks(page, "python")]
NO_RAY = ("--help", "--print-config", "--version")


def executed(code: str) -> tuple[dict[str, Any], list[str]]:
    """The names that a snippet leaves, and the lines it printed."""
    out, names = io.StringIO(), {"__name__": "snippet"}
    with contextlib.redirect_stdout(out):
        exec(compile(code, "snippet", "exec"), names)
    return names, out.getvalue().splitlines()


@pytest.mark.parametrize("page", WITH_PYTHON, ids=name)
def test_python_runs_and_prints_what_stands_beside_it(page: Path) -> None:
    for block in blocks(page, "python"):
        said = re.findall(r"^print\(.*\)  # (.*)$", block, re.MULTILINE)
        printed = executed(block)[1]
        shown, expected = (re.sub(r"\s", "", "".join(lines)) for lines in (printed, said))
        assert shown == expected


def test_the_filter_of_the_how_to_measures_what_it_says() -> None:
    (block,) = blocks(ROOT / "docs" / "how-to.md", "python")
    names, _ = executed(block)
    shares = names["questions"](pa.table({"text": ["why? how?", "", "so."]}))
    assert isinstance(shares, pa.Array)
    assert shares.to_pylist() == pytest.approx([2 / 9, 0.0, 0.0])


COMMANDS = sorted(
    {
        shlex.join(command)
        for page in PAGES
        for command in raypt_commands(page)
        if command[0] in ("plan", "completion")
        or (command[0] != "bench" and set(NO_RAY) & set(command))
        or (command[0] == "bench" and "--help" in command)
    }
)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_that_needs_no_ray_succeeds(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if "my.yaml" in command or "STUDY.yaml" in command:
        pytest.skip("of a file that the reader writes")
    (tmp_path / "jobs").symlink_to(ROOT / "jobs")
    monkeypatch.chdir(tmp_path)
    assert run(shlex.split(command)) == 0, capsys.readouterr().err
    assert capsys.readouterr().out
