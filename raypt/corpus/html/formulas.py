"""Formulas as LaTeX, once each: from the annotation or `alttext` of MathML, MathML itself, `math/tex` scripts, the
`alt` of images of formulas. Pages carry a formula two or three times, for readers with and without this and that.
"""

import re
from collections.abc import Iterator

import numpy as np

from raypt.corpus.html import names
from raypt.corpus.html.choose import Choice
from raypt.corpus.html.mathml import latex
from raypt.corpus.html.scan import Nodes

_TAG = names.TAG_MASK
_MATH, _SCRIPT, _IMG, _ANNOTATION = names.numbers("math script img annotation")

_WRAPPER = re.compile(r"\b(?:mwe-math|katex|MathJax|mjx-|MJX_|ltx_Math)")
"""Class names of the elements around a formula that hold nothing but its renderings."""
_SERVICE = re.compile(rb"equation\?tex=|latex\.codecogs\.com|mathtex\.cgi|latex\.php|cht=tx")
"""In the address of an image: a service that draws LaTeX; its alt text is the source."""
MAX_FORMULAS = 20_000
"""Formulas of a page beyond these stay as their text."""


def formulas(nodes: Nodes, choice: Choice, root: int) -> dict[int, tuple[str, bool]]:
    """node -> (LaTeX between $ or $$, whether it is displayed on a line of its own), of the formulas of the main
    content; ("", False) for a second rendering."""
    found: dict[int, tuple[str, bool]] = {}
    covered = -1
    for node in _candidates(nodes, choice, root):
        if node < covered:
            continue
        around = _wrapper(nodes, node, root)
        covered = int(nodes.stop[around])
        tag = int(nodes.kind[node]) & _TAG
        if tag == _MATH:
            source = _source_of_math(nodes, node)
            display = nodes.attribute(node, "display") == "block" or "display" in nodes.attribute(around, "class")
        elif tag == _SCRIPT:
            source, display = nodes.text(node), "mode=display" in nodes.attribute(node, "type")
            for drawing in _drawings_before(nodes, node):
                found[drawing] = ("", False)
        else:
            source, display = nodes.attribute(node, "alt"), "display" in nodes.attribute(node, "class")
        source = _trim(source)
        mark = "$$" if display else "$"
        found[around] = (mark + source + mark, display) if source else ("", False)
        if len(found) >= MAX_FORMULAS:
            break
    return found


def _candidates(nodes: Nodes, choice: Choice, root: int) -> Iterator[int]:
    """Nodes that are a formula's source, in document order."""
    start, stop = root, int(nodes.stop[root])
    tags = nodes.kind[start:stop] & _TAG
    for node in np.flatnonzero((tags == _MATH) | (tags == _SCRIPT) | (tags == _IMG)) + start:
        tag = int(nodes.kind[node]) & _TAG
        if tag != _MATH:
            attributes = nodes.source[nodes.lo[node] : nodes.hi[node]]
            if tag == _SCRIPT and b'type="math/tex' not in attributes:
                continue
            if tag == _IMG and not choice.flags[node] & names.MATH_ALT and not _SERVICE.search(attributes):
                continue
        yield int(node)


def _wrapper(nodes: Nodes, node: int, root: int) -> int:
    """The outermost element around a formula that is there for it alone."""
    up = int(nodes.parent[node])
    while up > root and (nodes.name(up).startswith("mjx-") or _WRAPPER.search(nodes.attribute(up, "class"))):
        node, up = up, int(nodes.parent[up])
    return node


def _drawings_before(nodes: Nodes, node: int) -> Iterator[int]:
    """The elements before a `math/tex` script in which MathJax drew it."""
    up, last = int(nodes.parent[node]), node - 1
    while last > up >= 0:
        before = last  # the last node below the sibling before
        while nodes.parent[before] != up:
            before = int(nodes.parent[before])
        if nodes.kind[before] == names.TEXT:
            if nodes.source[nodes.lo[before] : nodes.hi[before]].strip():
                return
        elif "mathjax" in nodes.attribute(before, "class").lower():
            yield before
        else:
            return
        last = before - 1


def _source_of_math(nodes: Nodes, node: int) -> str:
    for i in range(node + 1, int(nodes.stop[node])):
        if int(nodes.kind[i]) & _TAG == _ANNOTATION and "tex" in nodes.attribute(i, "encoding").lower():
            return nodes.text(i)
    return nodes.attribute(node, "alttext") or latex(nodes, node)


def _trim(source: str) -> str:
    """Without the delimiters and the wrapper that sites put around their sources, on one line."""
    source = " ".join(source.split())
    for begin, end in (
        ("{\\displaystyle", "}"),
        ("{\\textstyle", "}"),
        ("$$", "$$"),
        ("$", "$"),
        ("\\(", "\\)"),
        ("\\[", "\\]"),
    ):
        if source.startswith(begin) and source.endswith(end) and len(source) >= len(begin) + len(end):
            source = source[len(begin) : len(source) - len(end)].strip()
    return source
