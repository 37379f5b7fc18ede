"""A parsed page as arrays of nodes: what the parser serialised, read in one pass by a compiled kernel.

The parser (lexbor, through resiliparse) mends whatever markup a page has; its serialisation is regular: end tags are
where they belong, attribute values are quoted, `<` is markup. Nodes are numbered in document order, so the nodes below
node `i` are `i + 1 .. stop[i] - 1`, and a loop over numbers is a walk of the tree, backwards one from the leaves up.
"""

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from raypt.corpus.html.marks import ROLES, flags_of
from raypt.corpus.html.names import BLOCK, ELEMENTS, HEADING, OTHER, PARAGRAPH, RAW, TAG_MASK, TEXT, VOID, WORDS
from raypt.corpus.html.tokens import hash_range, look_up
from raypt.kernels import kernel


@dataclass
class Nodes:
    """Nodes of the page that was read last. Shapes: all [capacity]; the first `count` entries are the page's.

    `kind`: number of the element with its kind (names.ELEMENTS), 0 = text. `lo`, `hi`: bytes of the text, or of the
    attributes. `flags`: what an element's attributes say about it (marks), 0 for text. `parent` of the root is -1.
    """

    count: int = 0
    source: bytes = b""
    kind: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint32))
    flags: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint32))
    parent: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))
    stop: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))
    lo: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))
    hi: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))

    def reserve(self, nodes: int) -> None:
        if len(self.kind) < nodes:
            size = nodes + (nodes >> 1)
            self.kind, self.flags = np.empty(size, np.uint32), np.empty(size, np.uint32)
            self.parent, self.stop, self.lo, self.hi = (np.empty(size, np.int32) for _ in range(4))

    def read(self, source: bytes) -> np.ndarray:
        """Take the nodes of a serialised page in UTF-8; its bytes as uint8[bytes]."""
        data = np.frombuffer(source, np.uint8)
        self.source = source
        # Every node but a text begins with "<", and between two texts there is one.
        self.reserve(2 * int(np.count_nonzero(data == ord("<"))) + 2)
        self.count = int(
            _scan(
                data,
                ELEMENTS.keys,
                ELEMENTS.values,
                WORDS.keys,
                WORDS.values,
                ROLES.keys,
                ROLES.values,
                self.kind,
                self.flags,
                self.parent,
                self.stop,
                self.lo,
                self.hi,
            )
        )
        return data

    def name(self, node: int) -> str:
        """Name of an element."""
        end = int(self.lo[node])
        return self.source[self.source.rindex(b"<", 0, end) + 1 : end].decode()

    def attribute(self, node: int, name: str) -> str:
        """Value of an attribute of an element, "" without it."""
        attributes = self.source[self.lo[node] : self.hi[node]].decode()
        found = re.search(rf'\s{re.escape(name)}="([^"]*)"', attributes)
        return html.unescape(found[1]) if found else ""

    def text(self, node: int) -> str:
        """All text at and below a node."""
        texts = (i for i in range(node, int(self.stop[node])) if self.kind[i] == TEXT)
        joined = b"".join(self.source[self.lo[i] : self.hi[i]] for i in texts).decode()
        return joined if self.kind[node] & RAW else html.unescape(joined)

    def depth(self) -> int:
        """Levels of nesting."""
        return int(_depth(self.count, self.parent))

    def children(self, node: int) -> Iterator[int]:
        """The nodes right below a node."""
        child = node + 1
        while child < self.stop[node]:
            yield child
            child = int(self.stop[child])


@kernel
def _find(data, at, a, b, c):  # type: ignore[no-untyped-def]
    """Position of the bytes a, b, c (0: any) from `at` on, else the end."""
    n = len(data)
    while at < n:
        if data[at] == a and (b == 0 or (at + 1 < n and data[at + 1] == b)):
            if c == 0 or (at + 2 < n and data[at + 2] == c):
                return at
        at += 1
    return n


@kernel
def _scan(  # type: ignore[no-untyped-def]
    data, keys, values, word_keys, word_values, role_keys, role_values, kind, flags, parent, stop, lo, hi
):  # fmt: skip
    n = len(data)
    count = 0
    top = -1  # the open element
    at = 0
    while at < n:
        if data[at] != 60:  # text
            begin = at
            while at < n and data[at] != 60:
                at += 1
            kind[count], flags[count], parent[count], lo[count], hi[count] = 0, 0, top, begin, at
            count += 1
            stop[count - 1] = count
            continue
        c = data[at + 1] if at + 1 < n else np.uint8(0)
        if c == 33:  # a comment or the document type
            if at + 3 < n and data[at + 2] == 45 and data[at + 3] == 45:
                at = _find(data, at + 4, 45, 45, 62) + 3
            else:
                at = _find(data, at + 2, 62, 0, 0) + 1
            continue
        if c == 63:  # a processing instruction
            at = _find(data, at + 2, 62, 0, 0) + 1
            continue
        closing = c == 47
        begin = at + 2 if closing else at + 1
        end = begin
        while end < n and data[end] != 62 and data[end] != 32 and data[end] != 47:
            end += 1
        value = look_up(hash_range(data, begin, end), keys, values)
        if value == 0:
            value = np.uint32(OTHER)
        if closing:
            at = _find(data, end, 62, 0, 0) + 1
            node = top
            while node >= 0 and kind[node] & TAG_MASK != value & TAG_MASK:
                node = parent[node]
            if node >= 0:  # the serialiser closes what it opened, so this is `top`
                while top != node:
                    stop[top] = count
                    top = parent[top]
                stop[top] = count
                top = parent[top]
            continue
        # Ids of headings, terms and paragraphs are places to link to: #cookies, flask.Request.cookies.
        is_box = value & BLOCK != 0 and value & (PARAGRAPH | HEADING) == 0
        flag, close = flags_of(data, end, n, is_box, word_keys, word_values, role_keys, role_values)
        at = close + 1
        node = count
        kind[node], flags[node], parent[node], lo[node], hi[node] = value, flag, top, end, close
        count += 1
        stop[node] = count
        if value & VOID:
            continue
        top = node
        if value & RAW:
            # Up to "</" and the same name.
            begin_raw = at
            while at < n:
                at = _find(data, at, 60, 47, 0)
                same = at + 2 + (end - begin) < n
                if same:
                    for j in range(end - begin):
                        if data[at + 2 + j] != data[begin + j]:
                            same = False
                            break
                if same or at >= n:
                    break
                at += 1
            if at > begin_raw:
                kind[count], flags[count], parent[count], lo[count], hi[count] = 0, 0, node, begin_raw, at
                count += 1
                stop[count - 1] = count
    while top >= 0:
        stop[top] = count
        top = parent[top]
    return count


@kernel
def _depth(count, parent):  # type: ignore[no-untyped-def]
    """A node's parent comes before it, and the path to the node before it leads there."""
    deepest = depth = 0
    for node in range(count):
        above = node - 1
        depth += 1
        while above != parent[node]:
            above = parent[above]
            depth -= 1
        deepest = max(deepest, depth)
    return deepest
