"""Many phrases searched for at once in UTF-8 bytes: an Aho-Corasick automaton (Aho & Corasick 1975) as a dense table.

One table look-up a byte, whatever the number of phrases, so hostile text cannot slow it down.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from raypt.curation.text import kernel


@dataclass(frozen=True)
class PhraseTable:
    """`state = goto[state, classes[byte]]`; `masks[state]` has the group bits of the phrases that end there, `lengths`
    the bytes of the longest of them.

    Shapes: classes uint8[256], goto int32[S, C], masks uint64[S], lengths int32[S].
    """

    classes: np.ndarray
    goto: np.ndarray
    masks: np.ndarray
    lengths: np.ndarray

    @classmethod
    def build(cls, groups: Sequence[Sequence[str]]) -> "PhraseTable":
        """Phrases of group g set bit g (at most 64 groups). ASCII letters match in either case; for other letters give
        lower-case phrases and lower-case text."""
        assert len(groups) <= 64
        encoded = [(g, phrase.lower().encode()) for g, phrases in enumerate(groups) for phrase in phrases if phrase]
        classes = np.zeros(256, np.uint8)
        for b in sorted({b for _, phrase in encoded for b in phrase}):
            classes[b] = classes.max() + 1
        for b in range(ord("a"), ord("z") + 1):
            classes[b - 32] = classes[b]
        width = int(classes.max()) + 1
        trie: list[dict[int, int]] = [{}]
        masks, lengths = [0], [0]
        for g, phrase in encoded:
            state = 0
            for b in phrase:
                if classes[b] not in trie[state]:
                    trie[state][int(classes[b])] = len(trie)
                    trie.append({})
                    masks.append(0)
                    lengths.append(0)
                state = trie[state][int(classes[b])]
            masks[state] |= 1 << g
            lengths[state] = len(phrase)
        goto = np.zeros((len(trie), width), np.int32)
        fail = [0] * len(trie)
        queue: deque[int] = deque()
        for c, child in trie[0].items():
            goto[0, c] = child
            queue.append(child)
        while queue:
            state = queue.popleft()
            masks[state] |= masks[fail[state]]
            lengths[state] = max(lengths[state], lengths[fail[state]])
            goto[state] = goto[fail[state]]
            for c, child in trie[state].items():
                fail[child] = int(goto[fail[state], c])
                goto[state, c] = child
                queue.append(child)
        return cls(classes, goto, np.array(masks, np.uint64), np.array(lengths, np.int32))


@kernel
def groups_in(data, start, end, classes, goto, masks):  # type: ignore[no-untyped-def]
    """uint64 bits of the groups with a phrase in data[start:end]."""
    state = 0
    found = np.uint64(0)
    for i in range(start, end):
        state = goto[state, classes[data[i]]]
        found |= masks[state]
    return found
