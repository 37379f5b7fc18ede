"""LitData's chunks for its `TokensLoader`: an item is a document, read as one stream of tokens, cut into blocks.

LitData leaves out what a chunk has beyond a whole number of blocks, so chunks are large. A chunk, by
litdata/streaming/writer.py, little-endian: u32 items, u32[items + 1] offsets in the file, i32[] tokens; `index.json`
lists the chunks.
"""

import posixpath
from typing import Any

import numpy as np

from raypt.artefact import Output
from raypt.tokens.formats.documents import Documents

CHUNK_TOKENS = 1 << 26
"""256 MB; offsets within a chunk are of 32 bits."""
_INT32 = 16
"""LitData's number for torch.int."""
_CONFIG: dict[str, Any] = {
    "chunk_bytes": 4 * CHUNK_TOKENS,
    "chunk_size": None,
    "compression": None,
    "data_format": [f"no_header_tensor:{_INT32}"],
    "data_spec": '[1, {"type": null, "context": null, "children_spec": []}]',
    "encryption": None,
    "item_loader": "TokensLoader",
}


def check(vocab_size: int) -> None:
    """Every vocabulary fits."""


def write(output: Output, at: str, documents: Documents, vocab_size: int, length: int) -> list[dict[str, Any]]:
    """Write `at`-0.bin, ...; an entry of index.json for each."""
    entries: list[dict[str, Any]] = []
    first = 0
    while first < len(documents):
        limit = documents.offsets[first] + CHUNK_TOKENS
        last = max(first + 1, int(np.searchsorted(documents.offsets, limit, side="right")) - 1)
        ids = documents.ids[documents.offsets[first] : documents.offsets[last]].astype("<i4")
        header = 4 * (1 + last - first + 1)
        offsets = header + 4 * (documents.offsets[first : last + 1] - documents.offsets[first])
        data = (last - first).to_bytes(4, "little") + offsets.astype("<u4").tobytes() + ids.tobytes()
        path = f"{at}-{len(entries)}.bin"
        output.write_bytes(path, data)
        entries.append(
            {
                "chunk_bytes": len(data),
                "chunk_size": last - first,
                "dim": int(ids.size),
                "filename": posixpath.basename(path),
            }
        )
        first = last
    return entries


def finish(output: Output, at: str, entries: list[dict[str, Any]], parts: list[str]) -> None:
    """`index.json`, which makes the chunks one data set."""
    index = {"chunks": entries, "config": _CONFIG, "updated_at": "0"}
    output.write_json(f"{at}/index.json", index)
