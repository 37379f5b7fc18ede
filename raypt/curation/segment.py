"""Where words begin and end: the tokens of a chunk of text between spaces.

A **token** is what remains of a chunk between spaces after its leading and trailing punctuation, each character of
which is a token of its own (a run of full stops is one). A chunk is split further at hyphens, slashes and the like
between letters, at any non-ASCII punctuation, and around every letter of a script written without spaces (Han, Kana,
Thai, Lao, Khmer, Myanmar): there a character with its combining marks is a token. On English this follows spaCy's
rule-based tokenizer closely, so word counts compare with datatrove's.

The kernels work on the characters of one document: class bits `cls` and byte positions `pos`.
"""

import numpy as np

from raypt.curation import features as f
from raypt.curation import unicode as u
from raypt.curation.hashing import hash_bytes
from raypt.curation.text import kernel

_DOT, _COLON, _SLASH, _APOSTROPHE = 0x2E, 0x3A, 0x2F, 0x27
_WORD = np.uint16(u.ALPHA | u.DIGIT)
COMPLEX = np.uint16(u.SYMBOL | u.EDGE | u.SPLIT | u.UNSPACED)
"""A chunk with none of these classes is one token."""


@kernel
def store_token(n, a, b, any_of, all_of, after_space, data, pos, t_hash, t_chars, t_start, t_flags):  # type: ignore[no-untyped-def]
    """Store characters [a, b) as token n, given the or and the and of their class bits; returns n + 1."""
    flags = np.uint8(0)
    if any_of & u.ALPHA:
        flags |= f.HAS_ALPHA
    if all_of & u.SYMBOL:
        flags |= f.SYMBOL_ONLY
        if all_of & u.PUNCT:
            flags |= f.PUNCT_ONLY
        if all_of & u.TERMINAL and (b - a == 1 or data[pos[a]] != _DOT):
            flags |= f.STOP
    if any_of & u.UNSPACED:
        flags |= f.UNSPACED
        if any_of & u.NO_STOPS:
            flags |= f.NO_STOPS
    if after_space:
        flags |= f.AFTER_SPACE
    t_hash[n] = hash_bytes(data, pos[a], pos[b])
    t_chars[n] = b - a
    t_start[n] = pos[a]
    t_flags[n] = flags
    return n + 1


@kernel
def _emit(n, a, b, after_space, data, pos, cls, t_hash, t_chars, t_start, t_flags):  # type: ignore[no-untyped-def]
    any_of, all_of = np.uint16(0), np.uint16(0xFFFF)
    for k in range(a, b):
        any_of |= cls[k]
        all_of &= cls[k]
    return store_token(n, a, b, any_of, all_of, after_space, data, pos, t_hash, t_chars, t_start, t_flags)


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
def tokenize_chunk(n, lo, end, data, pos, cls, t_hash, t_chars, t_start, t_flags):  # type: ignore[no-untyped-def]
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
        c = cls[p]
        stop = p
        if c & u.UNSPACED:
            stop = p + 1
            while stop < hi and cls[stop] & u.EXTEND and not cls[stop] & u.UNSPACED:
                stop += 1
        elif c & u.SPLIT:
            stop = p + 1
        elif c & u.SYMBOL and p > lo and p + 1 < hi:
            before, after, ch = cls[p - 1], cls[p + 1], data[pos[p]]
            if ch == _COLON and data[pos[p + 1]] == _SLASH and p + 2 < hi and data[pos[p + 2]] == _SLASH:
                break  # a URL stays whole
            if (before | after) & u.UNSPACED and c & u.EDGE:
                stop = p + 1
            elif c & u.HYPHEN and before & _WORD:
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
