"""Nothing is lost in silence: broken files, changed files, fields that are not there, names that say too much."""

import bz2
import gzip
import json
import lzma
from pathlib import Path
from typing import Any

import pytest
import zstandard

from raypt.corpus.config import CorpusConfig, SourceConfig
from raypt.corpus.manifest import Manifest, build_manifest
from raypt.corpus.reader import read_shard
from raypt.errors import UserError
from tests.corpus.reading import documents, read_all, write_lines

PACK = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstandard.compress}


def lines(n: int, first: int = 0) -> bytes:
    return "".join(json.dumps(d) + "\n" for d in documents(first + n, first)).encode()


def write_some_broken(folder: Path, files: int, broken: int, how: str, suffix: str = ".zst") -> dict[str, Any]:
    """Files of 40 documents, the first ones of them broken at their start or cut in half."""
    for n in range(files):
        data = PACK[suffix](lines(40, 40 * n))
        if n < broken:
            at = 10 if suffix == ".gz" else 4  # behind gzip's header, whose time of change may be anything
            data = data[: len(data) // 2] if how == "cut" else data[:at] + b"\xff\xff" + data[at + 2 :]
        (folder / f"part-{n:02d}.jsonl{suffix}").write_bytes(data)
    return {"name": "s", "paths": str(folder / "*.jsonl*")}


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize("how", ["cut", "start"])
@pytest.mark.parametrize("broken", [9, 5, 1])
def test_broken_files_count_by_their_bytes_and_end_the_run(tmp_path: Path, suffix: str, how: str, broken: int) -> None:
    out = read_all(tmp_path, write_some_broken(tmp_path, 10, broken, how, suffix))
    assert out.error is not None
    assert "part-00.jsonl" in out.error
    assert f"{broken} files could not be read to their end" in out.error
    assert out.kinds == ["broken_file"] * broken
    sizes = [f.size for f in out.manifest.files]
    assert out.account.stored_bytes == sum(sizes)
    assert out.account.unfinished_bytes == sum(sizes[:broken])
    assert out.ledger.removed["read.broken_file"].documents == broken
    if how == "start":
        assert out.account.lost_bytes["broken_file"] == sum(sizes[:broken])


def test_within_the_limit_a_broken_file_is_a_warning_and_what_stands_before_the_break_is_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = write_some_broken(tmp_path, 40, 1, "cut", ".gz")
    out = read_all(tmp_path, source)
    assert out.error is None
    assert "1 files could not be read to their end" in caplog.text
    assert 39 * 40 < len(out.texts) < 40 * 40


@pytest.mark.parametrize(("policy", "goes_on"), [("limit", False), ("fail", False), ("quarantine", True)])
def test_what_a_broken_file_does_is_a_key(tmp_path: Path, policy: str, goes_on: bool) -> None:
    out = read_all(tmp_path, write_some_broken(tmp_path, 4, 3, "start"), broken_files=policy)
    assert (out.error is None) == goes_on
    assert len(out.texts) == 40


def test_one_broken_file_of_many_ends_the_run_where_files_must_be_whole(tmp_path: Path) -> None:
    out = read_all(tmp_path, write_some_broken(tmp_path, 40, 1, "cut", ".gz"), broken_files="fail")
    assert out.error is not None
    assert "corpus.broken_files=fail" in out.error


def test_records_in_quarantine_still_count_where_broken_files_do_not(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "good"}\nbad\nbad\n')
    out = read_all(tmp_path, {"name": "s", "paths": str(tmp_path / "a.jsonl")}, broken_files="quarantine")
    assert out.error is not None
    assert "corpus.max_quarantined_fraction=0.05" in out.error


# --- inputs that change under a run ----------------------------------------------------------------------------------


def frozen(path: Path, **source: Any) -> tuple[Manifest, CorpusConfig]:
    config = CorpusConfig(sources=(SourceConfig.model_validate({"name": "s", "paths": str(path), **source}),))
    return build_manifest(config, str(path.parent / "run")), config


CHANGES = {
    "grown": lambda path: path.write_bytes(path.read_bytes() + b'{"text": "new"}\n'),
    "shrunk": lambda path: path.write_bytes(path.read_bytes()[:-30]),
    "vanished": lambda path: path.unlink(),
    "rewritten": lambda path: path.write_bytes(path.read_bytes().replace(b"river", b"RIVER")),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.parquet", "a.arrow", "a.csv", "a.tar", "a.txt", "a.html"])
def test_an_input_that_changed_since_the_manifest_is_noticed_when_it_is_read(
    tmp_path: Path, change: str, name: str
) -> None:
    path = tmp_path / name
    path.write_bytes(lines(5) * 20)
    manifest, config = frozen(tmp_path / "other.jsonl", paths=write_lines(tmp_path / "other.jsonl", documents(1)))
    if name.endswith((".parquet", ".arrow")):
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.table({"text": ["the river rose"] * 5})
        if name.endswith(".parquet"):
            pq.write_table(table, path)
        else:
            with pa.OSFile(str(path), "wb") as f, pa.ipc.new_file(f, table.schema) as writer:
                writer.write_table(table)
    manifest, config = frozen(path)
    CHANGES[change](path)
    with pytest.raises(UserError, match=rf"{name} (had \d+ bytes, now has \d+|is gone|was changed)"):
        list(read_shard(manifest, 0, config, str(tmp_path / "run")))


def test_an_input_that_changes_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines(20_000))
    manifest, config = frozen(path)
    config = config.model_copy(update={"batch_bytes": 10_000})
    with pytest.raises(UserError, match=r"a\.jsonl (had \d+ bytes|was changed)"):
        for _ in read_shard(manifest, 0, config, str(tmp_path / "run")):
            with path.open("ab") as f:
                f.write(b'{"text": "new"}\n')


# --- fields ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_a_misspelt_field_in_where_is_a_mistake_and_not_an_empty_source(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "a.csv").write_text("id,text,kind\n1,a,news\n")
    write_lines(tmp_path / "a.jsonl", [{**d, "kind": "news"} for d in documents(3)])
    out = read_all(tmp_path, {"name": "s", "paths": str(tmp_path / f"a{suffix}"), "where": {"knid": "news"}})
    assert out.error is not None
    assert "corpus.sources[0].where.knid: none of the" in out.error


def test_a_field_that_some_records_lack_is_no_mistake(tmp_path: Path) -> None:
    rows = [*documents(2), {**documents(3)[2], "kind": "news"}]
    source = {"name": "s", "paths": write_lines(tmp_path / "a.jsonl", rows), "where": {"kind": "news"}}
    out = read_all(tmp_path, source)
    assert (len(out.texts), out.error) == (1, None)


def test_a_column_that_no_record_has_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = {"name": "s", "paths": write_lines(tmp_path / "a.jsonl", documents(3)), "columns": {"lang2": "lnag"}}
    assert read_all(tmp_path, source).error is None
    assert "corpus.sources[0].columns.lang2: none of the 3 records of s has 'lnag'" in caplog.text


def test_columns_keep_their_types_and_other_values_are_null_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [{"text": "a", "score": 3.5, "n": 2, "ok": True}, {"text": "b", "score": "high", "n": 2.5, "ok": "no"}]
    source = {
        "name": "s",
        "paths": write_lines(tmp_path / "a.jsonl", rows),
        "columns": {"score": "score", "n": "n", "ok": "ok"},
        "column_types": {"score": "float", "n": "int", "ok": "bool"},
    }
    out = read_all(tmp_path, source)
    assert [(r["score"], r["n"], r["ok"]) for r in out.rows] == [(3.5, 2, True), (None, None, False)]
    assert "1 values of column score are no float and became null" in caplog.text


def test_records_are_chosen_by_a_range_of_numbers(tmp_path: Path) -> None:
    rows = [{"text": f"t{i}", "int_score": i} for i in range(6)]
    source = {
        "name": "s",
        "paths": write_lines(tmp_path / "a.jsonl", rows),
        "where": {"int_score": {"min": 3, "max": 4}},
    }
    assert read_all(tmp_path, source).texts == ["t3", "t4"]


@pytest.mark.parametrize("field", ["content", "body", "story"])
def test_the_text_field_is_found_out_where_that_is_asked_for_and_said(
    tmp_path: Path, field: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "raypt")
    rows = [{"id": f"{i}", "title": "T", field: f"A longer text number {i}."} for i in range(3)]
    source = {"name": "s", "paths": write_lines(tmp_path / "a.jsonl", rows), "text_field": "auto"}
    out = read_all(tmp_path, source)
    assert out.texts == [r[field] for r in rows]
    assert f"the text is in field {field}" in caplog.text
    assert out.manifest.sources[0].text_field == field


# --- names from outside ----------------------------------------------------------------------------------------------


def test_names_in_records_are_escaped_and_bounded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [
        {"\x1b[2J\n12:00:00 I ledger: all fine" + "x" * 10_000: 1, **{f"k{i}": i for i in range(5000)}},
        documents(1)[0],
    ]
    out = read_all(
        tmp_path, {"name": "s", "paths": write_lines(tmp_path / "a.jsonl", rows)}, max_quarantined_fraction=1
    )
    [entry] = out.quarantined
    assert len(entry["error"]) < 1000
    assert "\x1b" not in caplog.text
    assert "\n12:00:00" not in caplog.text


def test_what_gives_access_to_an_input_is_not_written_down_and_is_there_to_read_it(tmp_path: Path) -> None:
    url = "http://user:secret@example.org/a.jsonl?token=xyz&part=1"
    source = SourceConfig(name="s", paths=(url,))
    manifest = Manifest((source,), (), ())
    stored = json.dumps(manifest.to_json())
    assert "secret" not in stored
    assert "xyz" not in stored
    read_back = Manifest.from_json(json.loads(stored), "manifest.json")
    assert read_back.fingerprint == manifest.fingerprint
