"""The text of an HTML page.

raypt's own extractor: parsed by lexbor (through resiliparse), its serialisation read into arrays by a compiled kernel,
rules on masses of text and links choose the main content (choose), which one pass writes (render). About as fast as
resiliparse's extractor, which drops lists, single Chinese characters and formulas.
"""

import threading
from dataclasses import dataclass, field
from html import escape

from resiliparse.parse.html import HTMLTree

from raypt.corpus.config import HtmlConfig
from raypt.corpus.html import render
from raypt.corpus.html.choose import Choice
from raypt.corpus.html.formulas import formulas
from raypt.corpus.html.render import Renderer, Replacements
from raypt.corpus.html.scan import Nodes

LISTS = {"none": 0, "content": 1, "all": 2}


@dataclass
class _Scratch(threading.local):
    """Arrays that are used again for every page of a thread."""

    nodes: Nodes = field(default_factory=Nodes)
    choice: Choice = field(default_factory=Choice)
    renderer: Renderer = field(default_factory=Renderer)
    replaced: Replacements = field(default_factory=Replacements)


_scratch = _Scratch()


def parse(html: str, skip: tuple[str, ...] = ()) -> tuple[str, str]:
    """(body of the page as its parser understands it, serialised, without what the CSS selectors in `skip` match; the
    text of its <title>)."""
    tree = HTMLTree.parse(html)
    document = tree.document
    assert document is not None
    for selector in skip:
        for element in list(document.query_selector_all(selector)):
            element.decompose()
    body = tree.body
    return (document.html if body is None else body.html), " ".join((tree.title or "").split())


def extract(html: str, config: HtmlConfig) -> str:
    """Text of a page by raypt's own rules."""
    nodes, choice, replaced = _scratch.nodes, _scratch.choice, _scratch.replaced
    page, title = parse(html, config.skip)
    data = nodes.read(page.encode("utf-8", "replace"))
    if nodes.count == 0:
        return ""
    name = escape(title, quote=False).encode("utf-8", "replace")
    root, heading = choice.read(data, nodes, name, config.main_content, config.comments, LISTS[config.lists])
    replaced.clear(nodes.count)
    if config.math:
        found = formulas(nodes, choice, root)
        if found:
            replaced.set(found)
    how = (
        (render.KEEP_LINKS if config.links else 0)
        | (render.FENCES if config.code_fences else 0)
        | (render.PIPES if config.tables == "pipes" else 0)
        | (render.RUBY if config.ruby else 0)
    )
    roots = [root] if heading < 0 else [heading, root]
    text = _scratch.renderer.read(data, nodes, choice, replaced, roots, how)
    return with_title(text, title) if config.title else text


def with_title(text: str, title: str) -> str:
    """The text under its page's title, unless it begins with it."""
    return f"{title}\n\n{text}" if title and not text.startswith(title) else text
