"""datatrove's `.ds`: the tokens of all documents one after another (uint16, uint32 above 65,536 tokens of vocabulary);
`.ds.index`: u64, where each document ends, in tokens; `.ds.metadata`: tokenizer, bytes a token, number of tokens.

As datatrove/pipeline/tokens/tokenizer.py writes and nanotron reads them.
"""

from typing import Any

import numpy as np

from raypt import storage
from raypt.tokens.formats.documents import Documents


def check(vocab_size: int) -> None:
    """Every vocabulary fits."""


def write(out_uri: str, name: str, documents: Documents, vocab_size: int, length: int) -> list[dict[str, Any]]:
    kind = np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")
    uri, tokens = storage.join(out_uri, f"{name}.ds"), int(documents.ids.size)
    with storage.atomic_write(uri) as f:
        f.write(np.ascontiguousarray(documents.ids, kind).data)
    storage.write_bytes(f"{uri}.index", documents.offsets[1:].astype("<u8").tobytes())
    storage.write_bytes(f"{uri}.metadata", f"raypt|{kind.itemsize}\n{tokens}\n{tokens:,} T".encode())
    return [{"file": f"{name}.ds", "documents": len(documents), "tokens": tokens}]


def finish(out_uri: str, entries: list[dict[str, Any]]) -> None:
    """Nothing: a folder of .ds files is a data set."""
