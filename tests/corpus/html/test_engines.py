"""The other extractors, and the union of all."""

import pytest
from pydantic import ValidationError

from raypt.corpus.config import HtmlConfig
from raypt.corpus.formats.charset import decode
from raypt.corpus.formats.html import html_to_text
from raypt.corpus.html.engines import resiliparse_text, text_of, trafilatura_text, union
from raypt.corpus.html.extract import extract, parse
from tests.corpus.html.measure import GoldPage, hand_made

PARAGRAPH = "The river bends twice before it reaches the old mill, and then it runs straight to the lake."
PAGE = (
    "<html><head><title>Mills</title></head><body><nav><a href=/>Home</a></nav>"
    f"<article><h1>The mill</h1><p>{PARAGRAPH}</p>"
    f"<ul><li>Two cups of flour</li></ul><p>{PARAGRAPH} Again.</p></article></body></html>"
).encode()


@pytest.mark.parametrize("engine", ["raypt", "resiliparse", "trafilatura", "union"])
def test_every_engine_finds_the_paragraphs(engine: str) -> None:
    if engine in ("trafilatura", "union"):
        pytest.importorskip("trafilatura", exc_type=ImportError)
    text = html_to_text(PAGE, "utf-8", HtmlConfig.model_validate({"engine": engine, "title": True}))
    assert text.startswith("Mills\n\n")
    assert PARAGRAPH in text
    assert "Home" not in text
    assert "\n" not in html_to_text(PAGE, "utf-8", HtmlConfig(engine="raypt", preserve_formatting=False))


@pytest.mark.parametrize("page", hand_made(), ids=lambda page: page.name)
def test_trafilatura_is_asked_as_fineweb_asked_it(page: GoldPage) -> None:
    """The options are those of datatrove's extractor, whichever pages were read before, however often."""
    trafilatura = pytest.importorskip("trafilatura", exc_type=ImportError)
    from trafilatura.deduplication import LRU_TEST

    html, config = decode(page.html, None), HtmlConfig(engine="trafilatura")
    LRU_TEST.clear()
    published = trafilatura.extract(parse(html, ())[0], favor_precision=True, include_comments=False, deduplicate=True)
    assert [text_of(html, config) for _ in range(4)] == [published or ""] * 4


def test_the_union_has_what_these_options_leave_out() -> None:
    pytest.importorskip("trafilatura", exc_type=ImportError)
    config = HtmlConfig(engine="union")
    pages = [decode(page.html, None) for page in hand_made()]
    less = [p for p in pages if trafilatura_text(p, config) != trafilatura_text(p, config, strict=False)]
    assert less
    for page in less:
        loose = trafilatura_text(page, config, strict=False)
        assert text_of(page, config) == union([extract(page, config), resiliparse_text(page, config), loose])


def test_the_union_has_the_lines_of_all_once_in_their_place() -> None:
    texts = ["Title\n\nfirst\n- list\nlast", "Title\nfirst\ncaption\nlast", "lead\nTitle\nfirst\nlast\nend"]
    assert union(texts).split("\n") == ["lead", "Title", "", "first", "caption", "- list", "last", "end"]


def test_a_selector_that_cannot_be_read_is_named_at_start() -> None:
    with pytest.raises(ValidationError, match="is no CSS selector"):
        HtmlConfig(skip=("p[",))
