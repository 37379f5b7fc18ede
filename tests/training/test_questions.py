"""Questions are read as they are written, and every line that is none is named."""

import json
from pathlib import Path

import pytest

from raypt.errors import UserError
from raypt.tokens.config import TokenizerConfig
from raypt.tokens.tokenizer.tokenizer import Tokenizer
from raypt.tokens.tokenizer.trainer import train
from raypt.training.questions import Question, encode, question, read_questions, split_pair

ASKED = {"prompt": "首都是", "choices": ["北京", "河边"], "answer": 0}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (ASKED, Question("首都是", ("北京", "河边"), 0)),
        ({"good": "She walks.", "bad": "She walk."}, Question("", ("She walks.", "She walk."), 0)),
        ({**ASKED, "phenomenon": "facts"}, Question("首都是", ("北京", "河边"), 0, "facts")),
        (
            {"sentence_good": "a", "sentence_bad": "b", "UID": "drop_argument", "pairID": "0"},
            Question("", ("a", "b"), 0, "drop_argument"),
        ),
    ],
)
def test_a_line_is_a_question_or_a_pair(line: dict, expected: Question) -> None:
    assert question(json.dumps(line), "here") == expected


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "not JSON"),
        ("[1]", "not an object"),
        (json.dumps({"question": "x", "label": 1}), "it has question, label"),
        (json.dumps(ASKED | {"choices": ["one"]}), "two texts or more"),
        (json.dumps(ASKED | {"answer": 2}), "0 to 1, not 2"),
        (json.dumps(ASKED | {"answer": True}), "0 to 1, not True"),
        (json.dumps(ASKED | {"prompt": " "}), "prompt must be a text"),
        (json.dumps({"good": "", "bad": "x"}), "good and bad must be texts"),
    ],
)
def test_a_line_that_is_no_question_is_named(line: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text(json.dumps(ASKED) + "\n" + line + "\n")
    with pytest.raises(UserError, match=rf"the key: .*q\.jsonl line 2: .*{said}"):
        read_questions(str(path), None, "the key")


def test_a_file_that_is_missing_or_empty_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the key: there is no file"):
        read_questions(str(tmp_path / "none.jsonl"), None, "the key")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(UserError, match="has no question"):
        read_questions(str(tmp_path / "empty.jsonl"), None, "the key")


def test_some_of_many_are_spread_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text("".join(json.dumps({"good": f"g{i}", "bad": "b"}) + "\n" for i in range(10)))
    assert [q.choices[0] for q in read_questions(str(path), 4, "k")] == ["g0", "g2", "g5", "g7"]


def test_what_does_not_fit_is_cut_from_the_left_and_the_choice_is_scored(merging: Tokenizer) -> None:
    (row,) = encode([Question("我们的" * 9, ("城市", "x"), 0)], merging, 4)
    assert [len(c.ids) for c in row] == [5, 5]
    assert all(1 <= c.scored <= 4 for c in row)
    assert row[0].nbytes == len("城市".encode())


@pytest.fixture(scope="module")
def merging() -> Tokenizer:
    """Its vocabulary has "我们的城市" as one token, and parts of it as others."""
    return train(["我们的城市"] * 50 + ["我们的"] * 20, TokenizerConfig(vocab_size=300))


def test_a_token_that_holds_text_of_both_counts_as_the_continuations(merging: Tokenizer) -> None:
    whole, before = merging.encode("我们的城市"), merging.encode("我们的城")
    assert len(whole) <= len(before), "the seam must lie inside a token"
    context, continuation = split_pair(merging, "我们的城", "市")
    assert continuation
    assert [*context, *continuation] == whole
    assert context == before[: len(context)]


def test_without_a_merge_the_context_keeps_its_tokens(merging: Tokenizer) -> None:
    assert split_pair(merging, "我们的", "x y") == (merging.encode("我们的"), merging.encode("x y"))


def test_spaces_that_end_the_context_count_as_the_continuations(merging: Tokenizer) -> None:
    assert split_pair(merging, "我们的 ", "x") == (merging.encode("我们的"), merging.encode(" x"))


def test_a_continuation_without_a_token_of_its_own_is_scored_by_the_last_one() -> None:
    blind = train(["one two two"] * 50, TokenizerConfig(algorithm="wordpiece", vocab_size=300))
    whole = blind.encode("one two")
    assert split_pair(blind, "one two", " ") == (whole[:-1], whole[-1:])


def test_no_continuation_has_no_tokens(merging: Tokenizer) -> None:
    assert split_pair(merging, "我们的", "") == (merging.encode("我们的"), [])
