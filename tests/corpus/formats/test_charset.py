"""Character sets of pages: labels mean what the Encoding Standard says; who says what a page is in, in which order."""

import random

import pytest

from raypt.corpus.formats.charset import declared_in_page, decode, decode_as, encoding_name
from raypt.corpus.formats.charset_tables import LABELS

# Each with characters that the set of the label's own name has not, and the set that browsers take for it has.
CHINESE = "镕喆囧堃瞭嘅，一只狐狸。丂丄"
EXTENDED = [
    ("gb2312", "gb18030", CHINESE),
    ("GBK", "gb18030", CHINESE + "€𠮷"),
    ("gb_2312-80", "gb18030", CHINESE),
    ("chinese", "gb18030", CHINESE),
    ("x-gbk", "gb18030", CHINESE),
    ("GB18030", "gb18030", CHINESE + "𠮷㐀"),
    ("euc-kr", "cp949", "똠양꿍 펲시 쏼라 뢔 믜"),
    ("ks_c_5601-1987", "cp949", "똠양꿍 펲시 쏼라"),
    ("korean", "cp949", "똠방각하"),
    ("Shift_JIS", "cp932", "①②㈱髙﨑Ⅲ㎝ ｶﾅ"),
    ("x-sjis", "cp932", "①髙"),
    ("windows-31j", "cp932", "㈱纊"),
    ("big5", "big5hkscs", "嘅咗㗎𨋢 香港"),
    ("big5-hkscs", "big5hkscs", "嘅咗"),
    ("cn-big5", "cp950", "正體中文網頁"),
    ("euc-jp", "euc_jp", "日本語とｶﾀｶﾅ、仏"),
    ("iso-2022-jp", "iso2022_jp", "日本語の手紙 abc"),
    ("iso-8859-1", "cp1252", "“smart” – ‘quotes’ € … œ"),
    ("us-ascii", "cp1252", "“smart” – café"),
    ("latin1", "cp1252", "naïve €"),
    ("iso-8859-9", "cp1254", "“İstanbul” ğış €"),
    ("tis-620", "cp874", "“ภาษาไทย” … €"),
    ("iso-8859-11", "cp874", "“ไทย”"),
    ("windows-1251", "cp1251", "Привет, «мир» №1"),
    ("cp1251", "cp1251", "Привет"),
    ("koi8-r", "koi8_r", "Привет"),
    ("koi8-u", "koi8_u", "Привіт, ґанок"),
    ("iso-8859-2", "iso8859_2", "Zażółć gęślą jaźń"),
    ("windows-1250", "cp1250", "„Zażółć” – ąę"),
    ("iso-8859-15", "iso8859_15", "œuvre 4 €"),
    ("windows-1253", "cp1253", "Ελληνικά €"),
    ("iso-8859-7", "iso8859_7", "Ελληνικά"),
    ("windows-1255", "cp1255", "שלום עולם"),
    ("iso-8859-8-i", "iso8859_8", "שלום"),
    ("windows-1256", "cp1256", "مرحبا بالعالم"),
    ("windows-1258", "cp1258", "tiê\u0301ng Viê\u0323t"),
    ("macintosh", "mac_roman", "“Mac” – é"),
    ("x-mac-ukrainian", "mac_cyrillic", "Привет"),
    ("ibm866", "cp866", "Привет"),
    ("utf8", "utf-8", "任何 ελ"),
    ("unicode-1-1-utf-8", "utf-8", "任何"),
    ("utf-16", "utf_16_le", "任何"),
    ("unicodefffe", "utf_16_be", "任何"),
]


@pytest.mark.parametrize(("label", "codec", "text"), EXTENDED, ids=[e[0] for e in EXTENDED])
def test_a_label_means_the_set_that_browsers_take_for_it(label: str, codec: str, text: str) -> None:
    data = text.encode(codec)
    for spelt in (label, f" {label.upper()}\n"):
        name = encoding_name(spelt)
        assert name is not None
        assert decode_as(data, name) == text


