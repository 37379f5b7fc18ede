"""From files to documents: stable keys, and an account of every record that cannot be read."""

import base64
import gzip
import hashlib
import io
import json
import tarfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from raypt.corpus.config import CorpusConfig, HtmlConfig, SourceConfig
from raypt.corpus.formats.html import html_to_text
from raypt.corpus.keys import row_of, shard_of
from raypt.corpus.manifest import build_manifest
from raypt.corpus.reader import ShardBatch, read_shard

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "corpora"


def read_all(run: Path, shard_bytes: int = 1 << 20, **source: object) -> list[ShardBatch]:
    config = CorpusConfig(sources=(SourceConfig.model_validate(source),), shard_bytes=shard_bytes, batch_bytes=4096)
    manifest = build_manifest(config, str(run))
    return [b for s in range(len(manifest.shards)) for b in read_shard(manifest, s, config, str(run))]


def texts(batches: Sequence[ShardBatch]) -> list[str]:
    return [t for b in batches for t in b.documents["text"].to_pylist()]


def faults(batches: Sequence[ShardBatch]) -> list[dict]:
    return [q for b in batches for q in b.quarantined]


ROWS = [
    {"id": i, "text": f"第 {i} 篇文档 with 'some' text\n" * (1 + i % 5), "url": f"https://x.org/{i}"}
    for i in range(300)
]
LINES = "".join(json.dumps(r, ensure_ascii=i % 2 == 0) + "\n" for i, r in enumerate(ROWS)).encode()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("x.jsonl", LINES),
        ("x.jsonl.gz", gzip.compress(LINES[:20_000]) + gzip.compress(LINES[20_000:])),
        ("x.jsonl.zst", b"".join(zstandard.compress(LINES[i : i + 900]) for i in range(0, len(LINES), 900))),
    ],
)
def test_jsonl_plain_and_compressed_reads_the_same(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    batches = read_all(tmp_path, paths=str(tmp_path / name))
    assert texts(batches) == [r["text"] for r in ROWS]
    assert [u for b in batches for u in b.documents["id"].to_pylist()] == [str(r["id"]) for r in ROWS]


@pytest.mark.parametrize("shard_bytes", [100, 1_000, 7_777])
def test_cutting_a_file_by_bytes_loses_and_doubles_no_line(tmp_path: Path, shard_bytes: int) -> None:
    (tmp_path / "x.jsonl").write_bytes(LINES)
    assert texts(read_all(tmp_path, shard_bytes, paths=str(tmp_path / "x.jsonl"))) == [r["text"] for r in ROWS]


def test_keys_are_shard_and_row_and_the_same_on_every_read(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(LINES)
    one, two = (read_all(tmp_path, 10_000, paths=str(tmp_path / "x.jsonl")) for _ in range(2))
    keys = pa.concat_tables([b.documents for b in one])["doc_key"].to_numpy()
    assert keys.tolist() == pa.concat_tables([b.documents for b in two])["doc_key"].to_pylist()
    assert (sorted(keys) == keys).all()
    assert set(shard_of(keys)) == set(range(shard_of(keys).max() + 1))
    assert row_of(keys).min() == 0


def test_an_unreadable_record_keeps_its_row_number_to_itself(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"text": "a"}\nnot json\n{"text": "c"}\n')
    batches = read_all(tmp_path, paths=str(tmp_path / "x.jsonl"))
    assert row_of(batches[0].documents["doc_key"].to_numpy()).tolist() == [0, 2]


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (b"{not json", "not_json"),
        (b'{"text": "\xff\xfe"}', "invalid_utf8"),
        (b'{"text": "\\ud800"}', "not_json"),
        (b'["text"]', "not_object"),
        (b'{"text": null}', "null_text"),
        (b'{"text": 7}', "text_not_string"),
        (b'{"body": "x"}', "no_text_field"),
    ],
)
def test_a_bad_line_is_quarantined_with_file_row_and_reason(tmp_path: Path, line: bytes, kind: str) -> None:
    (tmp_path / "x.jsonl").write_bytes(b'{"text": "good"}\n' + line + b"\n")
    batches = read_all(tmp_path, paths=str(tmp_path / "x.jsonl"))
    assert texts(batches) == ["good"]
    [entry] = faults(batches)
    assert (entry["kind"], entry["row"], entry["file"]) == (kind, 1, str(tmp_path / "x.jsonl"))
    assert entry["error"]


