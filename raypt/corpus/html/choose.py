"""Which nodes of a page are its main content: rules on masses of text and links, in a few passes over the nodes.

The mass of a text is its characters that are not white space; a character of Chinese, Japanese or Korean counts
CJK_MASS, about what it says in letters.
"""

from dataclasses import dataclass, field

import numpy as np

from raypt.corpus.html import marks, names
from raypt.corpus.html.scan import Nodes
from raypt.kernels import kernel

CJK_MASS = 3
PARAGRAPH_MASS = 60
"""A block of at least this mass outside of links, and not mostly links, is running text."""
LINKED_LIST, LINKED_BOX, LINKED_TABLE = 75, 60, 80
"""Percent of a list's, a box's, a table's text in links above which it is navigation."""

KEPT, NEVER_TEXT, CONTROL, HIDDEN, NAVIGATION, FOOTER, HEADER, ASIDE, BESIDE, COMMENTS, LINKS, BARE = range(12)
"""Why a node is left out."""

_BESIDE_WORDS = names.SIDE | names.SOCIAL | names.ADVERT | names.OVERLAY | names.SCREEN_READER
_TAG = names.TAG_MASK
(
    _A, _ARTICLE, _ASIDE, _BODY, _DIALOG, _FIGCAPTION, _FOOTER, _FORM, _H1, _HEADER, _HTML, _MAIN, _NAV, _TABLE, _TH,
) = names.numbers("a article aside body dialog figcaption footer form h1 header html main nav table th")  # fmt: skip


@dataclass
class Choice:
    """Scratch of the passes, and their answer. Shapes: all [capacity]; the first `nodes.count` entries are the page's.

    `drop` is KEPT or why a node is left out. `chars`, `links`, `good`: mass of text, of text in links and of running
    text at and below a node, of what is kept.
    """

    drop: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint8))
    reason: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint8))
    inside: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint8))
    flags: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint32))
    word: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint32))
    chars: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))
    links: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))
    good: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))
    block: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))
    own: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))
    own_links: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))
    titles: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))
    spent: np.ndarray = field(default_factory=lambda: np.zeros(32, np.int64))

    def reserve(self, nodes: int) -> None:
        if len(self.drop) <= nodes:
            size = nodes + (nodes >> 1) + 1
            self.drop, self.reason, self.inside = (np.empty(size, np.uint8) for _ in range(3))
            self.word = np.empty(size, np.uint32)
            self.chars, self.links, self.good, self.block, self.own, self.own_links, self.titles = (
                np.empty(size, np.int32) for _ in range(7)
            )

    def read(self, data: np.ndarray, nodes: Nodes, main_content: bool, comments: bool, lists: int) -> tuple[int, int]:
        """Decide for the nodes of a page; (the node below which the main content lies, its title before it or -1)."""
        n, kind, parent, stop = nodes.count, nodes.kind, nodes.parent, nodes.stop
        self.reserve(n)
        self.flags = nodes.flags
        _leave_out_what_is_no_text(data, n, kind, parent, nodes.lo, nodes.hi, self.flags, self.drop, self.chars)
        self._weigh(nodes)
        _reasons(
            n, kind, parent, stop, self.flags, self.drop, self.chars, self.links, self.good, self.inside, self.titles,
            main_content, comments, self.reason, self.word, self.spent,
        )  # fmt: skip
        _leave_out(n, parent, self.reason, self.word, self.spent, self.good[0], self.drop)
        if not main_content:
            return 0, -1
        self._weigh(nodes)
        root = int(_root(n, kind, parent, stop, self.flags, self.drop, self.chars, self.links, self.good))
        title = int(_title(kind, stop, root, self.drop))
        root = int(_with_title(parent, stop, root, title, self.chars, self.links))
        _leave_out_boxes_of_links(
            kind, parent, stop, root, self.drop, self.chars, self.links, self.good, lists, self.inside
        )
        _leave_out_bare_headings(kind, stop, root, self.drop, self.chars, self.spent)
        return root, -1 if root <= title else title

    def _weigh(self, nodes: Nodes) -> None:
        _weigh(
            nodes.count, nodes.kind, nodes.parent, self.flags, self.drop, self.chars, self.links, self.good, self.block,
            self.own, self.own_links,
        )  # fmt: skip


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
def _leave_out_what_is_no_text(data, count, kind, parent, lo, hi, flags, drop, chars):  # type: ignore[no-untyped-def]
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
        elif kind[node] & names.CONTROL:
            drop[node] = CONTROL


@kernel
def _weigh(count, kind, parent, flags, drop, chars, links, good, block, own, own_links):  # type: ignore[no-untyped-def]
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


