"""The regular expressions by which published byte-level tokenizers split text into words, as `tokenizers` reads them.

Sources: GPT-2's encoder.py; tiktoken's openai_public.py (cl100k_base, o200k_base); the tokenizers of LLaMA 3 and 4,
Qwen and Mistral's tekken.json.
"""

from typing import Literal

Split = Literal["gpt2", "llama3", "cl100k", "o200k"]
"""GPT-2 (and LLaMA 1's successors before 3); LLaMA 3; GPT-4 (as LLaMA 3, but white space at the end of a text stays in
one piece); GPT-4o and LLaMA 4 (as LLaMA 3, but words also end where a capital follows a small letter)."""

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""What `ByteLevel(use_regex=True)` has built in."""
DIGITS = {1: r"\p{N}", 3: r"\p{N}{1,3}"}
"""Longest number that stays in one piece -> how the patterns say it."""

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"


def llama3(digits: int = 3, *, end_spaces: bool = False) -> str:
    """LLaMA 3's; with 1 digit Qwen's; with `end_spaces` cl100k's (tiktoken's `\\s++$`)."""
    end = r"|\s+\z" if end_spaces else ""
    return (
        rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{DIGITS[digits]}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*{end}"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    )


def o200k(digits: int = 3, *, contractions: bool = True) -> str:
    """o200k's and LLaMA 4's; with 1 digit and without contractions tekken's."""
    tail = f"{_CONTRACTIONS}?" if contractions else ""
    return (
        rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{tail}|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{tail}|{DIGITS[digits]}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )


def pattern(split: Split, digits: int | None = None) -> str:
    """The expression of a split, with numbers cut to `digits` (None: as published). Not for GPT-2's with digits."""
    if split == "gpt2":
        assert digits is None
        return GPT2
    if split == "o200k":
        return o200k(digits or 3)
    return llama3(digits or 3, end_spaces=split == "cl100k")
