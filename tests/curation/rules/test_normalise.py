"""Repair and clean-up: each step against what is published of it, and the account of what it changed."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from raypt.curation.decide import decide
from raypt.curation.ledger import curation_ledger
from raypt.curation.rules.normalise import Normalise
from raypt.curation.tagger import Tagger
from tests.curation.helpers import config, edited, metrics, table

# Examples of ftfy's documentation, and texts that are well as they are.
BROKEN = {
    "âœ” No problems": "✔ No problems",
    "The Mona Lisa doesnÃƒÂ¢Ã¢â€šÂ¬Ã¢â€žÂ¢t have eyebrows.": "The Mona Lisa doesn’t have eyebrows.",
    "l’humanitÃ©": "l’humanité",
    "Ã perturber la rÃ©flexion": "à perturber la réflexion",
    "P&EACUTE;REZ": "PÉREZ",
    "schÃ¶n &amp; gut": "schön & gut",
    "ç¬¬ä¸€æ¬¡": "第一次",
    "\x1b[36;44mI'm blue\x1b[0m": "I'm blue",
}
WELL = [
    "价格：１２３元，“约”4.5万。……——《书》（注）「是」",
    "l’humanité “à” naïve",
    "R&D <b>&amp;</b> ﬁne",
    "plain 'text'\tx\n",
    "",
]


def repaired(texts: list[str], how: str) -> list[str]:
    pytest.importorskip("ftfy", reason="ftfy is not installed: pip install 'raypt[ftfy]'")
    return edited(texts, "normalise", ftfy=how)


@pytest.mark.parametrize("how", ["encoding", "all"])
def test_wrongly_decoded_text_is_repaired(how: str) -> None:
    curly = {k: v.replace("’", "'") if how == "all" else v for k, v in BROKEN.items()}
    assert repaired(list(BROKEN), how) == list(curly.values())


def test_well_formed_text_stays_under_the_repair_of_encodings() -> None:
    assert repaired(WELL, "encoding") == WELL


def test_all_of_ftfy_writes_full_width_characters_half_width() -> None:
    assert repaired(["价格：１２３元，“约”"], "all") == ['价格:123元,"约"']


def test_entities_in_a_text_with_tags_stay() -> None:
    assert repaired(["<p>a &amp; b\nc &amp; d"], "encoding") == ["<p>a &amp; b\nc &amp; d"]


URL_CASES = [
    ("see https://a.org/x?y=1#z, or", "see , or"),
    ("(https://en.wikipedia.org/wiki/Foo_(bar)).", "()."),
    ("见https://a.cn/b的说明。", "见的说明。"),
    ("www.example.com and HTTP://EXAMPLE.COM/", " and "),
    ("https://ru.wikipedia.org/wiki/Москва есть", " есть"),
    ("ftp://x.y/z; mail a@b.org, a.b.c", "; mail a@b.org, a.b.c"),
    ("xhttps://a and https:// alone", "xhttps://a and https:// alone"),
]


@pytest.mark.parametrize(("text", "left"), URL_CASES)
def test_addresses_go_and_what_stands_around_them_stays(text: str, left: str) -> None:
    assert edited([text], "normalise", urls="remove") == [left]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Title\n* * *\n---\nText", "Title\nText"),
        ("a\n|---|---|\n\n   \nb", "a\n\n   \nb"),
        ("a\r\n___\r\nb", "a\r\nb"),
        ("a\n…——\n⭐️ 🎉\n第一\nⅣ\n½\né", "a\n第一\nⅣ\n½\né"),
        ("---", ""),
        ("a\n---", "a\n"),
        ("𠀀\n𝄞", "𠀀\n"),
    ],
)
def test_lines_of_symbols_go(text: str, left: str) -> None:
    assert edited([text], "normalise", symbol_lines="drop") == [left]


def datatrove(text: str, symbols: set[str], replace: str) -> str:
    """What SymbolLinesFormatter does, as FineWeb-2 asks it to."""
    out: list[str] = []
    before = False
    for line in text.splitlines():
        gone = line.strip() != "" and all(c in symbols or c == " " for c in line)
        out += [replace] * bool(gone and not before and replace) if gone else [line]
        before = gone
    return "\n".join(out)


@given(st.text(st.sampled_from("ab| \n-"), max_size=40))
def test_fineweb_2s_lines_of_bars_leave_two_empty_lines(text: str) -> None:
    (got,) = edited([text], "normalise", symbol_lines="drop", symbols="|", symbol_lines_leave=2)
    # datatrove puts a line end between all lines, and none after the last.
    assert got.rstrip("\n") == datatrove(text, {"|"}, "\n").rstrip("\n")


@given(st.text(st.sampled_from("ab \r\n"), max_size=40), st.integers(1, 3))
def test_line_ends_in_a_row_are_bounded_as_dclm_bounds_them(text: str, most: int) -> None:
    text = re.sub(r"\r(?!\n)", "", text)
    (got,) = edited([text], "normalise", newlines_max=most)
    assert got == re.sub(rf"((?:\r?\n){{{most}}})(?:\r?\n)+", r"\1", text)


STEPS = [
    {"urls": "remove"},
    {"symbol_lines": "drop", "symbol_lines_leave": 1},
    {"newlines_max": 1},
    {"unicode": "NFC"},
    {"unicode": "NFKC", "urls": "remove", "symbol_lines": "drop", "newlines_max": 1},
]


@pytest.mark.parametrize("steps", STEPS)
@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.sampled_from("ab|-\n é\u0301ﬁ１www.:/https第"), max_size=60), min_size=1, max_size=5))
def test_the_ledger_counts_changed_documents_and_bytes(steps: dict[str, object], texts: list[str]) -> None:
    cfg = config("normalise", **steps)
    tagged = Tagger(cfg).tag(table(list(texts)))
    account = curation_ledger(tagged, decide(tagged, cfg), cfg).stages["normalise"]
    after = tagged["text"].to_pylist()
    cut = sum(len(a.encode()) - len(b.encode()) for a, b in zip(texts, after, strict=True))
    assert sum(amount.bytes for amount in account.edited.values()) == cut == account.entered.bytes - account.kept.bytes
    if len(steps) == 1:
        changed = sum(a != b for a, b in zip(texts, after, strict=True))
        assert sum(amount.documents for amount in account.edited.values()) == changed


def test_a_change_that_costs_no_byte_is_counted() -> None:
    cfg = config("normalise", unicode="NFC")
    tagged = Tagger(cfg).tag(table(["\u1fef", "a"]))  # the Greek varia becomes the grave accent
    (changed,) = curation_ledger(tagged, decide(tagged, cfg), cfg).stages["normalise"].edited.items()
    assert (changed[0], changed[1].documents) == ("normalise.unicode", 1)


def test_metrics_count_what_went() -> None:
    (found,) = metrics(
        ["a www.b.cc https://d.e\n---\n--\n\n\nf"], "normalise", urls="remove", symbol_lines="drop", newlines_max=1
    )
    assert (found["url_count"], found["symbol_line_count"], found["cut_bytes_newline"]) == (2, 2, 2)


def test_nothing_is_done_unasked() -> None:
    text = "âœ”\n---\n\n\n\nhttps://a.b ﬁ"
    tagged = Tagger(config("normalise")).tag(table([text]))
    assert tagged["text"].to_pylist() == [text] and "normalise" not in tagged.column_names


def test_a_letter_is_no_symbol() -> None:
    with pytest.raises(ValidationError, match="is no symbol"):
        Normalise(symbols="|a")


def test_the_version_of_ftfy_is_part_of_what_identifies_the_documents() -> None:
    ftfy = pytest.importorskip("ftfy", reason="ftfy is not installed: pip install 'raypt[ftfy]'")
    assert config("normalise", ftfy="encoding").tagging_settings()["packages"] == {"ftfy": ftfy.__version__}
    assert "packages" not in config("normalise", urls="remove").tagging_settings()
