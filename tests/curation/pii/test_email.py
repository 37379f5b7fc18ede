"""raypt.curation.pii.email: addresses as people write them, and credentials in URLs."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.curation.pii.found import found, values


@pytest.mark.parametrize(
    "address",
    [
        "ann@example.com",
        "ann.lee+news@mail.example.co.uk",
        "bounce-12-zzz=example.org@lists.example.net",
        "o'brien@example.ie",
        "A_B-c%d@EXAMPLE.ORG",
        "jürgen@müller.de",
        "иван@почта.рф",
        "x@xn--80a1acny.xn--p1ai",
        "1@2.museum",
    ],
)
@pytest.mark.parametrize(
    "frame", ["{}", "Write to {}.", "<{}>", "({}),", "邮箱{}，电话", "メール：{}です", '"{}"', "mailto:{}?subject=x"]
)
def test_an_address_is_found_whole_in_any_frame(address: str, frame: str) -> None:
    assert values(frame.format(address), "email") == [address]


@pytest.mark.parametrize(
    "text",
    [
        "root@localhost",
        "@property",
        "follow @someone.new",
        "lodash@4.17.21",
        "icon@2x.png",
        "a@b",
        "cost @ 5.00",
        "name@-bad-",
        "name@.com",
        "@@@@",
        f"{'a' * 129}@example.com",
        f"a@{'b' * 256}.com",
    ],
)
def test_what_only_looks_like_an_address_is_left(text: str) -> None:
    assert values(text, "email") == []


def test_the_next_sentence_is_not_part_of_the_domain() -> None:
    assert values("Mail ann@example.com.Then wait.", "email") == ["ann@example.com"]
    assert values("Mail ANN@EXAMPLE.COM.Then", "email") == ["ANN@EXAMPLE.COM.Then"]  # capitals tell nothing here
    assert values("to ann@example.com... or", "email") == ["ann@example.com"]


def test_two_addresses_that_touch_are_both_found() -> None:
    assert values("a@x.org,b@y.org;c@z.org", "email") == ["a@x.org", "b@y.org", "c@z.org"]


@settings(deadline=None)
@given(st.text("ab.@-+é一 \n", max_size=60))
def test_every_plain_ascii_address_of_a_regular_expression_is_covered(text: str) -> None:
    spans = values(text, "email")
    for match in re.finditer(r"(?<![\w.+\-])[ab]{1,9}@(?:[ab]{2,9}\.)+[ab]{2,9}(?![\w.@\-])", text, re.ASCII):
        assert any(match.group() in span for span in spans)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("git clone https://bob:s3cr3t@host.example/x.git", "bob:s3cr3t@"),
        ("postgresql://user:p%40ss@[2001:db8::1]:5432/db", "user:p%40ss@"),
        ("https://ghx0123456789abcdefghij@host.example/", "ghx0123456789abcdefghij@"),
    ],
)
def test_credentials_in_a_url_are_found_without_the_host(text: str, value: str) -> None:
    assert values(text, "url_credentials") == [value]


@pytest.mark.parametrize(
    "text",
    ["https://medium.com/@user/post", "ssh://git@host.example/x", "http://host/a:b@c", "http:// a:b@c.de", "a:b@c.de"],
)
def test_a_user_name_or_a_path_is_no_credential(text: str) -> None:
    assert values(text, "url_credentials") == []


def test_without_the_credentials_kind_the_password_still_goes_with_the_address() -> None:
    assert found("https://bob:secret@host.example/", "email") == [("email", "secret@host.example")]
