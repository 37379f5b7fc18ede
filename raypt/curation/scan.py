"""One pass over the text of a batch: characters, tokens and lines of every document, shared by all rules.

A **token** is what remains of a chunk between spaces after its leading and trailing punctuation, each character of
which is a token of its own (a run of full stops is one). A chunk is split further at hyphens, slashes and the like
between letters, at any non-ASCII punctuation, and around every letter of a script written without spaces (Han, Kana,
Thai, Lao, Khmer, Myanmar): there a character with its combining marks is a token. On English this follows spaCy's
rule-based tokenizer closely, so word counts compare with datatrove's.

A **line** ends where `str.splitlines` ends it.
"""

from dataclasses import dataclass

import numpy as np

from raypt.curation import unicode as u
from raypt.curation.text import TextBatch, kernel

# Token flags.
HAS_ALPHA = 1
SYMBOL_ONLY = 2  # only punctuation, symbols and control characters: not a word
STOP = 4  # a sentence-final mark (an ellipsis is none)
PUNCT_ONLY = 8
UNSPACED = 16  # a character of a script written without spaces
NO_STOPS = 32  # ... which has no sentence-final punctuation either
AFTER_SPACE = 64  # white space or the start of the document comes before

# Line flags.
BULLET = 1  # starts with a bullet
ELLIPSIS_END = 2  # ends with "..." or "…"
STOP_END = 4  # ends with sentence-final punctuation, a closing quotation mark after it allowed
QUOTE_END = 8  # ends with a quotation mark or a closing bracket of CJK
NO_STOPS_END = 16  # ends with a letter of a script without sentence-final punctuation

# Columns of `Features.counts`.
CHARS, SPACES, ALPHAS, DIGITS, UPPERS, SYMBOLS, UNSPACEDS, HASHES, ELLIPSES, BREAKS = range(10)
COUNTS = 10

BULLETS = "•‣▪●◦⁃-*"

_DOT, _COLON, _SLASH, _APOSTROPHE = 0x2E, 0x3A, 0x2F, 0x27
_FNV_SEED, _FNV_PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)
_WORD = np.uint16(u.ALPHA | u.DIGIT)
_COMPLEX = np.uint16(u.SYMBOL | u.EDGE | u.SPLIT | u.UNSPACED)


@dataclass(frozen=True)
class Features:
    """What the rules read. D documents, T tokens, L lines; the tokens of document d are `token_offsets[d : d + 2]`.

    counts int64[D, COUNTS]. token_*[T]: hash uint64 (of the UTF-8 bytes), chars int32, start int32 (byte position in
    `text.data`), flags uint8. line_*[L]: bytes int64[L, 4] (start, end without the terminator; the same of the stripped
    line), chars int32 (unstripped), words int32 (chunks between spaces, each character of an unspaced script as one),
    longest int32 (characters of the longest such word), hash uint64 (of the unstripped bytes), flags uint8, tokens
    int64[L + 1] (first token of each line).
    """

    text: TextBatch
    counts: np.ndarray
    token_offsets: np.ndarray
    token_hash: np.ndarray
    token_chars: np.ndarray
    token_start: np.ndarray
    token_flags: np.ndarray
    line_offsets: np.ndarray
    line_bytes: np.ndarray
    line_chars: np.ndarray
    line_words: np.ndarray
    line_longest: np.ndarray
    line_hash: np.ndarray
    line_flags: np.ndarray
    line_tokens: np.ndarray


@kernel
def hash_bytes(data, start, end):  # type: ignore[no-untyped-def]
    """FNV-1a of 64 bits, with a final mix so that low bits can index a table."""
    h = _FNV_SEED
    for i in range(start, end):
        h = (h ^ np.uint64(data[i])) * _FNV_PRIME
    h ^= h >> np.uint64(32)
    h *= np.uint64(0x9E3779B97F4A7C15)
    return h ^ (h >> np.uint64(29))


