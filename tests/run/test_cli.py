"""The `raypt` command: what each word does, in processes of their own, and what help costs."""

import os
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import yaml

from raypt.run.cli import JOBS, job_doc, main, run

ROOT = Path(__file__).parents[2]
HEAVY = ("ray", "torch", "numba", "deepspeed", "pandas", "scipy")


def raypt(*arguments: str, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    """The command, which says at its end which of HEAVY it imported."""
    code = (
        "import atexit, sys; from raypt.run.cli import main; "
        f"atexit.register(lambda: print('HEAVY', *(m for m in {HEAVY} if m in sys.modules), file=sys.stderr)); main()"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT), "RAYPT_LOG_LEVEL": "INFO"}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, cwd=cwd)


def test_the_console_command_is_this_main() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert EntryPoint("raypt", scripts["raypt"], "console_scripts").load() is main


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        *([job, "--help"] for job in JOBS),
        ["pretrain", "--help", "train.zero"],
        ["curate", "--help", "all"],
        ["export", "--print-config", "export.precision=fp32"],
        ["pretrain", "train.stesp=3"],
    ],
    ids=" ".join,
)
def test_help_and_mistakes_import_no_ray_torch_or_compiler(arguments: list[str]) -> None:
    done = raypt(*arguments)
    assert done.returncode == (2 if "train.stesp=3" in arguments else 0), done.stderr
    assert done.stderr.splitlines()[-1].split() == ["HEAVY"]


def test_help_of_a_job_is_a_page_and_of_a_section_its_keys() -> None:
    overview = raypt("pretrain", "--help").stdout
    assert job_doc(JOBS["pretrain"]).splitlines()[0] in overview
    assert len(overview.splitlines()) < 100
    assert "train.zero.stage" not in overview
    section = raypt("pretrain", "--help", "train.zero").stdout
    assert "train.zero.stage = 1" in section
    assert "train.steps" not in section


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["pretrian"], "there is no job 'pretrian'; did you mean pretrain?"),
        (["bench", "trian"], "there is no benchmark 'trian'; did you mean train?"),
        (["pretrain", "--confg", "x"], "unknown option --confg; did you mean --config?"),
        (["pretrain", "--config"], "--config needs a file"),
        (["pretrain", "--config", "a", "--config", "b"], "--config is given twice"),
        (["pretrain", "--help", "train.zeroo"], "did you mean train.zero?"),
        (["pretrain", "steps"], "'steps' is not an override"),
        (["pretrain", "train.steps=3d"], "'d' is a time, and this key is not in seconds"),
    ],
)
def test_a_mistake_is_answered_with_the_nearest_and_status_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    assert said in capsys.readouterr().err


def test_without_a_job_it_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2
    out = capsys.readouterr().out
    assert all(job in out for job in JOBS)


def test_every_script_is_a_job_of_the_command() -> None:
    """Each as `python SCRIPT --help` runs it, in forks of one process that has imported what all of them import."""
    scripts = {p.stem.replace("_", "-"): p for p in (ROOT / "jobs").glob("*.py")}
    assert scripts.keys() == JOBS.keys()
    for script in scripts.values():
        assert len(script.read_text().splitlines()) <= 30
    code = (
        "import os, runpy, sys, raypt.run.job, raypt.run.config\n"
        "for script in sys.argv[1:]:\n"
        "    if (child := os.fork()) == 0:\n"
        "        sys.argv, sys.path[0] = [script, '--help'], os.path.dirname(script)\n"
        "        runpy.run_path(script, run_name='__main__')\n"
        "        sys.exit('the script did not end itself')\n"
        "    print(end=f'\\0{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])} ', flush=True)\n"
    )
    command = [sys.executable, "-c", code, *map(str, scripts.values())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    first, *others = done.stdout.split("\0")
    shown = [first, *(other.split(" ", 1)[1] for other in others)]
    assert [other.split(" ", 1)[0] for other in others] == ["0"] * len(scripts), done.stderr
    for name, out in zip(scripts, shown, strict=False):
        assert job_doc(JOBS[name]).splitlines()[0] in out, name


def test_a_printed_configuration_is_read_back(tmp_path: Path) -> None:
    first = raypt("pretrain", "--print-config", "--config", str(ROOT / "jobs/configs/web.yaml"), "train.steps=3k")
    assert first.returncode == 0, first.stderr
    assert any(
        line.strip().startswith("steps: 3000 ") and "# command line" in line for line in first.stdout.split("\n")
    )
    (tmp_path / "whole.yaml").write_text(first.stdout)
    again = raypt("pretrain", "--print-config", "--config", "whole.yaml", cwd=tmp_path)
    assert yaml.safe_load(again.stdout) == yaml.safe_load(first.stdout)


def test_a_pipe_that_closes_is_no_failure() -> None:
    command = f"{sys.executable} jobs/pretrain.py --help all | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
