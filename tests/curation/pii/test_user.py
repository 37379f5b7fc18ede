"""raypt.curation.pii.user: `@name` as BigScience's expression finds it, but for full stops and signs beyond ASCII."""

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from raypt.curation.pii.config import PiiConfig
from tests.curation.figures import report
from tests.curation.pii.found import values
from tests.curation.text_sets import CORPORA, rows

USER = regex.compile(r"(?:^|[\s@,?!;:'\")(\p{Han}])(@[^\s@,?!;:'\")(]{3,})", regex.MULTILINE)
"""As published (02_pii/bigscience_pii_detect_redact.py)."""


def published(text: str) -> list[str]:
    """Its names without the full stops at their ends, of three characters and more with the `@` before them."""
    names = [match.group(1).rstrip(".") for match in USER.finditer(text)]
    return [name for name in names if len(name) > 3]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("thanks @ann_lee, and @bob.smith.", ["@ann_lee", "@bob.smith"]),
        ("@ann: (@bob) '@cat'\n@dog", ["@ann", "@bob", "@cat", "@dog"]),
        ("RT @@ann", ["@ann"]),
        ("ann@example.com, a@b@c.org", []),
        ("at @ab. or @ home", []),
        ("感谢@张三丰，以及＠李小龙。", ["@张三丰", "＠李小龙"]),
        ("medium.com/@user/post", []),
    ],
)
def test_a_name_is_found_where_it_begins(text: str, names: list[str]) -> None:
    assert values(text, "user") == names


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from("abé@.,:!()'-_ \n字"), max_size=40))
def test_names_are_those_of_the_published_expression(text: str) -> None:
    assert values(text, "user") == published(text)


def test_names_are_not_looked_for_unasked() -> None:
    assert "user" not in PiiConfig().kinds


@pytest.mark.skipif(not CORPORA.exists(), reason="the real corpora beside the checkout are absent")
def test_names_of_the_corpus_are_those_of_the_published_expression() -> None:
    same = total = 0
    for name in ("web/pages_text.dev.jsonl.gz", "web/docs_text.dev.jsonl.zst", "quality/spam_ham.dev.jsonl.gz"):
        for row in rows(name, 500):
            wanted = published(row["text"])
            if wanted or "@" in row["text"]:
                total += 1
                same += values(row["text"], "user") == wanted
    report(f"user names: equal on {same} of {total} documents with an @")
    assert total > 50
    assert same >= 0.95 * total  # punctuation beyond ASCII ends a name here
