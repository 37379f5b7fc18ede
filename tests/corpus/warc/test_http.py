"""Bodies of HTTP responses in archives: undone, sniffed, or counted by what they are."""

import contextlib
import gzip
import random
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from raypt.corpus.warc.http import BadBody, HttpMessage, LongBody, charset, media_type, parse_http, unchunked, undo
from raypt.corpus.warc.types import HTML, KINDS, TEXT, sniff, type_of
from tests.corpus.warc.archives import faults, gz, read, record, response, skips, texts

PAGE = "<!DOCTYPE html><html><body><p>河水涨了，the river rose.</p></body></html>".encode()
LIMIT = 1 << 20


def brotli_stored(data: bytes) -> bytes:
    """A brotli stream of one uncompressed meta-block (RFC 7932, 9.2): window bits 16, length in four nibbles."""
    bits = (
        0 | (0 << 1) | (0 << 2) | ((len(data) - 1) << 4) | (1 << 20)
    )  # WBITS=16; ISLAST=0, MNIBBLES=4, MLEN-1, stored
    return bits.to_bytes(3, "little") + data + b"\x03"  # ISLAST and ISLASTEMPTY


def chunked(
    data: bytes, size: int = 7, newline: bytes = b"\r\n", extension: bytes = b"", trailer: bytes = b""
) -> bytes:
    parts = [data[i : i + size] for i in range(0, len(data), size)]
    chunks = b"".join(b"%x" % len(p) + extension + newline + p + newline for p in parts)
    return chunks + b"0" + newline + trailer + newline


def raw_deflate(data: bytes) -> bytes:
    deflate = zlib.compressobj(wbits=-15)
    return deflate.compress(data) + deflate.flush()


def undone(body: bytes, limit: int = LIMIT, **fields: str) -> bytes:
    return undo(HttpMessage(200, {name.replace("_", "-"): value for name, value in fields.items()}, body), limit)


CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "GZip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli_stored,
    "zstd": zstandard.compress,
    "identity": bytes,
    "utf-8": bytes,
}


@pytest.mark.parametrize("coding", CODINGS)
def test_content_codings_are_undone(coding: str) -> None:
    assert undone(CODINGS[coding](PAGE), content_encoding=coding) == PAGE


def test_deflate_without_its_header_is_undone() -> None:
    assert undone(raw_deflate(PAGE), content_encoding="deflate") == PAGE
    assert undone(gzip.compress(PAGE), content_encoding="deflate") == PAGE


@pytest.mark.parametrize("newline", [b"\r\n", b"\n"])
@pytest.mark.parametrize("extension", [b"", b";name=value", b"  "])
@pytest.mark.parametrize("trailer", [b"", b"Expires: never\r\n"])
def test_chunks_are_joined(newline: bytes, extension: bytes, trailer: bytes) -> None:
    assert unchunked(chunked(PAGE, 9, newline, extension, trailer)) == PAGE


def test_chunked_and_coded_bodies_are_undone_in_the_order_in_which_they_were_made() -> None:
    body = chunked(gzip.compress(PAGE), 50)
    assert undone(body, transfer_encoding="chunked", content_encoding="gzip") == PAGE
    assert undone(gzip.compress(zlib.compress(PAGE)), content_encoding="deflate, gzip") == PAGE


def test_a_chunked_body_that_is_cut_gives_what_is_there() -> None:
    whole = chunked(PAGE, 10)
    for cut in range(len(whole)):
        got = unchunked(whole[:cut])
        assert PAGE.startswith(got) or got == whole[:cut][:4], cut


def test_pages_that_hold_a_number_in_their_first_line_are_no_chunks() -> None:
    for body in (b"12\r\nmonkeys sat on a tree\r\n", b"abc\r\n", PAGE, b""):
        assert undone(body, transfer_encoding="chunked") == body


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
def test_a_body_that_is_stored_undone_already_stays(coding: str) -> None:
    assert undone(PAGE, content_encoding=coding) == PAGE
    assert undone(PAGE, content_encoding=coding, transfer_encoding="chunked") == PAGE


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_cut_body_gives_what_is_there(coding: str) -> None:
    data = bytes(random.Random(0).choices(b"abcdefgh ", k=50_000))
    got = undone(CODINGS[coding](data)[:-3_000], content_encoding=coding)
    assert 20_000 < len(got) < 50_000
    assert data.startswith(got)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
