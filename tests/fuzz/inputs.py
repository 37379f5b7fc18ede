"""Files of every format with documents that are known, and ways to damage them."""

import bz2
import csv
import gzip
import io
import json
import lzma
import random
import struct
import tarfile
from collections.abc import Callable

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

Documents = list[tuple[str, str]]
"""(id, text)"""
WORDS = [
    "the",
    "river",
    "rose",
    "twice",
    "before",
    "mill",
    "河水",
    "在",
    "磨坊",
    "転",
    "강",
    "река",
    "«x»",
    "\U0001f30a",
]
WORDS += ["a,b", '"q"', "'q'", ";", "|", "<p>", "&", "\\n"]


def documents(rng: random.Random) -> Documents:
    """Up to 60 documents of one to two hundred words."""
    n = rng.choice((1, 2, 5, 20, 60))
    return [(f"d{i}", " ".join(rng.choices(WORDS, k=rng.choice((1, 8, 40, 200)))) + f" {i}") for i in range(n)]


def _objects(docs: Documents) -> list[dict[str, object]]:
    return [{"id": i, "text": t, "n": {"x": [1, None, i]}} for i, t in docs]


def jsonl(docs: Documents, rng: random.Random) -> bytes:
    ascii_only = rng.random() < 0.5
    return "".join(json.dumps(o, ensure_ascii=ascii_only) + "\n" for o in _objects(docs)).encode()


def json_array(docs: Documents, rng: random.Random) -> bytes:
    return json.dumps(_objects(docs), indent=rng.choice((None, 1)), ensure_ascii=False).encode()


def lines(docs: Documents, rng: random.Random) -> bytes:
    return "".join(t + rng.choice(("\n", "\r\n", "\n\n")) for _, t in docs).encode()


def separated(docs: Documents, rng: random.Random) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=rng.choice(",;"), lineterminator="\r\n")
    writer.writerow(("id", "text"))
    writer.writerows((i, t + rng.choice(("", "\nsecond line"))) for i, t in docs)
    return out.getvalue().encode()


def text(docs: Documents, rng: random.Random) -> bytes:
    return docs[0][1].encode(rng.choice(("utf-8", "utf-16", "utf-8-sig")))


def page(docs: Documents, rng: random.Random) -> bytes:
    body = "".join(f"<p>{t.replace('<', '&lt;')}</p>" for _, t in docs)
    return f'<!DOCTYPE html><html><head><meta charset="utf-8"></head><body>{body}</body></html>'.encode()


def _table(docs: Documents) -> pa.Table:
    ids, texts = zip(*docs, strict=True)
    return pa.table({"id": list(ids), "text": list(texts), "unused": [{"a": [1, 2]}] * len(docs)})


def parquet(docs: Documents, rng: random.Random) -> bytes:
    out = io.BytesIO()
    options = {
        "compression": rng.choice(("snappy", "zstd", "gzip", "none")),
        "row_group_size": rng.choice((7, 1000)),
        "use_dictionary": rng.random() < 0.5,
        "data_page_version": rng.choice(("1.0", "2.0")),
        "write_page_checksum": True,
    }
    pq.write_table(_table(docs), out, **options)
    return out.getvalue()


def arrow(docs: Documents, rng: random.Random) -> bytes:
    out = io.BytesIO()
    new = rng.choice((pa.ipc.new_file, pa.ipc.new_stream))
    table = _table(docs)
    with new(
        out, table.schema, options=pa.ipc.IpcWriteOptions(compression=rng.choice((None, "zstd", "lz4")))
    ) as writer:
        writer.write_table(table, rng.choice((7, 1000)))
    return out.getvalue()


def tar(docs: Documents, rng: random.Random) -> bytes:
    out = io.BytesIO()
    layout = rng.choice((tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))
    with tarfile.open(fileobj=out, mode="w", format=layout) as archive:
        for i, t in docs:
            for name, data in ((f"{i}.json", json.dumps({"k": i}).encode()), (f"{i}.txt", t.encode())):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def warc(docs: Documents, rng: random.Random) -> bytes:
    out = b""
    for i, t in docs:
        data = t.encode()
        head = [
            "WARC/1.0",
            "WARC-Type: conversion",
            f"WARC-Record-ID: <urn:uuid:{i}>",
            "WARC-Date: 2026-01-01T00:00:00Z",
        ]
        head += [f"WARC-Target-URI: http://x/{i}", "Content-Type: text/plain", f"Content-Length: {len(data)}", "", ""]
        out += "\r\n".join(head).encode() + data + b"\r\n\r\n"
    return out


Maker = Callable[[Documents, random.Random], bytes]
FORMATS: dict[str, tuple[str, str, Maker]] = {
    # name: (suffix, format, maker)
    "jsonl": (".jsonl", "jsonl", jsonl),
    "json": (".json", "jsonl", json_array),
    "lines": (".txt", "lines", lines),
    "csv": (".csv", "csv", separated),
    "text": (".txt", "text", text),
    "code": (".py", "code", text),
    "html": (".html", "html", page),
    "tar": (".tar", "tar", tar),
    "parquet": (".parquet", "parquet", parquet),
    "arrow": (".arrow", "arrow", arrow),
    "warc": (".warc.wet", "warc", warc),
}
WHOLE_FILE = {"text", "code", "html"}
BINARY = {"parquet", "arrow"}
PACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": lambda data: gzip.compress(data, 1, mtime=0),
    ".bz2": lambda data: bz2.compress(data, 1),
    ".xz": lambda data: lzma.compress(data, preset=0),
    ".zst": zstandard.ZstdCompressor(write_checksum=True).compress,
}


# --- damage ----------------------------------------------------------------------------------------------------------


def flip(data: bytes, rng: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def overwrite(data: bytes, rng: random.Random) -> bytes:
    at, n = rng.randrange(len(data)), rng.choice((1, 4, 16, 200))
    filling = rng.choice((bytes(n), b"\xff" * n, rng.randbytes(n), b"\n" * n, b'"' * n))
    return data[:at] + filling[: len(data) - at] + data[at + n :]


def number(data: bytes, rng: random.Random) -> bytes:
    """A number of four or eight bytes replaced by one that lengths and offsets break at."""
    form = rng.choice("<>") + rng.choice("IQ")
    limits = (0, 1, 2**31 - 1, 2**31, 2**32 - 1)
    at = rng.randrange(len(data))
    return data[:at] + struct.pack(form, rng.choice(limits)) + data[at + struct.calcsize(form) :]


def cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def remove(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + data[at + rng.choice((1, 7, 300)) :]


def insert(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + rng.choice((b"\0", b"\n", b'"', b"{", b"[", rng.randbytes(20), data[:50])) + data[at:]


def repeat(data: bytes, rng: random.Random) -> bytes:
    at, n = rng.randrange(len(data)), rng.choice((10, 1000))
    return data[:at] + data[at : at + n] * rng.choice((2, 50)) + data[at + n :]


def swap(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    return data[at:] + data[:at]


def garbage_behind(data: bytes, rng: random.Random) -> bytes:
    return data + rng.randbytes(rng.choice((1, 30)))


def nothing(data: bytes, _: random.Random) -> bytes:
    return data


DAMAGE = (flip, overwrite, number, cut, remove, insert, repeat, swap, garbage_behind, nothing)
TAKES_AWAY = (cut, remove, swap, overwrite, number)
"""Damage that may take whole records out of a format without checksums or lengths, as if they had never been there."""
