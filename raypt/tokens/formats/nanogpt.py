"""nanoGPT's `train.bin` and `val.bin`: the tokens of all documents one after another, uint16, no header.

One file a split, as its train.py maps it: for corpora that one machine trains on. The parts that it is joined from stay
beside it, in a directory of the split's name.
"""

import shutil
from typing import Any

import numpy as np

from raypt import storage
from raypt.artefact import Output
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


def write(output: Output, at: str, documents: Documents, vocab_size: int, length: int) -> list[dict[str, Any]]:
    """Write `at`.bin, a part of the one file."""
    with output.open(f"{at}.bin") as f:
        f.write(np.ascontiguousarray(documents.ids, "<u2").data)
    return []


def finish(output: Output, at: str, entries: list[dict[str, Any]], parts: list[str]) -> None:
    """Join the parts into the one file of the split, which the directory's name tells."""
    root, split = at.rsplit("/", 1)
    with output.open(f"{root}/{NAMES[split]}") as out:
        for part in parts:
            with storage.open_read(storage.join(output.root, f"{part}.bin")) as f:
                shutil.copyfileobj(f, out, 16 << 20)
