"""Serialised pages as arrays of nodes."""

import pytest

from raypt.corpus.html import names
from raypt.corpus.html.extract import parse
from raypt.corpus.html.scan import Nodes


def scanned(page: str) -> Nodes:
    nodes = Nodes()
    nodes.read(parse(page)[0].encode())
    return nodes


def test_depth_is_counted_in_levels_not_in_elements() -> None:
    assert scanned("<p>x</p>" * 3000 + "<div><b>y</b></div>").depth() == 4  # body, div, b, y
    assert scanned("<div>" * 500 + "y").depth() == 502


def test_nodes_are_in_document_order_and_end_where_their_last_descendant_does() -> None:
    nodes = scanned("<div id=a><p>one <b>two</b></p>three</div><p>four")
    texts = [nodes.text(i) for i in range(nodes.count) if nodes.kind[i] == names.TEXT]
    assert texts == ["one ", "two", "three", "four"]
    assert [nodes.name(i) for i in nodes.children(0)] == ["div", "p"]
    assert nodes.text(1) == "one twothree"
    for node in range(nodes.count):
        assert all(node < child < nodes.stop[node] for child in nodes.children(node))


@pytest.mark.parametrize("value", ["a > b", "</div>", "a<b", "<!-- x -->", "'x'", 'say "x"', "a & b", "a&nbsp;b"])
def test_markup_in_an_attribute_is_no_markup(value: str) -> None:
    quoted = value.replace('"', "&quot;")
    nodes = scanned(f'<div title="{quoted}" class="c">text</div><p>after')
    assert nodes.attribute(1, "title") == value.replace("&nbsp;", "\xa0")
    assert nodes.attribute(1, "class") == "c"
    assert [nodes.text(i) for i in range(nodes.count) if nodes.kind[i] == names.TEXT] == ["text", "after"]


def test_what_is_not_markup_stays_raw() -> None:
    nodes = scanned("<body><script>if (a < b) { x('</p>') }</script><p>text &lt;p&gt; <!-- <b> -->end")
    texts = [nodes.text(i) for i in range(nodes.count) if nodes.kind[i] == names.TEXT and nodes.parent[i] > 0]
    assert "".join(texts).endswith("text <p> end")
    assert nodes.name(1) == "script"
    assert nodes.text(1) == "if (a < b) { x('</p>') }"
