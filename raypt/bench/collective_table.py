"""What the collectives' benchmark shows: rows, a table for the terminal, a page with the bandwidth over the size."""

import math
from collections.abc import Sequence
from typing import Any

from raypt.bench.collective_rank import Measured
from raypt.bench.primitives import PRIMITIVES
from raypt.charts import Series, line_chart
from raypt.html import heading, table, text
from raypt.html import page as html_page

HEAD = ("primitive", "bytes", "correct", "latency us", "algorithm GB/s", "bus GB/s")


def rows_of(backend: str, by_rank: Sequence[Sequence[Measured]]) -> list[dict[str, Any]]:
    """One row a primitive and size: correct if it is on every rank, as slow as on the slowest. Bandwidths are bytes a
    second; latency is seconds a call.
    """
    ranks = len(by_rank)
    out: list[dict[str, Any]] = []
    for measured in zip(*by_rank, strict=True):
        first = measured[0]
        assert all((m.primitive, m.bytes) == (first.primitive, first.bytes) for m in measured)
        row: dict[str, Any] = {"primitive": first.primitive, "backend": backend, "ranks": ranks, "bytes": first.bytes}
        lacks = next((m.lacks for m in measured if m.lacks is not None), None)
        if lacks is not None:
            row |= {"correct": None, "latency_s": None, "algorithm_bandwidth": None, "bus_bandwidth": None}
            row["lacks"] = lacks
        else:
            seconds = max(m.seconds for m in measured)
            bandwidth = first.bytes / seconds
            row |= {"correct": all(m.correct for m in measured), "latency_s": seconds, "algorithm_bandwidth": bandwidth}
            row["bus_bandwidth"] = bandwidth * PRIMITIVES[first.primitive].bus_factor(ranks)
        out.append(row)
    return out


def size_text(nbytes: int) -> str:
    """4 KiB, 1.5 MiB."""
    value, units = float(nbytes), ["B", "KiB", "MiB", "GiB"]
    while value >= 1024 and len(units) > 1:
        value, units = value / 1024, units[1:]
    return f"{value:.4g} {units[0]}"


def cells(row: dict[str, Any]) -> list[str]:
    """A row as `HEAD` has it."""
    if row.get("lacks"):
        return [row["primitive"], "", f"not in this backend: {row['lacks']}", "", "", ""]
    moves = row["bytes"] > 0
    return [
        row["primitive"],
        size_text(row["bytes"]) if moves else "",
        "yes" if row["correct"] else "NO",
        f"{1e6 * row['latency_s']:,.1f}",
        f"{row['algorithm_bandwidth'] / 1e9:.3f}" if moves else "",
        f"{row['bus_bandwidth'] / 1e9:.3f}" if moves else "",
    ]


def plain_table(head: Sequence[str], lines: Sequence[Sequence[str]], left: int = 1) -> str:
    """Columns for a terminal; the first `left` of them begin at their left edge, the others end at their right one."""
    widths = [max(len(line[i]) for line in [head, *lines]) for i in range(len(head))]
    return "\n".join(
        "  ".join(c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True)))
        for line in [head, *lines]
    )


def printed(title: str, rows: Sequence[dict[str, Any]]) -> str:
    """The table of one backend."""
    lacking = [r for r in rows if r.get("lacks")]
    lines = [title, plain_table(HEAD, [cells(r) for r in rows if not r.get("lacks")])]
    lines += [f"{r['primitive']}: not in this backend: {r['lacks']}" for r in lacking]
    return "\n".join(lines)


def page(title: str, sections: Sequence[tuple[str, list[dict[str, Any]]]]) -> str:
    """A self-contained page: for each backend the picture and the table."""
    parts = [f"<h1>{text(title)}</h1>"]
    parts.append(
        "<p class=muted>Bus bandwidth is the algorithm's times the factor of nccl-tests: comparable with the speed of "
        "a link, whatever the number of ranks.</p>"
    )
    for name, rows in sections:
        parts += [heading(name), _picture(name, rows), table(HEAD, map(cells, rows), numeric=(1, 3, 4, 5))]
    return html_page(title, "".join(parts))


def _picture(name: str, rows: Sequence[dict[str, Any]]) -> str:
    moving = [r for r in rows if r["bytes"] and r["bus_bandwidth"]]
    series = []
    for i, primitive in enumerate(dict.fromkeys(r["primitive"] for r in moving)):
        own = [r for r in moving if r["primitive"] == primitive]
        x, y = [math.log2(r["bytes"]) for r in own], [r["bus_bandwidth"] / 1e9 for r in own]
        series.append(Series(primitive, x, y, marks=True, dashed=i >= 6))  # colours come round after six
    sizes = sorted({r["bytes"] for r in moving})
    return line_chart(
        series,
        title=f"Bus bandwidth over size: {name}",
        x_label="bytes of the largest buffer",
        y_label="GB/s",
        y_from=0,
        x_ticks=[(math.log2(s), size_text(s)) for s in sizes],
        width=1000,
        height=420,
    )
