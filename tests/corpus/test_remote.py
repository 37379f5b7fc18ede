"""Inputs behind a scheme: web servers and object stores through fsspec."""

import functools
import gzip
import http.server
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raypt.corpus.config import CorpusConfig, SourceConfig
from raypt.corpus.formats.raw import RawFile
from raypt.corpus.manifest import Manifest, build_manifest
from raypt.corpus.reader import read_shard
from raypt.corpus.unchanged import check_unchanged
from raypt.errors import UserError
from tests.corpus.reading import documents, read_all

LINES = "".join(json.dumps(d) + "\n" for d in documents(400)).encode()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(folder: Path, kind: type[_Quiet]) -> Iterator[str]:
    handler = functools.partial(kind, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A web server over `tmp_path`/www, as simple as they come: no ranges."""
    (tmp_path / "www").mkdir()
    with serving(tmp_path / "www", _Quiet) as url:
        yield url


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a b.jsonl"])
def test_a_file_behind_http_is_read(tmp_path: Path, server: str, name: str) -> None:
    (tmp_path / "www" / name).write_bytes(gzip.compress(LINES) if name.endswith(".gz") else LINES)
    out = read_all(tmp_path, {"name": "s", "paths": f"{server}/{name.replace(' ', '%20')}"})
    assert out.texts == [d["text"] for d in documents(400)]
    assert out.error is None


def test_user_and_password_reach_the_server_and_no_file_or_log(
    tmp_path: Path, server: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "raypt")
    (tmp_path / "www" / "a.jsonl").write_bytes(LINES + b"broken\n")
    url = f"{server.replace('http://', 'http://me:hunter2@')}/a.jsonl"
    out = read_all(tmp_path, {"name": "s", "paths": url, "columns": {"no": "no"}})
    assert len(out.texts) == 400
    assert out.manifest.files[0].path == url
    everything = caplog.text + json.dumps(out.manifest.to_json()) + json.dumps(out.quarantined)
    assert "a.jsonl" in everything
    assert "hunter2" not in everything


def test_a_file_that_a_server_has_not_is_a_mistake_without_its_password(tmp_path: Path, server: str) -> None:
    with pytest.raises(UserError, match=r"corpus\.sources\[0\]\.paths\[0\]") as error:
        read_all(tmp_path, {"name": "s", "paths": f"{server.replace('http://', 'http://me:hunter2@')}/none.jsonl"})
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize("query", ["?token=hunter2", "?X-Amz-Signature=hunter2&X-Amz-Expires=60", "?sig=hunter2"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_a_signed_url_is_read_by_its_path_and_its_signature_is_shown_nowhere(
    tmp_path: Path, server: str, name: str, query: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "raypt")
    lines = LINES + b"broken\n"
    (tmp_path / "www" / name).write_bytes(gzip.compress(lines) if name.endswith(".gz") else lines)
    out = read_all(tmp_path, {"name": "s", "paths": f"{server}/{name}{query}"})
    assert len(out.texts) == 400
    assert out.manifest.files[0].format == "jsonl"
    everything = caplog.text + json.dumps(out.manifest.to_json()) + json.dumps(out.quarantined)
    assert name in everything
    assert "hunter2" not in everything


def test_a_file_behind_http_that_changed_at_the_same_size_is_noticed(tmp_path: Path, server: str) -> None:
    """Simple servers send no ETag: what they send, the time of the last change, is the identity."""
    path = tmp_path / "www" / "a.jsonl"
    path.write_bytes(LINES)
    source = SourceConfig(name="s", paths=(f"{server}/a.jsonl",))
    manifest = build_manifest(CorpusConfig(sources=(source,)), str(tmp_path / "run"))
    assert manifest.files[0].etag.startswith("last-modified:")
    check_unchanged(manifest, str(tmp_path / "run"))
    path.write_bytes(LINES.replace(b"a", b"b", 1))
    os.utime(path, (1e9, 1e9))
    with pytest.raises(UserError, match="was changed"):
        check_unchanged(manifest, str(tmp_path / "run"))


class _Silent(_Quiet):
    """Says of a file its length alone."""

    def send_header(self, keyword: str, value: str) -> None:
        if keyword != "Last-Modified":
            super().send_header(keyword, value)


@pytest.fixture
def silent(tmp_path: Path) -> Iterator[tuple[Path, str, Manifest]]:
    """A file behind such a server, its URL, and a manifest that knows it."""
    path = tmp_path / "www" / "a.jsonl"
    path.parent.mkdir()
    path.write_bytes(LINES)
    with serving(path.parent, _Silent) as url:
        source = SourceConfig(name="s", paths=(f"{url}/a.jsonl",))
        yield path, f"{url}/a.jsonl", build_manifest(CorpusConfig(sources=(source,)), str(tmp_path / "run"))


def test_of_a_server_that_says_nothing_of_a_file_its_content_is_the_identity(
    tmp_path: Path, silent: tuple[Path, str, Manifest]
) -> None:
    path, _, manifest = silent
    assert manifest.files[0].etag.startswith("xxh3:")
    check_unchanged(manifest, str(tmp_path / "run"))
    path.write_bytes(LINES.replace(b"a", b"b", 1))
    with pytest.raises(UserError, match="was changed"):
        check_unchanged(manifest, str(tmp_path / "run"))


def test_a_change_at_the_same_size_is_noticed_while_such_a_file_is_read(silent: tuple[Path, str, Manifest]) -> None:
    path, url, manifest = silent
    file = manifest.files[0]

    def read() -> int:
        with RawFile(url, file.size, file.etag) as raw:
            raw.read(1000)
            raw.seek(0)
            return sum(len(data) for data in iter(functools.partial(raw.read, 1000), b""))

    assert read() == len(LINES)
    path.write_bytes(LINES.replace(b"a", b"b", 1))
    with pytest.raises(UserError, match="was changed"):
        read()


@pytest.fixture
def bucket() -> Iterator[str]:
    fs = fsspec.filesystem("memory")
    fs.pipe_file("/bucket/set/part-9.jsonl", LINES)
    fs.pipe_file("/bucket/set/part-10.jsonl.gz", gzip.compress(LINES))
    fs.pipe_file("/bucket/set/_temporary/x.jsonl", LINES)
    fs.pipe_file("/bucket/set/README.md", b"# card")
    yield "memory://bucket"
    fs.rm("/bucket", recursive=True)


def test_a_directory_of_an_object_store_is_listed_read_and_checked(tmp_path: Path, bucket: str) -> None:
    out = read_all(tmp_path, {"name": "s", "paths": f"{bucket}/set"}, shard_bytes=5000)
    assert [f.path for f in out.manifest.files] == [f"{bucket}/set/part-9.jsonl", f"{bucket}/set/part-10.jsonl.gz"]
    assert out.texts == [d["text"] for d in documents(400)] * 2
    assert len(out.manifest.shards) > 3
    check_unchanged(out.manifest, str(tmp_path))
    fsspec.filesystem("memory").pipe_file("/bucket/set/part-9.jsonl", LINES + LINES)
    with pytest.raises(UserError, match=r"part-9\.jsonl had \d+ bytes, now has"):
        check_unchanged(out.manifest, str(tmp_path))


class CountingStore(fsspec.get_filesystem_class("memory")):  # type: ignore[misc]
    """An object store that counts what is asked of it. Its directories exist by their files alone."""

    protocol = "counting"
    asked: list[str] = []  # noqa: RUF012 (shared on purpose)

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.replace("counting://", "memory://"))  # type: ignore[no-any-return]

    def unstrip_protocol(self, name: str) -> str:
        return "counting:/" + self._strip_protocol(name)

    def info(self, path: str, **kwargs: object) -> dict:
        self.asked.append(f"info {path}")
        return super().info(path, **kwargs)  # type: ignore[no-any-return]

    def find(self, path: str, *args: object, **kwargs: object) -> object:
        self.asked.append(f"find {path}")
        return fsspec.filesystem("memory").find(path, *args, **kwargs)

    def ls(self, path: str, detail: bool = True, **kwargs: object) -> object:
        self.asked.append(f"ls {path}")
        return super().ls(path, detail=detail, **kwargs)


def test_the_requests_for_a_manifest_and_its_check_do_not_grow_with_the_files(tmp_path: Path) -> None:
    fsspec.register_implementation("counting", CountingStore, clobber=True)
    counts = []
    for n in (20, 200):
        fs = fsspec.filesystem("memory")
        for i in range(n):
            fs.pipe_file(f"/many{n}/part-{i:05d}.jsonl", LINES[:200])
        CountingStore.asked.clear()
        config = CorpusConfig(sources=(SourceConfig(name="s", paths=(f"counting://many{n}",)),))
        manifest = build_manifest(config, str(tmp_path))
        assert len(manifest.files) == n
        check_unchanged(manifest, str(tmp_path))
        counts.append(len(CountingStore.asked))
        fs.rm(f"/many{n}", recursive=True)
    assert counts[0] == counts[1] <= 8


def test_parquet_of_an_object_store_is_not_read_where_the_child_cannot_see_it(tmp_path: Path) -> None:
    """A store that exists in this process only (memory://) is an error with the file's name, not a crash."""
    out = pa.BufferOutputStream()
    pq.write_table(pa.table({"text": ["t"]}), out)
    fs = fsspec.filesystem("memory")
    fs.pipe_file("/only/x.parquet", out.getvalue().to_pybytes())
    with pytest.raises(UserError, match=r"x\.parquet is not a readable Parquet file"):
        read_all(tmp_path, {"name": "s", "paths": "memory://only/x.parquet"})
    fs.rm("/only", recursive=True)


def test_ranges_of_a_big_remote_file_are_read_and_not_all_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fs = fsspec.filesystem("memory")
    fs.pipe_file("/big/a.jsonl", LINES * 50)
    config = CorpusConfig(sources=(SourceConfig(name="s", paths=("memory://big/a.jsonl",)),), shard_bytes=200_000)
    manifest = build_manifest(config, str(tmp_path))
    monkeypatch.setattr("raypt.corpus.formats.raw.REMOTE_BYTES", 50_000)
    monkeypatch.setattr("raypt.corpus.formats.compression.PIECE_BYTES", 50_000)
    read: list[int] = []
    opened = type(fs.open("/big/a.jsonl"))
    own = opened.read

    def counted(self: object, n: int = -1) -> bytes:
        data: bytes = own(self, n)
        read.append(len(data))
        return data

    monkeypatch.setattr(opened, "read", counted)
    documents_read = sum(b.documents.num_rows for b in read_shard(manifest, 1, config, str(tmp_path)))
    assert documents_read > 1000
    # A shard of about 200,000 bytes, and a piece of 50,000 behind it that holds the end of its last line.
    assert sum(read) < 1.1 * manifest.shards[1].pieces[0].size + 50_001
    fs.rm("/big", recursive=True)
