"""Generated minimal pairs and facts: what they hold, and that a trainer reads them as it reads a file."""

import collections
import json
from pathlib import Path

import pytest

from raypt.errors import UserError
from raypt.training import made
from raypt.training.questions import read_questions


@pytest.mark.parametrize("name", ["pairs/en", "pairs/zh"])
def test_pairs_are_of_agreement_order_and_negation_evenly_and_none_twice(name: str) -> None:
    rows = made.rows(name)
    assert len(rows) == made.COUNT
    assert {r["phenomenon"].split()[1].strip(":") for r in rows} == {"agreement", "order", "negation"}
    counts = collections.Counter(r["phenomenon"] for r in rows)
    assert max(counts.values()) - min(counts.values()) <= 1
    assert len({(r["good"], r["bad"]) for r in rows}) == len(rows)
    assert not {r["good"] for r in rows} & {r["bad"] for r in rows}
    assert all(c.isascii() == (name == "pairs/en") for r in rows for c in r["good"])


def test_pairs_of_order_have_the_same_words() -> None:
    for name in ("pairs/en", "pairs/zh"):
        for row in made.rows(name):
            if " order" in row["phenomenon"]:
                words = [
                    sorted(row[k].lower().replace(".", " .").split() if name == "pairs/en" else row[k])
                    for k in ("good", "bad")
                ]
                assert words[0] == words[1], row


@pytest.mark.parametrize("name", ["facts/en", "facts/zh"])
def test_facts_have_one_right_answer_of_four_and_no_favourite_place(name: str) -> None:
    rows = made.rows(name)
    assert len(rows) > 50
    assert all(len(set(r["choices"])) == 4 and 0 <= r["answer"] < 4 for r in rows)
    places = collections.Counter(r["answer"] for r in rows)
    assert max(places.values()) < 0.45 * len(rows)
    capital = next(r for r in rows if r["prompt"] in ("The capital of Japan is", "日本的首都是"))
    assert capital["choices"][capital["answer"]].strip() in ("Tokyo", "东京")


def test_the_same_seed_gives_the_same_and_another_others() -> None:
    assert made.rows("pairs/zh", 50, 3) == made.rows("pairs/zh", 50, 3) != made.rows("pairs/zh", 50, 4)


def test_a_generator_that_has_no_more_words_stops() -> None:
    rows = made.rows("pairs/zh", 10**5)
    assert 2000 < len(rows) < 10**5
    assert len({(r["good"], r["bad"]) for r in rows}) == len(rows)


@pytest.mark.parametrize("name", made.names())
def test_a_task_reads_them_as_it_reads_the_file_of_them(name: str, tmp_path: Path) -> None:
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(made.lines(name)))
    assert read_questions(f"builtin:{name}", 40, "k") == read_questions(str(path), 40, "k")
    assert json.loads(path.read_text().splitlines()[0])["phenomenon"]


def test_what_is_not_there_is_refused_by_key() -> None:
    with pytest.raises(UserError, match=r"^train\.x: builtin:pairs/fr: there are builtin:pairs/en, "):
        read_questions("builtin:pairs/fr", None, "train.x")
