"""Each normalisation against the same steps on Python strings, as the pipelines that use them publish them."""

import itertools
import re
import unicodedata
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from raypt.dedup.config import DedupConfig, FuzzyConfig, NormaliseConfig
from raypt.dedup.plan import hash_parameters
from raypt.dedup.tokenise import fuzzy_tokens, tokenise
from tests.dedup.reference import mix64, unspaced

FINEWEB = NormaliseConfig(punctuation="join", diacritics="remove", numbers="zero")
SLIMPAJAMA = FuzzyConfig(
    unit="character", ngram=13, normalise=NormaliseConfig(unicode="NFC", punctuation="join", spaces="keep")
)
TEXTS = [
    "Don't pay $1,234.50 for Café № 42 — naïve co-operation, e.g. in 2024!",
    "don't pay 9 for cafe  № 7 - naive cooperation eg in 1999",
    "Ünïcödé ÀÉÎ Straße İstanbul ﬁne ŁÓDŹ Ⅳ ½ snake_case 3.14",
    "价格：１２３元，约4.5万。東京タワー ｶﾞｷﾞ",
    "हिन्दी में क़लम और १२३",
    "tab\tand\n\nlines  \u00a0 end ",
    "",
    "?! …",
    "1 2 3",
    "a1b22c333",
    # Beyond the first two planes: a selector of an ideograph, of a digit; a compatibility ideograph, a tag.
    "\u845b\U000e0100\u57ce 0\U000e0100 \U0002f800 x\U000e0041y",
]


def hashed(tokens: list[str]) -> list[int]:
    out = []
    for token in tokens:
        h = 0xCBF29CE484222325
        for c in token:
            h = (h ^ ord(c)) * 0x100000001B3 % 2**64
        out.append(mix64(h))
    return out


def lower(text: str) -> str:
    return "".join(c.lower() if len(c.lower()) == 1 else c for c in text)


def joined(text: str) -> str:
    """Without punctuation, symbols and control characters that are no white space."""

    def stays(c: str) -> bool:
        category = unicodedata.category(c)
        return c.isspace() or (category not in ("Cc", "Cf") and category[0] not in "PS")

    return "".join(filter(stays, text))


def without_marks(text: str) -> str:
    """Letters whose decomposition is one base, without their marks; the others as they are."""
    out = []
    for c in text:
        base = [b for b in unicodedata.normalize("NFD", c) if unicodedata.category(b) != "Mn"]
        out.append(base[0] if len(base) == 1 else "" if unicodedata.category(c) == "Mn" else c)
    return "".join(out)


def zeros(text: str) -> str:
    return re.sub(r"\d+", "0", text)


def words(text: str) -> list[str]:
    """What is no letter separates; a character of an unspaced script, with its marks, is a word by itself."""
    found: list[str] = []
    opened = glued = False
    for c in text:
        if unicodedata.category(c)[0] == "M" or c in "ﾞﾟ":
            if found and (opened or glued):
                found[-1] += c
            continue
        letter = unicodedata.category(c)[0] in "LN" or c == "_"
        alone = letter and unspaced(c)
        if letter and opened and not alone:
            found[-1] += c
        elif letter:
            found.append(c)
        opened, glued = letter and not alone, letter
    return found


def characters(text: str) -> list[str]:
    """Letters with their marks, and one space for each run of white space between them."""
    found: list[str] = []
    space = glued = False
    for c in text:
        if c.isspace():
            space, glued = True, False
        elif unicodedata.category(c)[0] == "M" or c in "ﾞﾟ":
            if glued:
                found[-1] += c
        elif unicodedata.category(c)[0] in "LN":
            found += [" "] * (space and bool(found)) + [c]
            space, glued = False, True
    return found


STEPS: dict[str, tuple[dict[str, str], Callable[[str], list[str]]]] = {
    "case": ({"case": "keep"}, words),
    "punctuation": ({"punctuation": "join"}, lambda t: words(joined(lower(t)))),
    "diacritics": ({"diacritics": "remove"}, lambda t: words(without_marks(lower(t)))),
    "numbers": ({"numbers": "zero"}, lambda t: words(zeros(lower(t)))),
    "NFKC": ({"unicode": "NFKC"}, lambda t: words(lower(unicodedata.normalize("NFKC", t)))),
    "FineWeb": (
        FINEWEB.model_dump(),
        lambda t: words(zeros(without_marks(joined(lower(t))))),
    ),
}


@pytest.mark.parametrize("name", STEPS)
@settings(max_examples=60, deadline=None)
@given(drawn=st.lists(st.text(st.characters(exclude_categories=["Cs", "Cn", "Co"]), max_size=30), max_size=4))
def test_tokens_are_those_of_the_steps_on_strings(name: str, drawn: list[str]) -> None:
    options, steps = STEPS[name]
    # NFKC by another version of Unicode may differ on characters that are new; the fixed texts have none.
    texts = TEXTS + ([] if name == "NFKC" else drawn)
    fuzzy = FuzzyConfig(normalise=NormaliseConfig(**options))
    found = fuzzy_tokens(pa.array(texts), fuzzy)
    for text, (a, b) in zip(texts, itertools.pairwise(found.offsets.tolist()), strict=True):
        assert found.hashes[a:b].tolist() == hashed(steps(text)), text


def test_slimpajamas_characters_have_single_spaces_between_words() -> None:
    found = fuzzy_tokens(pa.array(TEXTS), SLIMPAJAMA)
    for text, (a, b) in zip(TEXTS, itertools.pairwise(found.offsets.tolist()), strict=True):
        expected = characters(joined(lower(unicodedata.normalize("NFC", text))))
        assert found.hashes[a:b].tolist() == hashed(expected), text


def test_fineweb_calls_equal_what_the_default_tells_apart() -> None:
    pair = pa.array(TEXTS[:2])
    for fuzzy, same in ((FuzzyConfig(normalise=FINEWEB), True), (FuzzyConfig(), False)):
        tokens = fuzzy_tokens(pair, fuzzy)
        first, second = (tokens.hashes[a:b].tolist() for a, b in itertools.pairwise(tokens.offsets.tolist()))
        assert (first == second) is same


def test_the_default_is_the_declared_normalisation() -> None:
    texts = pa.array(TEXTS)
    assert (fuzzy_tokens(texts, FuzzyConfig()).hashes == tokenise(texts).hashes).all()


@pytest.mark.parametrize("options", [{"case": "keep"}, {"numbers": "zero"}, {"unicode": "NFC"}])
def test_hashes_of_another_normalisation_never_meet(options: dict[str, Any]) -> None:
    other = DedupConfig(fuzzy=FuzzyConfig(normalise=NormaliseConfig(**options)))
    assert hash_parameters(other) != hash_parameters(DedupConfig())


def test_spaces_are_units_of_characters_only() -> None:
    with pytest.raises(ValidationError, match="needs unit: character"):
        FuzzyConfig(normalise=NormaliseConfig(spaces="keep"))
