"""DCLM's reading of addresses (Li et al. 2024): mlfoundations/dclm's url_removal_modifier, by regular expressions."""

import re
from pathlib import Path

_ASSETS = Path(__file__).parents[3] / "raypt" / "curation" / "assets"
_DOMAINS = sorted((_ASSETS / "tlds.txt").read_text("utf-8").split(), key=len, reverse=True)
_SPACE, _SCHEME, _REST = r"\s{0,10}", r"(?:(?:https?|ftp)://)?", r"[-a-zA-Z0-9()@:%_\+.~#?&/=]*"
_NAMED = re.compile(rf"{_SPACE}{_SCHEME}[-a-zA-Z0-9@:%._\+~#=]{{1,256}}\.(?:{'|'.join(_DOMAINS)})\b{_REST}")
_NUMERIC = re.compile(rf"{_SPACE}\b{_SCHEME}(?:[0-2]?[0-9]{{1,2}}\.){{3}}[0-2]?[0-9]{{1,2}}{_REST}")


def without_addresses(text: str) -> str:
    """The text after both expressions, the one of names first."""
    return _NUMERIC.sub("", _NAMED.sub("", text))


_BEGINS = re.compile("|".join(_DOMAINS), re.IGNORECASE)


def as_run(text: str) -> str:
    """What the code does: it looks for names only where the text begins with the letters of a top-level domain (`The`),
    since its check of whether there is any is `re.match`."""
    return without_addresses(text) if _BEGINS.match(text) else _NUMERIC.sub("", text)
