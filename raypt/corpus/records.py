"""What a reader is asked for and what it yields: records, and faults for what cannot be read."""

import re
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from raypt.corpus.config import HtmlConfig
from raypt.corpus.limits import UnpackLimits

EXCERPT_BYTES = 2_000
BROKEN_FILE = "broken_file"
"""The kind of the one fault that ends a file before its end: what lies behind is not known. `nbytes` are stored bytes
that were not read."""

_KIND = re.compile(r"[a-z][a-z0-9_]{0,39}")


def _check_kind(kind: str) -> None:
    # Kinds become reasons in the ledger: words of raypt's own, never of the input.
    assert _KIND.fullmatch(kind), f"{kind!r} is not a kind of fault"


@dataclass(frozen=True, slots=True)
class Record:
    """One record as its file has it: `fields` is the JSON object, Parquet row or WARC record as a mapping."""

    row: int
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Fault:
    """A record that cannot be read, and why. `row` counts records in the piece from 0; `offset` is in (uncompressed)
    bytes where the format has lines. `raw` is the start of the record as it stands in the file."""

    row: int
    kind: str
    message: str
    offset: int | None = None
    raw: bytes = b""
    nbytes: int = 0
    count: int = 1
    """Records it stands for: rows of a table that lie in one damaged part of it."""

    def __post_init__(self) -> None:
        _check_kind(self.kind)


@dataclass(frozen=True, slots=True)
class Skip:
    """A record that is not a document by its nature (a WARC revisit, an image): counted by kind, not quarantined."""

    row: int
    kind: str
    nbytes: int = 0

    def __post_init__(self) -> None:
        _check_kind(self.kind)


@dataclass(frozen=True, slots=True)
class Rows:
    """Records of a table, from `row` on, with the columns that were asked for and are there."""

    row: int
    batch: pa.RecordBatch


Item = Record | Rows | Fault | Skip


@dataclass(frozen=True)
class ReadRequest:
    """A piece of a file, and what is to be known to read it."""

    uri: str
    start: int = 0
    """First byte of lines, first row group of Parquet or batch of Arrow; 0 for the others."""
    stop: int | None = None
    """End of the same, exclusive; None: to the end."""
    max_document_bytes: int | None = None
    """Longer documents are faults of kind `too_long`."""
    html: HtmlConfig = field(default_factory=HtmlConfig)
    """How HTML becomes text."""
    size: int | None = None
    """Stored bytes of the file as the manifest has them; None: not known."""
    etag: str = ""
    """Identity of its content as the manifest has it; "": not known."""
    fields: tuple[str, ...] | None = None
    """Paths of the fields that will be looked at; a reader may leave out the others. None: all."""
    text_field: str = "text"
    """Path of the field with the text."""
    encoding: str | None = None
    """Character set of text formats; None: UTF-8 (HTML: what the page says)."""
    batch_bytes: int = 8 << 20
    """A reader holds about this much decoded text at a time."""
    unpack: UnpackLimits = field(default_factory=UnpackLimits)
    """How far compressed data are followed."""
    memory_bytes: int | None = None
    """What a child process that decodes the file may allocate; None: no bound."""
    max_record_seconds: float | None = None
    """A page that takes longer to become text is a fault of kind `too_slow`; None: no limit, and no child process."""
    skip: frozenset[int] = frozenset()
    """Rows (of the piece) that must not be touched: they killed or hung a process. They are faults of kind
    `killed_reader`."""

    @property
    def names(self) -> tuple[str, ...] | None:
        """Top-level names that `fields` can be found under; None: all."""
        if self.fields is None:
            return None
        return tuple(dict.fromkeys(name for path in self.fields for name in (path, path.split(".")[0])))
