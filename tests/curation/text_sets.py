"""The real text beside the checkout (shared/corpora), for tests that skip where it is absent."""

import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import zstandard

CORPORA = Path(__file__).resolve().parents[2].parent / "shared" / "corpora"


def rows(name: str, limit: int) -> list[dict[str, Any]]:
    """At most `limit` rows that have text, evenly spread over the file."""

    def lines() -> Iterator[bytes]:
        opened = gzip.open if name.endswith(".gz") else zstandard.open
        with opened(CORPORA / name, "rb") as f:
            yield from io.BufferedReader(f)

    found = [row for row in map(json.loads, lines()) if isinstance(row.get("text"), str)]
    return found[:: max(1, len(found) // limit)][:limit]


def documents(name: str, limit: int) -> pa.Table:
    """Such rows as a table of documents."""
    found = rows(name, limit)
    columns = {
        "text": [row["text"] for row in found],
        "url": [row.get("url") for row in found],
        "declared": [str(row.get("lang") or "") for row in found],
    }
    strings = {key: pa.array(values, pa.string()) for key, values in columns.items()}
    return pa.table({"doc_key": pa.array(range(len(found)), pa.int64()), **strings})
