"""One pass over the text of a batch: characters, tokens and lines of every document, shared by all rules.

Tokens are those of `segment`. A **line** ends where `str.splitlines` ends it.
"""

import numpy as np

from raypt.curation.features import (
    ALPHAS,
    BREAKS,
    CHARS,
    COUNTS,
    DIGITS,
    ELLIPSES,
    ELLIPSIS_END,
    HASHES,
    NO_STOPS_END,
    QUOTE_END,
    SPACES,
    STOP_END,
    SYMBOL_ONLY,
    SYMBOLS,
    UNSPACED,
    UNSPACEDS,
    UPPERS,
    Features,
)
from raypt.curation.segment import COMPLEX, store_token, tokenize_chunk
from raypt.kernels import kernel
from raypt.text import unicode as u
from raypt.text.buffers import TextBatch
from raypt.text.hashing import hash_bytes
from raypt.text.utf8 import character_start, decode, width_of

_DOT = 0x2E


@kernel
def classes_of(data, start, end, pages, blocks, cls, pos):  # type: ignore[no-untyped-def]
    """Class bits and byte position of every code point; returns their number."""
    k = 0
    i = start
    while i < end:
        b = data[i]
        pos[k] = i
        if b < 0x80:
            cls[k] = blocks[0, b]
            i += 1
        else:
            n = width_of(b)
            if i + n > end:  # not UTF-8: cannot happen in an Arrow string, but must not read beyond the buffer
                cls[k] = 0
                i = end
            else:
                c, n = decode(data, i)
                cls[k] = blocks[pages[c >> 8], c & 0xFF] if c < 0x110000 else 0
                i += n
        k += 1
    pos[k] = end
    return k


@kernel
def _last_char(data, start, end, pages, blocks):  # type: ignore[no-untyped-def]
    """(class bits, byte position) of the last character of data[start:end], not empty."""
    p = character_start(data, end - 1, start)
    b = data[p]
    if b < 0x80:
        return blocks[0, b], p
    c, _ = decode(data, p)
    return (blocks[pages[c >> 8], c & 0xFF] if c < 0x110000 else blocks[0, 0]), p


@kernel
def end_flags(data, start, end, pages, blocks):  # type: ignore[no-untyped-def]
    """How the text data[start:end], not empty and stripped, ends: the `*_END` line flags."""
    flags = np.uint8(0)
    last, p = _last_char(data, start, end, pages, blocks)
    if data[p] == _DOT:
        if end - start >= 3 and data[end - 2] == _DOT and data[end - 3] == _DOT:
            flags |= ELLIPSIS_END
    elif end - p == 3 and data[p] == 0xE2 and data[p + 1] == 0x80 and data[p + 2] == 0xA6:
        flags |= ELLIPSIS_END
    if last & u.TERMINAL:
        flags |= STOP_END
    if last & u.QUOTE:
        flags |= QUOTE_END
        if p > start and _last_char(data, start, p, pages, blocks)[0] & u.TERMINAL:
            flags |= STOP_END
    while last & u.EXTEND and not last & u.UNSPACED and p > start:
        last, p = _last_char(data, start, p, pages, blocks)
    if last & u.NO_STOPS:
        flags |= NO_STOPS_END
    return flags


