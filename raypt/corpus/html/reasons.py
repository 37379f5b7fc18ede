"""Which elements are no main content by their name, role or the words in their class names and ids."""

import numpy as np

from raypt.corpus.html import marks, names
from raypt.corpus.html.marks import attribute
from raypt.corpus.html.weigh import ASIDE, BESIDE, COMMENTS, CONTROL, FOOTER, HEADER, HIDDEN, KEPT, NAVIGATION
from raypt.kernels import kernel

ARTICLE_MASS = 600
"""Running text that is an article by itself, even if its comments are longer."""
IN_ARTICLE, IN_CODE, IN_MAIN = 1, 2, 4
"""Bits of `inside`."""
TOPIC_NODES = 24
"""Nodes of a section in which its heading is looked for, of an aside a quotation."""

_ID, _HREF = (np.uint64(names.name_hash(n)) for n in ("id", "href"))
_BESIDE_WORDS = names.SIDE | names.SOCIAL | names.ADVERT | names.OVERLAY | names.SCREEN_READER
_COMMENTS_BIT = names.COMMENTS.bit_length() - 1
_TAG = names.TAG_MASK
(
    _A, _ARTICLE, _ASIDE, _BLOCKQUOTE, _BODY, _CODE, _DIALOG, _FOOTER, _FORM, _H1, _HEADER, _HTML, _MAIN, _NAV, _PRE,
) = names.numbers("a article aside blockquote body code dialog footer form h1 header html main nav pre")  # fmt: skip


@kernel
def _is_article(total, beside):  # type: ignore[no-untyped-def]
    """Whether the running text but for `beside` of it is an article, and not only what a discussion is about."""
    return total - beside >= ARTICLE_MASS and 10 * beside < 9 * total


@kernel
def _quotes(kind, node, end):  # type: ignore[no-untyped-def]
    """Whether an aside is the quotation of another post."""
    found = False
    for i in range(node + 1, min(end, node + TOPIC_NODES)):
        found |= kind[i] & _TAG == _BLOCKQUOTE
    return found


@kernel
def _is_topic(data, node, kind, stop, lo, hi):  # type: ignore[no-untyped-def]
    """Whether an element is a section whose id is made of its heading, as in documentation: the heading links to it.
    Then the words in the id are what the section is about: #cookies, #comments."""
    first, last = attribute(data, lo[node], hi[node], _ID)
    if first >= last:
        return False
    end = min(stop[node], node + TOPIC_NODES)
    heading = node + 1
    while heading < end and not kind[heading] & names.HEADING:
        heading += 1
    if heading >= end:
        return False
    for link in range(heading + 1, min(stop[heading], end)):
        if kind[link] & _TAG != _A:
            continue
        at, stop_at = attribute(data, lo[link], hi[link], _HREF)
        if stop_at - at == last - first + 1 and data[at] == 35:
            same = True
            for i in range(last - first):
                same &= data[at + 1 + i] == data[first + i]
            if same:
                return True
    return False


