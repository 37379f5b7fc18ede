"""raypt.curation.pii.numbers and .checks: account and identity numbers against their published checksums."""

import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raypt.curation.pii.checks import CARD_PREFIXES, IBAN_LENGTHS
from tests.curation.pii.found import found, values


def luhn_digit(body: str) -> str:
    total = sum(sum(divmod(int(d) * (2 - i % 2), 10)) for i, d in enumerate(reversed(body)))
    return str(-total % 10)


def iban_of(country: str, bban: str) -> str:
    number = int("".join(str(int(c, 36)) for c in f"{bban}{country}00"))
    return f"{country}{98 - number % 97:02d}{bban}"


def cn_id_of(body: str) -> str:
    total = sum(int(d) * (2 ** (17 - i) % 11) for i, d in enumerate(body))
    return body + "10X98765432"[total % 11]


@settings(deadline=None, max_examples=200)
@given(st.sampled_from([(p, n) for p in CARD_PREFIXES for n in p[3] if n > 13]), st.integers(0, 10**19))
def test_a_card_of_a_known_issuer_is_found_and_with_another_check_digit_is_not(
    issue: tuple[tuple[str, int, int, tuple[int, ...]], int], filler: int
) -> None:
    (_, prefix, _, _), length = issue
    body = (str(prefix) + f"{filler:020d}"[::-1])[: length - 1]
    good = body + luhn_digit(body)
    bad = body + str((int(good[-1]) + 1) % 10)
    assert values(f"card number {good}, valid", "credit_card") == [good]
    assert values(f"card number {bad}, valid", "credit_card") == []


@pytest.mark.parametrize(
    "number",
    ["4111 1111 1111 1111", "4111-1111-1111-1111", "3782 822463 10005", "3056 930902 5904", "6011000990139424"],
)
def test_a_grouped_card_is_found_whole(number: str) -> None:
    assert values(f"付款卡号{number}。", "credit_card") == [number]


@pytest.mark.parametrize(
    "text",
    [
        "4111 2222 3333 4445",  # check digit
        "9999 9999 9999 9995",  # no issuer
        "633a 6572 7461 0065 3032 3931",  # a dump
        "4006381333931",  # an article number
        "x4111111111111111",
        "41111111111111111111",
    ],
)
def test_other_numbers_are_no_cards(text: str) -> None:
    assert values(text, "credit_card") == []


def test_short_card_numbers_need_to_be_called_cards() -> None:
    assert values("La tarjeta 676196079385 fue", "credit_card") == ["676196079385"]
    assert values("El pedido 676196079385 fue", "credit_card") == []


@settings(deadline=None, max_examples=200)
@given(st.sampled_from(sorted(IBAN_LENGTHS)), st.integers(0, 36**30), st.booleans(), st.booleans())
def test_an_iban_of_every_country_is_found_and_with_other_check_digits_is_not(
    country: str, filler: int, grouped: bool, lower: bool
) -> None:
    digits = "".join("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"[filler // 36**i % 36] for i in range(30))
    good = iban_of(country, digits[: IBAN_LENGTHS[country] - 4])
    bad = good[:2] + f"{(int(good[2:4]) + 1) % 97:02d}" + good[4:]

    def write(iban: str) -> str:
        text = " ".join(iban[i : i + 4] for i in range(0, len(iban), 4)) if grouped else iban
        return text.lower() if lower else text

    assert values(f"IBAN: {write(good)}.", "iban") == [write(good)]
    assert values(f"IBAN: {write(bad)}.", "iban") == []
    assert values(f"x{good}", "iban") == [] and values(f"{good}x", "iban") == []


@settings(deadline=None, max_examples=200)
@given(
    st.sampled_from(["11", "37", "44", "65", "82"]),
    st.integers(0, 9999),
    st.dates(datetime.date(1900, 1, 1), datetime.date(2050, 12, 31)),
    st.integers(0, 999),
)
def test_a_chinese_identity_number_is_found_and_with_another_check_character_is_not(
    province: str, place: int, born: datetime.date, serial: int
) -> None:
    good = cn_id_of(f"{province}{place:04d}{born:%Y%m%d}{serial:03d}")
    bad = good[:17] + ("1" if good[17] != "1" else "2")
    assert values(f"身份证号码是{good}。", "cn_id") == [good]
    assert values(f"身份证号码是{bad}。", "cn_id") == []


@pytest.mark.parametrize("body", ["11010119990230001", "99010119990101001", "11010119991301001", "11010117990101001"])
def test_an_identity_number_with_an_impossible_date_or_province_is_none(body: str) -> None:
    assert values(cn_id_of(body), "cn_id") == []


@pytest.mark.parametrize("number", ["431-14-6186", "001-01-0001", "899-99-9999"])
def test_a_social_security_number_is_found(number: str) -> None:
    assert found(f"SSN: {number}.", "us_ssn", "phone") == [("us_ssn", number)]


@pytest.mark.parametrize(
    "text", ["000-14-6186", "666-14-6186", "900-14-6186", "431-00-6186", "431-14-0000", "431-14-61860", "1-431-14-6186"]
)
def test_numbers_that_were_never_issued_are_no_social_security_numbers(text: str) -> None:
    assert values(text, "us_ssn") == []
