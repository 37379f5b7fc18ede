"""Where words begin and end: the tokens of a chunk of text between spaces.

A **token** is what remains of a chunk between spaces after its leading and trailing punctuation, each character of
which is a token of its own (a run of full stops is one). A chunk is split further at hyphens, slashes and the like
between letters, at any non-ASCII punctuation, and around every letter of a script written without spaces (Han, Kana,
Thai, Lao, Khmer, Myanmar): there a character with its combining marks is a token. On English this follows spaCy's
rule-based tokenizer closely, so word counts compare with datatrove's.

The kernels work on the characters of one document: class bits `cls` and byte positions `pos`.
"""

import numpy as np

from raypt.kernels import kernel
from raypt.text import unicode as u
from raypt.text.hashing import hash_bytes

_DOT, _COMMA, _COLON, _SLASH, _APOSTROPHE = 0x2E, 0x2C, 0x3A, 0x2F, 0x27
_WORD = np.uint16(u.ALPHA | u.DIGIT)
COMPLEX = np.uint16(u.SYMBOL | u.EDGE | u.SPLIT | u.UNSPACED)
"""A chunk with none of these classes is one token."""


@kernel
def store_token(n, a, b, any_of, all_of, after_space, data, pos, t_hash, t_chars, t_start, t_flags):  # type: ignore[no-untyped-def]
    """Store characters [a, b) as token n, given the or and the and of their class bits; returns n + 1."""
    first = pos[a]
    some, every = np.int64(any_of), np.int64(all_of)
    symbol = every >> 8 & 1
    stop = symbol & every >> 12 & ((b - a == 1) | (data[first] != _DOT))
    # The bits of features.HAS_ALPHA ... AFTER_SPACE from those of unicode.ALPHA ..., without a branch.
    flags = some >> 2 & 1 | symbol << 1 | stop << 2 | (symbol & every >> 9) << 3 | (some >> 6 & 1) << 4
    flags |= (some >> 13 & 1) << 5 | np.int64(after_space) << 6
    flags |= np.int64(data[pos[b] - 1] == _DOT and not symbol) << 7
    k = np.uint64(n)
    t_hash[k] = hash_bytes(data, first, pos[b])
    t_chars[k] = b - a
    t_start[k] = first
    t_flags[k] = flags
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
def _separator_end(p, lo, hi, data, pos, cls):  # type: ignore[no-untyped-def]
    """End of the token that begins at p and splits the middle [lo, hi) of a chunk, p if p is no such place, -1 if a URL
    begins here, which stays whole."""
    c = cls[p]
    if c & u.UNSPACED:
        stop = p + 1
        while stop < hi and cls[stop] & u.EXTEND and not cls[stop] & u.UNSPACED:
            stop += 1
        return stop
    if c & u.SPLIT:
        return p + 1
    if not c & u.SYMBOL or p == lo or p + 1 == hi:
        return p
    before, after, ch = cls[p - 1], cls[p + 1], data[pos[p]]
    if ch == _COLON and data[pos[p + 1]] == _SLASH and p + 2 < hi and data[pos[p + 2]] == _SLASH:
        return -1
    if (before | after) & u.UNSPACED and c & u.EDGE:
        return p + 1
    if c & u.HYPHEN and before & _WORD:
        run = p + 1
        while run < hi and cls[run] & u.HYPHEN:
            run += 1
        numbers = run == p + 1 and before & u.DIGIT and after & u.DIGIT
        return run if run < hi and (cls[run] & u.ALPHA or numbers) else p
    split = False
    if ch == _DOT and after & u.UNSPACED and not after & u.NO_STOPS:  # a Western full stop among unspaced letters
        first = p  # "是5.很" ends a sentence, "1.概" at the start numbers a heading
        while first > lo and cls[first - 1] & u.DIGIT:
            first -= 1
        split = before & u.ALPHA or (first < p and first > lo and cls[first - 1] & u.UNSPACED)
    elif ch == _DOT:
        if data[pos[p + 1]] == _DOT:
            stop = p
            while stop < hi and data[pos[stop]] == _DOT:
                stop += 1
            return stop
        split = before & u.ALPHA and not before & u.UPPER and after & u.UPPER
    elif ch == _COMMA:
        split = before & u.ALPHA and after & u.ALPHA
    elif ch in (_COLON, _SLASH) or 0x3C <= ch <= 0x3E:  # : / < = >
        split = before & _WORD and after & u.ALPHA
    elif ch == 0x2A or ch == 0x2B or ch == 0x5E:  # * + ^
        split = before & u.DIGIT and after & u.DIGIT
    return p + 1 if split else p


@kernel
def tokenize_chunk(n, start, end, data, pos, cls, t_hash, t_chars, t_start, t_flags):  # type: ignore[no-untyped-def]
    """Tokens of the characters [start, end) that lie between spaces; returns the new number of tokens.

    One loop with one place where a token is stored: each call that is not inlined would pass every array by value.
    """
    leading = spaced = True
    lo = hi = end  # the middle; known once the leading punctuation is over
    while start < end:
        stop = start
        if leading:
            if cls[start] & u.EDGE:
                stop = start + 1
            elif data[pos[start]] == _DOT and start + 1 < end and data[pos[start + 1]] == _DOT:
                while stop < end and data[pos[stop]] == _DOT:
                    stop += 1
            else:
                leading = False
                lo, hi = start, _suffix_start(start, end, data, pos, cls)
        if not leading:
            if start < hi:
                while stop < hi:  # to the first separator, or over it if it comes first
                    after = _separator_end(stop, lo, hi, data, pos, cls)
                    if after < 0:
                        stop = hi
                    elif after == stop:
                        stop += 1
                    else:
                        if stop == start:
                            stop = after
                        break
            elif data[pos[start]] == _DOT:
                while stop < end and data[pos[stop]] == _DOT:
                    stop += 1
            elif start + 1 < end and _is_clitic(start, data, pos):
                stop = start + 2
            else:
                stop = start + 1
        any_of, all_of = np.uint16(0), np.uint16(0xFFFF)
        for k in range(start, stop):
            any_of |= cls[k]
            all_of &= cls[k]
        n = store_token(n, start, stop, any_of, all_of, spaced, data, pos, t_hash, t_chars, t_start, t_flags)
        spaced = False
        start = stop
    return n
