from typing import Any

import pytest

from raypt.corpus.fields import text_paths, values_at

CHAT = {"messages": [{"role": "user", "content": "a"}, {"role": "bot", "content": "b"}], "n": 3}
COLUMNS = {"choices": {"text": ["a", "b"], "label": ["A", "B"]}, "question": "q"}
ROWS = {"choices": [{"text": "a", "label": "A"}, {"text": "b", "label": "B"}]}


@pytest.mark.parametrize(
    ("record", "path", "expected"),
    [
        ({"text": "a"}, "text", ["a"]),
        ({"a": {"b": {"c": "x"}}}, "a.b.c", ["x"]),
        (CHAT, "messages[].content", ["a", "b"]),
        (CHAT, "messages.content", ["a", "b"]),
        (COLUMNS, "choices.text", ["a", "b"]),
        (COLUMNS, "choices.text[]", ["a", "b"]),
        (ROWS, "choices[].text", ["a", "b"]),
        (ROWS, "choices", ["a", "A", "b", "B"]),
        ({"choices": ["y", "z"]}, "choices", ["y", "z"]),
        ({"choices": ["y", "z"]}, "choices[]", ["y", "z"]),
        ({"turns": [["a", "b"], ["c"]]}, "turns[]", ["a", "b", "c"]),
        ({"metadata": {"WARC-Record-ID": "r"}}, "metadata.WARC-Record-ID", ["r"]),
        ({"a.b": "dotted"}, "a.b", ["dotted"]),
        ({"x": {"a.b": "dotted"}}, "x.a.b", ["dotted"]),
        ({"answers": {"text": []}}, "answers.text", []),
        ({"n": 3, "t": None, "f": True}, "n", []),
        ({"t": None}, "t", []),
        ({"a": "text"}, "a.b", []),
        (CHAT, "mesages[].content", []),
    ],
)
def test_a_path_names_the_strings_that_it_leads_to(record: dict[str, Any], path: str, expected: list[str]) -> None:
    assert values_at(record, path) == expected


@pytest.mark.parametrize("record", [CHAT, COLUMNS, ROWS, {"turns": [["a"], ["b"]]}])
def test_every_path_that_is_offered_finds_text(record: dict[str, Any]) -> None:
    paths = text_paths(record)
    assert paths and all(values_at(record, path) for path in paths)


def test_the_paths_offered_say_where_a_list_is() -> None:
    assert text_paths(CHAT) == ["messages[].role", "messages[].content"]
    assert text_paths(COLUMNS) == ["choices.text[]", "choices.label[]", "question"]
