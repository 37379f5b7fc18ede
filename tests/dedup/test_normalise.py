"""Each normalisation against the same steps on Python strings, as the pipelines that use them publish them."""

import functools
import itertools
import re
import string
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from raypt.dedup.config import DedupConfig, FuzzyConfig, NormaliseConfig
from raypt.dedup.plan import hash_parameters
from raypt.dedup.shingles import shingle
from raypt.dedup.tokenise import fuzzy_tokens, tokenise
from tests.dedup.reference import mix64, read_jsonl, unspaced

JOINED = NormaliseConfig(punctuation="join", diacritics="remove", numbers="zero")
JOINED_CHARACTERS = FuzzyConfig(
    unit="character", ngram=13, normalise=NormaliseConfig(unicode="NFC", punctuation="join", spaces="keep")
)
FINEWEB = FuzzyConfig(normalise=NormaliseConfig(punctuation="fineweb", diacritics="remove", numbers="zero"))
SLIMPAJAMA = FuzzyConfig(unit="character", ngram=13, normalise=NormaliseConfig(punctuation="ascii", spaces="keep"))
DATATROVE_PUNCTUATION = (
    "!/—”:％１〈&(、━\\【#%「」，】；+^]~“《„';’{|∶´[=-`*．（–？！：$～«〉,><》)?）。…@_.\"}►»"
    + "".join(chr(c) for c in [*range(9), 11, 12, *range(13, 32), *range(127, 160)])
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
    "ΣΊΣΥΦΟΣ ΑΣ Σ. İSTANBUL İ ẞ ǅ",
    "한국어 한국어 €5 • x→y ©2024 \u200bz 1̈2 ɸ̥ 2３４ 1٣",
    "A\u1040 x\u0e51y \u0ed12 \u17e1\u17e2",  # digits of scripts without spaces, which become a 0 as others do
    "\x1ca\x1db\x00c\x85d\u2028e ๑๒ কো \u09cb \u212b",
    # Beyond the first two planes: a selector of an ideograph, of a digit; a compatibility ideograph, a tag.
    "\u845b\U000e0100\u57ce 0\U000e0100 \U0002f800 x\U000e0041y",
]


@functools.cache
def hashed_token(token: str) -> int:
    h = 0xCBF29CE484222325
    for c in token:
        h = (h ^ ord(c)) * 0x100000001B3 % 2**64
    return mix64(h)


def hashed(tokens: list[str]) -> list[int]:
    return [hashed_token(token) for token in tokens]


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
    "joined": (JOINED.model_dump(), lambda t: words(zeros(without_marks(joined(lower(t)))))),
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


def test_characters_have_single_spaces_between_words() -> None:
    found = fuzzy_tokens(pa.array(TEXTS), JOINED_CHARACTERS)
    for text, (a, b) in zip(TEXTS, itertools.pairwise(found.offsets.tolist()), strict=True):
        expected = characters(joined(lower(unicodedata.normalize("NFC", text))))
        assert found.hashes[a:b].tolist() == hashed(expected), text


def fineweb(text: str) -> list[str]:
    """Words of datatrove's `simplify_text` at its defaults."""
    text = re.sub(r"\s+", " ", text.lower().strip()).translate(dict.fromkeys(map(ord, DATATROVE_PUNCTUATION)))
    text = "".join(c for c in unicodedata.normalize("NFD", text) if unicodedata.category(c) != "Mn")
    return re.sub(r"\d+", "0", text).split()


def slimpajama(text: str) -> list[str]:
    """The characters of which SlimPajama's `get_features` makes n-grams."""
    text = text.lower().translate(dict.fromkeys(map(ord, string.punctuation)))
    return list(re.sub(r"\s+", " ", text.strip()))


PUBLISHED = pytest.mark.parametrize(
    ("fuzzy", "steps"), [(FINEWEB, fineweb), (SLIMPAJAMA, slimpajama)], ids=["FineWeb", "SlimPajama"]
)


