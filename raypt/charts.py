"""Charts as SVG text: lines, horizontal bars, histograms; small enough to embed many in a self-contained page.

A chart that is wider than a phone is drawn twice, the second time `NARROW` wide; `raypt.html.STYLE` shows the one that
fits, so that text is never smaller than it was drawn. Colours are the page's own, light or dark.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from raypt.html import text as escaped

INK, GRID, MUTED = "var(--ink,#24292f)", "var(--grid,#d8dee4)", "var(--muted,#57606a)"
NARROW = 344
"""Pixels: what a phone of 390 has between its margins."""
COLOURS = ("#0969da", "#cf222e", "#1a7f37", "#9a6700", "#8250df", "#bf3989", "#0a7d8c", "#6e7781")
FONT = "font-family='system-ui, sans-serif' font-size='12'"


@dataclass(frozen=True)
class Series:
    """One line: points with a name; `marks` draws the points themselves too, `band` an interval (low, high) a point."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    marks: bool = False
    dashed: bool = False
    band: Sequence[tuple[float, float]] = ()
    faint: bool = False
    """Stands behind another that says the same more plainly."""


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


SPAN = 20


def smoothed(values: Sequence[float], span: int = SPAN) -> list[float]:
    """Exponential mean over about `span` values, without the pull of the first (as Adam's moments are corrected)."""
    keep, total, weight, out = 1 - 2 / (span + 1), 0.0, 0.0, []
    for value in values:
        if math.isfinite(value):
            total, weight = keep * total + (1 - keep) * value, keep * weight + (1 - keep)
        out.append(total / weight if weight else math.nan)
    return out


def _finite(series: Sequence[Series]) -> list[Series]:
    out = []
    for s in series:
        kept = [i for i, (x, y) in enumerate(zip(s.x, s.y, strict=True)) if math.isfinite(x) and math.isfinite(y)]
        if kept:
            band = [s.band[i] for i in kept] if s.band else ()
            out.append(replace(s, x=[s.x[i] for i in kept], y=[s.y[i] for i in kept], band=band))
    return out


MOST_POINTS = 1200
"""Of a line: more than a picture has pixels across."""


