"""Text in nested records: what a path such as `messages[].content` names."""

from collections.abc import Iterator
from typing import Any


def values_at(record: dict[str, Any], path: str) -> list[str]:
    """The strings at a path of a record (a JSON object, a Parquet row), in their order; none if there is nothing.

    Steps are separated by dots, and a list is gone through element by element, whether the path says so by `[]` or not:
    `choices.text` finds both `{"choices": {"text": ["a", "b"]}}` and `{"choices": [{"text": "a"}, {"text": "b"}]}`, as
    `choices[].text` does. A key that itself holds dots is found too, where the rest of the path is one. What the path
    names may be a string or hold strings at any depth; numbers, booleans and nulls are no text.
    """
    return list(_at(record, path))


def _at(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, list):
        for element in value:
            yield from _at(element, path)
    elif path in ("", "[]"):
        yield from _strings(value)
    elif isinstance(value, dict):
        if path in value:
            yield from _strings(value[path])
            return
        step, _, rest = path.partition(".")
        key = step.removesuffix("[]")
        if key in value:
            yield from _at(value[key], rest)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _strings(inner)


def text_paths(record: dict[str, Any]) -> list[str]:
    """The paths of a record that lead to text, as `values_at` reads them; for a message that offers them."""
    found: dict[str, None] = {}

    def visit(value: Any, path: str) -> None:
        if isinstance(value, str):
            found[path] = None
        elif isinstance(value, list):
            for element in value:
                visit(element, f"{path}[]" if not path.endswith("[]") else path)
        elif isinstance(value, dict):
            for key, inner in value.items():
                visit(inner, f"{path}.{key}" if path else str(key))

    visit(record, "")
    return list(found)
