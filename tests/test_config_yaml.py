"""YAML of a configuration: typed by the keys, with lines, and bounded whatever comes in."""

import time
from typing import Any

import pytest
from pydantic import Field

from raypt.config_values import Slot
from raypt.config_yaml import MAX_DEPTH, parse_yaml
from raypt.errors import UserError
from raypt.settings import Settings


class Part(Settings):
    lang: str = "en"
    """Text."""
    shard_bytes: int | None = None
    """Bytes."""
    by_lang: dict[str, float] = Field(default_factory=dict)
    """By language."""
    langs: tuple[str, ...] = ()
    """Languages."""


class Top(Settings):
    part: Part = Part()
    """A section."""
    parts: tuple[Part, ...] = ()
    """Several."""
    free: dict[str, Any] = Field(default_factory=dict)
    """Anything."""


def read(text: str, origins: dict[Any, str] | None = None) -> Any:
    return parse_yaml(text, "c.yaml", Slot(Top), origins)


def test_the_keys_say_how_a_value_is_read() -> None:
    text = """
part:
  lang: no
  shard_bytes: 64MB
  by_lang: {no: 0.5, on: 1e-1}
  langs: [no, 001, 1e3]
free: {a: no, b: 1e-5, c: true, d: [1, x]}
"""
    assert read(text) == {
        "part": {
            "lang": "no",
            "shard_bytes": 64_000_000,
            "by_lang": {"no": 0.5, "on": 0.1},
            "langs": ["no", "001", "1e3"],
        },
        "free": {"a": "no", "b": 1e-5, "c": True, "d": [1, "x"]},
    }


def test_a_section_of_comments_alone_is_empty() -> None:
    assert read("part:\n  # lang: de\n") == {"part": {}}
    assert read("# nothing\n") is None


def test_every_value_has_its_line() -> None:
    origins: dict[Any, str] = {}
    read("part:\n  lang: de\nparts:\n- lang: fr\n- {lang: it}\n", origins)
    assert origins[("part", "lang")] == "c.yaml:2"
    assert origins[("parts", 1, "lang")] == "c.yaml:5"


def test_anchors_and_merges_are_read() -> None:
    text = "part: &p {lang: de, shard_bytes: 1k}\nparts:\n- *p\n- {<<: *p, lang: fr}\n"
    read_ = read(text)
    assert read_["parts"] == [{"lang": "de", "shard_bytes": 1000}, {"lang": "fr", "shard_bytes": 1000}]


LAUGHS = "free:\n  a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"  a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)
)
MERGES = "free:\n  m0: &m0 {k: 1}\n" + "".join(
    f"  m{i}: &m{i} {{<<: [{', '.join([f'*m{i - 1}'] * 10)}]}}\n" for i in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("part:\n  lang: de\n  lang: fr\n", "line 3: 'lang' is said twice, first in line 2"),
        ("part: {}\nparts: []\npart: {}\n", "line 3: 'part' is said twice, first in line 1"),
        ("part:\n  shard_bytes: 3d\n", "line 2: '3d': 'd' is a time"),
        ("part: {lang: de\n", "line 2, column 1: not valid YAML"),
        ("part: {lang: *nobody}\n", "line 1, column 14: not valid YAML: found undefined alias"),
        ("a: 1\n---\nb: 2\n", "line 2, column 1: not valid YAML"),
        ("free: !!python/object/apply:os.system [echo]\n", "line 1: tags such as"),
        ("? [a, b]\n: 1\n", "line 1: a key must be a plain word"),
        ("free:\n" + " [\n" * 100_000, f"nested deeper than {MAX_DEPTH} levels"),
        ("free: " + "{a: " * (MAX_DEPTH + 1), f"line 1: nested deeper than {MAX_DEPTH} levels"),
        (LAUGHS, "more than 100,000 values"),
        (MERGES, "more than 100,000 values"),
        ("free: &f {a: *f}\n", "more than 100,000 values or 32 levels"),
        ("part: {<<: 3}\n", "<< takes a mapping"),
        ("part: \x00\n", "not valid YAML"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_line_and_soon(text: str, said: str) -> None:
    start = time.monotonic()
    with pytest.raises(UserError) as e:
        read(text)
    assert str(e.value).startswith("c.yaml")
    assert said in str(e.value)
    assert time.monotonic() - start < 5  # without bounds the bombs take minutes or all memory