def test_every_label_of_the_standard_is_known_and_no_other() -> None:
    assert len(LABELS) == 227
    assert len(set(LABELS.values())) == 40  # the 39 of the standard's table and "replacement"
    assert [encoding_name(x) for x in ("utf-7", "utf-32", "cp65001", "gb2312;", "", "none", "iso-8859-12", None)] == [
        None
    ] * 8


@pytest.mark.parametrize("label", ["hz-gb-2312", "iso-2022-kr", "iso-2022-cn"])
def test_sets_that_hide_markup_from_filters_are_not_decoded(label: str) -> None:
    assert decode_as(b"~{<script>~}", encoding_name(label) or "") == "\ufffd"


@pytest.mark.parametrize(
    ("name", "data", "text"),
    [
        ("gb18030", b"\x80", "€"),  # code page 936's euro
        ("gb18030", b"\xa8\xbc", "ḿ"),  # GB 18030-2005 and -2022, not the private use of 2000
        ("gb18030", b"\x84\x31\xa4\x37", "\ufffd"),
        ("big5", b"\x87\x7a", "㡵"),  # HKSCS-2008
        ("big5", b"\xa1\x45", "‧"),
        ("big5", b"\xa3\xe1", "€"),
        ("euc-jp", b"\xad\xa1\xad\xea", "①㈱"),
        ("euc-jp", b"\xa1\xc1", "～"),
        ("shift_jis", b"\x81\x60", "～"),
        ("windows-1252", b"\x81\x8d", "\x81\x8d"),
        ("windows-1255", b"\xca", "\u05ba"),
        ("koi8-u", b"\xae\xbe", "ўЎ"),
        ("iso-2022-jp", b"\x1b$B$3$l\x1b(J\\~\x1b(B\\", "これ¥‾\\"),
        ("iso-2022-jp", b"\x1b$B-!\x1b(B", "①"),
        ("iso-2022-jp", b"\x1b(I1\x1b(B", "ｱ"),
    ],
)
def test_what_python_decodes_otherwise_is_decoded_as_in_the_standard(name: str, data: bytes, text: str) -> None:
    assert decode_as(data, name) == text


@pytest.mark.parametrize("name", sorted({n for n in LABELS.values() if not n.startswith(("utf-16", "replacement"))}))
def test_no_bytes_are_refused_and_markup_is_never_swallowed(name: str) -> None:
    source = random.Random(0)
    for _ in range(200):
        data = bytes(source.choices(range(128, 256), k=source.randrange(1, 9)))
        text = decode_as(data + b"<p>", name)
        # A first byte of two followed by "<" is one mistake and "<", never one character.
        assert text.endswith("<p>"), (data, text)


def test_the_byte_order_mark_comes_first() -> None:
    page = '<meta charset="windows-1252">中文'
    assert decode(b"\xef\xbb\xbf" + page.encode(), "iso-8859-1") == page
    assert decode(b"\xff\xfe" + page.encode("utf-16-le"), "utf-8") == page
    assert decode(b"\xfe\xff" + page.encode("utf-16-be"), "gbk") == page


def test_the_header_comes_before_the_page_and_the_page_before_what_bytes_look_like() -> None:
    page = '<meta charset="{}"><p>Привет, мир: это страница.'
    assert decode(page.format("koi8-r").encode("cp1251"), "windows-1251").endswith("Привет, мир: это страница.")
    assert decode(page.format("koi8-r").encode("koi8-r")).endswith("Привет, мир: это страница.")
    # By its bytes alone this is nothing that can be known: one accent.
    assert decode('<meta charset="windows-1250"><p>ő'.encode("cp1250")).endswith("<p>ő")


@pytest.mark.parametrize(
    "meta",
    [
        '<meta charset="big5">',
        "<META CHARSET=big5>",
        "<meta charset = 'BIG5' />",
        '<meta http-equiv="Content-Type" content="text/html; charset=big5">',
        "<meta content='text/html;charset=Big5' http-equiv=content-type>",
        '<meta http-equiv="content-type" content="text/html; charset = \'big5\'"/>',
        "<!-- <meta charset=utf-8> --><meta charset=big5>",
        '<script>"<meta charset=utf-8>"</script><meta charset=big5>',
        '<meta name=description content="charset=utf-8"><meta charset=big5>',
        '<meta charset="no-such-thing"><meta charset="big5">',
        "<!-- " + "x" * 3000 + " --><meta charset=big5>",  # behind the first 1,024 bytes
    ],
)
def test_the_label_in_a_page_is_found(meta: str) -> None:
    assert declared_in_page(f"<html><head>{meta}<title>x".encode()) == "big5"


