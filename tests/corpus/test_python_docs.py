"""The embedded corpus: the same on every run, and prose recognised as prose."""

import gc
import gzip
import json
import sysconfig
from pathlib import Path

import pytest

from raypt.corpus.config import BuiltinConfig, CorpusConfig, SourceConfig
from raypt.corpus.manifest import build_manifest
from raypt.corpus.python_docs import docstrings, environment_files, is_long_prose, materialize, resolve

PROSE = "The quick brown fox jumps over the lazy dog while the patient reader keeps on reading this line.\n" * 20


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    made = [tmp_path_factory.mktemp("run") for _ in range(2)]
    for run in made:
        materialize(BuiltinConfig(max_bytes=200_000, files=2), str(run))
    return made


def test_two_runs_in_two_places_have_the_same_manifest(runs: list[Path]) -> None:
    config = CorpusConfig(sources=(resolve(SourceConfig(paths=("builtin:python-docs",))),))
    one, two = (build_manifest(config, str(run)) for run in runs)
    assert one.fingerprint == two.fingerprint
    assert one.files[0].rows is None


def test_the_size_asked_for_is_reached_within_one_document_a_file(runs: list[Path]) -> None:
    files = sorted((runs[0] / "input/python-docs").iterdir())
    lines = [json.loads(line) for f in files for line in gzip.decompress(f.read_bytes()).splitlines()]
    total = sum(len(line["text"].encode()) for line in lines)
    assert total >= 200_000
    assert {line["subset"] for line in lines} == {"docstrings", "readme", "licence"}


def test_docstrings_come_in_order_under_their_names() -> None:
    source = '"""Module."""\nclass A:\n    """Class."""\n    def f(self):\n        """Method."""\n'
    assert docstrings(source, "m") == "m\n\nModule.\n\nA\n\nClass.\n\nA.f\n\nMethod."


def test_source_that_does_not_parse_has_no_docstrings() -> None:
    assert docstrings("def f(:\n", "m") == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (PROSE, True),
        (PROSE[:500], False),
        (PROSE.replace(" ", "\n"), False),
        ("| a | b | c | d | e | f | g | h | i |\n" * 100, False),
        (PROSE.replace("the", ">>> f(x)[1:2] == {3, 4}"), False),
    ],
)
def test_long_prose_is_told_from_tables_and_lists(text: str, expected: bool) -> None:
    assert is_long_prose(text) is expected


@pytest.mark.parametrize("source", ['"""About."""', "def f(:", "x = 1"])
def test_the_collector_of_cycles_is_on_again_after_a_module(source: str) -> None:
    docstrings(source, "m")
    assert gc.isenabled()


def test_files_of_the_environment_are_those_that_pathlib_finds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    standard, installed = tmp_path / "lib", tmp_path / "lib" / "site-packages"
    for name in ("os.py", "json/__init__.py", "json/data.txt", "site-packages/not.py"):
        (standard / name).parent.mkdir(parents=True, exist_ok=True)
        (standard / name).touch()
    for name in ("a/b.py", "a-1.dist-info/METADATA", "a-1.dist-info/licenses/LICENSE", "a-1.dist-info/x.py", "LICENSE"):
        (installed / name).parent.mkdir(parents=True, exist_ok=True)
        (installed / name).touch()
    (installed / "a-1.dist-info" / "LICENSES").mkdir()
    monkeypatch.setattr(sysconfig, "get_path", {"stdlib": str(standard), "purelib": str(installed)}.get)
    found = {(name, kind, path) for name, kind, path in environment_files()}
    assert found == {
        ("stdlib/os.py", "docstrings", standard / "os.py"),
        ("stdlib/json/__init__.py", "docstrings", standard / "json" / "__init__.py"),
        ("packages/a/b.py", "docstrings", installed / "a" / "b.py"),
        ("packages/a-1.dist-info/METADATA", "readme", installed / "a-1.dist-info" / "METADATA"),
        ("packages/a-1.dist-info/licenses/LICENSE", "licence", installed / "a-1.dist-info" / "licenses" / "LICENSE"),
        ("packages/not.py", "docstrings", installed / "not.py"),
    }
