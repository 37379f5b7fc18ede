"""The text of whole pages against gold: pages/NAME.html beside pages/NAME.txt, which was written by hand."""

import pytest

from tests.corpus.html.measure import (
    SHARED,
    GoldPage,
    extractor,
    hand_made,
    mean_f1,
    real_pages,
    score,
    speed,
    wide_lost,
)

PAGES = hand_made()
KINDS = ("article", "forum", "docs", "table", "code", "math", "zh", "ja", "malformed")


def test_there_are_pages_of_every_kind() -> None:
    assert len(PAGES) >= 30
    assert all(sum(page.name.startswith(kind) for page in PAGES) >= 1 for kind in KINDS)


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_a_page_gives_the_text_that_was_written_for_it(page: GoldPage) -> None:
    text = extractor("raypt")(page.html)
    # The worst has 0.94: what differs are names and dates beside posts, and titles that nothing says are such.
    assert score(page.gold, text).f1 >= 0.93
    assert not wide_lost(page.gold, text)


def test_word_f1_over_the_pages_made_by_hand() -> None:
    assert mean_f1(PAGES, extractor("raypt"))[0] >= 0.98  # 0.990


@pytest.mark.skipif(not SHARED.exists(), reason="shared corpora absent: quality on real pages is not measured")
def test_word_f1_over_real_pages_and_their_own_containers() -> None:
    pages = real_pages()
    assert len(pages) > 150
    extract = extractor("raypt")
    mean, _ = mean_f1(pages, extract)
    assert mean >= 0.95  # 0.966
    assert mean > mean_f1(pages, extractor("resiliparse"))[0]
    for page in pages:
        assert not wide_lost(page.gold, extract(page.html)), page.name


@pytest.mark.slow
def test_pages_become_text_several_times_as_fast_as_by_trafilatura() -> None:
    pytest.importorskip("trafilatura", exc_type=ImportError)
    pages = [page.html for page in PAGES]
    # Measured 20 times; 3 is what is asked for.
    assert speed(pages, extractor("raypt"), 3) >= 3 * speed(pages, extractor("trafilatura"), 1)
