"""How well a tokenizer fits text: tokens a word and character, bytes a token, unknown ones, by source and language."""

import functools
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raypt import storage
from raypt.tasks import run_tasks
from raypt.text.unicode import FIRST_IDEOGRAPH, LAST_IDEOGRAPH, UNSPACED_RANGES
from raypt.tokens.config import TokenizerConfig
from raypt.tokens.parts import PartSummary, column
from raypt.tokens.tokenizer import FERTILITY_FILE
from raypt.tokens.tokenizer.sample import plan_sample, sample_batches
from raypt.tokens.tokenizer.tokenizer import load_tokenizer

_UNSPACED = "".join(
    rf"\x{{{first:x}}}-\x{{{last:x}}}" for first, last in (*UNSPACED_RANGES, (FIRST_IDEOGRAPH, LAST_IDEOGRAPH))
)
_WORD = rf"[{_UNSPACED}]\p{{M}}*|[^\s\p{{Z}}{_UNSPACED}]+"
"""A word is what stands between spaces; in scripts written without spaces, a character with its marks."""


@dataclass(frozen=True)
class Fertility:
    """Counts over the sampled documents of one (source, lang)."""

    documents: int = 0
    bytes: int = 0
    characters: int = 0
    words: int = 0
    tokens: int = 0
    unknown: int = 0

    def __add__(self, other: "Fertility") -> "Fertility":
        mine, theirs = asdict(self), asdict(other)
        return Fertility(**{k: mine[k] + theirs[k] for k in mine})

    @property
    def tokens_per_word(self) -> float:
        return self.tokens / max(self.words, 1)

    @property
    def tokens_per_character(self) -> float:
        return self.tokens / max(self.characters, 1)

    @property
    def bytes_per_token(self) -> float:
        return self.bytes / max(self.tokens, 1)

    @property
    def unknown_rate(self) -> float:
        return self.unknown / max(self.tokens, 1)


Groups = dict[tuple[str, str], Fertility]


def measure_part(uri: str, tokenizer_uri: str, rates: dict[tuple[str, str], float], seed: int) -> Groups:
    """Encode the sampled documents of a curated part; counts by (source, lang)."""
    tokenizer = load_tokenizer(tokenizer_uri)
    out: Groups = {}
    for batch in sample_batches(uri, rates, seed):
        source, lang, text = (column(batch, c) for c in ("source", "lang", "text"))
        ids, offsets = tokenizer.encode_batch(text)
        unknown = ids == tokenizer.unk_id if tokenizer.unk_id is not None else np.zeros(ids.size, np.bool_)
        counts = pa.table(
            {
                "source": source,
                "lang": lang,
                "documents": np.ones(len(text), np.int64),
                "bytes": pc.binary_length(text),
                "characters": pc.utf8_length(text),
                "words": pc.count_substring_regex(text, _WORD),
                "tokens": np.diff(offsets),
                "unknown": np.diff(np.concatenate([[0], np.cumsum(unknown)])[offsets]),
            }
        )
        names = counts.column_names[2:]
        for row in counts.group_by(["source", "lang"]).aggregate([(n, "sum") for n in names]).to_pylist():
            key = row["source"], row["lang"]
            out[key] = out.get(key, Fertility()) + Fertility(**{n: row[f"{n}_sum"] for n in names})
    return out


def measure(
    part_uris: Sequence[str],
    summaries: Sequence[PartSummary],
    tokenizer_uri: str,
    seed: int,
    sample_bytes: int = 20_000_000,
) -> Groups:
    """Fertility on a sample of the curated text, by (source, lang; "" = unknown); written beside the tokenizer too.

    The sample is drawn by another hash than the one that the tokenizer was trained on.
    """
    sample = plan_sample(summaries, TokenizerConfig(sample_bytes=sample_bytes), seed + 1)
    task = functools.partial(measure_part, tokenizer_uri=tokenizer_uri, rates=sample.rates, seed=seed + 1)
    total: Groups = {}
    for part in run_tasks(task, [part_uris[i] for i in sample.parts], name="measure the tokenizer"):
        for key, counts in part.items():
            total[key] = total.get(key, Fertility()) + counts
    total = dict(sorted(total.items()))
    rows = [{"source": s, "lang": lang or None, **asdict(f), **_ratios(f)} for (s, lang), f in total.items()]
    storage.write_json(storage.join(tokenizer_uri, FERTILITY_FILE), rows)
    return total


def _ratios(f: Fertility) -> dict[str, float]:
    names = ("tokens_per_word", "tokens_per_character", "bytes_per_token", "unknown_rate")
    return {n: round(getattr(f, n), 5) for n in names}


def table(groups: Groups) -> str:
    """The figures as text, one line a (source, lang), the largest first, and a total."""
    rows = [("source", "lang", "docs", "MB", "tokens/word", "tokens/char", "bytes/token", "unknown")]
    total = sum(groups.values(), Fertility())
    ordered = sorted(groups.items(), key=lambda item: -item[1].bytes)
    for (source, lang), f in [*ordered, (("all", ""), total)]:
        figures = f"{f.tokens_per_word:.3f}", f"{f.tokens_per_character:.3f}", f"{f.bytes_per_token:.2f}"
        rows.append((source, lang or "-", str(f.documents), f"{f.bytes / 1e6:.2f}", *figures, f"{f.unknown_rate:.3%}"))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [c.ljust(w) if i < 2 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
