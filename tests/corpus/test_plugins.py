"""A reader of one's own, named in the configuration as `package.module:name`."""

import sys
from pathlib import Path

import pytest

from raypt.corpus.config import SourceConfig
from raypt.errors import UserError
from tests.corpus.reading import read_all

READER = """
from raypt.corpus.records import Fault, Record

def read(request):
    with open(request.uri, encoding="utf-8") as f:
        for row, block in enumerate(f.read().split("---\\n")):
            title, _, text = block.partition("\\n")
            if text:
                yield Record(row, {"id": title, "text": text, "upper": title.upper()})
            else:
                yield Fault(row, "no_body", f"block {title!r} has no text", nbytes=len(block.encode()))

not_a_reader = 7
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "own_reader.py").write_text(READER)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.blocks").write_text("one\nfirst text\n---\ntwo\n---\nthree\nthird text\n")
    monkeypatch.delitem(sys.modules, "own_reader", raising=False)  # that of another test
    monkeypatch.syspath_prepend(str(tmp_path))
    return "own_reader"


def test_its_records_and_faults_are_those_of_any_reader(tmp_path: Path, module: str) -> None:
    source = {"name": "s", "paths": str(tmp_path / "data"), "format": f"{module}:read", "columns": {"u": "upper"}}
    out = read_all(tmp_path, source, max_quarantined_fraction=1)
    assert [(r["id"], r["text"], r["u"]) for r in out.rows] == [
        ("one", "first text\n", "ONE"),
        ("three", "third text\n", "THREE"),
    ]
    assert [(e["row"], e["kind"]) for e in out.quarantined] == [(1, "no_body")]
    assert out.account.lost_bytes == {"no_body": 4}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("own_reader:raed", "has no 'raed'; did you mean read"),
        ("own_reader:not_a_reader", "a reader is a function"),
        ("no_such_module:read", "there is no module 'no_such_module'"),
    ],
)
def test_a_name_that_is_no_reader_is_a_mistake_before_any_work(
    tmp_path: Path, module: str, name: str, message: str
) -> None:
    with pytest.raises(UserError, match=message) as error:
        read_all(tmp_path, {"name": "s", "paths": str(tmp_path / "data"), "format": name})
    assert "corpus.sources[0].format" in str(error.value)


def test_a_reader_that_changed_is_another_input(tmp_path: Path, module: str) -> None:
    source = {"name": "s", "paths": str(tmp_path / "data"), "format": f"{module}:read"}
    one = read_all(tmp_path, source, max_quarantined_fraction=1).manifest
    (tmp_path / "own_reader.py").write_text(READER.replace("upper()", "lower()"))
    two = read_all(tmp_path, source, max_quarantined_fraction=1).manifest
    assert one.fingerprint != two.fingerprint
    assert one.shard_key(0) != two.shard_key(0)


@pytest.mark.parametrize("name", ["jsnl", "csv2", ""])
def test_a_format_that_there_is_not_is_refused_with_those_there_are(name: str) -> None:
    with pytest.raises(ValueError, match="the formats are auto, jsonl, parquet"):
        SourceConfig(name="s", paths=("x",), format=name)
