"""Gopher's repetition rules (Rae et al. 2021, arXiv:2112.11446, table A1), as datatrove 0.10 reads them.

Lines and paragraphs that hold only white space are no lines or paragraphs here; paragraphs are separated by such lines.
The length of a top n-gram counts one space between its tokens (none beside a character of an unspaced script), that of
duplicate n-grams none; an n-gram that occurs once is not repeated. Fractions are of all characters of the document.
"""

from typing import Any, ClassVar

import numpy as np

from raypt.curation import features as s
from raypt.curation.rules.base import RuleSettings, ratio, struct
from raypt.curation.view import Measured, View
from raypt.kernels import kernel
from raypt.text.hash_table import find_slot, hash_table, most_in_a_document, table_bits
from raypt.text.hashing import chain

_TOP = (2, 3, 4)
_DUPLICATE = (5, 6, 7, 8, 9, 10)


class GopherRepetition(RuleSettings):
    """Gopher repetition (Rae et al. 2021, table A1); defaults from the paper."""

    stage: ClassVar[str] = "gopher_repetition"
    segmented: ClassVar[bool] = True
    metrics: ClassVar[tuple[str, ...]] = (
        "duplicate_paragraph_fraction",
        "duplicate_paragraph_char_fraction",
        "duplicate_line_fraction",
        "duplicate_line_char_fraction",
        *(f"top_{n}_gram_char_fraction" for n in _TOP),
        *(f"duplicate_{n}_gram_char_fraction" for n in _DUPLICATE),
    )

    duplicate_paragraph_fraction_max: float | None = 0.3
    """Largest share of paragraphs that repeat an earlier one."""
    duplicate_paragraph_char_fraction_max: float | None = 0.2
    """Largest share of characters in paragraphs that repeat an earlier one."""
    duplicate_line_fraction_max: float | None = 0.3
    """Largest share of lines that repeat an earlier one."""
    duplicate_line_char_fraction_max: float | None = 0.2
    """Largest share of characters in lines that repeat an earlier one."""
    top_2_gram_char_fraction_max: float | None = 0.2
    """Largest share of characters in the most frequent 2-gram of tokens."""
    top_3_gram_char_fraction_max: float | None = 0.18
    """Largest share of characters in the most frequent 3-gram."""
    top_4_gram_char_fraction_max: float | None = 0.16
    """Largest share of characters in the most frequent 4-gram."""
    duplicate_5_gram_char_fraction_max: float | None = 0.15
    """Largest share of characters in 5-grams that repeat an earlier one."""
    duplicate_6_gram_char_fraction_max: float | None = 0.14
    """Largest share of characters in 6-grams that repeat an earlier one."""
    duplicate_7_gram_char_fraction_max: float | None = 0.13
    """Largest share of characters in 7-grams that repeat an earlier one."""
    duplicate_8_gram_char_fraction_max: float | None = 0.12
    """Largest share of characters in 8-grams that repeat an earlier one."""
    duplicate_9_gram_char_fraction_max: float | None = 0.11
    """Largest share of characters in 9-grams that repeat an earlier one."""
    duplicate_10_gram_char_fraction_max: float | None = 0.1
    """Largest share of characters in 10-grams that repeat an earlier one."""

    def measure(self, view: View, resources: Any = None) -> Measured:
        """The metrics of every document."""
        features = view.words
        m = np.zeros((len(view), 15), np.int64)
        most = most_in_a_document(features.token_offsets, features.line_offsets)
        keys, stamps = hash_table(most)
        _measure(
            features.token_offsets, features.token_hash, features.token_chars, features.token_flags,
            features.line_offsets, features.line_hash, features.line_chars, features.line_words,
            np.empty(most, np.uint64), np.empty(most, np.int64), keys, stamps,
            np.empty(len(keys), np.int32), np.empty(len(keys), np.int32), m,
        )  # fmt: skip
        chars = features.counts[:, s.CHARS]
        columns = [ratio(m[:, 1], m[:, 0]), ratio(m[:, 2], chars), ratio(m[:, 4], m[:, 3]), ratio(m[:, 5], chars)]
        columns += [ratio(m[:, 6 + i], chars) for i in range(len(_TOP) + len(_DUPLICATE))]
        return Measured(struct(dict(zip(self.metrics, columns, strict=True))))


