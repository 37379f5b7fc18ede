"""Which nodes of a page are its main content: rules on masses of text and links, in a few passes over the nodes."""

from dataclasses import dataclass, field

import numpy as np

from raypt.corpus.html.reasons import find_reasons, leave_out
from raypt.corpus.html.root import find_root, find_title, leave_out_bare_headings, leave_out_boxes_of_links, with_title
from raypt.corpus.html.scan import Nodes
from raypt.corpus.html.weigh import leave_out_what_is_no_text, weigh


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

    def read(
        self, data: np.ndarray, nodes: Nodes, name: bytes, main_content: bool, comments: bool, lists: int
    ) -> tuple[int, int]:
        """Decide for the nodes of a page; (the node below which the main content lies, its title before it or -1).
        `name`: the page's <title>, as it is serialised."""
        n, kind, parent, stop = nodes.count, nodes.kind, nodes.parent, nodes.stop
        self.reserve(n)
        self.flags = nodes.flags
        leave_out_what_is_no_text(data, n, kind, parent, nodes.lo, nodes.hi, self.flags, self.drop, self.chars)
        self._weigh(nodes)
        find_reasons(
            data, n, kind, parent, stop, nodes.lo, nodes.hi, self.flags, self.drop, self.chars, self.links, self.good,
            self.inside, self.titles, main_content, comments, self.reason, self.word, self.spent,
        )  # fmt: skip
        leave_out(n, parent, self.reason, self.word, self.spent, self.good[0], self.drop)
        if not main_content:
            return 0, -1
        self._weigh(nodes)
        root = int(find_root(n, kind, parent, stop, self.flags, self.drop, self.chars, self.links, self.good))
        title = find_title(
            data, kind, parent, stop, nodes.lo, nodes.hi, self.flags, root, self.drop, self.chars, self.good,
            np.frombuffer(name, np.uint8),
        )  # fmt: skip
        root = int(with_title(parent, stop, root, title, self.chars, self.links))
        leave_out_boxes_of_links(
            kind, parent, stop, root, self.drop, self.chars, self.links, self.good, self.titles, lists, self.inside
        )
        leave_out_bare_headings(kind, stop, root, self.drop, self.chars, self.spent)
        return root, -1 if root <= title else int(title)

    def _weigh(self, nodes: Nodes) -> None:
        weigh(
            nodes.count, nodes.kind, nodes.parent, self.flags, self.drop, self.chars, self.links, self.good, self.block,
            self.own, self.own_links,
        )  # fmt: skip
