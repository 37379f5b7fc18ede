"""HTML of the report: the style sheet, escaping, tables, cards."""

import html
import re
from collections.abc import Iterable, Sequence
from typing import Any

STYLE = """
:root{--ink:#24292f;--muted:#57606a;--grid:#d8dee4;--page:#fff;--box:#f6f8fa;--link:#0969da;color-scheme:light dark}
@media (prefers-color-scheme:dark){
:root{--ink:#e6edf3;--muted:#9aa4af;--grid:#30363d;--page:#0d1117;--box:#161b22;--link:#58a6ff}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--page);max-width:1060px;margin:32px auto}
body{padding:0 20px;overflow-wrap:anywhere}a{color:var(--link)}
h1{font-size:26px;margin:0 0 4px}
h2{font-size:19px;margin:40px 0 10px;border-bottom:1px solid var(--grid);padding-bottom:4px}
nav{display:flex;flex-wrap:wrap;gap:2px 16px;font-size:13px;margin:12px 0}
table{border-collapse:collapse;font-size:13px}td,th{padding:3px 12px 3px 0;text-align:left;vertical-align:top}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
tr.stage td{border-top:1px solid var(--grid);font-weight:600}
td,th{overflow-wrap:normal}th.n{white-space:normal}.scroll{overflow-x:auto}
.cards{display:flex;flex-wrap:wrap;gap:12px;margin:18px 0}
.card{border:1px solid var(--grid);border-radius:8px;padding:10px 16px}
.card b{display:block;font-size:21px}.card span,.muted{color:var(--muted);font-size:13px}
.row{display:flex;flex-wrap:wrap;gap:16px}svg{max-width:100%;height:auto}
pre{background:var(--box);border-radius:6px;padding:10px 12px;white-space:pre-wrap;overflow-wrap:anywhere;margin:6px 0}
pre{font-size:13px}
summary{cursor:pointer}.narrow{display:none}
@media (max-width:600px){.wide{display:none}.narrow{display:block}
body{margin:14px auto;padding:0 20px}h1{font-size:21px}.cards{gap:8px}.card{padding:8px 12px}.card b{font-size:18px}}
"""
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_HEADING = re.compile(r"<h2 id=([a-z0-9-]+)>(.*?)</h2>")


def page(title: str, body: str, *, style: str = "") -> str:
    """A self-contained page that is read on a desk and on a phone, by day and by night."""
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width,initial-scale=1'>"
        f"<title>{text(title)}</title><style>{STYLE}{style}</style><body>{body}</body></html>\n"
    )


def heading(title: str) -> str:
    """A section's heading, which `contents` finds."""
    return f"<h2 id={re.sub('[^a-z0-9]+', '-', title.lower()).strip('-')}>{text(title)}</h2>"


def contents(body: str) -> str:
    """Links to the sections of a page."""
    links = (f"<a href='#{name}'>{title}</a>" for name, title in _HEADING.findall(body))
    return f"<nav aria-label=Contents>{''.join(links)}</nav>"


def text(value: Any) -> str:
    """Escaped for HTML: every string from outside goes through here. What would turn the direction of writing, or is no
    character (controls, lone surrogates of a file's name), is shown as its escape.
    """
    return html.escape(_UNSEEN.sub(lambda m: m[0].encode("unicode_escape", "surrogatepass").decode(), str(value)))


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], numeric: Sequence[int] = ()) -> str:
    def cell(tag: str, i: int, value: Any) -> str:
        return f"<{tag}{' class=n' if i in numeric else ''}>{text(value)}</{tag}>"

    body = "".join("<tr>" + "".join(cell("td", i, v) for i, v in enumerate(row)) + "</tr>" for row in rows)
    header = "".join(cell("th", i, v) for i, v in enumerate(head))
    return f"<div class=scroll><table><tr>{header}</tr>{body}</table></div>"


def cards(entries: Sequence[tuple[str, str]]) -> str:
    inner = "".join(f"<div class=card><b>{text(value)}</b><span>{text(label)}</span></div>" for value, label in entries)
    return f"<div class=cards>{inner}</div>"
