"""Pictures that only studies have: figures with their intervals."""

import html
from collections.abc import Sequence

from raypt.charts import COLOURS, GRID, INK, MUTED, NARROW, in_widths, number, open_svg, ticks

ROW, TOP, WIDTH = 26, 36, 720


def dots(rows: Sequence[tuple[str, float, float, float]], *, title: str, better: str, higher: bool = False) -> str:
    """A dot and its interval a row: (label, value, low, high); a line at 0. Green lies below it, red above, grey
    across (the other way round where `higher` is better). `better`: what the direction means."""
    low, high = min(0.0, *(r[2] for r in rows)), max(0.0, *(r[3] for r in rows))
    pad = 0.04 * (high - low or 1.0)
    low, high = low - pad, high + pad

    def draw(width: int) -> str:
        above = width <= NARROW  # there is no room for labels beside the dots
        left = 10 if above else min(260, 24 + 7 * max(len(r[0]) for r in rows))
        room, row_height, top = width - left - 80, ROW + 14 * above, TOP + 14 * above
        height = top + row_height * len(rows) + 26

        def x(value: float) -> float:
            return left + room * (value - low) / (high - low)

        parts = [
            open_svg(width, height, title),
            f"<text x='{width - 4}' y='{34 if above else 18}' text-anchor='end' "
            f"fill='{MUTED}'>{html.escape(better)}</text>",
        ]
        for t in ticks(low, high, 5):
            parts.append(
                f"<line x1='{x(t):.1f}' x2='{x(t):.1f}' y1='{top - 6}' y2='{height - 22}' stroke='{GRID}'/>"
                f"<text x='{x(t):.1f}' y='{height - 8}' text-anchor='middle' fill='{MUTED}'>{number(t)}</text>"
            )
        parts.append(f"<line x1='{x(0):.1f}' x2='{x(0):.1f}' y1='{top - 6}' y2='{height - 22}' stroke='{MUTED}'/>")
        for i, (label, value, least, most) in enumerate(rows):
            y = top + row_height * i + ROW / 2 + 14 * above
            good, bad = (least > 0, most < 0) if higher else (most < 0, least > 0)
            colour = COLOURS[0] if not better else COLOURS[2] if good else COLOURS[1] if bad else MUTED
            place = f"x='4' y='{y - 12:.1f}'" if above else f"x='{left - 10}' y='{y + 4:.1f}' text-anchor='end'"
            parts.append(
                f"<text {place} fill='{INK}'>{html.escape(label)}</text>"
                f"<line x1='{x(least):.1f}' x2='{x(most):.1f}' y1='{y:.1f}' y2='{y:.1f}' stroke='{colour}' "
                f"stroke-width='3' stroke-linecap='round'/>"
                f"<circle cx='{x(value):.1f}' cy='{y:.1f}' r='5' fill='{colour}'/>"
                f"<text x='{width - 4}' y='{y + 4:.1f}' text-anchor='end' fill='{MUTED}'>{value:+.4f}</text>"
            )
        return "".join(parts) + "</svg>"

    return in_widths(draw, WIDTH)


def matrix(
    names: Sequence[str], shown: Sequence[Sequence[float]], shade: Sequence[Sequence[float]], *, title: str
) -> str:
    """Cells with their figures: a row a training text, a column a test text. `shade`: 0 is white, the largest red, what
    is below 0 green."""
    most = max((abs(v) for row in shade for v in row), default=0.0) or 1.0

    def draw(width: int) -> str:
        label = min(7 * max(len(n) for n in names) + 16, width // 3)
        cell, high, top = (width - label - 4) / len(names), 40, 72
        height = top + high * len(names) + 6
        parts = [
            open_svg(width, height, title),
            f"<text x='{label}' y='{top - 30}' fill='{MUTED}'>tested on</text>"
            f"<text x='4' y='{top - 10}' fill='{MUTED}'>trained on</text>",
        ]
        for i, name in enumerate(names):
            y = top + high * i
            middle = label + cell * (i + 0.5)
            parts.append(
                f"<text x='{middle:.1f}' y='{top - 10}' text-anchor='middle' fill='{INK}'>{html.escape(name)}</text>"
                f"<text x='4' y='{y + 25}' fill='{INK}'>{html.escape(name)}</text>"
            )
            for j in range(len(names)):
                colour = COLOURS[1] if shade[i][j] > 0 else COLOURS[2]
                parts.append(
                    f"<rect x='{label + cell * j + 1:.1f}' y='{y + 1}' width='{cell - 2:.1f}' height='{high - 2}' "
                    f"fill='{colour}' fill-opacity='{0.55 * abs(shade[i][j]) / most:.3f}' stroke='{GRID}'/>"
                    f"<text x='{label + cell * (j + 0.5):.1f}' y='{y + 25}' text-anchor='middle' "
                    f"fill='{INK}'>{shown[i][j]:.3f}</text>"
                )
        return "".join(parts) + "</svg>"

    return in_widths(draw, min(WIDTH, 140 + 120 * len(names)))
