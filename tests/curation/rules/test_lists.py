"""Rules with lists: URLs, bad words by language, keywords."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raypt.curation.config import CurationConfig
from raypt.curation.decide import decide
from raypt.curation.phrases import count_matches, read_list
from raypt.curation.rules.url import is_blocked
from raypt.curation.tagger import Tagger
from raypt.errors import UserError
from tests.curation.helpers import config, metrics, reasons, table

PHRASES = st.lists(st.text(st.sampled_from("aB é中"), min_size=1, max_size=3), max_size=5, unique_by=str.lower)


def occurrences(text: str, phrase: str, whole: bool) -> int:
    """By trying every position; é is no part of the ASCII the automaton folds, but utf8_lower folds it."""
    low, phrase = text.lower(), phrase.lower()

    def joins(a: str, b: str) -> bool:
        return all(c.isalnum() and c != "中" for c in (a, b))

    n = 0
    for i in range(len(low)):
        j = i + len(phrase)
        if low[i:j] != phrase:
            continue
        cut = (i > 0 and joins(low[i - 1], low[i])) or (j < len(low) and joins(low[j - 1], low[j]))
        n += not (whole and cut)
    return n


@pytest.mark.parametrize("whole", [False, True])
@given(phrases=PHRASES, texts=st.lists(st.text(st.sampled_from("aBbÉé 中.\n"), max_size=30), max_size=4))
@settings(max_examples=150, deadline=None)
def test_matches_agree_with_trying_every_position(whole: bool, phrases: list[str], texts: list[str]) -> None:
    got = count_matches(pa.array(texts, pa.string()), phrases, whole_words=whole)
    by_phrase = np.array([[occurrences(t, p, whole) for p in phrases] for t in texts])
    by_phrase = by_phrase.reshape(len(texts), len(phrases))
    assert got[:, 0].tolist() == by_phrase.sum(axis=1).tolist()
    assert got[:, 1].tolist() == (by_phrase > 0).sum(axis=1).tolist()


@pytest.fixture
def lists(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "en").write_text("# comment\nbadword\nvery bad\n\n")
    (tmp_path / "zh").write_text("坏话\n性\n", encoding="utf-8")
    return {"en": str(tmp_path / "en"), "zh": str(tmp_path / "zh")}


@pytest.mark.parametrize(
    ("lang", "text", "matches"),
    [
        ("en", "a BadWord here, and a Very Bad one", 2),
        ("en", "badwords and unbadword", 0),
        ("en", "badword_x", 0),
        ("zh", "他说坏话了", 1),
        ("zh", "性格很好", 0),  # allowed: common within other words
        ("de", "badword", None),
    ],
)
def test_bad_words_are_counted_by_language(lists: dict[str, str], lang: str, text: str, matches: int | None) -> None:
    assert metrics([text], "bad_words", lang, lists=lists)[0]["match_count"] == matches


def test_bad_word_thresholds_on_both_sides(lists: dict[str, str]) -> None:
    assert reasons(["fine", "badword"], "bad_words", lists=lists) == [None, "bad_words.match_count_max"]
    per_line = {"match_count_max": None, "distinct_per_line_max": 0.5}
    texts = ["badword badword\nfine", "badword, very bad\nfine"]
    assert reasons(texts, "bad_words", lists=lists, **per_line) == [None, "bad_words.distinct_per_line_max"]


def test_a_list_that_is_missing_is_named() -> None:
    with pytest.raises(UserError, match=r"curation\.bad_words\.lists\.en: there is no file /nowhere"):
        metrics(["x"], "bad_words", lists={"en": "/nowhere"})


def test_a_list_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="is not UTF-8"):
        read_list(str(tmp_path / "x"), "curation.keywords")


def test_keyword_rules_allow_and_deny_by_name(tmp_path: Path) -> None:
    (tmp_path / "more").write_text("second phrase\n")
    rules = {
        "wall": {"phrases": ("accept all cookies",), "count_max": 0},
        "topic": {"phrases": ("python",), "file": str(tmp_path / "more"), "count_min": 2},
        "english_only": {"phrases": ("foo",), "languages": ("de",), "count_max": 0},
    }
    texts = [
        "Python, PYTHON foo",
        "python and python. Accept All Cookies!",
        "python pythonic",
        "a second phrase; python",
    ]
    assert reasons(texts, "keywords", rules=rules) == [None, "keywords.wall_max", "keywords.topic_min", None]


@pytest.mark.parametrize("label", ["zh", "cmn_Hani", "zho_Hans"])
def test_keyword_rules_find_a_language_by_any_of_its_names(label: str) -> None:
    rules = {"ads": {"phrases": ("广告",), "languages": ("Chinese",), "count_max": 0}}
    assert reasons(["这是广告。"], "keywords", lang=label, rules=rules) == ["keywords.ads_max"]
    assert reasons(["这是广告。"], "keywords", lang="en", rules=rules) == [None]


def test_keyword_rules_need_plain_names() -> None:
    with pytest.raises(ValueError, match="is no name"):
        config("keywords", rules={"a.b": {"phrases": ("x",)}})


@pytest.mark.parametrize(
    ("host", "blocked"),
    [
        ("bad.com", True),
        ("www.bad.com", True),
        ("a.b.BAD.com", True),
        ("notbad.com", False),
        ("com", False),
        ("", False),
    ],
)
def test_a_domain_blocks_its_subdomains(host: str, blocked: bool) -> None:
    assert is_blocked(host, frozenset({"bad.com"})) == blocked


def test_url_rules_on_both_sides(tmp_path: Path) -> None:
    (tmp_path / "strict").write_text("xxxl\n")
    (tmp_path / "hard").write_text("casino\n")
    (tmp_path / "soft").write_text("free\nwin\n")
    settings = CurationConfig.model_validate(
        {
            "stages": ("url",),
            "url": {
                "domains": ("bad.com",),
                "strict_word_files": (str(tmp_path / "strict"),),
                "hard_word_files": (str(tmp_path / "hard"),),
                "soft_word_files": (str(tmp_path / "soft"),),
            },
        }
    )
    cases = {
        "https://user@www.bad.com:80/x": "url.blocked_domain_max",
        "http://good.com/bad.com": None,
        "http://good.com/axxxlb": "url.strict_words_max",
        "http://casino-royal.com": "url.hard_words_max",
        "http://occasino.com": None,
        "http://free.com/x": None,
        "http://free.com/win-now": "url.soft_words_max",
        None: None,
        "": None,
        "not a url": None,
    }
    docs = table(["x"] * len(cases), url=pa.array(list(cases), pa.string()))
    assert decide(Tagger(settings).tag(docs), settings).to_pylist() == list(cases.values())


def test_documents_without_a_url_column_pass() -> None:
    assert reasons(["x"], "url", domains=("bad.com",)) == [None]
