"""Gopher's repetition rules (Rae et al. 2021, table A1) as DCLM's own mappers read them (Li et al. 2024).

Of lines and paragraphs (parted by empty lines) all occurrences of one that occurs more than once count, the first too,
as shares of the lines' and paragraphs' own characters; a document of one is not asked. Of n-grams, words are those that
begin with a letter or digit, and fractions are of their characters: up to 4-grams of the most frequent one (the longest
of equals), above of every word inside an n-gram that occurs more than once. Words are Unicode's in DCLM, here tokens of
`segment`: the two part the same English words but for clitics, paths and addresses.
"""

from typing import Any, ClassVar

import numpy as np

from raypt.curation.rules.base import RuleSettings, ratio, struct
from raypt.curation.rules.words import begins_with_alnum
from raypt.curation.view import Measured, View
from raypt.kernels import kernel
from raypt.text import unicode as u
from raypt.text.hash_table import find_slot, hash_table, most_in_a_document, table_bits
from raypt.text.hashing import hash_bytes

_TOP = (2, 3, 4)
_REPEATED = (5, 6, 7, 8, 9, 10)


class DclmRepetition(RuleSettings):
    """Gopher repetition in DCLM's reading; limits from Gopher's table A1."""

    stage: ClassVar[str] = "dclm_repetition"
    metrics: ClassVar[tuple[str, ...]] = (
        "repeated_line_fraction",
        "repeated_paragraph_fraction",
        "repeated_line_char_fraction",
        "repeated_paragraph_char_fraction",
        *(f"top_{n}_gram_char_fraction" for n in _TOP),
        *(f"repeated_{n}_gram_char_fraction" for n in _REPEATED),
    )

    repeated_line_fraction_max: float | None = 0.3
    """Largest share of lines that occur more than once."""
    repeated_paragraph_fraction_max: float | None = 0.3
    """Largest share of paragraphs that occur more than once."""
    repeated_line_char_fraction_max: float | None = 0.2
    """Largest share of the lines' characters in lines that occur more than once."""
    repeated_paragraph_char_fraction_max: float | None = 0.2
    """Largest share of the paragraphs' characters in paragraphs that occur more than once."""
    top_2_gram_char_fraction_max: float | None = 0.2
    """Largest share of the words' characters in the most frequent 2-gram."""
    top_3_gram_char_fraction_max: float | None = 0.18
    """Largest share of the words' characters in the most frequent 3-gram."""
    top_4_gram_char_fraction_max: float | None = 0.16
    """Largest share of the words' characters in the most frequent 4-gram."""
    repeated_5_gram_char_fraction_max: float | None = 0.15
    """Largest share of the words' characters in 5-grams that occur more than once."""
    repeated_6_gram_char_fraction_max: float | None = 0.14
    """Largest share of the words' characters in 6-grams that occur more than once."""
    repeated_7_gram_char_fraction_max: float | None = 0.13
    """Largest share of the words' characters in 7-grams that occur more than once."""
    repeated_8_gram_char_fraction_max: float | None = 0.12
    """Largest share of the words' characters in 8-grams that occur more than once."""
    repeated_9_gram_char_fraction_max: float | None = 0.11
    """Largest share of the words' characters in 9-grams that occur more than once."""
    repeated_10_gram_char_fraction_max: float | None = 0.1
    """Largest share of the words' characters in 10-grams that occur more than once."""

    def measure(self, view: View, resources: Any = None) -> Measured:
        """The metrics of every document."""
        f = view.features
        m = np.zeros((len(view), 18), np.int64)
        most = most_in_a_document(f.token_offsets, f.line_offsets)
        keys, stamps = hash_table(most)
        _measure(
            f.text.data, f.token_offsets, f.token_hash, f.token_chars, f.token_start, f.line_offsets, f.line_bytes,
            *u.tables(), np.empty(most, np.uint64), np.empty(most, np.uint64), np.empty(most, np.int64),
            np.empty(most, np.bool_), keys, stamps, np.empty(len(keys), np.int32), np.empty(len(keys), np.int32), m,
        )  # fmt: skip
        words = m[:, 8]
        columns = [ratio(m[:, 1], m[:, 0]), ratio(m[:, 5], m[:, 4]), ratio(m[:, 3], m[:, 2]), ratio(m[:, 7], m[:, 6])]
        columns += [ratio(m[:, 9 + i], words) for i in range(len(_TOP) + len(_REPEATED))]
        return Measured(struct(dict(zip(self.metrics, columns, strict=True))))


@kernel
def _mix(h, g):  # type: ignore[no-untyped-def]
    h = (h ^ (h >> np.uint64(31)) ^ g) * np.uint64(0x9E3779B97F4A7C15)
    return h ^ (h >> np.uint64(32)) * np.uint64(0xBF58476D1CE4E5B9)


