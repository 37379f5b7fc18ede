"""What a reader is asked for and what it yields: records, and faults for what cannot be read."""

from dataclasses import dataclass, field
from typing import Any

from raypt.corpus.config import HtmlConfig

EXCERPT_BYTES = 2_000


@dataclass(frozen=True)
class Record:
    """One record as its file has it: `fields` is the JSON object, Parquet row or WARC record as a mapping."""

    row: int
    fields: dict[str, Any]


@dataclass(frozen=True)
class Fault:
    """A record that cannot be read, and why. `row` counts records in the piece from 0; `offset` is in (uncompressed)
    bytes where the format has lines. `raw` is the start of the record as it stands in the file."""

    row: int
    kind: str
    message: str
    offset: int | None = None
    raw: bytes = b""
    nbytes: int = 0


@dataclass(frozen=True)
class Skip:
    """A record that is not a document by its nature (a WARC revisit, an image): counted by kind, not quarantined."""

    row: int
    kind: str
    nbytes: int = 0


Item = Record | Fault | Skip


@dataclass(frozen=True)
class ReadRequest:
    """A piece of a file, and what is to be known to read it."""

    uri: str
    start: int = 0
    """First byte of lines, first row group of Parquet; 0 for the others."""
    stop: int | None = None
    """End of the same, exclusive; None: to the end."""
    max_document_bytes: int | None = None
    """Longer documents are faults of kind `too_long`."""
    html: HtmlConfig = field(default_factory=HtmlConfig)
    """How HTML becomes text."""
