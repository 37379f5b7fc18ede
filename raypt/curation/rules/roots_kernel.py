"""What `roots` counts, in one pass over the characters of each document."""

from typing import Any

import numpy as np

from raypt.curation.rules.special_characters import SKIPPED, SPECIAL_CHARACTER, UNSPACED, WHITE, kind_of
from raypt.curation.word_sets import sets_of, spell
from raypt.kernels import kernel
from raypt.text.hash_table import find_slot, table_bits
from raypt.text.hashing import FNV_BASIS, GOLDEN, chain, power, spread
from raypt.text.unicode import lower_of
from raypt.text.utf8 import character

COUNTED, CHARS, SPECIAL, TOP, CHAR_GRAMS, REPEATED, WORD_GRAMS, WORDS, STOPS, FLAGGED, CUT = range(11)
COLUMNS = 11
"""Of a document: words as they are and characters; of these, special ones; occurrences of the most frequent n-grams of
characters, of all; occurrences of repeated n-grams of words, of all; words in small letters and, of these and of pairs,
stop words and flagged words; bytes cut."""
_BLANK = 0x20


@kernel
def _holds(codes: Any, start: Any, end: Any, needles: Any, needle_ends: Any) -> bool:
    """Whether codes[start:end] has one of the needles in it."""
    first = 0
    for k in range(len(needle_ends)):
        n = needle_ends[k] - first
        for i in range(start, end - n + 1):
            m = 0
            while m < n and codes[i + m] == needles[first + m]:
                m += 1
            if m == n:
                return True
        first = needle_ends[k]
    return False


@kernel
def _top(codes: Any, n: Any, order: Any, stamp: Any, keys: Any, stamps: Any, counts: Any, histogram: Any) -> Any:
    """Occurrences of the most frequent n-grams of codes[:n]: the square root of how many there are, at most those that
    repeat. `histogram` is zero before and after."""
    bits = table_bits(n)
    leading = power(GOLDEN, order)
    h = np.uint64(0)
    different = ones = 0
    highest: Any = np.int64(0)
    for k in range(n):
        h = h * GOLDEN + np.uint64(codes[k]) + np.uint64(1)
        if k >= order:
            h -= leading * (np.uint64(codes[k - order]) + np.uint64(1))
        if k >= order - 1:
            mixed = spread(h)
            slot = find_slot(mixed, bits, stamp, keys, stamps)
            if stamps[slot] != stamp:
                stamps[slot], keys[slot], counts[slot] = stamp, mixed, 1
                different += 1
                ones += 1
                histogram[1] += 1
            else:
                c = counts[slot]
                ones -= c == 1
                histogram[c] -= 1
                histogram[c + 1] += 1
                counts[slot] = c + 1
                highest = max(highest, np.int64(c + 1))
    left: Any = min(np.int64(np.sqrt(different)), different - ones)
    total = 0
    while left > 0:
        some: Any = min(left, np.int64(histogram[highest]))
        total += some * highest
        left -= some
        highest -= 1
    return total


@kernel
def _repeated(hashes: Any, n: Any, order: Any, stamp: Any, keys: Any, stamps: Any, counts: Any) -> Any:
    """Occurrences of n-grams of hashes[:n] that occur more than once."""
    bits = table_bits(n)
    total = 0
    for k in range(n - order + 1):
        h = np.uint64(0)
        for m in range(order):
            h = chain(h, hashes[k + m])
        slot = find_slot(h, bits, stamp, keys, stamps)
        if stamps[slot] != stamp:
            stamps[slot], keys[slot], counts[slot] = stamp, h, 1
        else:
            total += 2 if counts[slot] == 1 else 1
            counts[slot] = 2
    return total