@kernel
def _count(chars, data, start, end, cls, counts):  # type: ignore[no-untyped-def]
    """Class counts of one document; the loops are simple so that the compiler makes vector code of them."""
    spaces = breaks = alphas = digits = uppers = symbols = unspaced = np.int32(0)
    classes = cls[:chars]
    for k in range(chars):
        c = classes[k]
        spaces += np.int32(c & 1)
        breaks += np.int32(c >> 1 & 1)
        alphas += np.int32(c >> 2 & 1)
        digits += np.int32(c >> 3 & 1)
        uppers += np.int32(c >> 4 & 1)
        unspaced += np.int32(c >> 6 & 1)
        symbols += np.int32(c >> 8 & 1)
    text = data[start:end]
    hashes = returns = dots = others = np.int32(0)
    for k in range(len(text)):
        hashes += np.int32(text[k] == 0x23)
        returns += np.int32(text[k] == 0x0D)
    for k in range(len(text) - 2):
        dots += np.int32((text[k] == _DOT) & (text[k + 1] == _DOT) & (text[k + 2] == _DOT))
        others += np.int32((text[k] == 0xE2) & (text[k + 1] == 0x80) & (text[k + 2] == 0xA6))
    ellipses = np.int64(others)
    if dots:  # count "..." without overlaps
        run = 0
        for b in text:
            run = run + 1 if b == _DOT else 0
            if run == 3:
                ellipses += 1
                run = 0
    if returns:
        for k in range(len(text) - 1):
            breaks -= (text[k] == 0x0D) & (text[k + 1] == 0x0A)  # \r\n is one break
    counts[CHARS], counts[SPACES], counts[BREAKS], counts[ALPHAS] = chars, spaces, breaks, alphas
    counts[DIGITS], counts[UPPERS], counts[SYMBOLS], counts[UNSPACEDS] = digits, uppers, symbols, unspaced
    counts[HASHES], counts[ELLIPSES] = hashes, ellipses


@kernel
def _scan(  # type: ignore[no-untyped-def]
    data, offsets, pages, blocks, cls, pos, counts, token_offsets, t_hash, t_chars, t_start, t_flags,
    line_offsets, l_bytes, l_chars, l_words, l_longest, l_hash, l_flags, l_tokens,
):  # fmt: skip
    n = lines = 0
    for d in range(len(offsets) - 1):
        token_offsets[d] = n
        line_offsets[d] = lines
        chars = classes_of(data, offsets[d], offsets[d + 1], pages, blocks, cls, pos)
        _count(chars, data, offsets[d], offsets[d + 1], cls, counts[d])
        a = 0
        while a < chars:  # a line: characters [a, b)
            b = a
            strip_start = strip_end = -1
            l_tokens[lines] = n
            words = longest = 0
            while b < chars and not cls[b] & u.BREAK:
                if cls[b] & u.SPACE:
                    b += 1
                    continue
                chunk = b
                any_of, all_of, inner = np.uint16(0), np.uint16(0xFFFF), np.uint16(0)
                while b < chars:
                    c = cls[b]
                    if c & u.SPACE:
                        break
                    inner = any_of
                    any_of |= c
                    all_of &= c
                    b += 1
                if strip_start < 0:
                    strip_start = chunk
                strip_end = b
                first = n
                if not any_of & COMPLEX or b - chunk == 1:
                    n = store_token(
                        n, chunk, b, any_of, all_of, True, data, pos, t_hash, t_chars, t_start, t_flags
                    )  # fmt: skip
                elif not inner & COMPLEX and (
                    cls[b - 1] & u.EDGE or (data[pos[b - 1]] == _DOT and not cls[b - 2] & u.UPPER)
                ):  # a plain word and one mark after it
                    n = store_token(n, chunk, b - 1, inner, 0, True, data, pos, t_hash, t_chars, t_start, t_flags)
                    last = cls[b - 1]
                    n = store_token(n, b - 1, b, last, last, False, data, pos, t_hash, t_chars, t_start, t_flags)
                else:
                    n = tokenize_chunk(n, chunk, b, data, pos, cls, t_hash, t_chars, t_start, t_flags)
                if any_of & u.UNSPACED:
                    spaced = 0
                    for t in range(first, n):
                        if t_flags[t] & UNSPACED:
                            words += 1
                        elif not t_flags[t] & SYMBOL_ONLY:
                            spaced = 1
                        longest = max(longest, t_chars[t])
                    words += spaced
                else:
                    words += 1
                    longest = max(longest, b - chunk)
            l_bytes[lines, 0], l_bytes[lines, 1] = pos[a], pos[b]
            l_chars[lines] = b - a
            l_words[lines] = words
            l_longest[lines] = longest
            l_hash[lines] = hash_bytes(data, pos[a], pos[b])
            if strip_start < 0:
                l_bytes[lines, 2] = l_bytes[lines, 3] = pos[a]
                l_flags[lines] = 0
            else:
                l_bytes[lines, 2], l_bytes[lines, 3] = pos[strip_start], pos[strip_end]
                l_flags[lines] = end_flags(data, pos[strip_start], pos[strip_end], pages, blocks)
            lines += 1
            if b < chars and data[pos[b]] == 0x0D and b + 1 < chars and data[pos[b + 1]] == 0x0A:
                b += 1
            a = b + 1
    token_offsets[len(offsets) - 1] = n
    line_offsets[len(offsets) - 1] = lines
    l_tokens[lines] = n
    return n, lines


