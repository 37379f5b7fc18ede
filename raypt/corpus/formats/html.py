"""HTML pages to text."""

from typing import Any

from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.html import HTMLTree

from raypt.corpus.config import HtmlConfig
from raypt.corpus.formats.charset import decode

MAX_DEPTH = 2000
"""Levels of nesting; browsers stop at 512."""
MANY_TAGS = 10_000
"""Pages of fewer tags, start and end, are quick at any depth they can have (under half a second)."""


def html_to_text(data: bytes, declared: str | None, config: HtmlConfig) -> str:
    """Text of an HTML page (resiliparse). Of a page nested deeper than MAX_DEPTH all text is taken: the search for main
    content takes time quadratic in the depth (5 s at 16,000).
    """
    html = decode(data, declared)
    tree = HTMLTree.parse(html)
    hostile = html.count("<") > MANY_TAGS and deeper_than(tree, MAX_DEPTH)
    return extract_plain_text(
        tree,
        main_content=config.main_content and not hostile,
        preserve_formatting=config.preserve_formatting,
        alt_texts=False,
    )


def deeper_than(tree: HTMLTree, limit: int) -> bool:
    """Whether an element lies more than `limit` levels down. About 4 us a node: for pages of many tags."""
    node: Any = tree.document
    depth = 0
    while True:
        if node.first_child is not None:
            node, depth = node.first_child, depth + 1
            if depth > limit:
                return True
            continue
        while node.next is None:
            node, depth = node.parent, depth - 1
            if depth <= 0:
                return False
        node = node.next
