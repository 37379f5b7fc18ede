"""raypt.curation.pii.identities: accounts and documents, with their check digits and the words that announce them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.curation.pii.found import found, values

CREDIT = "0123456789ABCDEFGHJKLMNPQRTUWXY"


def uscc(body: str) -> str:
    total = sum(CREDIT.index(c) * pow(3, k, 31) for k, c in enumerate(body))
    return body + CREDIT[-total % 31]


def hong_kong(letters: str, digits: str) -> str:
    padded = letters.rjust(2)
    total = sum((36 if c == " " else int(c, 36)) * w for c, w in zip(padded + digits, range(9, 1, -1), strict=True))
    return "0123456789A"[-total % 11]


def taiwan(letter: str, digits: str) -> str:
    number = 10 + "ABCDEFGHJKLMNPQRSTUVXYWZIO".index(letter)
    total = number // 10 + number % 10 * 9 + sum(int(d) * w for d, w in zip(digits, range(8, 0, -1), strict=True))
    return f"{letter}{digits}{-total % 10}"


def korean(birth: str, rest: str) -> str:
    total = sum(int(d) * w for d, w in zip(birth + rest, [2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5], strict=True))
    return f"{birth}-{rest}{(11 - total % 11) % 10}"


def other(digit: str) -> str:
    return "1" if digit == "0" else "0"


@settings(deadline=None, max_examples=100)
@given(st.sampled_from(["91", "92", "93", "11", "12", "51", "A1", "Y1"]), st.text("0123456789", min_size=4, max_size=4),
       st.text(CREDIT, min_size=9, max_size=9))  # fmt: skip
def test_a_social_credit_code_is_found_by_its_check_character(head: str, place: str, organisation: str) -> None:
    code = uscc(head + "44" + place + organisation)
    wrong = code[:-1] + other(code[-1])
    assert code in values(f"统一社会信用代码：{code}。", "cn_uscc") or values(code, "cn_id") == [code]
    assert values(f"统一社会信用代码：{wrong}。", "cn_uscc") == []


@settings(deadline=None, max_examples=100)
@given(st.sampled_from(["A", "Z", "C", "K", "AB", "WX"]), st.integers(0, 999_999))
def test_a_hong_kong_identity_card_is_found_by_its_check_digit(letters: str, number: int) -> None:
    digits = f"{number:06d}"
    check = hong_kong(letters, digits)
    assert values(f"his card {letters}{digits}({check}) is", "hk_id") == [f"{letters}{digits}({check})"]
    assert values(f"身份證：{letters}{digits}（{check}）", "hk_id") == [f"{letters}{digits}（{check}）"]
    assert values(f"HKID {letters}{digits}{check}", "hk_id") == [f"{letters}{digits}{check}"]
    assert values(f"part {letters}{digits}{check}", "hk_id") == []
    assert values(f"his card {letters}{digits}({other(check)}) is", "hk_id") == []


@settings(deadline=None, max_examples=100)
@given(st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ"), st.sampled_from("1289"), st.integers(0, 9_999_999))
def test_a_taiwanese_identity_number_is_found_by_its_check_digit(letter: str, sex: str, number: int) -> None:
    good = taiwan(letter, f"{sex}{number:07d}")
    assert values(f"身分證字號{good}，", "tw_id") == [good]
    assert values(f"身分證字號{good[:-1]}{other(good[-1])}，", "tw_id") == []
    assert values(f"file-{good}.png", "tw_id") == []


@settings(deadline=None, max_examples=100)
@given(st.dates().map(lambda d: d.strftime("%y%m%d")), st.sampled_from("12345678"), st.integers(0, 99_999))
def test_a_korean_resident_number_is_found_by_its_check_digit(birth: str, sex: str, number: int) -> None:
    good = korean(birth, f"{sex}{number:05d}")
    wrong = good[:-1] + other(good[-1])
    assert values(f"홍길동 {good} 서울", "kr_rrn") == [good]
    assert values(f"number {wrong} of", "kr_rrn") == []
    assert values(f"주민등록번호 {wrong}", "kr_rrn") == [wrong]  # since 2020 there is none
    assert values(f"주민등록번호 {good.replace('-', '')}", "kr_rrn") == [good.replace("-", "")]


@pytest.mark.parametrize("number", ["E12345678", "EA1234567", "G12345678", "123456789", "C01X00T47"[:3] + "123456"])
@pytest.mark.parametrize("word", ["护照号码：", "passport no. ", "Passport: ", "護照 "])
def test_a_passport_is_found_after_the_word(word: str, number: str) -> None:
    assert values(f"{word}{number}，", "passport") == [number]


@pytest.mark.parametrize("text", ["part E12345678 is", "model EA1234567", "passport 12", "passport photo 123456789012"])
def test_other_codes_are_no_passports(text: str) -> None:
    assert values(text, "passport") == []


@pytest.mark.parametrize(
    "plate",
    [
        "京A12345",
        "粤B·D1234",
        "沪A·D12345",
        "粤B12345D",
        "京AF12345",
        "粤Z1234港",
        "鲁A1234学",
        "浙A•8K2Z9",
        "苏E 05EV8",
    ],
)
def test_a_number_plate_is_found(plate: str) -> None:
    assert values(f"一辆{plate}停在门口", "cn_plate") == [plate]
    assert values(f"车牌号{plate}。", "cn_plate") == [plate]


@pytest.mark.parametrize(
    "text",
    [
        "全新A12345型号",
        "北京A1234",
        "京A123456789",
        "京AI2345",
        "京ABCDEF",
        "东京B12345",
        "京a12345",
        "云A12345节点",
        "于2010年",
    ],
)
def test_other_codes_are_no_plates(text: str) -> None:
    assert values(text, "cn_plate") == []


def test_an_ambiguous_province_needs_the_word_or_the_dot() -> None:
    assert values("车牌：云A12345", "cn_plate") == ["云A12345"]
    assert values("云A·12345", "cn_plate") == ["云A·12345"]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("微信：zhang_san88", "zhang_san88"),
        ("加我微信abc12345聊", "abc12345"),
        ("微信号：zhangsan", "zhangsan"),
        ("微信号zhang-san-1。", "zhang-san-1"),
        ("WeChat ID: JohnDoe", "JohnDoe"),
        ("wechat: john_doe99, or", "john_doe99"),
        ("weixin：wxid_a1b2c3d4", "wxid_a1b2c3d4"),
        ("VX：hello2020", "hello2020"),
        ("V信:abc_123", "abc_123"),
    ],
)
def test_a_wechat_name_is_found(text: str, name: str) -> None:
    assert values(text, "wechat") == [name]


@pytest.mark.parametrize(
    "text",
    ["微信支付", "微信 download", "WeChat: official account", "微信：a1", "微信公众号：renminribao", "weixin.qq.com",
     "WeChat: weixin1.qq.com", "xvx: abc_123"],
)  # fmt: skip
def test_other_words_are_no_wechat_names(text: str) -> None:
    assert values(text, "wechat") == []


@pytest.mark.parametrize(
    ("text", "number"),
    [("QQ：12345", "12345"), ("qq:1234567890", "1234567890"), ("QQ号 87654321", "87654321"),
     ("QQ群：123456789", "123456789"),
     ("联系QQ87654321。", "87654321"), ("ＱＱ：８７６５４３２１", "８７６５４３２１")],
)  # fmt: skip
def test_a_qq_number_is_found(text: str, number: str) -> None:
    assert values(text, "qq") == [number]


@pytest.mark.parametrize(
    "text",
    ["QQ2010正式版", "QQ 2009", "QQ：0123456", "QQ：123456789012", "12345@qq.com", "FAQQ: 1234567", "QQ音乐 87654321"],
)
def test_other_numbers_are_no_qq_numbers(text: str) -> None:
    assert values(text, "qq") == []


def test_a_mailbox_at_qq_is_an_address() -> None:
    assert found("QQ：12345678@qq.com") == [("email", "12345678@qq.com")]