def thinned(s: Series) -> Series:
    """The series with about `MOST_POINTS` points at most: the least and the greatest of each of so many neighbours, so
    that no spike is lost.
    """
    each = -(-2 * len(s.x) // MOST_POINTS)
    if len(s.x) <= MOST_POINTS or s.band:
        return s
    kept: list[int] = []
    for start in range(0, len(s.x), each):
        bucket = range(start, min(start + each, len(s.x)))
        kept += sorted({min(bucket, key=s.y.__getitem__), max(bucket, key=s.y.__getitem__)})
    return replace(s, x=[s.x[i] for i in kept], y=[s.y[i] for i in kept])


def in_widths(draw: Callable[[int], str], width: int) -> str:
    """A chart for wide screens and, if it is wider than those, one for phones."""
    if width <= NARROW:
        return draw(width)
    return f"<div class=wide>{draw(width)}</div><div class=narrow>{draw(NARROW)}</div>"


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
    finite are left out; so is what is not positive when `log_y`. `x_ticks`: places and their labels, by default round
    figures.
    """
    if log_y:
        series = [replace(s, y=[y if y > 0 else math.nan for y in s.y]) for s in series]
    series = [thinned(s) for s in _finite(series)]
    if not series:
        return f"<p>{escaped(title)}: no data</p>"
    scale = math.log10 if log_y else float
    values = [scale(y) for s in series for y in s.y] + [scale(v) for _, v in levels]
    values += [scale(v) for s in series for ends in s.band for v in ends if not log_y or v > 0]
    low = min(values) if y_from is None else scale(y_from)
    high = max(values) if y_to is None else scale(y_to)
    if high == low:
        low, high = low - 0.5, high + 0.5
    pad = 0.05 * (high - low)
    low, high = (low - pad if y_from is None else low), (high + pad if y_to is None else high)
    x0, x1 = min(min(s.x) for s in series), max(max(s.x) for s in series)
    x1 = x1 if x1 > x0 else x0 + 1

    def draw(width: int) -> str:
        longest = max((len(number(10**t if log_y else t)) for t in ticks(low, high)), default=0)
        left, right, top, bottom = max(64, 28 + 7 * longest), 16, 34, 46
        w, h = width - left - right, height - top - bottom
        places, label_row = _legend([s.name for s in series] if len(series) > 1 else [], x_label, left, width - right)
        label_y = height - 6 + 18 * label_row

        def px(x: float) -> float:
            return left + w * (x - x0) / (x1 - x0)

        def py(y: float) -> float:
            return top + h * (1 - (scale(y) - low) / (high - low))

        parts = [open_svg(width, height + 18 * label_row, title)]
        for t in ticks(low, high):
            y = 10**t if log_y else t
            parts.append(f"<line x1='{left}' x2='{left + w}' y1='{py(y):.1f}' y2='{py(y):.1f}' stroke='{GRID}'/>")
            parts.append(
                f"<text x='{left - 6}' y='{py(y) + 4:.1f}' text-anchor='end' fill='{MUTED}'>{number(y)}</text>"
            )
        few = 6 if width > 400 else 4
        marks = [(t, number(t)) for t in ticks(x0, x1, few)] if x_ticks is None else _some(x_ticks, few + 2)
        for t, label in marks:
            place = f"x='{px(t):.1f}' y='{top + h + 18}' text-anchor='middle'"
            parts.append(f"<text {place} fill='{MUTED}'>{escaped(label)}</text>")
        for name, value in levels:
            y_level = py(value)
            parts.append(
                f"<line x1='{left}' x2='{left + w}' y1='{y_level:.1f}' y2='{y_level:.1f}' stroke='{MUTED}' "
                f"stroke-dasharray='6 4'/><text x='{left + w}' y='{y_level - 5:.1f}' text-anchor='end' "
                f"fill='{MUTED}'>{escaped(name)} {number(value)}</text>"
            )
        for i, s in enumerate(series):
            colour = COLOURS[i % len(COLOURS)]
            path = " ".join(f"{px(x):.1f},{py(y):.1f}" for x, y in zip(s.x, s.y, strict=True))
            dash = " stroke-dasharray='5 4'" if s.dashed else ""
            if s.band and all(lower > 0 for lower, _ in s.band if log_y):
                ends = [(x, e[1]) for x, e in zip(s.x, s.band, strict=True)]
                ends += [(x, e[0]) for x, e in zip(s.x, s.band, strict=True)][::-1]
                around = " ".join(f"{px(x):.1f},{py(y):.1f}" for x, y in ends)
                parts.append(f"<polygon points='{around}' fill='{colour}' fill-opacity='.09'/>")
            look = "stroke-width='1' stroke-opacity='.4'" if s.faint else "stroke-width='1.8'"
            parts.append(f"<polyline points='{path}' fill='none' stroke='{colour}' {look}{dash}/>")
            if s.marks:
                parts += [
                    f"<circle cx='{px(x):.1f}' cy='{py(y):.1f}' r='3' fill='{colour}'/>"
                    for x, y in zip(s.x, s.y, strict=True)
                ]
            if places:
                x, y = places[i][0], height - 6 + 18 * places[i][1]
                parts.append(f"<rect x='{x}' y='{y - 6}' width='10' height='3' fill='{colour}'/>")
                parts.append(f"<text x='{x + 14}' y='{y}' fill='{INK}'>{escaped(s.name)}</text>")
        parts.append(
            f"<text x='{left + w}' y='{label_y}' text-anchor='end' fill='{MUTED}'>{escaped(x_label)}</text>"
            f"<text x='14' y='{top + h / 2:.0f}' text-anchor='middle' fill='{MUTED}' "
            f"transform='rotate(-90 14 {top + h / 2:.0f})'>{escaped(y_label)}</text></svg>"
        )
        return "".join(parts)

    return in_widths(draw, width)


def _legend(names: Sequence[str], label: str, left: int, right: int) -> tuple[list[tuple[int, int]], int]:
    """(x, row) of each name, and the row of the axis's label, which stands to the right: rows are added where one has
    no room for the next.
    """
    places, x, row = [], left, 0
    for name in names:
        wide = 26 + 7 * len(name)
        if x > left and x + wide - 12 > right:
            x, row = left, row + 1
        places.append((x, row))
        x += wide
    return places, row + (bool(names) and x + 7 * len(label) > right)


def _some(marks: Sequence[tuple[float, str]], most: int) -> Sequence[tuple[float, str]]:
    """Every so many of them, so that no more than `most` are left."""
    return marks[:: -(-len(marks) // most)] if marks else marks


def bar_chart(
    rows: Sequence[tuple[str, float, str]], *, title: str, width: int = 760, colours: Sequence[str] | None = None
) -> str:
    """Horizontal bars, one a row: (label, length, text behind the bar). Scaled to the longest."""
    if not rows:
        return f"<p>{escaped(title)}: no data</p>"
    longest = max(max(r[1] for r in rows), 1e-12)

    def draw(width: int) -> str:
        above = width <= NARROW  # there is no room for labels beside the bars
        left = 4 if above else min(300, 24 + 7 * max(len(r[0]) for r in rows))
        behind = min(12 + 7 * max(len(r[2]) for r in rows), width - left - 90)
        row_height, top, room = (38 if above else 22), 34, width - left - behind
        parts = [open_svg(width, top + row_height * len(rows) + 8, title)]
        for i, (label, value, text) in enumerate(rows):
            y = top + row_height * i
            colour = colours[i] if colours else COLOURS[0]
            bar = max(room * value / longest, 0.0)
            place = f"x='{left}' y='{y + 12}'" if above else f"x='{left - 8}' y='{y + 14}' text-anchor='end'"
            y += 16 if above else 0
            parts.append(
                f"<text {place} fill='{INK}'>{escaped(label)}</text>"
                f"<rect x='{left}' y='{y + 3}' width='{bar:.1f}' height='15' rx='2' fill='{colour}'/>"
                f"<text x='{left + bar + 6:.1f}' y='{y + 14}' fill='{MUTED}'>{escaped(text)}</text>"
            )
        return "".join(parts) + "</svg>"

    return in_widths(draw, width)


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
    high = max([*counts, 1e-12])
    x0, x1 = edges[0], max(edges[-1], edges[0] + 1e-9)  # all in one place

    def draw(width: int) -> str:
        left, right, top, bottom = 56, 14, 34, 42
        w, h = width - left - right, height - top - bottom

        def px(x: float) -> float:
            return left + w * (x - x0) / (x1 - x0)

        parts = [open_svg(width, height, title)]
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
            parts.append(
                f"<text x='{px(t):.1f}' y='{top + h + 16}' text-anchor='middle' fill='{MUTED}'>{number(t)}</text>"
            )
        for name, value in levels:
            x = px(min(max(value, x0), x1))
            parts.append(
                f"<line x1='{x:.1f}' x2='{x:.1f}' y1='{top}' y2='{top + h}' stroke='{COLOURS[1]}' "
                f"stroke-dasharray='5 4'/><text x='{x + 4:.1f}' y='{top + 12}' fill='{COLOURS[1]}'>"
                f"{escaped(name)} {number(value)}</text>"
            )
        parts.append(
            f"<text x='{left + w}' y='{height - 6}' text-anchor='end' fill='{MUTED}'>{escaped(x_label)}</text>"
        )
        return "".join(parts) + "</svg>"

    return in_widths(draw, width)


@dataclass(frozen=True)
class Span:
    """Something that lasted, in a row of `span_chart`."""

    begin: float
    end: float
    text: str
    colour: str
    strength: float = 1.0
    """Opacity of the colour."""


def span_chart(
    rows: Sequence[tuple[str, Sequence[Span]]],
    *,
    title: str,
    unit: str,
    until: float | None = None,
    legend: Sequence[tuple[str, str]] = (),
    width: int = 900,
) -> str:
    """Who did what when: a row each, from 0 to `until` (by default to the last end), grey where there is nothing.
    A text is left out where it has no room. `legend`: (name, colour).
    """
    until = max((s.end for _, spans in rows for s in spans), default=0.0) if until is None else until
    if not until > 0:
        return f"<p>{escaped(title)}: no data</p>"
    left, right, top, row_height = 74, 10, 32, 24
    room, bottom = width - left - right, top + row_height * len(rows)

    def px(x: float) -> float:
        return left + room * x / until

    parts = [open_svg(width, bottom + 40, title)]
    for i, (label, spans) in enumerate(rows):
        y = top + row_height * i
        parts.append(
            f"<text x='{left - 8}' y='{y + 15}' text-anchor='end' fill='{INK}'>{escaped(label)}</text>"
            f"<rect x='{left}' y='{y + 1}' width='{room}' height='{row_height - 3}' fill='{GRID}'/>"
        )
        for s in spans:
            x, wide = px(s.begin), px(s.end) - px(s.begin)
            parts.append(
                f"<rect x='{x:.1f}' y='{y + 1}' width='{wide:.1f}' height='{row_height - 3}' fill='{s.colour}' "
                f"fill-opacity='{s.strength:.2f}' stroke='#fff' stroke-width='0.5'/>"
            )
            if wide >= 4 + 7 * len(s.text):
                ink = "#fff" if s.strength > 0.75 else INK
                parts.append(
                    f"<text x='{x + wide / 2:.1f}' y='{y + 15}' text-anchor='middle' fill='{ink}'>"
                    f"{escaped(s.text)}</text>"
                )
    for t in ticks(0, until, 6):
        parts.append(f"<text x='{px(t):.1f}' y='{bottom + 14}' text-anchor='middle' fill='{MUTED}'>{number(t)}</text>")
    at = left
    for name, colour in (*legend, ("idle", GRID)):
        parts.append(f"<rect x='{at}' y='{bottom + 24}' width='10' height='10' fill='{colour}'/>")
        parts.append(f"<text x='{at + 14}' y='{bottom + 33}' fill='{INK}'>{escaped(name)}</text>")
        at += 30 + 7 * len(name)
    parts.append(f"<text x='{left + room}' y='{bottom + 33}' text-anchor='end' fill='{MUTED}'>{escaped(unit)}</text>")
    # On a narrow screen it is scrolled: smaller, its numbers would be lost.
    picture = "".join(parts).replace("<svg ", "<svg style='max-width:none' ", 1)
    return f"<div class='scroll'>{picture}</svg></div>"


def open_svg(width: int, height: int, title: str) -> str:
    """The begin of a picture, with its title."""
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' width='{width}' height='{height}' "
        f"{FONT} role='img' aria-label='{escaped(title)}'>"
        f"<text x='4' y='18' font-weight='600' font-size='13' fill='{INK}'>{escaped(title)}</text>"
    )
