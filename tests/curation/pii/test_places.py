"""raypt.curation.pii.places: what a scanner passes over has nothing for it."""

import random
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raypt.curation.pii.config import KINDS
from raypt.curation.pii.mask import find_spans
from raypt.curation.pii.places import (
    ADDRESS,
    AT,
    BLOCK,
    IDENTITY,
    NUMBER,
    SECRET,
    SPELLING,
    Text,
    next_place,
    prepare,
)
from raypt.text.buffers import string_buffers
from tests.curation.text_sets import CORPORA, rows

SETS = (
    "pii/injected_multilingual.dev.jsonl.gz",
    "pii/emails_raw.dev.jsonl.zst",
    "reference/lctt_zh_ccbysa.dev.jsonl.zst",
    "reference/foldoc_en.dev.jsonl.gz",
    "web/pages_text.dev.jsonl.gz",
)
PIECES = [
    *("138", "0", "12", "5678", "1381234", "4111", "1111", "DE89", "3704", "0044", "0532", "0130", "81.2.69.142", "+"),
    *("(", ")", "-", "--", ".", ":", "::", ",", "/", "_", "&", " ", "\n", "a", "中", "é", "😀", "，", "。", "："),
    *("１", "２３", "＠", "．", "（", "）", "（010）", "[at]", "[dot]", "(at)", "{at}", "&#64;", "@", "ab.com"),
    *("sk-", "ghp_", "eyJ", "xoxb-", "AKIA", "AAAAAAAAA", "b1b1b1b1b1b1b1b1", "xxxxxxxxxxxxxxx", "https://"),
    *("微信", "wechat", "weixin", "vx", "V信", "QQ", "qq：", "京A", "tel", "电话", "passport", "http://u:p@h"),
    *("2a02:26f0:6d00::b81b:1c5e", "11010519491231002X", "G123456(A)", "G123456（A）", "电话 13812345678"),
    *("-----BEGIN PRIVATE KEY-----", "john [at] example [dot] com"),
]


def everywhere(text: Text) -> Text:
    """The same text, to be looked at byte by byte by every scanner (but for '@', whose places are exactly its own)."""
    places = np.full_like(text.places, 0xFFFFFFFFFFFFFFFF)
    places[AT] = text.places[AT]
    return text._replace(places=places)


def assert_nothing_is_passed_over(texts: list[str]) -> int:
    """The spans of `texts`, which are the same where every byte is looked at."""
    text = prepare(*string_buffers(pa.array(["x", *texts], pa.large_string()).slice(1)))
    spans = find_spans(text, KINDS)
    assert np.array_equal(spans, find_spans(everywhere(text), KINDS))
    return len(spans)


@pytest.mark.parametrize("name", SETS)
def test_the_same_is_found_in_real_text_as_by_looking_at_every_byte(name: str) -> None:
    if not (CORPORA / name).exists():
        pytest.skip(f"{name} is absent")
    texts = [row["text"] for row in rows(name, 400)]
    assert assert_nothing_is_passed_over(texts) > 0


@settings(deadline=None, max_examples=300)
@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=40).map("".join), max_size=4))
def test_the_same_is_found_in_what_is_put_together_at_random(texts: list[str]) -> None:
    assert_nothing_is_passed_over(texts)


def test_the_same_is_found_wherever_it_stands_in_its_block() -> None:
    """Every sample at each of the 64 places of a block, at the end of the text and not."""
    samples = [*PIECES, "xoxb-1a1a1a1a1a1a", "AKIAABCDEFGH12345678", "a@b.co", "+1-202-555-0143", "QQ 123456789"]
    generator = random.Random(1)
    found = 0
    for sample in samples:
        texts = ["—" * (k // 3) + "." * (k % 3) + sample for k in range(BLOCK)]
        found += assert_nothing_is_passed_over(generator.sample(texts, len(texts)))
        found += assert_nothing_is_passed_over([text + " and so on" for text in texts])
    assert found > 5 * BLOCK


def of_row(row: int, data: bytes) -> Iterator[bool]:
    """The definition of a row of places, in plain Python."""
    for k in range(len(data)):
        digit, here, after = data[k : k + 1].isdigit(), data[k : k + 1], data[k + 1 : k + 2]
        three = data[k : k + 3].lower()
        names = three[:2] in (b"vx", b"qq", b"v\xe4") or three in (b"wec", b"wei", "微".encode())
        yield {
            AT: here == b"@",
            ADDRESS: digit or here == b":",
            NUMBER: digit or here == b"+" or (here == b"(" and (after.isdigit() or after == b"+")),
            IDENTITY: digit or names,
        }[row]


@settings(deadline=None, max_examples=100)
@given(st.lists(st.sampled_from(PIECES), max_size=60).map("".join))
def test_the_places_are_those_of_their_definition(value: str) -> None:
    text = prepare(*string_buffers(pa.array([value])))
    n = len(text.data)
    bits = np.unpackbits(text.places.view(np.uint8).reshape(len(text.places), -1), axis=1, bitorder="little")
    assert not bits[:SPELLING, n:].any()
    for row in (AT, ADDRESS, NUMBER, IDENTITY):
        places = [k for k, wanted in enumerate(of_row(row, value.encode())) if wanted]
        assert np.flatnonzero(bits[row]).tolist() == places
        walked, i = [], next_place(text.places[row], 0, n)
        while i < n:
            walked.append(i)
            i = next_place(text.places[row], i + 1, n)
        assert walked == places
    assert set(text.places[SECRET].tolist()) <= {0, 0xFFFFFFFFFFFFFFFF}
