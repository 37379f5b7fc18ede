"""The other extractors, and the union of all."""

import pytest
from pydantic import ValidationError

from raypt.corpus.config import HtmlConfig
from raypt.corpus.formats.html import html_to_text
from raypt.corpus.html.engines import union

PARAGRAPH = "The river bends twice before it reaches the old mill, and then it runs straight to the lake."
PAGE = (
    "<html><head><title>Mills</title></head><body><nav><a href=/>Home</a></nav>"
    f"<article><h1>The mill</h1><p>{PARAGRAPH}</p>"
    f"<ul><li>Two cups of flour</li></ul><p>{PARAGRAPH} Again.</p></article></body></html>"
).encode()


@pytest.mark.parametrize("engine", ["raypt", "resiliparse", "trafilatura", "union"])
def test_every_engine_finds_the_paragraphs(engine: str) -> None:
    if engine in ("trafilatura", "union"):
        pytest.importorskip("trafilatura")
    text = html_to_text(PAGE, "utf-8", HtmlConfig.model_validate({"engine": engine, "title": True}))
    assert text.startswith("Mills\n\n")
    assert PARAGRAPH in text
    assert "Home" not in text
    assert "\n" not in html_to_text(PAGE, "utf-8", HtmlConfig(engine="raypt", preserve_formatting=False))


def test_the_union_has_the_lines_of_all_once_in_their_place() -> None:
    texts = ["Title\n\nfirst\n- list\nlast", "Title\nfirst\ncaption\nlast", "lead\nTitle\nfirst\nlast\nend"]
    assert union(texts).split("\n") == ["lead", "Title", "", "first", "caption", "- list", "last", "end"]


def test_a_selector_that_cannot_be_read_is_named_at_start() -> None:
    with pytest.raises(ValidationError, match="is no CSS selector"):
        HtmlConfig(skip=("p[",))
