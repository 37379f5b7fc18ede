"""HTML of the report: the style sheet, escaping, tables, cards."""

import html
from collections.abc import Iterable, Sequence
from typing import Any

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#24292f;max-width:1060px;margin:32px auto;padding:0 20px}
h1{font-size:26px;margin:0 0 4px}
h2{font-size:19px;margin:40px 0 10px;border-bottom:1px solid #d8dee4;padding-bottom:4px}
table{border-collapse:collapse;font-size:13px}td,th{padding:3px 12px 3px 0;text-align:left;vertical-align:top}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}tr.stage td{border-top:1px solid #d8dee4;font-weight:600}
.cards{display:flex;flex-wrap:wrap;gap:12px;margin:18px 0}
.card{border:1px solid #d8dee4;border-radius:8px;padding:10px 16px}
.card b{display:block;font-size:21px}.card span,.muted{color:#57606a;font-size:13px}
.row{display:flex;flex-wrap:wrap;gap:16px}svg{max-width:100%;height:auto}
pre{background:#f6f8fa;border-radius:6px;padding:10px 12px;white-space:pre-wrap;overflow-wrap:anywhere;margin:6px 0}
pre{font-size:13px}
summary{cursor:pointer}
"""


def text(value: Any) -> str:
    """Escaped for HTML: every string from outside goes through here."""
    return html.escape(str(value), quote=True)


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], numeric: Sequence[int] = ()) -> str:
    def cell(tag: str, i: int, value: Any) -> str:
        return f"<{tag}{' class=n' if i in numeric else ''}>{text(value)}</{tag}>"

    body = "".join("<tr>" + "".join(cell("td", i, v) for i, v in enumerate(row)) + "</tr>" for row in rows)
    return "<table><tr>" + "".join(cell("th", i, v) for i, v in enumerate(head)) + f"</tr>{body}</table>"


def cards(entries: Sequence[tuple[str, str]]) -> str:
    inner = "".join(f"<div class=card><b>{text(value)}</b><span>{text(label)}</span></div>" for value, label in entries)
    return f"<div class=cards>{inner}</div>"