@kernel
def _decode(data, start, end, pages, blocks, cls, pos):  # type: ignore[no-untyped-def]
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
            n = 2 if b < 0xE0 else (3 if b < 0xF0 else 4)
            if i + n > end:  # not UTF-8: cannot happen in an Arrow string, but must not read beyond the buffer
                cls[k] = 0
                i = end
            else:
                c = b & (0xFF >> (n + 1))
                for m in range(1, n):
                    c = c << 6 | data[i + m] & 0x3F
                cls[k] = blocks[pages[c >> 8], c & 0xFF] if c < 0x110000 else 0
                i += n
        k += 1
    pos[k] = end
    return k


@kernel
def _emit(n, a, b, after_space, data, pos, cls, t_hash, t_chars, t_start, t_flags):  # type: ignore[no-untyped-def]
    """Store characters [a, b) as token n; returns n + 1."""
    any_of, all_of = np.uint16(0), np.uint16(0xFFFF)
    for k in range(a, b):
        any_of |= cls[k]
        all_of &= cls[k]
    flags = np.uint8(0)
    if any_of & u.ALPHA:
        flags |= HAS_ALPHA
    if all_of & u.SYMBOL:
        flags |= SYMBOL_ONLY
    if all_of & u.PUNCT:
        flags |= PUNCT_ONLY
    if all_of & u.TERMINAL and (b - a == 1 or data[pos[a]] != _DOT):
        flags |= STOP
    if any_of & u.UNSPACED:
        flags |= UNSPACED
    if any_of & u.NO_STOPS:
        flags |= NO_STOPS
    if after_space:
        flags |= AFTER_SPACE
    t_hash[n] = hash_bytes(data, pos[a], pos[b])
    t_chars[n] = b - a
    t_start[n] = pos[a]
    t_flags[n] = flags
    return n + 1


@kernel
def _is_clitic(a, data, pos):  # type: ignore[no-untyped-def]
    """Whether characters a, a+1 are 's (straight or typographic apostrophe)."""
    p, q = pos[a], pos[a + 1]
    if data[q] | 0x20 != 0x73:
        return False
    return data[p] == _APOSTROPHE or (q - p == 3 and data[p] == 0xE2 and data[p + 1] == 0x80 and data[p + 2] == 0x99)


@kernel
def _suffix_start(lo, hi, data, pos, cls):  # type: ignore[no-untyped-def]
    """Where the trailing punctuation of chunk [lo, hi) begins."""
    while hi > lo:
        last = hi - 1
        if cls[last] & u.EDGE:
            hi -= 1
        elif data[pos[last]] == _DOT:
            run = last
            while run > lo and data[pos[run - 1]] == _DOT:
                run -= 1
            if last == run and run > lo:  # the full stop of "J." and "e.g." belongs to them, that of "USA." does not
                earlier = cls[run - 2] if run - 1 > lo else np.uint16(0)
                if cls[run - 1] & u.UPPER and not earlier & u.UPPER:
                    break
                if cls[run - 1] & u.ALPHA and run - 1 > lo and data[pos[run - 2]] == _DOT:
                    break
            hi = run
        elif hi - lo > 2 and _is_clitic(hi - 2, data, pos):
            hi -= 2
        else:
            break
    return hi