@kernel
def find_reasons(  # type: ignore[no-untyped-def]
    data, count, kind, parent, stop, lo, hi, flags, drop, chars, links, good, inside, titles, main_content, comments,
    reason, word, spent,
):  # fmt: skip
    """Why an element, by its name, role or words, is not main content: `reason`, and by which `word` if by one.

    `spent[bit]` is the running text that this word costs. `titles[i]`: titles (h1, articles) before node i.
    """
    titles[0] = 0
    for node in range(count):
        up = parent[node]
        tag = kind[node] & _TAG
        inside[node] = inside[up] if up >= 0 else 0
        if tag == _ARTICLE or flags[node] & marks.ARTICLE_BODY:
            inside[node] |= IN_ARTICLE
        if tag == _MAIN or flags[node] & marks.ROLE_MAIN:
            inside[node] |= IN_MAIN
        if tag == _PRE or tag == _CODE:
            inside[node] |= IN_CODE
        titles[node + 1] = titles[node] + (drop[node] == KEPT and (tag == _H1 or (tag == _ARTICLE and good[node] > 0)))
    for bit in range(len(spent)):
        spent[bit] = 0
    covered = 0  # below this node everything is already under a reason
    for node in range(count):
        reason[node], word[node] = KEPT, 0
        tag = kind[node] & _TAG
        if drop[node] != KEPT or tag == names.TEXT or tag == _HTML or tag == _BODY:
            continue
        # What holds most of the running text is left out for no name that it has; but comments below a whole article.
        if 2 * good[node] >= good[0] and 2 * (chars[node] - links[node]) >= chars[0] - links[0]:
            if flags[node] & names.COMMENTS and main_content and not comments and _is_article(good[0], good[node]):
                reason[node], word[node] = COMMENTS, names.COMMENTS
                if node >= covered:
                    covered = stop[node]
                    spent[_COMMENTS_BIT] += good[node]
            continue
        titled = titles[stop[node]] > titles[node]
        flag = flags[node]
        linked = 2 * links[node] > chars[node]
        # A heading, a link or a span may be called a header or a comment: of a box it says what the box is.
        is_box = not kind[node] & (names.INLINE_ONLY | names.HEADING)
        is_head = kind[node] & names.BLOCK and not kind[node] & (names.PARAGRAPH | names.HEADING) and not titled
        why, by = KEPT, 0
        if flag & names.HIDDEN:
            why, by = HIDDEN, names.HIDDEN
        elif not main_content:
            pass
        elif tag == _NAV:
            why = NAVIGATION
        elif flag & names.NOISE:
            why = BESIDE
        elif inside[node] & IN_CODE:
            pass  # highlighters have classes as "comment" and "nav" too
        elif tag == _FOOTER and not inside[node] & IN_ARTICLE:
            why = FOOTER
        elif tag == _HEADER and (linked or not (titled or inside[node] & IN_MAIN)) and not inside[node] & IN_ARTICLE:
            why = HEADER
        elif tag == _ASIDE and (
            flag & _BESIDE_WORDS or not (inside[node] & IN_ARTICLE or _quotes(kind, node, stop[node]))
        ):
            why = ASIDE
        elif tag == _DIALOG:
            why = BESIDE
        elif tag == _FORM and good[node] == 0:
            why = CONTROL
        elif flag & names.NAVIGATION and is_box:
            why, by = NAVIGATION, names.NAVIGATION
        elif flag & names.FOOTER and not inside[node] & IN_ARTICLE and is_box:
            why, by = FOOTER, names.FOOTER
        elif flag & names.HEAD and (linked or not inside[node] & IN_MAIN) and not inside[node] & IN_ARTICLE and is_head:
            why, by = HEADER, names.HEAD
        elif flag & _BESIDE_WORDS and not titled:
            why, by = BESIDE, flag & _BESIDE_WORDS
        elif flag & names.COMMENTS and not comments and is_box:
            why, by = COMMENTS, names.COMMENTS
        if by and by != names.HIDDEN and _is_topic(data, node, kind, stop, lo, hi):
            why = KEPT
        reason[node], word[node] = why, by
        if why != KEPT and node >= covered:
            covered = stop[node]
            for bit in range(32):
                if by >> bit & 1:
                    spent[bit] += good[node]


@kernel
def leave_out(count, parent, reason, word, spent, total, drop):  # type: ignore[no-untyped-def]
    """Drop what has a reason; a word under which half of the running text stands says nothing on this page."""
    void = np.uint32(0)
    for bit in range(32):
        if spent[bit] and 2 * spent[bit] >= total and not (bit == _COMMENTS_BIT and _is_article(total, spent[bit])):
            void |= np.uint32(1) << np.uint32(bit)
    for node in range(count):
        up = parent[node]
        if up >= 0 and drop[up] != KEPT:
            drop[node] = drop[up]
        elif drop[node] == KEPT and reason[node] != KEPT and (word[node] == 0 or word[node] & ~void):
            drop[node] = reason[node]
