import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from raypt.text.utf8 import character, character_start, decode, width_of

CHARACTERS = st.characters(exclude_categories=("Cs",))


@settings(deadline=None)
@given(st.text(CHARACTERS, min_size=1, max_size=30))
def test_every_character_is_decoded_from_its_first_byte_and_found_from_any(text: str) -> None:
    data = np.frombuffer(text.encode(), np.uint8)
    at = 0
    for c in text:
        size = len(c.encode())
        assert width_of(data[at]) == size
        assert tuple(int(x) for x in character(data, at)) == (ord(c), size)
        if size > 1:
            assert tuple(int(x) for x in decode(data, np.uint64(at))) == (ord(c), size)
        assert {int(character_start(data, i, 0)) for i in range(at, at + size)} == {at}
        at += size


def test_the_start_of_a_character_is_not_looked_for_before_the_bound() -> None:
    assert character_start(np.frombuffer("中".encode(), np.uint8), 2, 1) == 1
