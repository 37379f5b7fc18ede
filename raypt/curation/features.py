"""The layout of what one scan of a batch finds (`scan.scan`), shared by all rules."""

from dataclasses import dataclass

import numpy as np

from raypt.text.buffers import TextBatch

# Token flags.
HAS_ALPHA = 1
SYMBOL_ONLY = 2  # only punctuation, symbols and control characters: not a word
STOP = 4  # a sentence-final mark (an ellipsis is none)
PUNCT_ONLY = 8
UNSPACED = 16  # a character of a script written without spaces
NO_STOPS = 32  # ... which has no sentence-final punctuation either
AFTER_SPACE = 64  # white space or the start of the document comes before
KEPT_STOP = 128  # a word with the full stop after it: an initial ("J."), an abbreviation ("e.g.")

# Line flags.
ELLIPSIS_END = 2  # ends with "..." or "…"
STOP_END = 4  # ends with sentence-final punctuation, a closing quotation mark after it allowed
QUOTE_END = 8  # ends with a quotation mark or a closing bracket of CJK
NO_STOPS_END = 16  # ends with a letter of a script without sentence-final punctuation

# Columns of `Features.counts`.
CHARS, SPACES, ALPHAS, DIGITS, UPPERS, SYMBOLS, UNSPACEDS, HASHES, ELLIPSES, BREAKS = range(10)
COUNTS = 10


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
