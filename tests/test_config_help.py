"""What a person may ask of a configuration: sections, keys, and where a value comes from."""

from pathlib import Path

import pytest
import yaml
from pydantic import Field, model_validator

from raypt.config_help import help_text, origins_text, section_text, sections_text
from raypt.config_io import load, read
from raypt.errors import UserError
from raypt.settings import Settings


class Inner(Settings):
    """Things of Rae et al. 2021. And more."""

    preset: str | None = None
    """Name."""
    rate: float = 0.5
    """Share of something."""
    size: int = 1
    """Size."""
    by_lang: dict[str, float] = Field(default_factory=dict)
    """By language."""

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, values: dict) -> dict:
        return {"size": 7, **values} if values.get("preset") == "big" else values


class Item(Settings):
    """One of many."""

    path: str = "x"
    """Where."""


class Outer(Settings):
    inner: Inner = Inner()
    """Things inside."""
    items: tuple[Item, ...] = (Item(),)
    """A list."""
    maybe: Inner | None = None
    """Optional."""


def test_help_shows_every_key_with_default_and_documentation() -> None:
    text = help_text(Outer)
    for expected in ("inner.rate = 0.5", "Share of something.", "items[].path = 'x'", "maybe.rate"):
        assert expected in text


def test_the_sections_take_a_line_each() -> None:
    assert sections_text(Outer).splitlines() == [
        "  inner  Things of Rae et al. 2021.",
        "  items  One of many.",
        "  maybe  Things of Rae et al. 2021.",
    ]


def test_a_section_and_a_key_explain_themselves() -> None:
    assert "items[].path = 'x'" in section_text(Outer, "items")
    assert "items[].path = 'x'" in section_text(Outer, "items[0].path")
    assert "inner.rate" not in section_text(Outer, "items")


@pytest.mark.parametrize(("name", "near"), [("iner", "inner"), ("inner.rat", "inner.rate"), ("path", "items.path")])
def test_the_nearest_section_is_named(name: str, near: str) -> None:
    with pytest.raises(UserError, match=f"did you mean {near}"):
        section_text(Outer, name)


def test_every_value_says_where_it_comes_from(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("inner:\n  preset: big\n  by_lang:\n    no: 0.5\nitems:\n- path: a\n- path: b\n")
    text = origins_text(read(Outer, str(file), ["items[1].path=c", "inner.by_lang.de=1"]))
    lines = {line.split("  #")[0].strip(): line.split("# ")[1] for line in text.splitlines() if "#" in line}
    assert lines == {
        "preset: big": f"{file}:2",
        "rate: 0.5": "default",
        "size: 7": "preset big",
        "by_lang: {'no': 0.5, de: 1.0}": f"{file}:3, command line",
        "- path: a": f"{file}:6",
        "- path: c": "command line",
        "maybe: null": "default",
    }


def test_what_is_printed_reads_back_equal(tmp_path: Path) -> None:
    loaded = read(Outer, None, ["items[0].path=no #1", "items[1].path=文", "maybe.rate=1e-3", "inner.preset=big"])
    (tmp_path / "c.yaml").write_text(origins_text(loaded))
    assert load(Outer, str(tmp_path / "c.yaml"), []) == loaded.config
    assert yaml.safe_load(origins_text(loaded))["items"][0]["path"] == "no #1"