def _many_frames(data: bytes) -> bytes:
    return b"".join(zstandard.compress(data[i : i + 1000]) for i in range(0, len(data), 1000))


@pytest.mark.parametrize(("name", "compress"), [("x.jsonl.gz", gzip.compress), ("x.jsonl.zst", _many_frames)])
def test_a_truncated_file_gives_what_it_has_and_says_where_it_broke(
    tmp_path: Path, name: str, compress: Callable[[bytes], bytes]
) -> None:
    (tmp_path / name).write_bytes(compress(LINES)[:-200])
    batches = read_all(tmp_path, paths=str(tmp_path / name))
    got = texts(batches)
    assert 0 < len(got) < len(ROWS)
    assert got == [r["text"] for r in ROWS[: len(got)]]
    [entry] = faults(batches)
    assert entry["kind"] == "broken_file"
    assert f"after {len(got)} records" in entry["error"]


def test_an_overlong_document_is_quarantined_without_being_held(tmp_path: Path) -> None:
    with (tmp_path / "x.jsonl").open("w") as f:
        f.write('{"text": "before"}\n{"text": "' + "x" * 50_000_000 + '"}\n{"text": "after"}\n')
    sources = (SourceConfig(paths=(str(tmp_path / "x.jsonl"),)),)
    config = CorpusConfig(sources=sources, max_document_bytes=1_000_000, shard_bytes=1 << 30)
    batches = list(read_shard(build_manifest(config, str(tmp_path)), 0, config, str(tmp_path)))
    assert texts(batches) == ["before", "after"]
    [entry] = faults(batches)
    assert entry["kind"] == "too_long"
    assert len(entry["excerpt"]) < 10_000


def test_empty_texts_are_counted_not_quarantined(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"text": ""}\n{"text": "  \\n"}\n{"text": "a"}\n')
    batches = read_all(tmp_path, paths=str(tmp_path / "x.jsonl"))
    assert sum((b.not_documents for b in batches), start=type(batches[0].not_documents)()) == {"empty_text": 2}
    assert faults(batches) == []