def test_a_body_that_grows_beyond_the_limit_is_given_up(coding: str) -> None:
    body = CODINGS[coding](b"\0" * (65_000 if coding == "br" else 50_000_000))
    with pytest.raises(LongBody):
        undone(body, 50_000, content_encoding=coding)


def test_bombs_in_bombs_are_given_up() -> None:
    body = gzip.compress(gzip.compress(b"\0" * 50_000_000))
    with pytest.raises(LongBody):
        undone(body, content_encoding="gzip, gzip")
    with pytest.raises(BadBody):
        undone(body, content_encoding=", ".join(["gzip"] * 50))


@pytest.mark.parametrize("coding", ["compress", "exi", "dcb", "x\x1b[31m"])
def test_codings_that_are_not_known_are_said_without_repeating_the_input(coding: str) -> None:
    with pytest.raises(BadBody) as error:
        undone(b"\x1f\x9d\x90\x00\x01", content_encoding=coding)
    assert "\x1b" not in str(error.value)


def test_damaged_bodies_are_faults_and_never_other_errors() -> None:
    source = random.Random(1)
    for coding in ("gzip", "deflate", "br", "zstd"):
        body = CODINGS[coding](PAGE * 20)
        for _ in range(200):
            at = source.randrange(len(body))
            damaged = body[:at] + bytes([source.randrange(256)]) + body[at + 1 :]
            with contextlib.suppress(BadBody, LongBody):
                undone(damaged, content_encoding=coding)


def test_header_fields_are_read_as_servers_write_them() -> None:
    block = (
        b'HTTP/1.1 200\r\ncontent-TYPE:text/html;charset="gbk"\r\nX-Long: a\r\n b\r\nVary: x\r\nVary: y\r\n'
        b"bad line\r\nContent-Encoding : gzip\r\n\r\nbody"
    )
    message = parse_http(block)
    assert message is not None
    assert message.status == 200
    assert message.fields["content-type"] == 'text/html;charset="gbk"'
    assert message.fields["x-long"] == "a b"
    assert message.fields["vary"] == "x,y"
    assert message.fields["content-encoding"] == "gzip"
    assert message.body == b"body"
    assert (parse_http(b"HTTP/1.0 404 Not Found\n\nx") or message).status == 404
    assert (parse_http(b"ICY 200 OK\r\n\r\nx") or message).body == b"x"
    assert parse_http(b"<html>") is None


@pytest.mark.parametrize(
    ("value", "kind", "label"),
    [
        ("text/html; charset=utf-8", "text/html", "utf-8"),
        ("Text/HTML;Charset='GB2312'", "text/html", "GB2312"),
        ('text/html; a=b; charset = "big5" ; c', "text/html", "big5"),
        ("text/html", "text/html", None),
        ("text/html, text/html; charset=x", "text/html", "x"),
        ("", "", None),
    ],
)
def test_media_type_and_charset_of_a_content_type(value: str, kind: str, label: str | None) -> None:
    assert (media_type(value), charset(value)) == (kind, label)


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"<!doctype HTML>", HTML),
        (b" \n\t<html lang=en>", HTML),
        (b"<!-- x --><p>", HTML),
        (b"\xef\xbb\xbf<html>", HTML),
        (b"\xff\xfe<\0h\0t\0m\0l\0>\0", HTML),
        (b'<?xml version="1.0"?><!DOCTYPE html PUBLIC "x"><html xmlns="x">', HTML),
        (b'<?xml version="1.0"?><rss>', "warc_xml"),
        ("Nur Text, sonst nichts — 只有文字".encode(), TEXT),
        (b"\x1b$B$3$l\x1b(B", TEXT),  # ISO-2022-JP
        (b"%PDF-1.4", "warc_pdf"),
        (b"\x89PNG\r\n\x1a\n\0", "warc_image"),
        (b"\xff\xd8\xff\xe0", "warc_image"),
        (b"GIF89a", "warc_image"),
        (b"RIFF\0\0\0\0WEBPVP8", "warc_media"),
        (b"\0\0\0\x18ftypmp42", "warc_media"),
        (b"PK\x03\x04", "warc_archive"),
        (b"\x1f\x8b\x08\0", "warc_archive"),
        (b"wOF2", "warc_font"),
        (b"\x7fELF\x02\x01\x01\0\0", "warc_other_media"),
        (b"", TEXT),
    ],
)
def test_a_body_without_a_type_is_what_its_first_bytes_say(body: bytes, what: str) -> None:
    for unknown in ("", "unknown/unknown", "application/octet-stream", "*/*", "html"):
        assert type_of(unknown, body) == what
    assert sniff(body) == what


