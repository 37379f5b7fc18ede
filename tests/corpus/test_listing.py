"""Which files a path means, and what is said of those that it does not."""

import json
import os
from pathlib import Path

import fsspec
import pytest

from raypt import storage
from raypt.corpus.listing import expand, is_hidden, list_files, natural
from raypt.errors import UserError
from tests.corpus.reading import documents, read_all, write_lines


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps({"text": name}) + "\n")


def below(pattern: Path | str) -> list[str]:
    return [name for name, _ in list_files(str(pattern)).files]


def test_numbers_in_names_sort_as_numbers() -> None:
    names = ["part-100000", "part-99999", "part-2", "b", "a10", "a9"]
    assert sorted(names, key=natural) == ["a9", "a10", "b", "part-2", "part-99999", "part-100000"]


@pytest.mark.parametrize(
    "name", ["_temporary", ".git", "._x.jsonl", "_SUCCESS", "__MACOSX", "x.tmp", "x.jsonl~", "#x#", "x.crc"]
)
def test_marks_of_what_is_no_data(name: str) -> None:
    assert is_hidden(name)


@pytest.mark.parametrize("name", ["x.jsonl", "_date=2024", "part-0", "a_b.jsonl", "名字.txt"])
def test_names_of_data(name: str) -> None:
    assert not is_hidden(name)


def test_hidden_and_temporary_files_are_passed_over_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(tmp_path / "out", "a.jsonl", "_temporary/0/b.jsonl", ".ipynb_checkpoints/c.jsonl", "_SUCCESS", "d.jsonl.tmp")
    out = read_all(tmp_path, {"name": "s", "paths": str(tmp_path / "out")})
    assert out.texts == ["a.jsonl"]
    skipped = out.manifest.skipped["s"]["hidden or temporary"]
    assert skipped == {"count": 4, "first": [".ipynb_checkpoints/", "_SUCCESS", "_temporary/", "d.jsonl.tmp"]}
    assert "source s: passed over: 4 hidden or temporary (.ipynb_checkpoints/, _SUCCESS" in caplog.text


def test_unknown_suffixes_are_passed_over_and_said_by_suffix(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(tmp_path / "d", "a.jsonl", "b.dat", "sub/c.DAT", "noname")
    out = read_all(tmp_path, {"name": "s", "paths": str(tmp_path / "d")})
    assert out.texts == ["a.jsonl"]
    assert {k: v["count"] for k, v in out.manifest.skipped["s"].items()} == {
        "of unknown format .dat": 2,
        "without a suffix": 1,
    }
    assert "2 of unknown format .dat (b.dat, sub/c.DAT)" in caplog.text


def test_a_directory_of_unknown_files_alone_is_a_mistake_that_names_them(tmp_path: Path) -> None:
    put(tmp_path / "d", "a.dat", "part-00000")
    with pytest.raises(UserError, match=r"has no file that is data: 1 of unknown format \.dat \(a\.dat\)"):
        read_all(tmp_path, {"name": "s", "paths": str(tmp_path / "d")})


def test_a_format_that_is_given_holds_for_all_files(tmp_path: Path) -> None:
    put(tmp_path / "d", "a.dat", "part-00000", "b.jsonl", ".hidden")
    out = read_all(tmp_path, {"name": "s", "paths": str(tmp_path / "d"), "format": "jsonl"})
    assert out.texts == ["a.dat", "b.jsonl", "part-00000"]


def test_cards_and_scripts_beside_data_are_no_data_and_alone_they_are(tmp_path: Path) -> None:
    put(tmp_path / "set", "data/a.jsonl", "notes.txt")
    for name in ("README.md", "LICENSE.txt", "load.py"):
        (tmp_path / "set" / name).write_text("---\ncard: yes\n---\n")
    out = read_all(tmp_path, {"name": "s", "paths": str(tmp_path / "set")})
    assert sorted(out.texts) == ["data/a.jsonl", '{"text": "notes.txt"}\n']
    assert out.manifest.skipped["s"]["beside data, not data"]["count"] == 3
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "README.md").write_text("# Documentation\n")
    (tmp_path / "docs" / "tool.py").write_text("print()\n")
    out = read_all(tmp_path, {"name": "s", "paths": str(tmp_path / "docs"), "columns": {"language": "language"}})
    assert [(r["text"], r["language"]) for r in out.rows] == [("# Documentation\n", None), ("print()\n", "Python")]


