"""raypt.curation.pii.fold: what is spelled otherwise is found, and masked in the text as it is."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raypt.curation.pii.config import Kind, PiiConfig
from raypt.curation.pii.fold import fold
from raypt.curation.pii.mask import mask_pii
from raypt.curation.pii.places import prepare
from raypt.text.buffers import string_buffers
from tests.curation.pii.found import values
from tests.curation.pii.test_numbers import cn_id_of

ID = cn_id_of("11010119900307123")


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("手机１３８１２３４５６７８。", "phone", "１３８１２３４５６７８"),
        ("电话（010）62345678，", "phone", "（010）62345678"),
        ("邮箱ｚｈａｎｇ＠ｅｘａｍｐｌｅ．ｃｏｍ。", "email", "ｚｈａｎｇ＠ｅｘａｍｐｌｅ．ｃｏｍ"),
        ("邮箱zhang＠example.com。", "email", "zhang＠example.com"),
        ("john [at] example [dot] com", "email", "john [at] example [dot] com"),
        ("write to john(at)example.com, please", "email", "john(at)example.com"),
        ("j.doe {AT} cs {DOT} example {DOT} edu!", "email", "j.doe {AT} cs {DOT} example {DOT} edu"),
        ("<a>john&#64;example.com</a>", "email", "john&#64;example.com"),
        ("john&#x40;example&#46;com", "email", "john&#x40;example&#46;com"),
        ("john&commat;example.com", "email", "john&commat;example.com"),
        ("info@例え.jp まで", "email", "info@例え.jp"),
        ("联系hi@例子.中国谢谢", "email", "hi@例子.中国"),
        ("联系hi@例子.公司.香港。", "email", "hi@例子.公司.香港"),
        ("Pošta: jan@müller.de", "email", "jan@müller.de"),
        (f"身份证{ID[:6]} {ID[6:14]} {ID[14:]}，", "cn_id", f"{ID[:6]} {ID[6:14]} {ID[14:]}"),
        (f"{ID[:6]}-{ID[6:14]}-{ID[14:]}", "cn_id", f"{ID[:6]}-{ID[6:14]}-{ID[14:]}"),
        ("身份证号：110105491231002", "cn_id", "110105491231002"),
        ("４１１１１１１１１１１１１１１１", "credit_card", "４１１１１１１１１１１１１１１１"),
    ],
)
def test_what_is_spelled_otherwise_is_found(text: str, kind: Kind, value: str) -> None:
    assert values(text, kind) == [value]
    masked, _, _ = mask_pii(pa.array([text]), PiiConfig(kinds=(kind,), masks={kind: "<X>"}))
    assert masked[0].as_py() == text.replace(value, "<X>")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("timestamp 13812345678 in the log", "phone"),
        ("第13812345678号文件", "phone"),
        ("订单号：13812345678", "phone"),
        ("order id 13812345678", "phone"),
        ("编号110105491231002", "cn_id"),
        (f"{ID[:6]} {ID[6:14]} {(int(ID[14:17]) + 1) % 1000:03d}{ID[17]}", "cn_id"),
        ("elements[at] index", "email"),
        ("see file(at)home", "email"),
        ("a list [dot] of things", "email"),
        ("联系abc@例子谢谢", "email"),
        ("第（３）条", "phone"),
    ],
)
def test_what_only_looks_like_it_is_not(text: str, kind: Kind) -> None:
    assert values(text, kind) == []


@pytest.mark.parametrize("text", ["电话 13812345678", "拨打13812345678订票", "order by phone: 13812345678"])
def test_a_mobile_that_is_announced_is_one(text: str) -> None:
    assert values(text, "phone") == ["13812345678"]


def test_a_chinese_character_ends_an_address_that_is_no_idn() -> None:
    assert values("联系abc@qq.com谢谢", "email") == ["abc@qq.com"]
    assert values("abc@qq.com.谢谢", "email") == ["abc@qq.com"]


PIECES = st.lists(
    st.sampled_from(
        ["１", "Ａ", "＠", "a", "9", "（", "）", "（010）", " [at] ", "[dot]", "&#64;", "&", "中", "é", " ", "😀", "．"]
    ),
    max_size=12,
).map("".join)


@given(st.lists(PIECES, max_size=5))
@settings(deadline=None, max_examples=200)
def test_positions_lead_back_to_the_same_characters(texts: list[str]) -> None:
    """Each byte of a document that is folded is where the way back says, unless it stands for another spelling, and
    documents keep their bounds."""
    text = prepare(*string_buffers(pa.array(["x", *texts], pa.large_string()).slice(1)))
    folded = fold(text)
    if folded is None:
        return
    positions = np.arange(len(folded.text.data) + 1)
    back = folded.original(positions)
    bounds = {*text.offsets[:-1][folded.documents], *text.offsets[1:][folded.documents], 0, len(text.data)}
    assert folded.original(folded.text.offsets).tolist() == sorted(bounds)
    assert (np.diff(back) >= 1).all()
    kept = ~np.isin(positions[:-1], folded.places)
    assert np.array_equal(text.data[back[:-1][kept]], folded.text.data[kept])
    assert (np.diff(back)[kept] == 1).all()
    alike = [not folded.documents[k] for k, value in enumerate(texts) if value.isascii() and not {*"&[("} & {*value}]
    assert all(alike)
