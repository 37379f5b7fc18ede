"""What a byte-level BPE tokenizer.json says, as arrays for the kernels of `fast_bpe`; or why they cannot serve it."""

import functools
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Regex, normalizers

from raypt.kept import kept_array
from raypt.kernels import allocating_kernel
from raypt.packages import package_version
from raypt.text.hashing import spread
from raypt.tokens.tokenizer import patterns

GPT2, CL100K, O200K = 0, 1, 2
"""Families of patterns that split text into words: GPT-2's, that of cl100k, LLaMA 3 and Qwen, that of o200k, LLaMA 4
and tekken."""
LETTER, NUMBER, SPACE, UPPER, LOWER = 1, 2, 4, 8, 16
"""Bits of a character's class. UPPER and LOWER are o200k's two kinds: both hold letters without case and marks."""
UNBOUNDED = 1 << 30

_N_CHARACTERS = 0x110000
_PLANES = (*range(0, 0x40000, 2048), *range(0xE0000, 0xF0000, 2048))
"""Where Unicode has (or may get) letters, numbers and spaces: the other planes are empty or private."""
_EMPTY = np.uint64(0xFFFFFFFFFFFFFFFF)


class Unsupported(Exception):
    """The tokenizer has a feature that the kernels lack; the message names it."""


@dataclass(frozen=True)
class Splitting:
    """How text is split into words before merging."""

    family: int
    max_digits: int
    """Digits of a word of numbers at most."""
    isolate_digits: bool = False
    """Numbers are cut out before the pattern applies, so that it sees the pieces between them one by one (GPT-2)."""
    end_spaces: bool = False
    """White space at the end of a text is one word, whatever it holds (cl100k)."""
    contractions: bool = True
    """An 's, 'll, ... belongs to the word before it (o200k)."""


@dataclass(frozen=True)
class ByteLevelBPE:
    """The tables of one tokenizer. Words are byte strings; each byte is a token, and pairs merge by rank."""

    splitting: Splitting
    byte_ids: npt.NDArray[np.uint32]
    """Token id of each byte."""
    merge_keys: npt.NDArray[np.uint64]
    """Open-addressing hash table: left id << 32 | right id."""
    merge_values: npt.NDArray[np.uint64]
    """rank << 32 | merged id."""
    whole_words: list[tuple[bytes, int]]
    """Words that are tokens without any merging (`ignore_merges`)."""