@kernel
def _reasons(  # type: ignore[no-untyped-def]
    count, kind, parent, stop, flags, drop, chars, links, good, inside, titles, main_content, comments, reason, word,
    spent,
):  # fmt: skip
    """Why an element, by its name, role or words, is not main content: `reason`, and by which `word` if by one.

    `spent[bit]` is the running text that this word costs. `titles[i]`: titles (h1, articles) before node i.
    """
    titles[0] = 0
    for node in range(count):
        up = parent[node]
        tag = kind[node] & _TAG
        inside[node] = (up >= 0 and inside[up]) or tag == _ARTICLE or flags[node] & marks.ARTICLE_BODY != 0
        titles[node + 1] = titles[node] + (drop[node] == KEPT and (tag == _H1 or (tag == _ARTICLE and good[node] > 0)))
    spent[:] = 0
    covered = 0  # below this node everything is already under a reason
    for node in range(count):
        reason[node], word[node] = KEPT, 0
        tag = kind[node] & _TAG
        if drop[node] != KEPT or tag == names.TEXT or tag == _HTML or tag == _BODY:
            continue
        # What holds most of the running text is left out for no name that it has.
        if 2 * good[node] >= good[0] if good[0] else 2 * chars[node] >= chars[0]:
            continue
        titled = titles[stop[node]] > titles[node]
        flag = flags[node]
        why, by = KEPT, 0
        if flag & names.HIDDEN:
            why, by = HIDDEN, names.HIDDEN
        elif not main_content:
            pass
        elif tag == _NAV:
            why = NAVIGATION
        elif flag & names.NOISE:
            why = BESIDE
        elif tag == _FOOTER and not inside[node]:
            why = FOOTER
        elif tag == _HEADER and not inside[node] and (not titled or 2 * links[node] > chars[node]):
            why = HEADER
        elif tag == _ASIDE and (not inside[node] or flag & _BESIDE_WORDS):
            why = ASIDE
        elif tag == _DIALOG:
            why = BESIDE
        elif tag == _FORM and good[node] == 0:
            why = CONTROL
        elif flag & names.NAVIGATION:
            why, by = NAVIGATION, names.NAVIGATION
        elif flag & names.FOOTER and not inside[node]:
            why, by = FOOTER, names.FOOTER
        elif flag & names.HEAD and not inside[node] and not titled:
            why, by = HEADER, names.HEAD
        elif flag & _BESIDE_WORDS and not titled:
            why, by = BESIDE, flag & _BESIDE_WORDS
        elif flag & names.COMMENTS and not comments:
            why, by = COMMENTS, names.COMMENTS
        reason[node], word[node] = why, by
        if why != KEPT and node >= covered:
            covered = stop[node]
            for bit in range(32):
                if by >> bit & 1:
                    spent[bit] += good[node]


@kernel
def _leave_out(count, parent, reason, word, spent, total, drop):  # type: ignore[no-untyped-def]
    """Drop what has a reason; a word under which half of the running text stands says nothing on this page."""
    void = np.uint32(0)
    for bit in range(32):
        if spent[bit] and 2 * spent[bit] >= total:
            void |= np.uint32(1) << np.uint32(bit)
    for node in range(count):
        up = parent[node]
        if up >= 0 and drop[up] != KEPT:
            drop[node] = drop[up]
        elif drop[node] == KEPT and reason[node] != KEPT and (word[node] == 0 or word[node] & ~void):
            drop[node] = reason[node]


@kernel
def _root(count, kind, parent, stop, flags, drop, chars, links, good):  # type: ignore[no-untyped-def]
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
def _title(kind, stop, root, drop):  # type: ignore[no-untyped-def]
    """The page's title, where the root has none: the last h1 before it; -1 if there is no such."""
    title = -1
    for node in range(stop[root]):
        if drop[node] == KEPT and kind[node] & _TAG == _H1:
            title = node
            if node >= root:
                return -1
    return title


@kernel
def _with_title(parent, stop, root, title, chars, links):  # type: ignore[no-untyped-def]
    """The root, or the node above it that has the title too, if little else comes with it: a lead, a date, a name."""
    if title < 0:
        return root
    above = root
    while not above <= title < stop[above]:
        above = parent[above]
    return above if 10 * (chars[above] - links[above]) <= 14 * (chars[root] - links[root]) else root


@kernel
def _leave_out_boxes_of_links(kind, parent, stop, root, drop, chars, links, good, lists, headed):  # type: ignore[no-untyped-def]
    """Drop lists and boxes within the root that are links for the most part; a table with heads is no such box."""
    headed[root : stop[root]] = 0
    for node in range(stop[root] - 1, root, -1):
        tag = kind[node] & _TAG
        if tag == _TH or (headed[node] and tag != _TABLE):
            headed[parent[node]] = 1
    for node in range(root + 1, stop[root]):
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
        elif tag == _TABLE:
            if linked > LINKED_TABLE * chars[node] and not headed[node]:
                drop[node] = LINKS
        elif not kind[node] & (names.PARAGRAPH | names.HEADING) and good[node] == 0 and not headed[node]:
            if linked > LINKED_BOX * chars[node]:
                drop[node] = LINKS


@kernel
def _leave_out_bare_headings(kind, stop, root, drop, chars, scratch):  # type: ignore[no-untyped-def]
    """Drop the headings (h2 and below) of what was left out: between them and the next heading as high nothing is kept.

    scratch int64[14+]: a level's heading that waits for a text, or 0; then whether text was left out since.
    """
    scratch[:14] = 0
    node = root + 1
    end = stop[root]
    while node <= end:
        level = np.int64(1 if node == end else 0)
        if node < end and kind[node] & names.HEADING and drop[node] == KEPT:
            level = np.int64(kind[node] & _TAG) - _H1 + 1
        if level:
            for higher in range(level, 7):
                if scratch[higher] and scratch[7 + higher]:
                    drop[scratch[higher] : stop[scratch[higher]]] = BARE
                scratch[higher] = 0
            if node == end:
                break
            if level > 1:
                scratch[level], scratch[7 + level] = node, 0
            node = stop[node]
            continue
        if kind[node] == names.TEXT and chars[node]:
            if drop[node] == KEPT:
                scratch[:7] = 0
            else:
                scratch[7:14] = 1
        node += 1
