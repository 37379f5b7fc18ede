"""HTML pages to text."""

from raypt.corpus.config import HtmlConfig
from raypt.corpus.formats.charset import decode
from raypt.corpus.html.engines import text_of
from raypt.corpus.html.tame import tame


def html_to_text(data: bytes, declared: str | None, config: HtmlConfig) -> str:
    """Text of an HTML page. `declared`: the charset of its HTTP header, if it has one."""
    return text_of(decode(tame(data), declared), config)
