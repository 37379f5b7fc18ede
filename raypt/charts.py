"""Charts as SVG text: lines, horizontal bars, histograms; small enough to embed many in a self-contained page."""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

INK, GRID, MUTED = "#24292f", "#d8dee4", "#57606a"
COLOURS = ("#0969da", "#cf222e", "#1a7f37", "#9a6700", "#8250df", "#bf3989")
FONT = "font-family='system-ui, sans-serif' font-size='12'"


@dataclass(frozen=True)
class Series:
    """One line: points with a name; `marks` draws the points themselves too."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    marks: bool = False
    dashed: bool = False


def number(value: float) -> str:
    """A figure for people: 1,234, 0.0123, 5.6M, 7.8G."""
    if not math.isfinite(value):
        return "–"
    for limit, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if abs(value) >= limit:
            return f"{value / limit:.3g}{unit}"
    if abs(value) >= 1000 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round values that cover [low, high]."""
    if not high > low:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _finite(series: Sequence[Series]) -> list[Series]:
    out = []
    for s in series:
        points = [(x, y) for x, y in zip(s.x, s.y, strict=True) if math.isfinite(x) and math.isfinite(y)]
        if points:
            out.append(Series(s.name, [p[0] for p in points], [p[1] for p in points], s.marks, s.dashed))
    return out


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    x_label: str,
    y_label: str,
    log_y: bool = False,
    y_from: float | None = None,
    y_to: float | None = None,
    levels: Sequence[tuple[str, float]] = (),
    x_ticks: Sequence[tuple[float, str]] | None = None,
    width: int = 620,
    height: int = 300,
) -> str:
    """Lines over a common x. `levels` are labelled horizontal lines (a bound to compare with). Points that are not
    finite are left out; so is what is not positive when `log_y`. `x_ticks`: places and their labels, None = round
    numbers."""
    if log_y:
        series = [Series(s.name, s.x, [y if y > 0 else math.nan for y in s.y], s.marks, s.dashed) for s in series]
    series = _finite(series)
    if not series:
        return f"<p>{html.escape(title)}: no data</p>"
    scale = math.log10 if log_y else float
    values = [scale(y) for s in series for y in s.y] + [scale(v) for _, v in levels]
    low = min(values) if y_from is None else scale(y_from)
    high = max(values) if y_to is None else scale(y_to)
    if high == low:
        low, high = low - 0.5, high + 0.5
    pad = 0.05 * (high - low)
    low, high = (low - pad if y_from is None else low), (high + pad if y_to is None else high)
    x0, x1 = min(min(s.x) for s in series), max(max(s.x) for s in series)
    x1 = x1 if x1 > x0 else x0 + 1
    left, right, top, bottom = 64, 16, 34, 46
    w, h = width - left - right, height - top - bottom

    def px(x: float) -> float:
        return left + w * (x - x0) / (x1 - x0)

    def py(y: float) -> float:
        return top + h * (1 - (scale(y) - low) / (high - low))

    parts = [_open(width, height, title)]
    for t in ticks(low, high):
        y = 10**t if log_y else t
        parts.append(f"<line x1='{left}' x2='{left + w}' y1='{py(y):.1f}' y2='{py(y):.1f}' stroke='{GRID}'/>")
        parts.append(f"<text x='{left - 6}' y='{py(y) + 4:.1f}' text-anchor='end' fill='{MUTED}'>{number(y)}</text>")
    labels = [(t, number(t)) for t in ticks(x0, x1, 6)] if x_ticks is None else x_ticks
    for t, label in labels:
        at = f"<text x='{px(t):.1f}' y='{top + h + 18}' text-anchor='middle' fill='{MUTED}'>"
        parts.append(f"{at}{html.escape(label)}</text>")
    for name, value in levels:
        y_level = py(value)
        parts.append(
            f"<line x1='{left}' x2='{left + w}' y1='{y_level:.1f}' y2='{y_level:.1f}' stroke='{MUTED}' "
            f"stroke-dasharray='6 4'/><text x='{left + w}' y='{y_level - 5:.1f}' text-anchor='end' "
            f"fill='{MUTED}'>{html.escape(name)} {number(value)}</text>"
        )
    legend_x = left
    for i, s in enumerate(series):
        colour = COLOURS[i % len(COLOURS)]
        path = " ".join(f"{px(x):.1f},{py(y):.1f}" for x, y in zip(s.x, s.y, strict=True))
        dash = " stroke-dasharray='5 4'" if s.dashed else ""
        parts.append(f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='1.8'{dash}/>")
        if s.marks:
            parts += [
                f"<circle cx='{px(x):.1f}' cy='{py(y):.1f}' r='3' fill='{colour}'/>"
                for x, y in zip(s.x, s.y, strict=True)
            ]
        if len(series) > 1:
            parts.append(f"<rect x='{legend_x}' y='{height - 12}' width='10' height='3' fill='{colour}'/>")
            parts.append(f"<text x='{legend_x + 14}' y='{height - 6}' fill='{INK}'>{html.escape(s.name)}</text>")
            legend_x += 26 + 7 * len(s.name)
    parts.append(
        f"<text x='{left + w}' y='{height - 6}' text-anchor='end' fill='{MUTED}'>{html.escape(x_label)}</text>"
        f"<text x='14' y='{top + h / 2:.0f}' text-anchor='middle' fill='{MUTED}' "
        f"transform='rotate(-90 14 {top + h / 2:.0f})'>{html.escape(y_label)}</text></svg>"
    )
    return "".join(parts)


def bar_chart(
    rows: Sequence[tuple[str, float, str]], *, title: str, width: int = 760, colours: Sequence[str] | None = None
) -> str:
    """Horizontal bars, one a row: (label, length, text behind the bar). Scaled to the longest."""
    if not rows:
        return f"<p>{html.escape(title)}: no data</p>"
    left, row_height, top = min(300, 24 + 7 * max(len(r[0]) for r in rows)), 22, 34
    longest = max(max(r[1] for r in rows), 1e-12)
    room = width - left - 170
    parts = [_open(width, top + row_height * len(rows) + 8, title)]
    for i, (label, value, text) in enumerate(rows):
        y = top + row_height * i
        colour = colours[i] if colours else COLOURS[0]
        bar = max(room * value / longest, 0.0)
        parts.append(
            f"<text x='{left - 8}' y='{y + 14}' text-anchor='end' fill='{INK}'>{html.escape(label)}</text>"
            f"<rect x='{left}' y='{y + 3}' width='{bar:.1f}' height='{row_height - 7}' rx='2' fill='{colour}'/>"
            f"<text x='{left + bar + 6:.1f}' y='{y + 14}' fill='{MUTED}'>{html.escape(text)}</text>"
        )
    return "".join(parts) + "</svg>"


def histogram(
    edges: Sequence[float],
    counts: Sequence[float],
    *,
    title: str,
    x_label: str,
    levels: Sequence[tuple[str, float]] = (),
    width: int = 460,
    height: int = 240,
) -> str:
    """Counts between edges (one more edge than counts); `levels` are labelled vertical lines (a threshold)."""
    assert len(edges) == len(counts) + 1
    left, right, top, bottom = 56, 14, 34, 42
    w, h = width - left - right, height - top - bottom
    high = max([*counts, 1e-12])
    x0, x1 = edges[0], edges[-1]

    def px(x: float) -> float:
        return left + w * (x - x0) / (x1 - x0)

    parts = [_open(width, height, title)]
    for t in ticks(0, high, 4):
        y = top + h * (1 - t / high)
        parts.append(
            f"<line x1='{left}' x2='{left + w}' y1='{y:.1f}' y2='{y:.1f}' stroke='{GRID}'/>"
            f"<text x='{left - 6}' y='{y + 4:.1f}' text-anchor='end' fill='{MUTED}'>{number(t)}</text>"
        )
    for i, count in enumerate(counts):
        bar = h * count / high
        parts.append(
            f"<rect x='{px(edges[i]) + 0.5:.1f}' y='{top + h - bar:.1f}' "
            f"width='{max(px(edges[i + 1]) - px(edges[i]) - 1, 0.5):.1f}' height='{bar:.1f}' fill='{COLOURS[0]}'/>"
        )
    for t in ticks(x0, x1, 5):
        parts.append(f"<text x='{px(t):.1f}' y='{top + h + 16}' text-anchor='middle' fill='{MUTED}'>{number(t)}</text>")
    for name, value in levels:
        x = px(min(max(value, x0), x1))
        parts.append(
            f"<line x1='{x:.1f}' x2='{x:.1f}' y1='{top}' y2='{top + h}' stroke='{COLOURS[1]}' "
            f"stroke-dasharray='5 4'/><text x='{x + 4:.1f}' y='{top + 12}' fill='{COLOURS[1]}'>"
            f"{html.escape(name)} {number(value)}</text>"
        )
    parts.append(
        f"<text x='{left + w}' y='{height - 6}' text-anchor='end' fill='{MUTED}'>{html.escape(x_label)}</text></svg>"
    )
    return "".join(parts)


def _open(width: int, height: int, title: str) -> str:
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' width='{width}' height='{height}' "
        f"{FONT} role='img' aria-label='{html.escape(title, quote=True)}'>"
        f"<text x='4' y='18' font-weight='600' font-size='13' fill='{INK}'>{html.escape(title)}</text>"
    )
