"""The one table, against another implementation of Unicode's properties (the `regex` package)."""

import unicodedata

import numpy as np
import pytest
import regex

from raypt.text import unicode as u

SCRIPTS = "Han Hiragana Katakana Bopomofo Nushu Thai Lao Myanmar Khmer Tai_Le New_Tai_Lue Tai_Tham Tai_Viet Javanese"
COMMON = regex.compile(
    r"[\p{Script=Common}&&[\p{LB=NS}\p{LB=CJ}\p{Word_Break=Katakana}\u3006\u3192-\u3195\uA9CF]]", regex.V1
)
"""Letters that those scripts share; U+3006 and U+3192..3195 are Line_Break ID as enclosed numbers are, A9CF is BA."""
UNSPACED = regex.compile("|".join(rf"\p{{Script={name}}}" for name in SCRIPTS.split()))
CODES = [c for c in range(0x110000) if unicodedata.category(chr(c))[0] in "LN"]


def is_unspaced(c: str) -> bool:
    return bool((UNSPACED.match(c) or COMMON.match(c)) and not regex.match(r"\p{Word_Break=Extend}", c))


def test_unspaced_characters_are_those_of_the_scripts_that_unicode_breaks_without_spaces() -> None:
    wrong = [f"U+{c:04X}" for c in CODES if bool(u.flags(chr(c)) & u.UNSPACED) != is_unspaced(chr(c))]
    assert not wrong


def test_the_letters_of_those_scripts_and_of_no_other_in_the_table_may_be_followed_by_a_line_break() -> None:
    breaks = regex.compile(r"[\p{LB=SA}\p{LB=ID}\p{LB=CJ}\p{LB=NS}\p{LB=AK}\p{Word_Break=Katakana}]")
    letters = [chr(c) for c in CODES if u.flags(chr(c)) & u.UNSPACED and unicodedata.category(chr(c)) == "Lo"]
    assert len(letters) > 90_000
    assert [c for c in letters if not breaks.match(c)] == []


def test_both_layouts_say_the_same_of_every_character() -> None:
    classes = u.word_classes()
    for c in range(u.TABLE_SIZE):
        flags = u.flags(chr(c))
        assert (classes[c] == u.IDEOGRAPH) == bool(flags & u.UNSPACED), f"U+{c:04X}"
        assert (classes[c] == u.WHITE) == bool(flags & u.SPACE), f"U+{c:04X}"
        assert (classes[c] == u.MARK) == bool(flags & u.EXTEND and c != 0x200D), f"U+{c:04X}"
    for c in (u.FIRST_IDEOGRAPH, 0x31350, u.LAST_IDEOGRAPH, u.LAST_IDEOGRAPH + 1):
        assert bool(u.flags(chr(c)) & u.UNSPACED) == (c <= u.LAST_IDEOGRAPH)


def test_a_half_width_sound_mark_belongs_to_its_kana() -> None:
    for mark in "ﾞﾟ":
        assert regex.match(r"\p{Word_Break=Extend}", mark)
        assert u.word_classes()[ord(mark)] == u.MARK
        assert u.flags(mark) & u.EXTEND and not u.flags(mark) & u.UNSPACED


@pytest.mark.parametrize("character", ["a", "Z", "é", "中", "ß", "İ", "_", "1", "ǅ"])
def test_the_lower_case_is_that_of_python_where_it_is_one_character(character: str) -> None:
    lower = character.lower()
    assert u.lower_case()[ord(character)] == ord(lower if len(lower) == 1 else character)


def test_tables_that_kernels_share_cannot_be_written_to() -> None:
    for table in (u.word_classes(), u.word_classes(True), u.lower_case()):
        assert isinstance(table, np.ndarray) and not table.flags.writeable
