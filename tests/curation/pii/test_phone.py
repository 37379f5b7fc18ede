"""raypt.curation.pii.phone: the forms of many countries, with and without a word that announces them."""

import pytest

from tests.curation.pii.found import values

INTERNATIONAL = [
    "+1-575-241-1955x772", "+1 (408) 983 5950", "001-829-867-2340x0394", "+49 (0) 8888 044815",
    "+49(0)4133559854", "+34974 64 46 37", "+33 (0)4 83 97 31 34", "+39 3972103408", "+55 77 1586-8087",
    "+7 (320) 356-34-90", "+73566701037", "+86 139 1234 5678", "+8613912345678", "0086 139 1234 5678",
    "+81 158-23-2012", "+886 2 2345 6789", "+972 3-123-4567", "+44 (181) 390 8446", "+46 (0)179 459 33",
    "+91 98765 43210", "(+49) 30 1234567", "+380 44 123 45 67", "+852 2345 6789", "+61 2 9374 4000",
]  # fmt: skip
NATIONAL = [
    "(212)938-9190", "394-335-5754x8501", "842.716.5964", "606.304.9460", "1-415-429-6753",
    "(953) 781-2598 ext. 20", "(09419) 76817", "02192 070806", "030/1234567", "089/99529727",
    "069 / 920 77 00", "01 80 99 03 52", "01.80.99.03.52", "8 (563) 299-84-63", "8 547 706 30 13",
    "8 518 240 7814", "43 7133-8220", "(11) 98765-4321", "0800 294 3150", "15949572930", "139-1234-5678",
    "139 1234 5678", "0755-12345678", "010-12345678", "(010) 12345678", "400-810-1234", "090-5425-9770",
    "03-1234-5678", "0120-123-456", "02-751-1500", "010-1234-5678", "974 64 46 37", "0161 496 0000",
    "07700 900123", "0412 345 678", "082 490 1693",
]  # fmt: skip
ANNOUNCED = [
    ("Tel. {}", "34533391273"), ("call {}", "3776234566"), ("appelez le {}", "0699700020"),
    ("tel. {}", "088192420"), ("или звоните {}", "89571813588"), ("電話は{}です", "22-1403-6207"),
    ("Telefon: {}", "123456789"), ("手机号{}", "0213456789"), ("ligue {}", "2345 6789"),
    ("whatsapp {}", "612345678"), ("телефону {}.", "1234567"), ("전화 {}", "1588-1234"),
]  # fmt: skip
NOT_PHONES = [
    "ISBN 978-3-16-148410-0", "on 2021-03-04", "am 08.02.2023", "1858-1940", "order 4111 2222 3333 4445",
    "Artikelnummer 4006381333931", "人口为1234567人", "订单编号20230415123456789", "111 529 familles", "22 338 618",
    "7. 000. 000", "1,234,567,890", "3.14159265358", "00:1B:44:11:3A:B7", "May 12 2010-2020",
    "01 02 03 04 05", "$15949572930", "id15949572930", "0x15949572930", "shmmax=17179869184",
    "12345678901234567890", "0000020 0024 0000 6704 4d41", "192.168.100.200", "09:59.999999",
    "call_stack.py 156641360532797", "commit 15949572930abc", "+20 000 000", "/13912345678/",
    "call us. The order 1234567 was sent", "2023-04-15 12:30:00",
]  # fmt: skip


@pytest.mark.parametrize("number", INTERNATIONAL + NATIONAL)
@pytest.mark.parametrize(
    "frame", ["{}", "at {}.", "（{}）", "号码{}，", "<b>{}</b>", "{} or", "\n{}\n", "x@example.org, {}"]
)
def test_a_form_that_stands_on_its_own_is_found_whole_in_any_frame(number: str, frame: str) -> None:
    assert values(frame.format(number), "phone") == [number]


@pytest.mark.parametrize(("frame", "number"), ANNOUNCED)
def test_other_runs_of_digits_are_found_after_a_word_that_announces_them(frame: str, number: str) -> None:
    assert values(frame.format(number), "phone") == [number]
    assert values(f"Nr. {number}", "phone") == []


@pytest.mark.parametrize("text", NOT_PHONES)
def test_other_numbers_are_left(text: str) -> None:
    assert values(text, "phone") == []


def test_each_number_of_a_list_is_found() -> None:
    assert values("0800 138 1016 / 0344 811 0125", "phone") == ["0800 138 1016", "0344 811 0125"]
    assert values("212-555-0123 212-555-0124 212-555-0125", "phone") == ["212-555-0123", "212-555-0124", "212-555-0125"]


def test_a_number_before_a_date_ends_where_it_ends() -> None:
    assert values("call 212-555-0123 2021-03-04", "phone") == ["212-555-0123"]
    assert values("+34 974 64 46 37 2023", "phone") == ["+34 974 64 46 37"]


def test_a_table_of_figures_is_not_a_list_of_numbers() -> None:
    rows = "\n".join(" ".join(f"{(i * k * 7919) % 10**6:06d}" for k in range(1, 40)) for i in range(1, 20))
    assert values(rows, "phone") == []


def test_a_number_far_into_a_long_run_of_groups_is_found() -> None:
    assert values(" ".join(["12"] * 60) + " / +44 20 7946 0958", "phone") == ["+44 20 7946 0958"]
    assert values("/".join(["12"] * 60) + " / 212-555-0123", "phone") == ["212-555-0123"]
