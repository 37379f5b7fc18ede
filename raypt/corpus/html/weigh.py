"""Masses of text: what a node holds at and below it, in links and in running text.

The mass of a text is its characters that are not white space; a character of Chinese, Japanese or Korean counts
CJK_MASS, about what it says in letters.
"""

import numpy as np

from raypt.corpus.html import marks, names
from raypt.kernels import kernel

CJK_MASS = 3
PARAGRAPH_MASS = 60
"""A block of at least this mass outside of links, and not mostly links, is running text."""
FORM_LEVELS = 32
"""Levels above a label in which its form is looked for."""

KEPT, NEVER_TEXT, CONTROL, HIDDEN, NAVIGATION, FOOTER, HEADER, ASIDE, BESIDE, COMMENTS, LINKS, BARE = range(12)
"""Why a node is left out."""

_TAG = names.TAG_MASK
_A, _FIGCAPTION, _FORM, _LABEL = names.numbers("a figcaption form label")


@kernel
def text_mass(data, start, end):  # type: ignore[no-untyped-def]
    mass = 0
    for i in range(start, end):
        c = data[i]
        if c <= 32 or 128 <= c < 192:
            continue
        mass += CJK_MASS if c >= 0xE3 else 1
    return mass


@kernel
def _in_form(kind, parent, node):  # type: ignore[no-untyped-def]
    """A label outside of a form is text that can be ticked off: the ingredients of a recipe."""
    for _ in range(FORM_LEVELS):
        node = parent[node]
        if node < 0 or kind[node] & _TAG == _FORM:
            return node >= 0
    return False


@kernel
def leave_out_what_is_no_text(data, count, kind, parent, lo, hi, flags, drop, chars):  # type: ignore[no-untyped-def]
    """Scripts and controls are dropped; the mass of each text; which nodes are in a link (a caption is in none)."""
    for node in range(count):
        up = parent[node]
        drop[node] = KEPT if up < 0 else drop[up]
        linked = up >= 0 and flags[up] & marks.LINK != 0
        tag = kind[node] & _TAG
        if tag == names.TEXT:
            chars[node] = text_mass(data, lo[node], hi[node]) if drop[node] == KEPT else 0
        elif tag == _A:
            linked |= flags[node] & marks.LINK != 0
        elif tag == _FIGCAPTION or (flags[node] & names.CAPTION and kind[node] & names.BLOCK):
            linked = False
        flags[node] = flags[node] | np.uint32(marks.LINK) if linked else flags[node] & ~np.uint32(marks.LINK)
        if kind[node] & names.NO_TEXT:
            drop[node] = NEVER_TEXT
        elif kind[node] & names.CONTROL and (tag != _LABEL or _in_form(kind, parent, node)):
            drop[node] = CONTROL


@kernel
def weigh(count, kind, parent, flags, drop, chars, links, good, block, own, own_links):  # type: ignore[no-untyped-def]
    """chars, links and good of the elements, from the texts that are kept."""
    for node in range(count):
        up = parent[node]
        own[node] = own_links[node] = links[node] = good[node] = 0
        block[node] = node if (kind[node] & names.BLOCK or up < 0) else block[up]
        if kind[node] != names.TEXT:
            chars[node] = 0
        elif drop[node] == KEPT:
            own[block[node]] += chars[node]
            if flags[node] & marks.LINK:
                own_links[block[node]] += chars[node]
                links[node] = chars[node]
    for node in range(count - 1, 0, -1):
        plain = own[node] - own_links[node]
        if plain >= PARAGRAPH_MASS and 2 * plain > own[node]:
            good[node] += own[node]
        if drop[node] == KEPT:
            up = parent[node]
            chars[up] += chars[node]
            links[up] += links[node]
            good[up] += good[node]