@functools.cache
def characters_of_bytes() -> list[str]:
    """The printable character that stands for each byte in a byte-level vocabulary (GPT-2's table)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    spare = iter(range(256, 512))
    return [chr(b) if b in printable else chr(next(spare)) for b in range(256)]


@functools.cache
def character_classes() -> npt.NDArray[np.uint8]:
    """uint8[0x110000]: the bits of every code point, as the pattern engine of `tokenizers` has them.

    Asked of the engine itself: its Unicode version is not that of Python.
    """
    # Of its own: for an array that cannot be written to, numba would compile all kernels anew.
    name = f"character-classes-tokenizers-{package_version('tokenizers')}"
    return kept_array(name, _character_classes).copy()


def _character_classes() -> npt.NDArray[np.uint8]:
    classes = np.zeros(_N_CHARACTERS, np.uint8)
    kinds = {
        r"\p{L}": LETTER,
        r"\p{N}": NUMBER,
        r"\s": SPACE,
        r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]": UPPER,
        r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]": LOWER,
    }
    for pattern, bit in kinds.items():
        members = normalizers.Replace(Regex(pattern), "")
        for first in _PLANES:
            if 0xD800 <= first < 0xE000:
                continue  # surrogates: no characters
            text = "".join(map(chr, range(first, first + 2048)))
            rest = np.frombuffer(members.normalize_str(text).encode("utf-32-le"), np.uint32)
            block = np.ones(2048, np.bool_)
            block[rest - first] = False
            classes[first : first + 2048][block] |= bit
    return classes


def read_model(tokenizer: dict[str, Any]) -> ByteLevelBPE:
    """The tables of a parsed tokenizer.json. Raises Unsupported, naming what the kernels lack."""
    model = tokenizer["model"]
    if model.get("type") != "BPE":
        raise Unsupported(f"its model is {model.get('type')}, not BPE")
    for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(key):
            raise Unsupported(f"its model uses {key}")
    if model.get("byte_fallback"):
        raise Unsupported("its model uses byte_fallback")
    for added in tokenizer.get("added_tokens") or []:
        if not added["special"]:
            raise Unsupported(f"it cuts out the added token {added['content']!r}, which is not special")
    splitting = splitting_of(tokenizer.get("pre_tokenizer"))
    vocab: dict[str, int] = model["vocab"]
    missing = [c for c in characters_of_bytes() if c not in vocab]
    if missing:
        raise Unsupported(f"its vocabulary lacks the byte {missing[0]!r}")
    byte_ids = np.array([vocab[c] for c in characters_of_bytes()], np.uint32)
    whole: list[tuple[bytes, int]] = []
    if model.get("ignore_merges"):
        byte_of = {c: b for b, c in enumerate(characters_of_bytes())}
        whole = [(bytes(byte_of[c] for c in t), i) for t, i in vocab.items() if t and all(c in byte_of for c in t)]
    return ByteLevelBPE(splitting, byte_ids, *_merge_table(model["merges"], vocab), whole)


def _merge_table(merges: list[Any], vocab: dict[str, int]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    pairs = [tuple(m.split(" ", 1)) if isinstance(m, str) else tuple(m) for m in merges]
    keys = np.array([vocab[a] << 32 | vocab[b] for a, b in pairs], np.uint64)
    values = np.array([rank << 32 | vocab[a + b] for rank, (a, b) in enumerate(pairs)], np.uint64)
    size = 1 << max(4, (4 * len(pairs)).bit_length())
    return _hash_table(keys, values, size)


@allocating_kernel
def _hash_table(
    keys: npt.NDArray[np.uint64], values: npt.NDArray[np.uint64], size: int
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    table, stored = np.full(size, _EMPTY, np.uint64), np.zeros(size, np.uint64)
    mask = np.uint64(size - 1)
    for i in range(keys.size):
        at = spread(keys[i]) & mask
        while table[at] != _EMPTY and table[at] != keys[i]:
            at = (at + np.uint64(1)) & mask
        table[at], stored[at] = keys[i], values[i]
    return table, stored


def splitting_of(pre: dict[str, Any] | None) -> Splitting:
    """How a pre-tokenizer of a tokenizer.json splits text. Raises Unsupported, as `read_model`."""
    steps = pre["pretokenizers"] if pre and pre["type"] == "Sequence" else [pre] if pre else []
    if not steps or steps[-1]["type"] != "ByteLevel":
        raise Unsupported("its pre-tokenizer does not end in ByteLevel")
    *before, last = steps
    if last.get("add_prefix_space"):
        raise Unsupported("it adds a space before the text")
    if last.get("use_regex", True):
        if not before:
            return Splitting(GPT2, UNBOUNDED)
        if len(before) == 1 and before[0]["type"] == "Digits" and before[0]["individual_digits"]:
            return Splitting(GPT2, 1, isolate_digits=True)
        if len(before) == 1:
            pattern = _isolating(before[0])
            for most, digits in patterns.DIGITS.items():
                if pattern == digits:
                    return Splitting(GPT2, most, isolate_digits=True)
    elif len(before) == 1 and (found := _known_patterns().get(_isolating(before[0]) or "")) is not None:
        return found
    raise Unsupported("its pre-tokenizer splits by another pattern")


@functools.cache
def _known_patterns() -> dict[str, Splitting]:
    known = {patterns.GPT2: Splitting(GPT2, UNBOUNDED)}
    for most in patterns.DIGITS:
        for flag in (False, True):
            known[patterns.llama3(most, end_spaces=flag)] = Splitting(CL100K, most, end_spaces=flag)
            known[patterns.o200k(most, contractions=flag)] = Splitting(O200K, most, contractions=flag)
    return known


def _isolating(step: dict[str, Any]) -> str | None:
    """The regular expression of a Split that isolates its matches."""
    if step["type"] != "Split" or step["behavior"] != "Isolated" or step["invert"]:
        return None
    found = step["pattern"].get("Regex")
    return str(found) if found is not None else None


def parse(text: str) -> ByteLevelBPE:
    return read_model(json.loads(text))
