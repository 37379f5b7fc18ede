"""What a reader yields: records, and faults for what cannot be read."""

from dataclasses import dataclass
from typing import Any

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