_TOKEN_ARRAYS = (("hash", np.uint64, 1), ("chars", np.int32, 1), ("start", np.int32, 1), ("flags", np.uint8, 1))
_LINE_ARRAYS = (
    ("bytes", np.int64, 4), ("chars", np.int32, 1), ("words", np.int32, 1), ("longest", np.int32, 1),
    ("hash", np.uint64, 1), ("flags", np.uint8, 1), ("tokens", np.int64, 1),
)  # fmt: skip


class Buffers:
    """Memory for the tokens and lines of one batch at a time, kept from scan to scan.

    Fresh arrays of this size come from the operating system as pages that it has to find and clear, at each batch and
    on all cores at once; that cost 8 % of the time. Arrays for a batch of more than `most_bytes` of text are not kept.
    """

    def __init__(self, most_bytes: int = 16 << 20) -> None:
        self.most_bytes, self._capacity = most_bytes, 0
        self._arrays: list[np.ndarray] = []

    def arrays(self, nbytes: int) -> list[np.ndarray]:
        """Arrays of `_TOKEN_ARRAYS` and `_LINE_ARRAYS` for up to `nbytes + 2` tokens and lines, of any content."""
        if nbytes > self.most_bytes:
            return _empty(nbytes + 2)
        if nbytes + 2 > self._capacity:
            self._capacity = 1 << (nbytes + 2).bit_length()
            self._arrays = _empty(self._capacity)
        return self._arrays


def _empty(n: int) -> list[np.ndarray]:
    return [np.empty(n if width == 1 else (n, width), kind) for _, kind, width in (*_TOKEN_ARRAYS, *_LINE_ARRAYS)]


def scan(text: TextBatch, buffers: Buffers | None = None) -> Features:
    """Features of a batch of less than 2 GiB; memory is about 6 bytes a byte of its longest document, plus
    17 bytes a token and 65 bytes a line of the batch. With `buffers`, the next scan into them overwrites these
    features."""
    n, base = len(text), int(text.offsets[0])
    assert text.nbytes < 2**31 - 16, "cut the batch: byte positions are 32-bit"
    data, offsets = text.data[base : base + text.nbytes], text.offsets - base
    pages, blocks = u.tables()
    longest = int(np.diff(offsets).max(initial=0)) + 1
    token_offsets, line_offsets = np.empty(n + 1, np.int64), np.empty(n + 1, np.int64)
    counts = np.zeros((n, COUNTS), np.int64)
    # A byte is at most one token and one line: pages that are never touched cost nothing.
    (
        t_hash, t_chars, t_start, t_flags, l_bytes, l_chars, l_words, l_longest, l_hash, l_flags, l_tokens
    ) = (buffers or Buffers(0)).arrays(text.nbytes)  # fmt: skip
    tokens, lines = _scan(
        data, offsets, pages, blocks, np.empty(longest, np.uint16), np.empty(longest + 1, np.int32),
        counts, token_offsets, t_hash, t_chars, t_start, t_flags,
        line_offsets, l_bytes, l_chars, l_words, l_longest, l_hash, l_flags, l_tokens,
    )  # fmt: skip
    return Features(
        TextBatch(data, offsets), counts, token_offsets, t_hash[:tokens], t_chars[:tokens], t_start[:tokens],
        t_flags[:tokens], line_offsets, l_bytes[:lines], l_chars[:lines], l_words[:lines], l_longest[:lines],
        l_hash[:lines], l_flags[:lines], l_tokens[: lines + 1],
    )  # fmt: skip
