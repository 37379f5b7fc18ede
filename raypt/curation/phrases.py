"""Many phrases searched for at once in UTF-8 bytes: an Aho-Corasick automaton (Aho & Corasick 1975) as a dense table.

One table look-up a byte, whatever the number of phrases, so hostile text cannot slow it down.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raypt import storage
from raypt.errors import UserError
from raypt.kernels import allocating_kernel, kernel
from raypt.text import unicode as u
from raypt.text.buffers import TextBatch
from raypt.text.utf8 import character, character_start


@dataclass(frozen=True)
class PhraseTable:
    """The automaton: `state = goto[state, classes[byte]]`.

    Shapes: classes uint8[256], goto int32[S, C]. masks uint64[S] has the group bits of all phrases that end at a state.
    phrase int32[S] is the number of the longest phrase that ends there and is spelled by the whole state, -1 if none;
    link int32[S] the next shorter state with such a phrase, 0 if none; depths int32[S] the bytes that spell a state: a
    step that does not make it one more falls back to a shorter match. lengths int32[P]: the bytes of each phrase.
    """

    classes: np.ndarray
    goto: np.ndarray
    masks: np.ndarray
    phrase: np.ndarray
    link: np.ndarray
    depths: np.ndarray
    lengths: np.ndarray

    @classmethod
    def build(cls, groups: Sequence[Sequence[str]]) -> "PhraseTable":
        """Phrases of group g set bit g (at most 64 groups). ASCII letters match in either case; phrases are
        lower-cased, so text with other cased letters has to be lower-cased by the caller."""
        assert len(groups) <= 64
        encoded = [(g, phrase.lower().encode()) for g, phrases in enumerate(groups) for phrase in phrases if phrase]
        classes = np.zeros(256, np.uint8)
        for b in sorted({b for _, phrase in encoded for b in phrase}):
            classes[b] = classes.max() + 1
        for b in range(ord("a"), ord("z") + 1):
            classes[b - 32] = classes[b]
        trie: list[dict[int, int]] = [{}]
        masks, phrase, depths = [0], [-1], [0]
        lengths: list[int] = []
        for g, spelled in encoded:
            state = 0
            for b in spelled:
                child = trie[state].setdefault(int(classes[b]), len(trie))
                if child == len(trie):
                    trie.append({})
                    masks.append(0)
                    phrase.append(-1)
                    depths.append(depths[state] + 1)
                state = child
            masks[state] |= 1 << g
            if phrase[state] < 0:
                phrase[state] = len(lengths)
                lengths.append(len(spelled))
        goto = np.zeros((len(trie), int(classes.max()) + 1), np.int32)
        fail, link = [0] * len(trie), [0] * len(trie)
        queue: deque[int] = deque()
        for c, child in trie[0].items():
            goto[0, c] = child
            queue.append(child)
        while queue:
            state = queue.popleft()
            shorter = fail[state]
            masks[state] |= masks[shorter]
            link[state] = shorter if phrase[shorter] >= 0 else link[shorter]
            goto[state] = goto[shorter]
            for c, child in trie[state].items():
                fail[child] = int(goto[shorter, c])
                goto[state, c] = child
                queue.append(child)
        return cls(
            classes, goto, np.array(masks, np.uint64), np.array(phrase, np.int32), np.array(link, np.int32),
            np.array(depths, np.int32),
            np.array(lengths or [0], np.int32),
        )  # fmt: skip


@kernel
def groups_in(data, start, end, classes, goto, masks):  # type: ignore[no-untyped-def]
    """uint64 bits of the groups with a phrase in data[start:end]."""
    state = 0
    found = np.uint64(0)
    for i in range(start, end):
        state = goto[state, classes[data[i]]]
        found |= masks[state]
    return found


@kernel
def _joins(data, left, right, pages, blocks):  # type: ignore[no-untyped-def]
    """Whether the characters at byte positions left and right belong to one word of a spaced script."""
    word = np.uint16(u.ALPHA | u.DIGIT | u.EXTEND)
    for p in (left, right):
        c, _ = character(data, p)
        flags = blocks[pages[c >> 8], c & 0xFF]
        if flags & u.UNSPACED or not (flags & word or c == 0x5F):
            return False
    return True


@kernel
def _is_whole(data, start, end, doc_start, doc_end, pages, blocks):  # type: ignore[no-untyped-def]
    """Whether data[start:end] begins and ends at word boundaries (anywhere in unspaced scripts)."""
    if start > doc_start and _joins(data, character_start(data, start - 1, doc_start), start, pages, blocks):
        return False
    return end >= doc_end or not _joins(data, character_start(data, end - 1, start), end, pages, blocks)


@allocating_kernel
def _count_matches(data, offsets, classes, goto, phrase, link, lengths, whole, pages, blocks):  # type: ignore[no-untyped-def]
    n = len(offsets) - 1
    out = np.zeros((n, 2), np.int64)
    seen = np.full(len(lengths), -1, np.int64)
    for d in range(n):
        state = 0
        for i in range(offsets[d], offsets[d + 1]):
            state = goto[state, classes[data[i]]]
            s = state if phrase[state] >= 0 else link[state]
            while s != 0:
                k = phrase[s]
                if not whole or _is_whole(data, i + 1 - lengths[k], i + 1, offsets[d], offsets[d + 1], pages, blocks):
                    out[d, 0] += 1
                    if seen[k] != d:
                        seen[k] = d
                        out[d, 1] += 1
                s = link[s]
    return out


def count_matches(text: pa.Array, phrases: Sequence[str], *, whole_words: bool) -> np.ndarray:
    """int64[n, 2]: occurrences of the phrases in each document, and how many different ones; case is ignored.

    With `whole_words` a phrase must not continue a word on either side; in scripts written without spaces, where words
    have no visible ends, it may.
    """
    table = PhraseTable.build([phrases])
    if not "".join(phrases).isascii():
        text = pc.utf8_lower(text)
    batch = TextBatch.from_arrow(text)
    counts: np.ndarray = _count_matches(
        batch.data, batch.offsets, table.classes, table.goto, table.phrase, table.link, table.lengths, whole_words,
        *u.tables(),
    )  # fmt: skip
    return counts


def read_list(uri: str, key: str) -> tuple[str, ...]:
    """The phrases of a file, one a line, without blank lines and comments (#). `key` names the setting in errors."""
    try:
        lines = storage.read_bytes(uri).decode("utf-8").splitlines()
    except FileNotFoundError:
        raise UserError(f"{key}: there is no file {uri}") from None
    except UnicodeDecodeError as e:
        raise UserError(f"{key}: {uri} is not UTF-8 ({e}); convert it") from None
    return tuple(dict.fromkeys(line.strip() for line in lines if line.strip() and not line.startswith("#")))
