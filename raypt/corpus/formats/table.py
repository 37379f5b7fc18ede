"""Which reader reads which format, and which file name stands for which format."""

import posixpath
from collections.abc import Callable, Iterator

from raypt import plugins
from raypt.corpus.formats.arrow import read_arrow
from raypt.corpus.formats.code import language_of, read_code
from raypt.corpus.formats.compression import without_compression
from raypt.corpus.formats.csv import read_csv
from raypt.corpus.formats.jsonl import read_jsonl
from raypt.corpus.formats.lines import read_line_documents
from raypt.corpus.formats.page import read_html_file
from raypt.corpus.formats.parquet import read_parquet
from raypt.corpus.formats.tar import read_tar
from raypt.corpus.formats.text import read_text_file
from raypt.corpus.formats.warc import read_warc
from raypt.corpus.records import Item, ReadRequest
from raypt.errors import UserError

Reader = Callable[[ReadRequest], Iterator[Item]]

READERS: dict[str, Reader] = {
    "jsonl": read_jsonl,
    "parquet": read_parquet,
    "text": read_text_file,
    "lines": read_line_documents,
    "warc": read_warc,
    "csv": read_csv,
    "arrow": read_arrow,
    "tar": read_tar,
    "html": read_html_file,
    "code": read_code,
}

SUFFIXES = {
    ".jsonl": "jsonl",
    ".json": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".txt": "text",
    ".text": "text",
    ".md": "text",
    ".markdown": "text",
    ".rst": "text",
    ".warc": "warc",
    ".wet": "warc",
    ".arc": "warc",
    ".csv": "csv",
    ".tsv": "csv",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".tar": "tar",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
}


def reader_of(kind: str, key: str = "corpus.sources[].format") -> Reader:
    """The reader of a format; of `package.module:name` the user's own. UserError, naming the configuration `key`, if
    there is no such one."""
    if kind in READERS:
        return READERS[kind]
    reader: Reader = plugins.load(kind, key)
    if not callable(reader):
        raise UserError(f"{key}={kind}: a reader is a function of a raypt.corpus.records.ReadRequest")
    return reader


DATA = frozenset({"jsonl", "parquet", "warc", "csv", "arrow", "tar"})
"""Formats of data sets: where a directory holds one of them, source code and README files beside it are no data."""
CUTTABLE = frozenset({"jsonl", "lines"})
"""Formats whose files may be cut at any line."""


def format_of(path: str) -> str | None:
    """The format a file name stands for, seen through its compression suffix; None if it says nothing."""
    suffix = posixpath.splitext(without_compression(path.lower()))[1]
    return SUFFIXES.get(suffix) or ("code" if language_of(path) else None)
