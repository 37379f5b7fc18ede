"""The automaton finds the phrases that `in` finds."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from raypt.curation.phrases import PhraseTable, groups_in

PHRASE = st.text(st.sampled_from("abAB 中é"), min_size=1, max_size=4)


def ascii_lower(text: str) -> str:
    return "".join(c.lower() if c.isascii() else c for c in text)


@given(st.lists(st.lists(PHRASE, max_size=4), max_size=5), st.text(st.sampled_from("abAB 中é"), max_size=40))
@settings(deadline=None)
def test_groups_found_are_those_with_a_phrase_in_the_text(groups: list[list[str]], text: str) -> None:
    table = PhraseTable.build(groups)
    data = np.frombuffer(text.encode(), np.uint8)
    found = int(groups_in(data, 0, len(data), table.classes, table.goto, table.masks))
    low = ascii_lower(text)
    expected = [any(phrase.lower() in low for phrase in group) for group in groups]
    assert [bool(found >> g & 1) for g in range(len(groups))] == expected