@pytest.mark.parametrize(
    ("media", "what"),
    [
        ("text/html", HTML),
        ("application/xhtml+xml", HTML),
        ("text/plain", TEXT),
        ("text/markdown", TEXT),
        ("image/png", "warc_image"),
        ("image/svg+xml", "warc_image"),
        ("video/mp4", "warc_media"),
        ("application/pdf", "warc_pdf"),
        ("application/json", "warc_json"),
        ("application/javascript", "warc_script"),
        ("text/css", "warc_script"),
        ("application/rss+xml", "warc_xml"),
        ("application/vnd.ms-excel", "warc_office"),
        ("font/woff2", "warc_font"),
        ("text/x\x1b[2J", "warc_other_text"),
        ("evil/\nreason", "warc_other_media"),
        ("x" * 300 + "/y", "warc_other_media"),
    ],
)
def test_what_is_no_page_is_counted_by_a_closed_list_of_types(media: str, what: str) -> None:
    assert type_of(media, b"x") == what
    assert what in (*KINDS, HTML, TEXT)


def test_responses_become_documents_however_they_were_sent(tmp_path: Path) -> None:
    html = "Content-Type: text/html; charset=utf-8"
    data = [
        response(0, PAGE, html),
        response(1, chunked(PAGE), html, "Transfer-Encoding: chunked"),
        response(2, gzip.compress(PAGE), html, "Content-Encoding: gzip"),
        response(3, chunked(raw_deflate(PAGE)), html, "Content-Encoding: deflate", "Transfer-Encoding: chunked"),
        response(4, brotli_stored(PAGE), html, "Content-Encoding: br"),
        response(5, zstandard.compress(PAGE), html, "Content-Encoding: zstd"),
        response(6, PAGE),
        response(7, gzip.compress(PAGE), "Content-Encoding: gzip"),
        response(8, PAGE, html, "Content-Encoding: gzip", "Transfer-Encoding: chunked"),
    ]
    items = read(tmp_path, gz(data), "x.warc.gz")
    assert texts(items) == ["河水涨了，the river rose."] * len(data)


def test_bodies_that_are_no_pages_are_counted_and_failures_quarantined(tmp_path: Path) -> None:
    data = [
        response(0, b"\x89PNG\r\n\x1a\n"),
        response(1, b"{}", "Content-Type: application/json"),
        response(2, PAGE, "Content-Type: text/html", status="404 Not Found"),
        record("response", 3, b"example.org 300 IN A 10.0.0.1", "text/dns"),
        response(4, b"\x1f\x8b\x08\0broken", "Content-Type: text/html", "Content-Encoding: gzip"),
        response(5, gzip.compress(b"<p>" + b"x " * (4 << 20)), "Content-Type: text/html", "Content-Encoding: gzip"),
        record("response", 6, b"HTTP/1.1 200 OK\r\n\r\n<p>", "application/http", more="WARC-Segment-Number: 1"),
    ]
    items = read(tmp_path, b"".join(data), max_document_bytes=1_000_000)
    assert skips(items) == ["warc_image", "warc_json", "warc_http_status", "warc_not_http"]
    assert [f.kind for f in faults(items)] == ["bad_record", "too_long", "bad_record"]
    assert all(f.nbytes > 0 for f in faults(items))
