"""Below which node the main content lies, its title, and what is links alone in it."""

import numpy as np

from raypt.corpus.html import marks, names
from raypt.corpus.html.weigh import BARE, KEPT, LINKS
from raypt.kernels import kernel

LINKED_LIST, LINKED_BOX, LINKED_TABLE = 75, 60, 80
"""Percent of a list's, a box's, a table's text in links above which it is navigation."""
MENU_LINKS = 3
"""Links in a cell of a table that lays out a page from which on they are a menu."""
TITLE_NODES = 100
"""Nodes before the root among which a heading is its own."""
TITLE_BYTES = 6
"""A shorter text is no title by being the beginning of the page's."""

_HREF = np.uint64(names.name_hash("href"))
_TAG = names.TAG_MASK
_A, _ARTICLE, _BODY, _H1, _MAIN, _TABLE, _TH = names.numbers("a article body h1 main table th")


@kernel
def find_root(count, kind, parent, stop, flags, drop, chars, links, good):  # type: ignore[no-untyped-def]
    """The node whose subtree is the main content: what the page calls so, else where its running text is."""
    total = good[0]
    if total == 0:
        return 0
    scope, best = 0, 0
    for node in range(count):
        if drop[node] == KEPT and good[node] > best and (kind[node] & _TAG == _MAIN or flags[node] & marks.ROLE_MAIN):
            scope, best = node, good[node]
    if 10 * best < 4 * total:
        scope = 0
    article, best = 0, 0
    for node in range(scope, stop[scope]):
        if drop[node] == KEPT and kind[node] & _TAG == _ARTICLE and good[node] > best:
            article, best = node, good[node]
    if 10 * best >= 6 * good[scope]:
        return article
    if scope > 0:
        return scope
    body, best = 0, 0
    for node in range(count):
        if drop[node] == KEPT and flags[node] & marks.ARTICLE_BODY and good[node] > best:
            body, best = node, good[node]
    if 10 * best >= 6 * total:
        return body
    # Down while one child has nearly all of the running text.
    node = 0
    while True:
        child, found = node + 1, -1
        while child < stop[node]:
            plain = chars[child] - links[child]
            if (
                drop[child] == KEPT
                and kind[child] & names.BLOCK
                and 10 * good[child] >= 9 * good[node]
                and 10 * plain >= 6 * (chars[node] - links[node])
            ):
                found = child
                break
            child = stop[child]
        if found < 0 or kind[found] & names.PARAGRAPH:
            return node
        node = found


@kernel
def find_title(data, kind, parent, stop, lo, hi, flags, root, drop, chars, good, name):  # type: ignore[no-untyped-def]
    """The page's title, where the root has none; -1 if there is no such. The last h1 before the root, unless it leads
    to the site's front page; without one the last element before the root that says what the page's <title> begins
    with, or the last heading right before the root. `name`: the title as it is serialised, uint8[bytes]."""
    title = -1
    for node in range(stop[root]):
        if drop[node] == KEPT and kind[node] & _TAG == _H1:
            title = node
            if node >= root:
                return -1
    if title >= 0 and not _leads_home(data, title, kind, stop, lo, hi):
        return title
    title = -1
    for node in range(stop[root]):
        if kind[node] == names.TEXT and drop[node] == KEPT and not flags[node] & marks.LINK:
            if _begins(name, data, lo[node], hi[node]):
                title = node
                if node >= root:
                    return -1
    if title < 0:
        for node in range(root - 1, max(0, root - TITLE_NODES), -1):
            if kind[node] & names.HEADING and drop[node] == KEPT and chars[node] > 0:
                return node
            if good[node] > 0 and stop[node] <= root:
                break
    # Up to the element that has this text and no more.
    while title >= 0 and stop[parent[title]] <= root and chars[parent[title]] == chars[title]:
        title = parent[title]
    return title


@kernel
def _leads_home(data, node, kind, stop, lo, hi):  # type: ignore[no-untyped-def]
    """Whether the first link in an element is to `/`, to a host alone, or to an index."""
    link = node + 1
    while link < stop[node] and kind[link] & _TAG != _A:
        link += 1
    if link >= stop[node]:
        return False
    at, end = marks.attribute(data, lo[link], hi[link], _HREF)
    for i in range(at, end - 1):
        if data[i] == 47 and data[i + 1] == 47:  # //host
            at = i + 2
            while at < end and data[at] != 47:
                at += 1
            break
    while at < end and (data[at] == 47 or data[at] == 46):
        at += 1
    if at == end:
        return end >= 0
    index = b"index."
    if end - at < len(index):
        return False
    same = True
    for i in range(len(index)):
        same &= data[at + i] == index[i]
    return same


