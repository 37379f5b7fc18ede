"""nanoGPT's `train.bin` and `val.bin`: the tokens of all documents one after another, uint16, no header.

One file a split, as its train.py maps it: for corpora that one machine trains on.
"""

import shutil
from typing import Any

import numpy as np

from raypt import storage
from raypt.errors import UserError
from raypt.tokens.formats.documents import Documents

NAMES = {"train": "train.bin", "heldout": "val.bin"}


def check(vocab_size: int) -> None:
    """Raises UserError: nanoGPT reads uint16."""
    if vocab_size > 1 << 16:
        raise UserError(
            f"tokens.export.formats: nanogpt reads ids of 16 bits, and the vocabulary has {vocab_size} tokens; leave "
            "the format out, or take a tokenizer of at most 65536 tokens"
        )


def write(out_uri: str, name: str, documents: Documents, vocab_size: int, length: int) -> list[dict[str, Any]]:
    with storage.atomic_write(storage.join(out_uri, f"{name}.part")) as f:
        f.write(np.ascontiguousarray(documents.ids, "<u2").data)
    return [{"file": f"{name}.part", "documents": len(documents), "tokens": int(documents.ids.size)}]


def finish(out_uri: str, entries: list[dict[str, Any]]) -> None:
    """Join the parts into the one file of the split, which the directory's name tells."""
    parts = [storage.join(out_uri, entry["file"]) for entry in entries]
    whole = storage.join(out_uri, NAMES[out_uri.rstrip("/").rsplit("/", 1)[-1]])
    if not storage.exists(whole):  # else an earlier attempt got so far
        with storage.atomic_write(whole) as out:
            for part in parts:
                with storage.open_read(part) as f:
                    shutil.copyfileobj(f, out, 16 << 20)
    for part in parts:
        storage.remove(part)
