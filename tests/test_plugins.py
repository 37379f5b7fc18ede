"""A user's own code by name: found in the working directory, checked with a message that says what to mend."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from pydantic import ValidationError

from raypt.errors import UserError
from raypt.plugins import PluginName, fingerprint, is_plugin, load
from raypt.settings import Settings
from raypt.tasks import run_tasks

CODE = """
import os
class Filters:
    class Short:
        minimum = 7
def double(x):
    return 2 * x
pid = os.getpid
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with a package of the user's own, which Python's path does not name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", str(tmp_path))])
    package = tmp_path / "own_code"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "filters.py").write_text(CODE)
    (package / "broken.py").write_text("x = 1\ny = x / 0\n")
    (package / "unfinished.py").write_text("x = (\n")
    (package / "needy.py").write_text("import no_such_package_here\n")
    yield tmp_path
    for name in [n for n in sys.modules if n.split(".")[0] == "own_code"]:
        del sys.modules[name]


def test_a_name_gives_the_object_from_the_working_directory(here: Path) -> None:
    assert load("own_code.filters:double", "k")(4) == 8
    assert load("own_code.filters:Filters.Short", "k").minimum == 7


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("own_code.filters", "write it as package.module:name"),
        ("own_code/filters.py:double", "write it as package.module:name"),
        ("own_code.filters:", "write it as package.module:name"),
        ("own_code.filters:doubel", "filters.py has no 'doubel'; did you mean double?"),
        ("own_code.filters:Filters.Long", "has no 'Long'"),
        ("own_code.fliters:double", "did you mean own_code.filters?"),
        ("no_such_code_at_all:double", "there is no module 'no_such_code_at_all'"),
        ("own_code.needy:x", "own_code.needy imports 'no_such_package_here', which is not installed"),
        ("own_code.broken:x", "broken.py:2: ZeroDivisionError"),
        ("own_code.unfinished:x", "unfinished.py:1: SyntaxError"),
    ],
)
def test_a_mistake_names_the_key_and_what_is_wrong(here: Path, name: str, said: str) -> None:
    with pytest.raises(UserError) as e:
        load(name, "curation.stages[2]")
    assert str(e.value).startswith("curation.stages[2]")
    assert said in str(e.value)


def test_a_key_of_that_type_refuses_another_form() -> None:
    class Section(Settings):
        reader: PluginName

    assert Section(reader="a.b:c").reader == "a.b:c"
    with pytest.raises(ValidationError, match=r"write it as package\.module:name"):
        Section(reader="a.b")
    assert is_plugin("a.b:c")
    assert not is_plugin("gopher_quality")


def test_the_fingerprint_is_that_of_the_source(here: Path) -> None:
    before = fingerprint("own_code.filters:double", "k")
    assert fingerprint("own_code.filters:pid", "k") == before
    with (here / "own_code" / "filters.py").open("a") as f:
        f.write("# changed\n")
    assert fingerprint("own_code.filters:double", "k") != before


def _pid_there(name: str) -> tuple[int, int]:
    return os.getpid(), load(name, "k")()


def _load_there(name: str) -> Any:
    return load(name, "reader")


@pytest.fixture
def local_ray(here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))  # this module's functions run on the workers
    ray.init(address="local", num_cpus=1, include_dashboard=False)
    yield
    ray.shutdown()


def test_workers_import_it_for_themselves_and_say_what_is_missing(local_ray: None) -> None:
    ((there, said),) = run_tasks(_pid_there, ["own_code.filters:pid"], name="t")
    assert there == said != os.getpid()
    with pytest.raises(UserError, match=r"reader=own_code\.gone:x: there is no module 'own_code\.gone' on "):
        run_tasks(_load_there, ["own_code.gone:x"], name="t")


def test_what_is_installed_comes_before_the_working_directory(here: Path) -> None:
    (here / "yaml.py").write_text("safe_load = None\n")
    code = "from raypt.plugins import load; assert load('yaml:safe_load', 'k') is not None"
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1]), "PYTHONSAFEPATH": "1"}
    subprocess.run([sys.executable, "-c", code], check=True, env=env, cwd=here, timeout=60)