def test_linked_directories_are_followed_once_and_loops_end(tmp_path: Path) -> None:
    put(tmp_path, "data/a.jsonl", "data/sub/b.jsonl", "elsewhere/c.jsonl")
    (tmp_path / "data" / "again").symlink_to(".")
    (tmp_path / "data" / "0-same").symlink_to("sub")
    (tmp_path / "data" / "more").symlink_to("../elsewhere")
    (tmp_path / "data" / "twice.jsonl").symlink_to("a.jsonl")
    (tmp_path / "data" / "linked.jsonl").symlink_to("../elsewhere/c.jsonl")
    listing = list_files(str(tmp_path / "data"))
    assert [name for name, _ in listing.files] == ["a.jsonl", "more/c.jsonl", "sub/b.jsonl"]
    assert listing.skipped.counts == {"named twice": 2}


@pytest.mark.parametrize("pattern", ["data", "data/*.jsonl", "data/b.jsonl"])
def test_a_link_to_nothing_is_named(tmp_path: Path, pattern: str) -> None:
    put(tmp_path, "data/a.jsonl")
    (tmp_path / "data" / "b.jsonl").symlink_to("/nonexistent/b.jsonl")
    with pytest.raises(UserError, match=r"b\.jsonl"):
        read_all(tmp_path, {"name": "s", "paths": str(tmp_path / pattern)})


def test_with_broken_files_in_quarantine_a_link_to_nothing_is_passed_over_and_said(tmp_path: Path) -> None:
    put(tmp_path, "data/a.jsonl")
    (tmp_path / "data" / "b.jsonl").symlink_to("/nonexistent/b.jsonl")
    out = read_all(tmp_path, {"name": "s", "paths": str(tmp_path / "data")}, broken_files="quarantine")
    assert out.texts == ["data/a.jsonl"]
    assert out.manifest.skipped["s"]["a link to nothing"] == {"count": 1, "first": ["b.jsonl"]}


@pytest.mark.parametrize("folder", ["dump[2024]", "what?", "a*b", "x[!y]", "part::one", "sp ace #1", "名"])
def test_a_directory_that_exists_under_its_literal_name_is_meant(tmp_path: Path, folder: str) -> None:
    put(tmp_path / folder, "a.jsonl", "sub/b.jsonl")
    put(tmp_path / "dump2", "other.jsonl")
    assert below(tmp_path / folder) == ["a.jsonl", "sub/b.jsonl"]
    assert below(tmp_path / folder / "a.jsonl") == ["a.jsonl"]
    if "[" in folder:
        assert [Path(p).name for p in expand(str(tmp_path / folder / "*.jsonl"))] == ["a.jsonl"]
        assert [Path(p).name for p in expand(str(tmp_path / folder / "**" / "*.jsonl"))] == ["a.jsonl", "b.jsonl"]


GLOBS = {
    "*.jsonl": ["a.jsonl", "b.jsonl"],
    "?.jsonl": ["a.jsonl", "b.jsonl"],
    "[!b].jsonl": ["a.jsonl"],
    "**/*.jsonl": ["a.jsonl", "b.jsonl", "d/c.jsonl", "d/e/f.jsonl"],
    "d/**": ["c.jsonl", "e/f.jsonl"],
    "d*": ["d/c.jsonl", "d/e/f.jsonl"],
    "*/e/*.jsonl": ["d/e/f.jsonl"],
    "_h*/x.jsonl": ["_hidden/x.jsonl"],
    "nothing*": [],
}


