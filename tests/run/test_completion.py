"""Completion in the shells themselves: what is typed, TAB included, and what the command then gets."""

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from raypt.config_io import validate
from raypt.run.cli import JOBS, TOOLS
from raypt.run.completion import OF_TOOLS, Words, bash, fish, zsh
from raypt.run.config import RunConfig

pytestmark = pytest.mark.fast

ROOT = Path(__file__).parents[2]
SHOWN = 'raypt() { for word in "$@"; do printf \'<%s>\' "$word"; done; echo; }'
START = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], ["bind 'set bell-style none'", "source ./completion"]),
    "zsh": (["zsh", "-f", "-i"], ["autoload -Uz compinit; compinit -u -D", "unsetopt beep", "source ./completion"]),
}
TYPED = [
    ("pretr\ttrain.zero.st\t3", "<pretrain><train.zero.stage=3>"),
    ("pretrain --conf\tsome\t run.na\tx", "<pretrain><--config><some file.yaml><run.name=x>"),
    ("pretrain --help train.ze\t", "<pretrain><--help><train.zero>"),
    ("curate corpus.sou\tna\tweb", "<curate><corpus.sources[0].name=web>"),
    ("pretrain ray.dashb\tf\t ray.autosc\tt\t", "<pretrain><ray.dashboard=false><ray.autoscaling=true>"),
    ("stat\tru\tfir\t", "<status><runs/first>"),
    ("rm --ch\truns/f\t", "<rm><--checkpoints><runs/first>"),
    ("bench sc\t", "<bench><scale>"),
    ("compl\tz\t", "<completion><zsh>"),
]


class Terminal:
    """A shell in a terminal of its own, in a directory with the completion as a file."""

    def __init__(self, shell: str, place: Path) -> None:
        command, setup = START[shell]
        self.pid, self.fd = pty.fork()
        if self.pid == 0:  # pragma: no cover - the shell
            os.chdir(place)
            os.execvpe(
                command[0], command, {"PATH": os.environ["PATH"], "TERM": "dumb", "HOME": str(place), "PS1": "$ "}
            )
        for line in [*setup, SHOWN]:
            self.send(f"{line}\n")
        self.ask("")

    def send(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def ask(self, typed: str) -> str:
        """What `raypt` gets when this is typed."""
        for part in f"raypt {typed} end-of-line".split("\t"):
            self.send(part)
            if not part.endswith("end-of-line"):
                self.send("\t")
                time.sleep(0.05)  # as fast as a person; zsh takes what comes at once as pasted
        self.send("\n")
        return self.until("<end-of-line>")

    def until(self, mark: str, seconds: float = 30.0) -> str:
        out, end = "", time.monotonic() + seconds
        while mark not in out:
            left = end - time.monotonic()
            assert left > 0 and select.select([self.fd], [], [], left)[0], f"no {mark!r} in {out!r}"
            out += os.read(self.fd, 65536).decode(errors="replace")
        return out.partition(mark)[0].splitlines()[-1]

    def close(self) -> None:
        os.close(self.fd)
        os.waitpid(self.pid, 0)


@pytest.fixture(scope="module")
def words() -> Words:
    return Words()


@pytest.mark.parametrize(
    "shell", ["bash", pytest.param("zsh", marks=pytest.mark.skipif(not shutil.which("zsh"), reason="no zsh"))]
)
def test_what_is_typed_with_tabs_is_what_the_command_gets(shell: str, words: Words, tmp_path: Path) -> None:
    (tmp_path / "completion").write_text({"bash": bash, "zsh": zsh}[shell](words))
    (tmp_path / "runs" / "first").mkdir(parents=True)
    (tmp_path / "some file.yaml").touch()
    terminal = Terminal(shell, tmp_path)
    try:
        for typed, got in TYPED:
            assert terminal.ask(typed).replace("/>", ">") == got, typed  # zsh takes the slash of a directory back
    finally:
        terminal.close()


@pytest.mark.skipif(not shutil.which("fish"), reason="no fish")
def test_fish_offers_jobs_keys_values_and_options(words: Words, tmp_path: Path) -> None:
    (tmp_path / "completion").write_text(fish(words))

    def offered(typed: str) -> list[str]:
        command = ["fish", "--no-config", "-c", "source ./completion; complete -C $argv[1]", typed]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        return [line.partition("\t")[0] for line in done.stdout.splitlines()]

    assert offered("raypt pretr") == ["pretrain"]
    assert offered("raypt pretrain train.zero.st") == [f"train.zero.stage={n}" for n in range(4)]
    assert offered("raypt pretrain --dr") == ["--dry-run"]
    assert offered("raypt rm --ch") == ["--checkpoints"]
    assert offered("raypt bench sc") == ["scale"]


def test_every_job_and_every_key_is_offered(words: Words) -> None:
    assert set(words.first) >= {*JOBS, *TOOLS}
    assert {*OF_TOOLS, "completion"} == {*TOOLS}
    assert len(words.keys) > 300
    for key, found in words.keys.items():
        assert not set(key + "".join(found)) & set("' \"\n"), key


def test_every_value_that_is_offered_is_one_that_the_key_takes(words: Words) -> None:
    shown = {key: found for key, found in words.keys.items() if found and key.count(".") == 1 and "[" not in key}
    assert len(shown) > 10
    for key, found in shown.items():
        section, name = key.split(".")
        field = RunConfig.model_fields[section].annotation
        assert field is not None
        info = field.model_fields[name]
        for value in found:
            validate(_one(info.annotation), {"value": value})


def _one(annotation: object) -> type:
    from pydantic import create_model

    return create_model("One", value=(annotation, ...))


def test_printing_it_imports_no_ray_torch_or_compiler() -> None:
    code = (
        "import sys; from raypt.run.cli import run; status = run(['completion', 'bash']); "
        "sys.exit(status or [m for m in ('ray', 'torch', 'numba', 'scipy') if m in sys.modules] or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_a_shell_that_there_is_not_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    from raypt.run.cli import run

    assert run(["completion", "tcsh"]) == 2
    assert "name one shell of bash, zsh, fish" in capsys.readouterr().err