@kernel
def measure(
    data: Any, offsets: Any, ways: Any, kinds: Any, lower: Any, starts: Any, masks: Any, set_keys: Any, set_bits: Any,
    needles: Any, needle_ends: Any, codes: Any, hashes: Any, keys: Any, stamps: Any, counts: Any, histogram: Any,
    edit: Any, out: Any, bounds: Any, m: Any,
) -> None:  # fmt: skip
    """Into m[D, COLUMNS], and with `edit` the text without the words that are cut into out and bounds.

    ways int64[D, 6]: characters of an n-gram, words of one, the longest word (0: none is cut), whether pairs count,
    whether unspaced characters are words, the table of words (-1: none). The arrays between are scratch; stamps and
    histogram must be 0.
    """
    stamp = np.int32(0)
    written = 0
    for d in range(len(offsets) - 1):
        i, high = offsets[d], offsets[d + 1]
        char_order, word_order, longest = ways[d, 0], ways[d, 1], ways[d, 2]
        pairs, unspaced, table = ways[d, 3], ways[d, 4], ways[d, 5]
        n = words = 0
        before = np.uint64(0)  # the hash of the word before
        copied, fresh = i, True  # bytes that are written; whether a line has only lost words so far
        while i < high:
            gap = i
            blanks = 0
            while i < high:
                code, width = character(data, i)
                if not kind_of(kinds, code) & WHITE:
                    break
                if data[i] == 0x0A:
                    fresh = True
                blanks += 1
                i += width
            if i >= high:
                break
            start, word_at = n, i
            if n > 0:
                for _ in range(1 if longest > 0 else blanks):
                    codes[n] = _BLANK
                    n += 1
            first = n
            while i < high:
                code, width = character(data, i)
                kind = kind_of(kinds, code)
                if kind & WHITE:
                    break
                if not kind & SKIPPED:
                    codes[n] = code
                    n += 1
                i += width
            if longest > 0:
                a, b = first, n
                while a < b and kind_of(kinds, codes[a]) & SPECIAL_CHARACTER:
                    a += 1
                while a < b and kind_of(kinds, codes[b - 1]) & SPECIAL_CHARACTER:
                    b -= 1
                long = n - first > longest and (a == b or b - a > longest)
                if n == first or long or _holds(codes, a, b, needles, needle_ends):
                    n = start
                    if long or b > a:
                        if fresh:  # at the start of a line the white space after the word goes with it
                            gap = word_at
                            while i < high and (data[i] == _BLANK or data[i] == 0x09):
                                i += 1
                        m[d, CUT] += i - gap
                        for k in range(copied, gap):
                            out[written] = data[k]
                            written += 1
                        copied = i
                    continue
            fresh = False
            s = first
            while s < n:
                e = n
                if unspaced and kind_of(kinds, codes[s]) & UNSPACED:
                    e = s + 1
                elif unspaced:
                    e = s + 1
                    while e < n and not kind_of(kinds, codes[e]) & UNSPACED:
                        e += 1
                a, b = s, e
                while a < b and kind_of(kinds, codes[a]) & SPECIAL_CHARACTER:
                    a += 1
                m[d, COUNTED] += a < b
                a = s
                while a < b and kind_of(kinds, lower_of(lower, codes[a])) & SPECIAL_CHARACTER:
                    a += 1
                while a < b and kind_of(kinds, lower_of(lower, codes[b - 1])) & SPECIAL_CHARACTER:
                    b -= 1
                s = e
                if a == b:
                    continue
                h = FNV_BASIS
                pair = before if unspaced else spell(before, _BLANK)
                for k in range(a, b):
                    c = lower_of(lower, codes[k])
                    h, pair = spell(h, c), spell(pair, c)
                if table >= 0:
                    found = sets_of(h, starts[table], masks[table], set_keys, set_bits)
                    m[d, STOPS] += found & 1
                    m[d, FLAGGED] += found >> 1 & 1
                    if pairs and words > 0:
                        found = sets_of(pair, starts[table], masks[table], set_keys, set_bits)
                        m[d, STOPS] += found & 1
                        m[d, FLAGGED] += found >> 1 & 1
                before = h
                hashes[words] = h
                words += 1
        while n > 0 and codes[n - 1] == _BLANK:
            n -= 1
        if edit:
            for k in range(copied, high):
                out[written] = data[k]
                written += 1
            bounds[d + 1] = written
        for k in range(n):
            m[d, SPECIAL] += kind_of(kinds, codes[k]) & SPECIAL_CHARACTER != 0
        m[d, CHARS], m[d, WORDS] = n, words
        m[d, CHAR_GRAMS], m[d, WORD_GRAMS] = max(0, n - char_order + 1), max(0, words - word_order + 1)
        stamp += np.int32(2)
        m[d, TOP] = _top(codes, n, char_order, stamp - np.int32(1), keys, stamps, counts, histogram)
        for k in range(n + 1):
            histogram[k] = 0
        m[d, REPEATED] = _repeated(hashes, words, word_order, stamp, keys, stamps, counts)
