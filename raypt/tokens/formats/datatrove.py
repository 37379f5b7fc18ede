"""datatrove's `.ds`: the tokens of all documents one after another (uint16, uint32 above 65,536 tokens of vocabulary);
`.ds.index`: u64, where each document ends, in tokens; `.ds.metadata`: tokenizer, bytes a token, number of tokens.

As datatrove/pipeline/tokens/tokenizer.py writes and nanotron reads them.
"""

from typing import Any

import numpy as np

from raypt.artefact import Output
from raypt.tokens.formats.documents import Documents


def check(vocab_size: int) -> None:
    """Every vocabulary fits."""


def write(output: Output, at: str, documents: Documents, vocab_size: int, length: int) -> list[dict[str, Any]]:
    kind = np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")
    tokens = int(documents.ids.size)
    with output.open(f"{at}.ds") as f:
        f.write(np.ascontiguousarray(documents.ids, kind).data)
    output.write_bytes(f"{at}.ds.index", documents.offsets[1:].astype("<u8").tobytes())
    output.write_bytes(f"{at}.ds.metadata", f"raypt|{kind.itemsize}\n{tokens}\n{tokens:,} T".encode())
    return []


def finish(output: Output, at: str, entries: list[dict[str, Any]], parts: list[str]) -> None:
    """Nothing: a folder of .ds files is a data set."""