@pytest.mark.parametrize("pattern", GLOBS)
@pytest.mark.parametrize("remote", [False, True])
def test_globs(tmp_path: Path, pattern: str, remote: bool) -> None:
    names = ["a.jsonl", "b.jsonl", "d/c.jsonl", "d/e/f.jsonl", "_hidden/x.jsonl", "d/.git/y.jsonl"]
    if not remote:
        put(tmp_path, *names)
        assert sorted(below(tmp_path / pattern)) == GLOBS[pattern]
        return
    fs = fsspec.filesystem("memory")
    fs.rm("/globs", recursive=True) if fs.exists("/globs") else None
    for name in names:
        fs.pipe_file(f"/globs/{name}", b"{}")
    assert sorted(below(f"memory://globs/{pattern}")) == GLOBS[pattern]


def test_a_hidden_path_that_is_named_is_meant(tmp_path: Path) -> None:
    put(tmp_path, "_data/a.jsonl", ".cache/b.jsonl", "_x.jsonl")
    paths = [str(tmp_path / p) for p in ("_data", ".cache", "_x.jsonl")]
    texts = read_all(tmp_path, {"name": "s", "paths": paths}).texts
    assert sorted(texts) == [".cache/b.jsonl", "_data/a.jsonl", "_x.jsonl"]


def test_a_file_that_two_paths_name_is_read_once(tmp_path: Path) -> None:
    put(tmp_path, "d/a.jsonl", "d/b.jsonl")
    out = read_all(tmp_path, {"name": "s", "paths": [str(tmp_path / "d"), str(tmp_path / "d" / "a*.jsonl")]})
    assert out.texts == ["d/a.jsonl", "d/b.jsonl"]
    assert out.manifest.skipped["s"]["named twice"]["count"] == 1


def test_names_that_forge_lines_of_a_log_are_escaped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(tmp_path / "d", "a.jsonl", "x\n12:00 I ledger: all fine\x1b[2J.dat")
    read_all(tmp_path, {"name": "s", "paths": str(tmp_path / "d")})
    assert r"x\n12:00 I ledger: all fine\x1b[2J.dat" in caplog.text
    assert "\x1b" not in caplog.text


def test_a_name_that_is_no_utf_8_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    with open(os.fsencode(tmp_path / "d") + b"/\xff.jsonl", "w") as f:  # noqa: PTH123 (a name of bytes)
        f.write('{"text": "t"}\n')
    with pytest.raises(UserError, match=r"udcff\.jsonl: the name of this file is no UTF-8"):
        read_all(tmp_path, {"name": "s", "paths": str(tmp_path / "d")})


def test_hive_partitions_are_fields(tmp_path: Path) -> None:
    for year in (2023, 2024):
        write_lines(tmp_path / "set" / f"year={year}" / "lang=zh%2FHant" / "a.jsonl", documents(1))
    write_lines(tmp_path / "set" / "year=__HIVE_DEFAULT_PARTITION__" / "b.jsonl", documents(1))
    source = {"name": "s", "paths": str(tmp_path / "set"), "columns": {"y": "year", "l": "lang"}}
    out = read_all(tmp_path, {**source, "column_types": {"y": "int"}})
    assert [(r["y"], r["l"]) for r in out.rows] == [(2023, "zh/Hant"), (2024, "zh/Hant"), (None, None)]
    out = read_all(tmp_path, {**source, "where": {"year": ["2024"]}})
    assert [r["y"] for r in out.rows] == ["2024"]


def test_what_was_listed_to_be_asked_for_again_is_asked_for_once_and_no_longer(tmp_path: Path) -> None:
    at = f"memory://again-{tmp_path.name}"
    storage.write_bytes(f"{at}/a.jsonl", b"{}")
    first = list_files(at, again=True)
    first.skipped.add("by who looked first", "a.jsonl")
    storage.write_bytes(f"{at}/b.jsonl", b"{}")
    second = list_files(at)
    assert [name for name, _ in second.files] == ["a.jsonl"]
    assert not second.skipped.counts
    assert [name for name, _ in list_files(at).files] == ["a.jsonl", "b.jsonl"]


def test_a_check_lists_anew_whatever_was_kept(tmp_path: Path) -> None:
    at = f"memory://anew-{tmp_path.name}"
    storage.write_bytes(f"{at}/a.jsonl", b"{}")
    list_files(at, again=True)
    storage.write_bytes(f"{at}/b.jsonl", b"{}")
    assert len(list_files(at, again=True).files) == len(list_files(at).files) == 2