def test_an_xml_declaration_names_the_character_set_where_it_begins_the_page() -> None:
    assert declared_in_page(b'<?xml version="1.0" encoding="big5"?><html>') == "big5"
    assert declared_in_page(b'<html><?xml version="1.0" encoding="big5"?>') is None


def test_a_page_whose_label_could_be_read_is_not_in_utf_16() -> None:
    assert declared_in_page(b'<meta charset="utf-16le">') == "utf-8"
    assert declared_in_page(b'<meta charset="x-user-defined">') == "windows-1252"


def test_a_label_that_the_bytes_contradict_is_set_aside() -> None:
    text = "桥修好的那天，孩子们跑来跑去，谁也不敢第一个走过去。" * 4
    assert decode(text.encode(), "gb2312") == text
    assert decode(text.encode("gb18030"), "utf-8") == text
    assert decode(('<meta charset="utf-8">' + text).encode("gb18030"), "utf-8").endswith(text)
    # A few broken bytes are no contradiction.
    assert decode(text.encode("gb18030")[:-1] + b"\xff", "gbk")[:-1] == text[:-1]


def test_without_a_label_utf_8_is_tried_first_and_a_cut_character_does_not_matter() -> None:
    text = "Ein Café in 北京" * 20
    assert decode(text.encode()) == text
    assert decode((text + "好").encode()[:-1]) == text


def test_without_a_label_chinese_and_japanese_are_found_out() -> None:
    chinese = "老木匠王喆和他的徒弟李堃在村口修了一座小桥，花了整整三个月的时间。" * 5
    japanese = "町の図書館では、絵本の読み聞かせ、古い地図の展示という二つの催しが毎週開かれている。" * 5
    assert decode(chinese.encode("gb18030")) == chinese
    assert decode(japanese.encode("cp932")) == japanese
    assert decode(japanese.encode("euc_jp")) == japanese
    assert decode(japanese.encode("iso2022_jp")) == japanese


@pytest.mark.parametrize(
    ("codec", "text"),
    [
        (
            "cp949",
            "우리 동네 시장에는 똠양꿍을 파는 작은 식당이 하나 있는데 점심때마다 줄이 길다. 비가 오는 날이면 조용하다.",
        ),
        ("cp1251", "Утром на реке стоит туман, и рыбаки долго ждут, пока он поднимется над водой."),
        ("koi8_r", "Утром на реке стоит туман, и рыбаки долго ждут, пока он поднимется над водой."),
        ("koi8_u", "Вранці над річкою стоїть туман, і рибалки довго чекають, поки він підніметься над водою."),
        ("cp1256", "في الصباح يقف الضباب فوق النهر، وينتظر الصيادون طويلا حتى يرتفع فوق الماء."),
        ("cp874", "ตอนเช้ามีหมอกเหนือแม่น้ำ และชาวประมงรอนานจนกว่าหมอกจะลอยขึ้นเหนือน้ำ"),
        (
            "cp1252",
            "L’été dernier, nous avons marché le long de la côte pendant neuf jours, et la forêt était déjà brûlée.",
        ),
    ],
)
def test_without_a_label_the_set_of_other_languages_is_found_out(codec: str, text: str) -> None:
    assert decode((text * 3).encode(codec)) == text * 3


def test_a_few_bytes_that_could_be_utf_8_set_no_label_aside() -> None:
    assert decode("联通".encode("gbk"), "gbk") == "联通"  # valid UTF-8 by chance
    assert decode("Ã©".encode("cp1252"), "iso-8859-1") == "Ã©"


def test_plain_text_has_no_meta() -> None:
    text = 'Write <meta charset="big5"> — “so”.'
    assert decode(text.encode(), page=False) == text
