"""raypt.curation.pii.mask: what is found, what replaces it, and where it was."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from raypt.curation.pii.config import KINDS, PiiConfig
from raypt.curation.pii.mask import SPAN_TYPE, mask_pii

texts = st.lists(st.text(st.characters(exclude_categories=("Cs",)), max_size=80), max_size=5)
hostile = st.lists(st.text("0123456789+-.()/@: aZx#_电话Tel.é\n", max_size=120), max_size=5)


def apply(text: str, spans: list[dict], config: PiiConfig) -> str:
    """The masked text by the definition of a span, in plain Python."""
    data, out, at = text.encode(), b"", 0
    for span in spans:
        assert at <= span["start"] < span["end"] <= len(data)
        out += data[at : span["start"]] + config.mask(span["kind"]).encode()
        at = span["end"]
    return (out + data[at:]).decode()


@settings(deadline=None, max_examples=300)
@given(st.one_of(texts, hostile))
def test_the_masked_text_is_the_text_with_its_spans_replaced(values: list[str]) -> None:
    config = PiiConfig()
    masked, spans, counts = mask_pii(pa.array(values, pa.string()), config)
    assert masked.to_pylist() == [apply(v, s, config) for v, s in zip(values, spans.to_pylist(), strict=True)]
    assert sum(counts.values()) == sum(len(s) for s in spans.to_pylist())
    masked.validate(full=True)


@settings(deadline=None, max_examples=100)
@given(hostile, hostile)
def test_a_document_is_masked_alike_whatever_stands_beside_it_in_the_batch(a: list[str], b: list[str]) -> None:
    config = PiiConfig()
    together, _, _ = mask_pii(pa.array([*a, *b], pa.string()), config)
    alone = [mask_pii(pa.array([v], pa.string()), config)[0][0].as_py() for v in [*a, *b]]
    assert together.to_pylist() == alone


def test_every_kind_is_found_and_replaced_by_its_mask() -> None:
    samples = {
        "email": "ann.lee+news@mail.example.co.uk",
        "ipv4": "81.2.69.142",
        "ipv6": "2a02:26f0:6d00::b81b:1c5e",
        "phone": "+44 20 7946 0958",
        "url_credentials": "root:hunter2@",
        "credit_card": "4111 1111 1111 1111",
        "iban": "DE89 3704 0044 0532 0130 00",
        "cn_id": "11010519491231002X",
        "us_ssn": "536-90-4399",
        "cn_uscc": "91350100M000100Y43",
        "hk_id": "G123456(A)",
        "tw_id": "A123456789",
        "kr_rrn": "900101-1234568",
        "passport": "E12345678",
        "cn_plate": "京A12345",
        "wechat": "zhang_san88",
        "qq": "87654321",
        "api_key": "AKIAIOSFODNN7EXAMPLE",
        "private_key": "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA\nx8Zk==\n-----END RSA PRIVATE KEY-----",
        "user": "@ann_lee.88",
    }
    assert set(samples) == set(KINDS)
    every = PiiConfig(kinds=KINDS)
    before = {"url_credentials": "see https://", "passport": "passport ", "wechat": "微信：", "qq": "QQ: "}
    for kind, value in samples.items():
        text = f"{before.get(kind, 'it is ')}{value}{'db.example.org/x' if kind == 'url_credentials' else ', yes'}"
        masked, spans, counts = mask_pii(pa.array([text]), every)
        [span] = spans[0].as_py()
        assert span["kind"] == kind and text.encode()[span["start"] : span["end"]].decode() == value
        assert masked[0].as_py() == text.replace(value, every.mask(kind))
        assert counts == {kind: 1}


def test_only_the_kinds_asked_for_are_masked() -> None:
    text = pa.array(["ann@example.com from 81.2.69.142, +44 20 7946 0958"])
    masked, _, counts = mask_pii(text, PiiConfig(kinds=("ipv4",)))
    assert masked.to_pylist() == ["ann@example.com from <IP>, +44 20 7946 0958"]
    assert counts == {"ipv4": 1}
    nothing, spans, counts = mask_pii(text, PiiConfig(kinds=()))
    assert nothing.equals(text) and spans.to_pylist() == [[]] and counts == {}


def test_a_mask_can_be_set_by_kind() -> None:
    config = PiiConfig(masks={"email": "", "phone": "〔电话〕"})
    masked, _, _ = mask_pii(pa.array(["邮箱leimin@gmail.com，电话15949572930。"]), config)
    assert masked.to_pylist() == ["邮箱，电话〔电话〕。"]


def test_overlapping_findings_are_one_span_of_the_longer_ones_kind() -> None:
    masked, spans, _ = mask_pii(pa.array(["写信到 13912345678@qq.com 吧"]), PiiConfig())
    assert [s["kind"] for s in spans[0].as_py()] == ["email"]
    assert masked.to_pylist() == ["写信到 <EMAIL> 吧"]


@pytest.mark.parametrize("type_", [pa.string(), pa.large_string()])
def test_type_nulls_slices_and_chunks_are_kept(type_: pa.DataType) -> None:
    text = pa.chunked_array([["a@b.org", None, "x c@d.org"], ["", "e@f.org"]], type_).slice(1)
    masked, spans, _ = mask_pii(text, PiiConfig())
    assert masked.type == type_ and spans.type == SPAN_TYPE
    assert masked.to_pylist() == [None, "x <EMAIL>", "", "<EMAIL>"]
    assert [[(s["start"], s["end"]) for s in row] for row in spans.to_pylist()] == [[], [(2, 9)], [], [(0, 7)]]


def test_an_empty_batch_is_an_empty_batch() -> None:
    masked, spans, counts = mask_pii(pa.array([], pa.string()), PiiConfig())
    assert len(masked) == len(spans) == 0 and counts == {}


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValidationError, match="horoscope"):
        PiiConfig(kinds=("horoscope",))  # type: ignore[arg-type]
