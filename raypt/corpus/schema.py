"""What the fields of an input are called, looked at before any work: the text, what is carried, what is asked for."""

import itertools
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from raypt.corpus.config import AUTO, CorpusConfig, SourceConfig
from raypt.corpus.formats.table import READERS
from raypt.corpus.paths import partitions
from raypt.corpus.records import ReadRequest, Record, Rows
from raypt.errors import UserError
from raypt.outside import redact, shown

log = logging.getLogger("raypt")

FIRST_RECORD_BYTES = 20_000_000
"""Longer first records are not read to see what fields they have."""
FIRST_ITEMS = 100
TEXT_NAMES = (
    "text",
    "content",
    "raw_content",
    "body",
    "document",
    "article",
    "markdown",
    "code",
    "txt",
    "正文",
    "内容",
)
"""Names of the text in published data sets, the most usual first."""


def first_fields(uri: str, kind: str, source: SourceConfig, config: CorpusConfig) -> dict[str, Any] | None:
    """The fields of the first record of a file that can be read; None if there is none among the first ones."""
    if kind not in READERS:
        return None
    request = ReadRequest(
        uri,
        max_document_bytes=FIRST_RECORD_BYTES,
        encoding=source.encoding,
        unpack=config.unpack_limits,
        memory_bytes=config.max_decoder_bytes,
        html=config.html,
    )
    for item in itertools.islice(READERS[kind](request), FIRST_ITEMS):
        if isinstance(item, Record):
            return item.fields
        if isinstance(item, Rows):
            return dict.fromkeys(item.batch.schema.names)
    return None


def _listed(names: Sequence[str]) -> str:
    some = ", ".join(shown(str(name), 60) for name in names[:50])
    return f"{some}, ..." if len(names) > 50 else some


def resolve_text_field(
    source: SourceConfig, sample: tuple[str, Sequence[str], dict[str, Any] | None] | None, key: str
) -> SourceConfig:
    """The source with `text_field: auto` replaced by the name that the first file has, and a line in the log that says
    so. `sample`: (file, its columns or first record's fields, that record if it was read); None: nothing to look at."""
    if source.text_field != AUTO:
        return source
    if sample is None:
        return source.model_copy(update={"text_field": "text"})
    uri, names, fields = sample
    known = [n for n in TEXT_NAMES if n in names]
    texts = [n for n in names if isinstance((fields or {}).get(n), str)]
    chosen = known[0] if known else max(texts, key=lambda n: len((fields or {})[n]), default=None)
    if chosen is None:
        raise UserError(f"{key}.text_field: {redact(uri)} has no field that looks like text; it has {_listed(names)}")
    others = [n for n in known[1:] or texts if n != chosen]
    log.info(
        "source %s: the text is in field %s (%s has %s)%s",
        source.name,
        shown(chosen),
        redact(uri),
        _listed(names),
        f"; if it is in {_listed(others)}, set {key}.text_field" if others else "",
    )
    return source.model_copy(update={"text_field": chosen})


def check_columns(source: SourceConfig, columns: Mapping[str, Sequence[str]], key: str) -> None:
    """Check what Parquet files are known to have (`columns` by URI) against what the source asks for.

    Raises:
        UserError: a file lacks the text column, or no file has a column that `where` asks for.
    """
    for uri, names in columns.items():
        if not _has(names, source.text_field):
            likely = [n for n in TEXT_NAMES if n in names and n != source.text_field]
            hint = f". If the text is in {likely[0]!r}, set {key}.text_field to it (or to auto)" if likely else ""
            raise UserError(
                f"{key}.text_field: {redact(uri)} has no column {source.text_field!r}; "
                f"its columns are {_listed(names)}{hint}"
            )
    if not columns:
        return
    for name, path in source.where_fields.items():
        if not any(_has(names, path) or path in partitions(uri) for uri, names in columns.items()):
            first = next(iter(columns.values()))
            raise UserError(f"{key}.where.{name}: no file has a column {path!r}; the first one has {_listed(first)}")
    for name, path in source.columns.items():
        if not any(_has(names, path) or path in partitions(uri) for uri, names in columns.items()):
            log.warning("source %s: %s.columns.%s: no file has a column %s", source.name, key, name, shown(path))


def _has(names: Sequence[str], path: str) -> bool:
    return path in names or path.split(".")[0] in names