@kernel
def _tokenize_chunk(n, lo, end, data, pos, cls, t_hash, t_chars, t_start, t_flags):  # type: ignore[no-untyped-def]
    """Tokens of the characters [lo, end) that lie between spaces; returns the new number of tokens."""
    spaced = True
    while lo < end:  # leading punctuation
        stop = lo
        if cls[lo] & u.EDGE:
            stop = lo + 1
        elif data[pos[lo]] == _DOT and lo + 1 < end and data[pos[lo + 1]] == _DOT:
            while stop < end and data[pos[stop]] == _DOT:
                stop += 1
        if stop == lo:
            break
        n = _emit(n, lo, stop, spaced, data, pos, cls, t_hash, t_chars, t_start, t_flags)
        spaced = False
        lo = stop
    hi = _suffix_start(lo, end, data, pos, cls)
    start = p = lo
    while p < hi:  # the middle
        f = cls[p]
        stop = p
        if f & u.UNSPACED:
            stop = p + 1
            while stop < hi and cls[stop] & u.EXTEND and not cls[stop] & u.UNSPACED:
                stop += 1
        elif f & u.SPLIT:
            stop = p + 1
        elif f & u.SYMBOL and p > lo and p + 1 < hi:
            before, after, ch = cls[p - 1], cls[p + 1], data[pos[p]]
            if ch == _COLON and data[pos[p + 1]] == _SLASH and p + 2 < hi and data[pos[p + 2]] == _SLASH:
                break  # a URL stays whole
            if (before | after) & u.UNSPACED and f & u.EDGE:
                stop = p + 1
            elif f & u.HYPHEN and before & _WORD:
                run = p + 1
                while run < hi and cls[run] & u.HYPHEN:
                    run += 1
                if run < hi and (cls[run] & u.ALPHA or (run == p + 1 and before & u.DIGIT and after & u.DIGIT)):
                    stop = run
            elif ch == _DOT:
                if data[pos[p + 1]] == _DOT:
                    stop = p
                    while stop < hi and data[pos[stop]] == _DOT:
                        stop += 1
                elif before & u.ALPHA and not before & u.UPPER and after & u.UPPER:
                    stop = p + 1
            elif ch == 0x2C:  # comma
                if before & u.ALPHA and after & u.ALPHA:
                    stop = p + 1
            elif ch in (_COLON, _SLASH, 0x3C, 0x3D, 0x3E):  # : / < = >
                if before & _WORD and after & u.ALPHA:
                    stop = p + 1
            elif ch in (0x2A, 0x2B, 0x5E) and before & u.DIGIT and after & u.DIGIT:  # * + ^
                stop = p + 1
        if stop > p:
            if start < p:
                n = _emit(n, start, p, spaced, data, pos, cls, t_hash, t_chars, t_start, t_flags)
                spaced = False
            n = _emit(n, p, stop, spaced, data, pos, cls, t_hash, t_chars, t_start, t_flags)
            spaced = False
            start = p = stop
        else:
            p += 1
    if start < hi:
        n = _emit(n, start, hi, spaced, data, pos, cls, t_hash, t_chars, t_start, t_flags)
        spaced = False
    p = hi
    while p < end:  # trailing punctuation
        stop = p + 1
        if data[pos[p]] == _DOT:
            while stop < end and data[pos[stop]] == _DOT:
                stop += 1
        elif p + 1 < end and _is_clitic(p, data, pos):
            stop = p + 2
        n = _emit(n, p, stop, spaced, data, pos, cls, t_hash, t_chars, t_start, t_flags)
        spaced = False
        p = stop
    return n


@kernel
def _last_char(data, start, end, pages, blocks):  # type: ignore[no-untyped-def]
    """(class bits, byte position) of the last character of data[start:end], not empty."""
    p = end - 1
    while p > start and data[p] & 0xC0 == 0x80:
        p -= 1
    b = data[p]
    if b < 0x80:
        return blocks[0, b], p
    n = end - p
    c = b & (0xFF >> (n + 1))
    for m in range(1, n):
        c = c << 6 | data[p + m] & 0x3F
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
def _starts_with_bullet(data, start, end, bullets):  # type: ignore[no-untyped-def]
    for bullet in bullets:
        n = 1 if bullet < 0x100 else 3
        if start + n <= end:
            first = np.int64(0)
            for i in range(start, start + n):
                first = first << 8 | data[i]
            if first == bullet:
                return True
    return False


@kernel
def _count(chars, data, start, end, cls, counts):  # type: ignore[no-untyped-def]
    counts[CHARS] = chars
    spaces = breaks = alphas = digits = uppers = symbols = unspaced = 0
    for k in range(chars):
        f = cls[k]
        spaces += f & 1
        breaks += f >> 1 & 1
        alphas += f >> 2 & 1
        digits += f >> 3 & 1
        uppers += f >> 4 & 1
        unspaced += f >> 6 & 1
        symbols += f >> 8 & 1
    counts[SPACES], counts[ALPHAS], counts[DIGITS] = spaces, alphas, digits
    counts[UPPERS], counts[SYMBOLS], counts[UNSPACEDS] = uppers, symbols, unspaced
    hashes = ellipses = 0
    i = start
    while i < end:
        b = data[i]
        if b == 0x23:
            hashes += 1
        elif b == 0x0D and i + 1 < end and data[i + 1] == 0x0A:
            breaks -= 1
        elif b == _DOT and i + 2 < end and data[i + 1] == _DOT and data[i + 2] == _DOT:
            ellipses += 1
            i += 2
        elif b == 0xE2 and i + 2 < end and data[i + 1] == 0x80 and data[i + 2] == 0xA6:
            ellipses += 1
        i += 1
    counts[HASHES], counts[ELLIPSES], counts[BREAKS] = hashes, ellipses, breaks  # \r\n is one break


