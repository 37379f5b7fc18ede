"""What the token store shows in the report: samples by source."""

from typing import Any

from raypt.html import table


def samples_section(accounts: list[dict[str, Any]]) -> str:
    """By source: samples in the token store, trained on, met again, and left out by which rule."""
    rows = [
        (
            a["source"],
            *(f"{a[key]:,}" for key in ("stored", "trained", "repeats")),
            ", ".join(f"{n:,} {rule.replace('_', ' ')}" for rule, n in a["left_out"].items()),
        )
        for a in accounts
    ]
    return table(["source", "samples stored", "trained on", "met again", "left out"], rows, numeric=(1, 2, 3))
