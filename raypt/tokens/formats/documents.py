"""Documents as token ids, the form that all formats are written from and read into."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raypt.tokens.config import TokensConfig
from raypt.tokens.parts import column, is_heldout, read_batches
from raypt.tokens.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class Documents:
    """Document i is `ids[offsets[i]:offsets[i + 1]]`; none is empty."""

    ids: npt.NDArray[Any]
    """Unsigned, of the tokenizer's type."""
    offsets: npt.NDArray[np.int64]
    tokens_by_source: dict[str, int]

    def __len__(self) -> int:
        return self.offsets.size - 1

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        return np.diff(self.offsets)

    def __iter__(self) -> Iterator[npt.NDArray[Any]]:
        return (self.ids[a:b] for a, b in zip(self.offsets[:-1], self.offsets[1:], strict=True))

    @classmethod
    def of(cls, ids: npt.NDArray[Any], lengths: npt.NDArray[np.int64], tokens_by_source: dict[str, int]) -> "Documents":
        kept = lengths[lengths > 0]
        return cls(ids, np.concatenate([[0], np.cumsum(kept)]).astype(np.int64), tokens_by_source)


def of_part(uri: str, tokenizer: Tokenizer, config: TokensConfig, seed: int, *, heldout: bool) -> Documents:
    """The documents of a curated part that are trained on, or those held out, as the token store has them, uncut."""
    packing = config.packing
    ids: list[npt.NDArray[Any]] = [np.empty(0, tokenizer.dtype)]
    lengths: list[npt.NDArray[np.int64]] = [np.empty(0, np.int64)]
    by_source: dict[str, int] = {}
    for whole in read_batches(uri, ["doc_key", "source", "text"]):
        held = is_heldout(np.asarray(whole.column("doc_key").cast(pa.int64())), config.heldout.fraction, seed)
        batch = whole.filter(pa.array(held if heldout else ~held))
        if not batch.num_rows:
            continue
        encoded, offsets = tokenizer.encode_batch(column(batch, "text"), bos=packing.add_bos, eos=packing.add_eos)
        ids.append(encoded.astype(tokenizer.dtype))
        lengths.append(np.diff(offsets))
        for source, n in zip(column(batch, "source").to_pylist(), lengths[-1].tolist(), strict=True):
            by_source[source] = by_source.get(source, 0) + n
    return Documents.of(np.concatenate(ids), np.concatenate(lengths), by_source)
