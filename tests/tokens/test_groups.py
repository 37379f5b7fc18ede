"""What names a document's group: columns, expressions, ranges."""

import pyarrow as pa
import pytest

from raypt.errors import UserError
from raypt.tokens.config import MixtureConfig
from raypt.tokens.groups import naming
from raypt.tokens.parts import group_names, wanted_columns

BATCH = pa.record_batch(
    {
        "url": ["http://a.org/2014/05/x", "http://b.org/2020/y", "http://c.org/", None, "http://d.org/1999/2013/"],
        "year": ["2014", "2020", "-5", "", "99999999999999999999"],
        "lang": ["en", "zh", "en", "en", None],
    }
)


@pytest.mark.parametrize(
    ("by", "names"),
    [
        (("lang",), ["en", "zh", "en", "en", ""]),
        ((r"url~\d{4}",), ["2014", "2020", "", "", "1999"]),
        ((r"url~/(?P<year>\d{4})/\d\d/",), ["2014", "", "", "", ""]),
        ((r"url~/(?P<year>\d{4})/@2010,2020,2030",), ["2010-2020", "2020-2030", "", "", ""]),
        ((r"year~.*@-10,0,2015",), ["0-2015", "", "-10-0", "", ""]),
        ((r"url~\d{4}", "lang"), ["2014/en", "2020/zh", "/en", "/en", "1999/"]),
    ],
)
def test_a_group_is_what_the_entry_finds(by: tuple[str, ...], names: list[str]) -> None:
    assert group_names(BATCH, by, "x").to_pylist() == names


def test_a_batch_without_rows_has_no_groups() -> None:
    assert group_names(BATCH.slice(0, 0), (r"url~\d{4}@1,2,3",), "x").to_pylist() == []


def test_the_columns_that_are_read_are_those_looked_at() -> None:
    assert wanted_columns((r"url~\d{4}", "text~x")) == ["doc_key", "source", "lang", "text", "url"]
    with pytest.raises(UserError, match="has no column 'date'"):
        group_names(BATCH, (r"date~\d{4}",), "x")


@pytest.mark.parametrize("entry", [r"url~(\d", r"url~(a)(b)", "~x", "url~", r"url~\d@3,2,1", r"url~(?=x)"])
def test_an_entry_that_names_nothing_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match=r"edges must|expression"):
        MixtureConfig(by=(entry,))


def test_an_entry_says_itself() -> None:
    for entry in ("lang", r"url~\d{4}", r"url~/(?P<y>\d{4})/@2010,2020,2030", "a~b@c"):
        assert str(naming(entry)) == entry