@kernel
def _duplicates(hashes, chars, n, stamp, keys, stamps):  # type: ignore[no-untyped-def]
    """(elements, characters) of the first n elements that repeat an earlier one."""
    bits = table_bits(n)
    elements = characters = 0
    for i in range(n):
        slot = find_slot(hashes[i], bits, stamp, keys, stamps)
        if stamps[slot] == stamp:
            elements += 1
            characters += chars[i]
        else:
            stamps[slot], keys[slot] = stamp, hashes[i]
    return elements, characters


@kernel
def _top(h, tokens, n, chars, flags, stamp, keys, stamps, counts, heads):  # type: ignore[no-untyped-def]
    """Characters of all occurrences of the n-gram that occurs most often (the first of equals), 0 if none repeats."""
    bits = table_bits(tokens)
    best, best_at = 1, -1
    for i in range(tokens - n + 1):
        slot = find_slot(h[i], bits, stamp, keys, stamps)
        if stamps[slot] != stamp:
            stamps[slot], keys[slot], counts[slot], heads[slot] = stamp, h[i], 1, i
        else:
            counts[slot] += 1
            count = counts[slot]
            if count > best or (count == best and best > 1 and heads[slot] < best_at):
                best, best_at = count, heads[slot]
    if best_at < 0:
        return 0
    length = chars[best_at]
    for i in range(best_at + 1, best_at + n):
        spaced = not (flags[i] | flags[i - 1]) & s.UNSPACED
        length += chars[i] + spaced
    return best * length


@kernel
def _duplicate_grams(h, tokens, n, chars, stamp, keys, stamps):  # type: ignore[no-untyped-def]
    """Characters of n-grams that repeat an earlier one, each character counted once (datatrove's greedy walk)."""
    bits = table_bits(tokens)
    repeated = 0
    i = 0
    while i < tokens - n + 1:
        slot = find_slot(h[i], bits, stamp, keys, stamps)
        if stamps[slot] == stamp:
            for t in range(i, i + n):
                repeated += chars[t]
            i += n
        else:
            stamps[slot], keys[slot] = stamp, h[i]
            i += 1
    return repeated


@kernel
def _measure(  # type: ignore[no-untyped-def]
    token_offsets, token_hash, token_chars, token_flags, line_offsets, line_hash, line_chars, line_words,
    h, lengths, keys, stamps, counts, heads, out,
):  # fmt: skip
    """Into out[D, 15]: paragraphs, duplicate ones, their characters; lines, duplicates, characters; top 2..4, duplicate
    5..10-gram characters. The other arrays are scratch; stamps must be 0."""
    stamp = np.int32(0)
    for d in range(len(token_offsets) - 1):
        stamp += np.int32(1)
        paragraphs = 0
        inside = False
        for i in range(line_offsets[d], line_offsets[d + 1]):
            if line_words[i] == 0:
                inside = False
            elif inside:
                h[paragraphs - 1] = chain(h[paragraphs - 1], line_hash[i])
                lengths[paragraphs - 1] += line_chars[i] + 1
            else:
                h[paragraphs], lengths[paragraphs] = line_hash[i], line_chars[i]
                paragraphs += 1
                inside = True
        out[d, 0] = paragraphs
        out[d, 1], out[d, 2] = _duplicates(h, lengths, paragraphs, stamp, keys, stamps)
        stamp += np.int32(1)
        lines = 0
        for i in range(line_offsets[d], line_offsets[d + 1]):
            if line_words[i] > 0:
                h[lines], lengths[lines] = line_hash[i], line_chars[i]
                lines += 1
        out[d, 3] = lines
        out[d, 4], out[d, 5] = _duplicates(h, lengths, lines, stamp, keys, stamps)
        a, tokens = token_offsets[d], token_offsets[d + 1] - token_offsets[d]
        token, chars, flags = token_hash[a : a + tokens], token_chars[a : a + tokens], token_flags[a : a + tokens]
        for i in range(tokens):
            h[i] = token[i]
        for order in range(2, 11):
            for i in range(tokens - order + 1):
                h[i] = chain(h[i], token[i + order - 1])
            stamp += np.int32(1)
            if order <= 4:
                found = _top(h, tokens, order, chars, flags, stamp, keys, stamps, counts, heads)
            else:
                found = _duplicate_grams(h, tokens, order, chars, stamp, keys, stamps)
            if found == 0:  # no repeated n-gram: no longer one either
                break
            out[d, 4 + order] = found
