"""What tokens show in the report: the tokenizer, text outside its vocabulary, samples by source."""

from collections.abc import Mapping, Sequence
from typing import Any

from raypt.html import table

SHOWN_SETTINGS = ("path", "algorithm", "vocab_size", "split", "split_digits", "normalization", "byte_fallback")
"""Settings of a tokenizer that its table has, those that say nothing left out."""


def tokenizer_section(
    card: Mapping[str, Any], fertility: Sequence[Mapping[str, Any]], totals: Mapping[str, float]
) -> str:
    """How the tokenizer was made, and how it fits the text: over all of the store (`totals` of the summary), and where
    `raypt train-tokenizer` measured it, by source and language. `card`: of its artefact."""
    settings = card.get("identity", {}).get("settings", {}).get("config", {})
    rows = [(name.replace("_", " "), str(settings[name])) for name in SHOWN_SETTINGS if settings.get(name) is not None]
    special = [settings[name] for name in ("bos_token", "eos_token", "pad_token") if settings.get(name)]
    if special or settings.get("extra_special_tokens"):
        rows.append(("special tokens", ", ".join([*special, *settings.get("extra_special_tokens", [])])))
    if totals.get("bytes_per_token"):
        rows.append(("bytes a token of the text", f"{totals['bytes_per_token']:.3f}"))
    out = table(["", ""], rows)
    if not fertility:
        return out
    measured = [
        (
            row["source"],
            row["lang"] or "–",
            f"{row['documents']:,}",
            f"{row['bytes']:,}",
            f"{row['tokens_per_word']:.3f}",
            f"{row['tokens_per_character']:.3f}",
            f"{row['bytes_per_token']:.3f}",
            f"{row['unknown_rate']:.3%}",
        )
        for row in sorted(fertility, key=lambda row: -row["bytes"])
    ]
    heads = ["source", "language", "documents", "bytes", "tokens a word", "a character", "bytes a token", "unknown"]
    return out + table(heads, measured, numeric=range(2, 8))


def vocabulary_section(by_source: dict[str, dict[str, int]]) -> str:
    """By source: text tokens, and how many of them are unknown or bytes that stand for characters without a token."""
    rows = []
    for source, counts in by_source.items():
        text, rest = counts["text"], (counts["unknown"], counts["byte_fallback"])
        shares = [cell for n in rest for cell in (f"{n:,}", f"{n / max(text, 1):.3%}")]
        rows.append((source, f"{text:,}", *shares))
    names = ["source", "text tokens", "unknown", "share", "byte fallback", "share"]
    return table(names, rows, numeric=(1, 2, 3, 4, 5))


def samples_section(accounts: list[dict[str, Any]]) -> str:
    """By source or group of the mixture: samples in the token store, trained on, met again, tokens seen, passes over
    the group, and what was left out by which rule."""
    rows = [
        (
            a["source"],
            *(f"{a[key]:,}" for key in ("stored", "trained", "repeats", "tokens")),
            f"{(a['trained'] + a['repeats']) / max(a['stored'], 1):.2f}",
            ", ".join(f"{n:,} {rule.replace('_', ' ')}" for rule, n in a["left_out"].items()),
        )
        for a in accounts
    ]
    heads = ["source", "samples stored", "trained on", "met again", "tokens seen", "passes", "left out"]
    return table(heads, rows, numeric=(1, 2, 3, 4, 5))
