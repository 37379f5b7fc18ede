"""No text that ftfy would change is kept from it."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raypt.curation.rules.normalise import Normalise, _repaired
from tests.curation.text_sets import CORPORA, documents

ftfy = pytest.importorskip("ftfy", reason="ftfy is not installed: pip install 'raypt[ftfy]'")
ENCODING = ftfy.TextFixerConfig(
    fix_latin_ligatures=False,
    fix_character_width=False,
    uncurl_quotes=False,
    fix_line_breaks=False,
    normalization=None,
)
CONFIGS = {"encoding": ENCODING, "all": ftfy.TextFixerConfig()}
BYTES = st.text(st.characters(exclude_categories=["Cs"]), max_size=8).map(lambda t: t.encode())
WRONGLY_DECODED = st.builds(
    lambda data, codec: data.decode(codec, "replace"),
    BYTES,
    st.sampled_from(["latin-1", "cp1252", "cp1251", "cp1250", "cp1253", "mac-roman", "cp437"]),
)


@pytest.mark.parametrize("how", CONFIGS)
@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.lists(WRONGLY_DECODED | st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.just("\n")).map(
            "".join
        ),
        min_size=1,
        max_size=6,
    )
)
def test_repaired_text_is_ftfys(how: str, texts: list[str]) -> None:
    _equals_ftfy(pa.array(texts, pa.string()), how)


@pytest.mark.skipif(not CORPORA.exists(), reason="the real corpora beside the checkout are absent")
@pytest.mark.parametrize(
    "name", ["quality/spam_ham.dev.jsonl.gz", "multilingual/udhr.jsonl.gz", "web/pages_text.dev.jsonl.gz"]
)
def test_repaired_real_text_is_ftfys(name: str) -> None:
    _equals_ftfy(documents(name, 40)["text"].combine_chunks(), "encoding")


def _equals_ftfy(texts: pa.Array, how: str) -> None:
    repair = Normalise(ftfy=how).load(None)
    assert repair is not None
    assert _repaired(texts, repair, how == "all").to_pylist() == [
        ftfy.fix_text(text, CONFIGS[how]) for text in texts.to_pylist()
    ]
