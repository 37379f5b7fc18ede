"""The samples of evaluation sets: what of each row is looked for in the documents."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raypt import storage
from raypt.corpus.fields import text_paths, values_at
from raypt.corpus.formats.compression import open_decompressed
from raypt.corpus.listing import expand
from raypt.dedup.config import ContaminationConfig
from raypt.errors import UserError

SAMPLES = pa.schema([("file", pa.string()), ("sample", pa.string()), ("text", pa.large_string())])
PATHS_SHOWN = 12


def _rows(uri: str) -> Iterator[dict[str, Any]]:
    """The rows of an evaluation file: Parquet, JSON lines, or plain text of a sample a line."""
    name = uri.removesuffix(".gz").removesuffix(".zst").removesuffix(".bz2").removesuffix(".xz")
    if name.endswith(".parquet"):
        with storage.open_read(uri) as f:
            for batch in pq.ParquetFile(f).iter_batches(1024):
                yield from batch.to_pylist()
        return
    with open_decompressed(uri) as f:
        for row, line in enumerate(f, start=1):
            if name.endswith((".jsonl", ".json", ".ndjson")):
                try:
                    value = json.loads(line)
                except ValueError as e:
                    raise UserError(f"dedup.contamination.paths: {uri}, row {row}: not JSON ({e})") from None
                if not isinstance(value, dict):
                    raise UserError(f"dedup.contamination.paths: {uri}, row {row}: not a JSON object")
                yield value
            else:
                yield {"text": line.decode("utf-8", "replace")}


def sample_texts(row: dict[str, Any], fields: Sequence[str]) -> list[list[str]]:
    """The strings of each of `fields` of a row; if none is named, of all but "id", without the letters and digits that
    number choices: in a document that quotes the sample they stand elsewhere or not at all."""
    if fields:
        return [values_at(row, name) for name in fields]
    return [[v for v in values_at(row, name) if not _numbers_a_choice(v)] for name in row if name != "id"]


def _numbers_a_choice(value: str) -> bool:
    return len(value) == 1 and value.isascii() and value.isalnum()


def evaluation_files(config: ContaminationConfig) -> list[str]:
    """The files of `paths`; UserError for a path that matches none."""
    files = []
    for pattern in config.paths:
        found = expand(pattern)
        if not found:
            raise UserError(f"dedup.contamination.paths: {pattern}: no such file")
        files += found
    return files


def read_samples(config: ContaminationConfig) -> pa.Table:
    """SAMPLES of the evaluation sets; a sample is named by its "id", else by its row number from 1.

    UserError for a file without any text to look for, and for a field that names text in no row of any file: such a set
    would keep what it was given to find.
    """
    samples: list[dict[str, str]] = []
    unseen = dict.fromkeys(config.fields)
    paths: dict[str, None] = {}
    files = evaluation_files(config)
    for uri in files:
        found, number = False, 0
        for number, row in enumerate(_rows(uri), start=1):
            texts = sample_texts(row, config.fields)
            for name in [n for n, t in zip(config.fields, texts, strict=False) if t and n in unseen]:
                del unseen[name]
            if len(paths) < PATHS_SHOWN:
                paths |= dict.fromkeys(text_paths(row)[:PATHS_SHOWN])
            text = "\n".join(string for strings in texts for string in strings)
            found |= bool(text.strip())
            samples.append({"file": uri, "sample": str(row.get("id", number)), "text": text})
        if not found:
            named = f"in {', '.join(config.fields)} " if config.fields else ""
            raise UserError(
                f"dedup.contamination: {uri} holds no text {named}to look for ({number} rows); {_offer(paths)}"
            )
    if unseen:
        raise UserError(
            f"dedup.contamination.fields: {', '.join(unseen)}: no such text in any row of {', '.join(files)}; "
            f"{_offer(paths)}"
        )
    return pa.Table.from_pylist(samples, schema=SAMPLES)


def _offer(paths: dict[str, None]) -> str:
    return f"text is in {', '.join(list(paths)[:PATHS_SHOWN])}" if paths else "no row has text in any field"
