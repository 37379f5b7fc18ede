"""Names and addresses from outside, as they may be shown: in messages, logs, the ledger and the report."""

import re
from typing import Any

SHOWN_CHARS = 200
"""Longer names are cut in the middle."""

_USER = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)[^/\s?#'\"<>]*@")
_SECRET = re.compile(
    r"(?P<name>[?&;](?:[\w.-]*(?:signature|credential|token|secret|passw(?:or)?d|api[_-]?key|access[_-]?key|auth)[\w.-]*"
    r"|sig|key|pwd|policy)=)[^&;\s#'\"<>]+",
    re.IGNORECASE,
)
HIDDEN = "***"


def shown(text: str, limit: int = SHOWN_CHARS) -> str:
    """`text` on one line, at most `limit` characters, with every character that is not printable escaped.

    Line feeds and terminal sequences would forge lines of a log; marks that change the direction of writing, and lone
    surrogates, are escaped too.
    """
    if len(text) > limit:
        text = f"{text[: limit - limit // 3 - 1]}…{text[len(text) - limit // 3 :]}"
    if text.isprintable():
        return text
    escaped = "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
    return escaped if len(escaped) <= limit else f"{escaped[: limit - 1]}…"


def redact(text: str) -> str:
    """`text`, a URL or a message that may hold URLs, without what gives access: user and password, signatures, tokens.

    `http://me:secret@host/a?token=x&n=1` becomes `http://***@host/a?token=***&n=1`.
    """
    if "://" not in text:
        return text
    return _SECRET.sub(rf"\g<name>{HIDDEN}", _USER.sub(rf"\g<scheme>{HIDDEN}@", text))


def redacted(value: Any) -> Any:
    """A tree of mappings and lists with every string in it redacted."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {key: redacted(inner) for key, inner in value.items()}
    return [redacted(inner) for inner in value] if isinstance(value, list | tuple) else value