@kernel
def _count_chars(data, start, end):  # type: ignore[no-untyped-def]
    n = 0
    for i in range(start, end):
        n += data[i] & 0xC0 != 0x80
    return n


@kernel
def _repeats(h, sizes, n, stamp, keys, stamps, counts, heads, out):  # type: ignore[no-untyped-def]
    """Into out[4] of n segments: how many, how many of them occur more than once; their characters, of the latter."""
    bits = table_bits(n)
    for i in range(n):
        out[0] += 1
        out[2] += sizes[i]
        slot = find_slot(h[i], bits, stamp, keys, stamps)
        if stamps[slot] != stamp:
            stamps[slot], keys[slot], counts[slot], heads[slot] = stamp, h[i], 1, i
            continue
        if counts[slot] == 1:
            out[1] += 1
            out[3] += sizes[heads[slot]]
        counts[slot] += 1
        out[1] += 1
        out[3] += sizes[i]


@kernel
def _grams(h, sizes, words, order, stamp, keys, stamps, counts, heads, covered):  # type: ignore[no-untyped-def]
    """Characters of the most frequent n-gram, times its occurrences (order up to 4), or of the words inside a repeated
    one; 0 if none repeats."""
    bits = table_bits(words)
    most = 1
    for i in range(words - order + 1):
        slot = find_slot(h[i], bits, stamp, keys, stamps)
        if stamps[slot] != stamp:
            stamps[slot], keys[slot], counts[slot], heads[slot] = stamp, h[i], 1, i
        else:
            counts[slot] += 1
            most = max(most, counts[slot])
    if most == 1:
        return 0
    longest = 0
    for i in range(words):
        covered[i] = False
    for i in range(words - order + 1):
        slot = find_slot(h[i], bits, stamp, keys, stamps)
        if order <= 4:
            if counts[slot] == most and heads[slot] == i:
                length = 0
                for k in range(i, i + order):
                    length += sizes[k]
                longest = max(longest, length)
        elif counts[slot] > 1:
            for k in range(i, i + order):
                covered[k] = True
    total = most * longest
    for i in range(words):
        if covered[i]:
            total += sizes[i]
    return total


@kernel
def _measure(  # type: ignore[no-untyped-def]
    data, token_offsets, token_hash, token_chars, token_start, line_offsets, line_bytes, pages, blocks,
    word_hash, h, sizes, covered, keys, stamps, counts, heads, out,
):  # fmt: skip
    """Into out[D, 18]: of lines and of paragraphs what `_repeats` says; characters of words; by order 2..10 what
    `_grams` says. The other arrays are scratch; stamps must be 0."""
    stamp = np.int32(0)
    for d in range(len(token_offsets) - 1):
        stamp += np.int32(1)
        n = 0
        for i in range(line_offsets[d], line_offsets[d + 1]):
            a, b = line_bytes[i, 2], line_bytes[i, 3]
            if a < b:
                h[n], sizes[n] = hash_bytes(data, a, b), _count_chars(data, a, b)
                n += 1
        if n > 1:
            _repeats(h, sizes, n, stamp, keys, stamps, counts, heads, out[d, 0:4])
        stamp += np.int32(1)
        n = 0
        first, end = -1, 0
        for i in range(line_offsets[d], line_offsets[d + 1] + 1):
            inside = i < line_offsets[d + 1] and line_bytes[i, 0] < line_bytes[i, 1]
            if not inside and first >= 0:
                h[n], sizes[n] = hash_bytes(data, first, end), _count_chars(data, first, end)
                n += 1
                first = -1
            if inside and line_bytes[i, 2] < line_bytes[i, 3]:
                first = line_bytes[i, 2] if first < 0 else first
                end = line_bytes[i, 3]
        if n > 1:
            _repeats(h, sizes, n, stamp, keys, stamps, counts, heads, out[d, 4:8])
        words = 0
        for t in range(token_offsets[d], token_offsets[d + 1]):
            if begins_with_alnum(data, token_start[t], pages, blocks):
                word_hash[words], h[words], sizes[words] = token_hash[t], token_hash[t], token_chars[t]
                out[d, 8] += token_chars[t]
                words += 1
        for order in range(2, 11):
            for i in range(words - order + 1):
                h[i] = _mix(h[i], word_hash[i + order - 1])
            stamp += np.int32(1)
            found = _grams(h, sizes, words, order, stamp, keys, stamps, counts, heads, covered)
            if found == 0:  # no repeated n-gram: no longer one either
                break
            out[d, 7 + order] = found
