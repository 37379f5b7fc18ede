"""What the token store shows in the report: samples by source."""

from typing import Any

from raypt.html import table


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