@kernel
def _scan(  # type: ignore[no-untyped-def]
    data, offsets, pages, blocks, bullets, cls, pos, counts, token_offsets, t_hash, t_chars, t_start, t_flags,
    line_offsets, l_bytes, l_chars, l_words, l_longest, l_hash, l_flags, l_tokens,
):  # fmt: skip
    n = lines = 0
    for d in range(len(offsets) - 1):
        token_offsets[d] = n
        line_offsets[d] = lines
        chars = _decode(data, offsets[d], offsets[d + 1], pages, blocks, cls, pos)
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
                any_of = np.uint16(0)
                while b < chars and not cls[b] & u.SPACE:
                    any_of |= cls[b]
                    b += 1
                if strip_start < 0:
                    strip_start = chunk
                strip_end = b
                first = n
                if any_of & _COMPLEX:
                    n = _tokenize_chunk(n, chunk, b, data, pos, cls, t_hash, t_chars, t_start, t_flags)
                else:
                    n = _emit(n, chunk, b, True, data, pos, cls, t_hash, t_chars, t_start, t_flags)
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
                if _starts_with_bullet(data, pos[strip_start], pos[strip_end], bullets):
                    l_flags[lines] |= BULLET
            lines += 1
            if b < chars and data[pos[b]] == 0x0D and b + 1 < chars and data[pos[b + 1]] == 0x0A:
                b += 1
            a = b + 1
    token_offsets[len(offsets) - 1] = n
    line_offsets[len(offsets) - 1] = lines
    l_tokens[lines] = n
    return n, lines


def scan(text: TextBatch) -> Features:
    """Features of a batch of less than 2 GiB; memory is about 6 bytes a byte of its longest document, plus
    17 bytes a token and 65 bytes a line of the batch."""
    n, base = len(text), int(text.offsets[0])
    assert text.nbytes < 2**31 - 16, "cut the batch: byte positions are 32-bit"
    data, offsets = text.data[base : base + text.nbytes], text.offsets - base
    pages, blocks = u.tables()
    longest = int(np.diff(offsets).max(initial=0)) + 1
    most = text.nbytes + 1  # an upper bound for tokens and lines: pages that are never touched cost nothing
    token_offsets, line_offsets = np.empty(n + 1, np.int64), np.empty(n + 1, np.int64)
    counts = np.zeros((n, COUNTS), np.int64)
    t_hash, t_chars = np.empty(most, np.uint64), np.empty(most, np.int32)
    t_start, t_flags = np.empty(most, np.int32), np.empty(most, np.uint8)
    l_bytes, l_tokens = np.empty((most, 4), np.int64), np.empty(most + 1, np.int64)
    l_chars, l_words, l_longest = (np.empty(most, np.int32) for _ in range(3))
    l_hash, l_flags = np.empty(most, np.uint64), np.empty(most, np.uint8)
    tokens, lines = _scan(
        data, offsets, pages, blocks, _bullet_bytes(), np.empty(longest, np.uint16), np.empty(longest + 1, np.int32),
        counts, token_offsets, t_hash, t_chars, t_start, t_flags,
        line_offsets, l_bytes, l_chars, l_words, l_longest, l_hash, l_flags, l_tokens,
    )  # fmt: skip
    return Features(
        TextBatch(data, offsets), counts, token_offsets, t_hash[:tokens], t_chars[:tokens], t_start[:tokens],
        t_flags[:tokens], line_offsets, l_bytes[:lines], l_chars[:lines], l_words[:lines], l_longest[:lines],
        l_hash[:lines], l_flags[:lines], l_tokens[: lines + 1],
    )  # fmt: skip


def _bullet_bytes() -> np.ndarray:
    """Each bullet's UTF-8 bytes as one big-endian integer."""
    return np.array([int.from_bytes(b.encode(), "big") for b in BULLETS], np.int64)
