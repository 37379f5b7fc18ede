"""Addresses by their top-level domain: equal to DCLM's expressions but where Chinese and Japanese text is near."""

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from raypt.curation.rules.addresses import remove_addresses
from raypt.text.buffers import TextBatch
from tests.curation.figures import report
from tests.curation.helpers import edited, metrics
from tests.curation.readings.dclm_urls import as_run, without_addresses
from tests.curation.text_sets import CORPORA, rows

PIECES = [
    *("http://", "https://", "ftp://", "www.", "x", "The", "com", "co", ".com", ".in", ".co.uk", ".vermögensberater"),
    *(
        ".भारतम्",
        ".भारत",
        ".рф",
        "a" * 130,
        "1",
        "192",
        "256",
        "300",
        "1.2.3.4",
        ".",
        "..",
        "/",
        "-",
        "_",
        "(",
        ")",
        "?",
    ),
    *(
        " ",
        "  ",
        "\n",
        "\t",
        "\u3000",
        "\x85",
        " " * 9,
        "é",
        "Ø",
        "½",
        "@",
        ":",
        "#",
        "&",
        "=",
        "~",
        "+",
        "%",
        ",",
        "!",
    ),
]


def removed(texts: list[str]) -> list[str]:
    found: list[str] = remove_addresses(TextBatch.from_arrow(pa.array(texts, pa.string())))[0].to_arrow().to_pylist()
    return found


@settings(max_examples=400, deadline=None)
@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=12).map("".join), max_size=4))
@example(["a" * 300 + ".com/x", "x" * 300 + ".b.com", ".com ..com", "x.com.भारतम्a", "http://" + "a" * 260 + ".in"])
def test_spaced_text_is_left_as_dclm_leaves_it(texts: list[str]) -> None:
    assert removed(texts) == [without_addresses(text) for text in texts]


@pytest.mark.parametrize(
    ("text", "left", "published"),
    [
        ("见https://a.cn/b的说明。", "见的说明。", "见的说明。"),
        ("见 https://a.cn的说明", "见的说明", "见 https://a.cn的说明"),
        ("在www.a.com查看", "在查看", "在www.a.com查看"),
        ("运行main.py文件", "运行main.py文件", "运行main.py文件"),
        ("运行main.py，然后", "运行，然后", "运行，然后"),
        ("访问http://192.168.1.1/x。", "访问。", "访问http://。"),
        ("版本1.2.3.4发布", "版本1.2.3.4发布", "版本1.2.3.4发布"),
        ("地址 10.0.0.1 可用", "地址 可用", "地址 可用"),
        ("1.手机\n2.网站\n", "1.手机\n2.网站\n", "\n"),
        ("联想a.手机 x", "联想 x", "联想 x"),
        ("参见 http://a.公司在", "参见在", "参见 http://a.公司在"),
        ("アドレスはexample.jpです", "アドレスはexample.jpです", "アドレスはexample.jpです"),
    ],
)
def test_unspaced_text_next_to_an_address(text: str, left: str, published: str) -> None:
    """`published`: what DCLM's expressions leave, which know no text without spaces."""
    assert (removed([text]), without_addresses(text)) == ([left], published)


def test_addresses_are_counted_and_accounted_for() -> None:
    text = "see  a.com/x and 1.2.3.4, e.g. nothing"
    assert edited([text], "normalise", urls="domains") == ["see and, e.g. nothing"]
    (found,) = metrics([text], "normalise", urls="domains")
    assert (found["url_count"], found["cut_bytes_url"], found["changed_url"]) == (2, 17, True)


FILES = {
    "web/pages_text.dev.jsonl.gz": 600,
    "web/docs_text.dev.jsonl.zst": 600,
    "quality/spam_ham.dev.jsonl.gz": 300,
    "reference/foldoc_en.dev.jsonl.gz": 300,
    "reference/wikipedia_zh.dev.jsonl.gz": 200,
    "reference/lctt_zh_ccbysa.dev.jsonl.zst": 200,
}


@pytest.mark.skipif(not CORPORA.exists(), reason="the real corpora beside the checkout are absent")
def test_texts_of_the_corpus_are_dclms() -> None:
    """At least 98 % of those that the expressions change, too: what differs has Chinese next to an address."""
    same = differ = changed = changed_same = run_same = 0
    for name, limit in FILES.items():
        texts = [row["text"][:20_000] for row in rows(name, limit)]
        for text, ours in zip(texts, removed(texts), strict=True):
            theirs = without_addresses(text)
            same += ours == theirs
            differ += ours != theirs
            changed += theirs != text
            changed_same += theirs != text and ours == theirs
            run_same += ours == as_run(text)
    of = same + differ
    report(
        f"addresses: equal texts {same} of {of}; of those that change {changed_same} of {changed}; as run {run_same}"
    )
    assert changed > 300
    assert same >= 0.98 * of