def check_tokens(texts: Sequence[str], fuzzy: FuzzyConfig, steps: Callable[[str], list[str]]) -> None:
    found = fuzzy_tokens(pa.array(texts, pa.string()), fuzzy)
    for text, (a, b) in zip(texts, itertools.pairwise(found.offsets.tolist()), strict=True):
        assert found.hashes[a:b].tolist() == hashed(steps(text)), text


@PUBLISHED
@settings(max_examples=60, deadline=None)
@given(drawn=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), min_size=1, max_size=8))
def test_units_are_those_of_the_published_steps(
    fuzzy: FuzzyConfig, steps: Callable[[str], list[str]], drawn: list[str]
) -> None:
    check_tokens(drawn, fuzzy, steps)


@PUBLISHED
def test_units_of_awkward_text_are_those_of_the_published_steps(
    fuzzy: FuzzyConfig, steps: Callable[[str], list[str]]
) -> None:
    check_tokens(TEXTS, fuzzy, steps)


@PUBLISHED
@pytest.mark.parametrize(
    ("name", "step"), [("multilingual/udhr.jsonl.gz", 11), ("web/pages_text.dev.jsonl.gz", 23)], ids=["udhr", "web"]
)
def test_units_of_real_text_are_those_of_the_published_steps(
    name: str, step: int, fuzzy: FuzzyConfig, steps: Callable[[str], list[str]]
) -> None:
    check_tokens([row["text"][:2000] for row in read_jsonl(name)[::step]], fuzzy, steps)


@PUBLISHED
def test_documents_share_what_they_share_in_the_published_definition(
    fuzzy: FuzzyConfig, steps: Callable[[str], list[str]]
) -> None:
    rows = read_jsonl("neardup/spdx_licences.docs.jsonl.gz")
    texts = [row["text"] for row in rows if "BSD-" in row["id"]][:12]
    hashes, offsets = shingle(fuzzy_tokens(pa.array(texts), fuzzy), fuzzy.ngram)
    ours = [set(hashes[a:b].tolist()) for a, b in itertools.pairwise(offsets.tolist())]
    units = [steps(text) for text in texts]
    theirs = [{tuple(u[i : i + fuzzy.ngram]) for i in range(len(u) - fuzzy.ngram + 1)} for u in units]
    shared = 0
    for a, b in itertools.combinations(range(len(texts)), 2):
        common = len(theirs[a] & theirs[b])
        assert (len(ours[a] & ours[b]), len(ours[a] | ours[b])) == (common, len(theirs[a] | theirs[b]))
        shared += common > 0
    assert shared


def test_joined_text_is_equal_where_the_default_tells_it_apart() -> None:
    pair = pa.array(TEXTS[:2])
    for fuzzy, same in ((FuzzyConfig(normalise=JOINED), True), (FuzzyConfig(), False)):
        tokens = fuzzy_tokens(pair, fuzzy)
        first, second = (tokens.hashes[a:b].tolist() for a, b in itertools.pairwise(tokens.offsets.tolist()))
        assert (first == second) is same


def test_the_default_is_the_declared_normalisation() -> None:
    texts = pa.array(TEXTS)
    assert (fuzzy_tokens(texts, FuzzyConfig()).hashes == tokenise(texts).hashes).all()


@pytest.mark.parametrize(
    "options", [{"case": "keep"}, {"numbers": "zero"}, {"unicode": "NFC"}, {"punctuation": "ascii"}]
)
def test_hashes_of_another_normalisation_never_meet(options: dict[str, Any]) -> None:
    other = DedupConfig(fuzzy=FuzzyConfig(normalise=NormaliseConfig(**options)))
    assert hash_parameters(other) != hash_parameters(DedupConfig())


def test_spaces_are_units_of_characters_only() -> None:
    with pytest.raises(ValidationError, match="needs unit: character"):
        FuzzyConfig(normalise=NormaliseConfig(spaces="keep"))
