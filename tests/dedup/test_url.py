import datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raypt.dedup.config import TRACKING
from raypt.dedup.url import NO_DATE, Tracking, dates, normalise_url, normalise_urls
from raypt.errors import UserError

DEFAULT = Tracking(TRACKING)
SAME = [
    (
        "example.org",
        ["http://example.org", "https://EXAMPLE.org/", "http://www.example.org:80//", "https://example.org.:443"],
    ),
    (
        "example.org/a/b",
        ["http://example.org/a/b/", "https://www3.example.org/a/./c/../b", "http://u:p@example.org/a/b#top"],
    ),
    (
        "example.org/p?a=1&b=2",
        [
            "http://example.org/p?b=2&a=1",
            "http://example.org/p/?a=1&utm_source=x&b=2&fbclid=9&UTM_Medium=y",
            "http://example.org/p;jsessionid=AB12?a=1&&b=2",
        ],
    ),
    (
        "example.org/caf%C3%A9",
        ["http://example.org/café", "http://example.org/caf%c3%a9/", "http://example.org/%63af%C3%A9"],
    ),
    ("xn--bcher-kva.example/", ["http://bücher.example/x", "http://XN--BCHER-KVA.example/x"]),
    ("example.org/#!/page", ["http://example.org/#!/page"]),
    ("example.org:8080/a", ["https://example.org:8080/a"]),
    (
        "example.org/中文?键=值",
        ["http://example.org/%E4%B8%AD%E6%96%87?%E9%94%AE=%E5%80%BC", "http://example.org/中文?键=值"],
    ),
]


@pytest.mark.parametrize(("name", "urls"), SAME)
def test_spellings_of_one_address_have_one_form(name: str, urls: list[str]) -> None:
    assert len({normalise_url(u, DEFAULT) for u in urls}) == 1 and normalise_url(urls[0], DEFAULT)


def test_forms_are_as_expected() -> None:
    assert normalise_url("https://www.Example.org:443/A//b/?z=1&a=2&utm_id=3#x", DEFAULT) == "example.org/A//b?a=2&z=1"
    assert normalise_url("http://www.com/x", DEFAULT) == "www.com/x", "www is the name itself"
    assert normalise_url("http://example.org/x?a", DEFAULT) == "example.org/x?a"


DIFFERENT = [
    "http://example.org/a", "http://example.org/A", "http://example.org/a?x=1", "http://example.org/a?x=2", "http://example.org:81/a",
    "http://a.example.org/a", "http://example.org/a/b", "http://example.org/a%2Fb", "http://example.org/#!/a", "http://example.com/a",
]  # fmt: skip


def test_other_pages_have_other_forms() -> None:
    assert len({normalise_url(u, DEFAULT) for u in DIFFERENT}) == len(DIFFERENT)


NO_ADDRESS = ["", "example.org/a", "mailto:a@b.c", "ftp://a.b/c", "http://", "http:///a", "http://[::1"]
NO_ADDRESS += ["http://a:99999/", "http://a:b/"]


@pytest.mark.parametrize("url", NO_ADDRESS)
def test_what_is_no_address_of_a_page_has_none(url: str) -> None:
    assert normalise_url(url, DEFAULT) is None


@given(st.text(max_size=40), st.text(max_size=20))
def test_any_text_is_read_and_a_form_is_its_own(path: str, query: str) -> None:
    form = normalise_url(f"http://example.org/{path}?{query}", DEFAULT)
    if form is not None:
        assert normalise_url(f"https://www.{form}", DEFAULT) == form


def test_columns_are_normalised_row_by_row() -> None:
    urls = pa.chunked_array([pa.array(["http://a.org/", None]), pa.array(["no"])])
    assert normalise_urls(urls, ()).to_pylist() == ["a.org", None, None]


DAY = datetime.datetime(2024, 5, 1, 12, 30, tzinfo=datetime.UTC)
MICROSECONDS = int(DAY.timestamp()) * 10**6


SPELT = ["2024-05-01T12:30:00Z", "2024-05-01T14:30:00+02:00", "2024-05-01 12:30:00", "20240501123000", "1714566600"]


@pytest.mark.parametrize("value", SPELT)
def test_dates_of_strings_are_instants(value: str) -> None:
    assert dates(pa.array([value]), "d").tolist() == [MICROSECONDS]


def test_dates_of_other_types() -> None:
    assert dates(pa.array([DAY, None], pa.timestamp("s", "UTC")), "d").tolist() == [MICROSECONDS, NO_DATE]
    assert dates(pa.array([DAY.date()], pa.date32()), "d").tolist() == [MICROSECONDS - (12 * 60 + 30) * 60 * 10**6]
    assert dates(pa.array([20240501, None]), "d").tolist() == [20240501, NO_DATE]
    assert dates(pa.array([1.6, None]), "d").tolist() == [2, NO_DATE]
    assert dates(pa.nulls(2), "d").tolist() == [NO_DATE] * 2
    assert dates(pa.array(["yesterday", "", None, "20241", "2024-13-01"]), "d").tolist() == [NO_DATE] * 5
    assert (np.diff(dates(pa.array(["1999", "2023", "202401", "20240102", "2024010203"]), "d")) > 0).all()
    with pytest.raises(UserError, match=r"here: a column of type bool has no dates"):
        dates(pa.array([True]), "here")