@pytest.mark.parametrize("name", ["x.jsonl", "x.txt", "x.parquet"])
def test_an_empty_file_is_no_document_and_no_error(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    batches = read_all(tmp_path, paths=str(tmp_path / name))
    assert (texts(batches), faults(batches)) == ([], [])


def test_nested_fields_and_further_columns(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"doc": {"body": "hi"}, "meta": {"set": "Wiki"}}\n')
    batches = read_all(
        tmp_path, paths=str(tmp_path / "x.jsonl"), text_field="doc.body", columns={"subset": "meta.set", "no": "a.b"}
    )
    assert batches[0].documents.select(["text", "subset", "no"]).to_pylist() == [
        {"text": "hi", "subset": "Wiki", "no": None}
    ]


def test_parquet_rows_with_broken_utf8_are_quarantined_alone(tmp_path: Path) -> None:
    broken = pa.Array.from_buffers(
        pa.string(), 3, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0\4\0\0\0\6\0\0\0"), pa.py_buffer(b"ok\xff\xfeme")]
    )
    pq.write_table(pa.table({"text": broken}), tmp_path / "x.parquet")
    batches = read_all(tmp_path, paths=str(tmp_path / "x.parquet"))
    assert texts(batches) == ["ok", "me"]
    assert [(f["row"], f["kind"]) for f in faults(batches)] == [(1, "invalid_utf8")]


def test_text_files_are_one_document_each_and_line_files_one_a_line(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("一\n二\n")
    assert texts(read_all(tmp_path, paths=str(tmp_path / "a.txt"))) == ["一\n二\n"]
    assert texts(read_all(tmp_path, paths=str(tmp_path / "a.txt"), format="lines")) == ["一", "二"]


WARC_HTML = "<html><head><title>T</title></head><body><p>你好，世界。</p><script>x()</script></body></html>"


def _warc_record(kind: str, uri: str, body: bytes, content_type: str) -> bytes:
    http = b"HTTP/1.1 200 OK\r\nContent-Type: " + content_type.encode() + b"\r\n\r\n" + body
    block = http if kind in ("response", "revisit") else body
    head = (
        f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Record-ID: <urn:uuid:{abs(hash(uri)):032x}>\r\n"
        f"WARC-Target-URI: {uri}\r\nWARC-Date: 2024-01-01T00:00:00Z\r\n"
        f"Content-Type: {'application/http; msgtype=response' if block is http else content_type}\r\n"
        f"Content-Length: {len(block)}\r\n\r\n"
    )
    return head.encode() + block + b"\r\n\r\n"


def test_warc_html_becomes_text_and_the_rest_is_counted(tmp_path: Path) -> None:
    records = [
        _warc_record("response", "http://a/", WARC_HTML.encode("gb18030"), "text/html; charset=gb18030"),
        _warc_record("response", "http://b/x.png", b"\x89PNG", "image/png"),
        _warc_record("revisit", "http://a/", b"", "text/html"),
        _warc_record("conversion", "http://c/", "纯文本".encode(), "text/plain"),
    ]
    (tmp_path / "x.warc.gz").write_bytes(b"".join(gzip.compress(r) for r in records))
    config = CorpusConfig.model_validate(
        {"sources": [{"paths": str(tmp_path / "x.warc.gz")}], "html": {"main_content": False}}
    )
    [batch] = read_shard(build_manifest(config, str(tmp_path)), 0, config, str(tmp_path))
    assert texts([batch]) == ["你好，世界。", "纯文本"]
    assert batch.documents["url"].to_pylist() == ["http://a/", "http://c/"]
    assert batch.not_documents == {"warc_image": 1, "warc_revisit": 1}


@pytest.mark.parametrize("engine", ["raypt", "resiliparse"])
def test_a_page_nested_100_000_deep_costs_no_quadratic_time_and_keeps_its_text(engine: str) -> None:
    page = b"<html><body>" + b"<div>" * 100_000 + b"deep" + b"</div>" * 100_000 + b"<p>after</p></body></html>"
    started = time.process_time()
    text = html_to_text(page, "utf-8", HtmlConfig(engine=engine))
    # Quadratic time would be over 100 s; this takes about 0.2, beside some seconds of compiling.
    assert time.process_time() - started < 10
    assert "deep" in text
    assert "after" in text


@pytest.mark.skipif(not SHARED.exists(), reason="shared corpora absent: real WARC, gzip and LZ4, are not read")
def test_real_warcs_account_for_every_record() -> None:
    for path in sorted((SHARED / "web" / "warc_samples").glob("*")):
        batches = read_all(path.parent, paths=str(path), format="warc")
        assert texts(batches), path.name
        assert faults(batches) == [], path.name


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_page_is_found_again_by_one_hash_whatever_it_came_in(tmp_path: Path, encoding: str) -> None:
    page = WARC_HTML.encode(encoding)
    (tmp_path / "a.html").write_bytes(page)
    (tmp_path / "b.html.gz").write_bytes(gzip.compress(page))
    with tarfile.open(tmp_path / "c.tar", "w") as tar:
        member = tarfile.TarInfo("c.html")
        member.size = len(page)
        tar.addfile(member, io.BytesIO(page))
    (tmp_path / "d.warc").write_bytes(_warc_record("response", "http://a/", page, "text/html"))
    batches = read_all(tmp_path, paths=str(tmp_path / "[a-d].*"), columns={"page": "html_digest"})
    found = [hashed for batch in batches for hashed in batch.documents["page"].to_pylist()]
    assert found == ["sha1:" + base64.b32encode(hashlib.sha1(page).digest()).decode()] * 4