@kernel
def _begins(name, data, start, end):  # type: ignore[no-untyped-def]
    """Whether a title begins with a text, as a whole: another word does not go on."""
    while start < end and data[start] <= 32:
        start += 1
    while start < end and data[end - 1] <= 32:
        end -= 1
    length = end - start
    if length < TITLE_BYTES or length > len(name):
        return False
    for i in range(length):
        if data[start + i] != name[i]:
            return False
    if length == len(name):
        return True
    c = name[length]
    return not (48 <= c <= 57 or 65 <= c <= 90 or 97 <= c <= 122)


@kernel
def with_title(parent, stop, root, title, chars, links):  # type: ignore[no-untyped-def]
    """The root, or the node above it that has the title too, if little else comes with it: a lead, a date, a name."""
    if title < 0:
        return root
    above = root
    while not above <= title < stop[above]:
        above = parent[above]
    return above if 10 * (chars[above] - links[above]) <= 14 * (chars[root] - links[root]) else root


@kernel
def _holds_menu(kind, node, end):  # type: ignore[no-untyped-def]
    links = 0
    for i in range(node, end):
        links += kind[i] & _TAG == _A
        if links == MENU_LINKS:
            return True
    return False


@kernel
def _lays_out(kind, parent, good, cell):  # type: ignore[no-untyped-def]
    """Whether the table of a cell lays out a page: another cell has running text."""
    while cell >= 0 and kind[cell] & _TAG != _TABLE:
        cell = parent[cell]
    return cell >= 0 and good[cell] > 0


@kernel
def leave_out_boxes_of_links(  # type: ignore[no-untyped-def]
    kind, parent, stop, root, drop, chars, links, good, titles, lists, headed
):
    """Drop lists and boxes within the root that are links for the most part; a table with heads is no such box, nor is
    what holds a title."""
    headed[root : stop[root]] = 0
    for node in range(stop[root] - 1, root, -1):
        tag = kind[node] & _TAG
        if tag == _TH or (headed[node] and tag != _TABLE):
            headed[parent[node]] = 1
    for node in range(root + 1, stop[root]):
        headed[node] |= headed[parent[node]] if parent[node] > root else 0
        if drop[node] != KEPT:
            continue
        tag = kind[node] & _TAG
        linked = 100 * links[node]
        if drop[parent[node]] != KEPT:
            drop[node] = drop[parent[node]]
        elif tag == _BODY or not kind[node] & names.BLOCK:
            continue
        elif kind[node] & names.LIST:
            if lists == 0 or (lists == 1 and linked > LINKED_LIST * chars[node]):
                drop[node] = LINKS
        elif kind[node] & names.CELL:
            if linked > LINKED_BOX * chars[node] and not headed[node] and good[node] == 0:
                if _holds_menu(kind, node, stop[node]) and _lays_out(kind, parent, good, node):
                    drop[node] = LINKS
        elif tag == _TABLE:
            if linked > LINKED_TABLE * chars[node] and not headed[node]:
                drop[node] = LINKS
        elif not kind[node] & (names.PARAGRAPH | names.HEADING) and good[node] == 0 and not headed[node]:
            if titles[stop[node]] == titles[node] and linked > LINKED_BOX * chars[node]:
                drop[node] = LINKS


@kernel
def leave_out_bare_headings(kind, stop, root, drop, chars, scratch):  # type: ignore[no-untyped-def]
    """Drop the headings (h2 and below) of what was left out: between them and the next heading as high nothing is kept.

    scratch int64[14+]: a level's heading that waits for a text, or 0; then whether text was left out since.
    """
    for i in range(14):
        scratch[i] = 0
    node = root + 1
    end = stop[root]
    while node <= end:
        level = np.int64(1 if node == end else 0)
        if node < end and kind[node] & names.HEADING and drop[node] == KEPT:
            level = np.int64(kind[node] & _TAG) - _H1 + 1
        if level:
            for higher in range(level, 7):
                if scratch[higher] and scratch[7 + higher]:
                    for i in range(scratch[higher], stop[scratch[higher]]):
                        drop[i] = BARE
                scratch[higher] = 0
            if node == end:
                break
            if level > 1:
                scratch[level], scratch[7 + level] = node, 0
            node = stop[node]
            continue
        if kind[node] == names.TEXT and chars[node]:
            if drop[node] == KEPT:
                for i in range(7):
                    scratch[i] = 0
            else:
                for i in range(7, 14):
                    scratch[i] = 1
        node += 1
