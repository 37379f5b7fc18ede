"""Configuration from files and overrides, and what a mistake in it says."""

from pathlib import Path

import pytest
from pydantic import Field, model_validator

from raypt.config_io import apply_override, dump_yaml, help_text, load, parse_path, validate
from raypt.errors import UserError
from raypt.settings import Settings


class Inner(Settings):
    rate: float = Field(0.5, ge=0, le=1)
    """Share of something."""
    names: tuple[str, ...] = ("a",)
    """Some names."""


class Item(Settings):
    path: str = "x"
    """Where."""


class Outer(Settings):
    inner: Inner = Inner()
    """Things inside."""
    items: tuple[Item, ...] = (Item(),)
    """A list."""
    maybe: Inner | None = None
    """Optional."""


def test_defaults_then_file_then_overrides(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("inner: {rate: 0.25, names: [b, c]}\n")
    config = load(Outer, str(tmp_path / "c.yaml"), ["inner.rate=0.75", "items[0].path=y", "items[1].path=z"])
    assert config.inner.rate == 0.75
    assert config.inner.names == ("b", "c")
    assert [i.path for i in config.items] == ["y", "z"]


class WithPreset(Settings):
    preset: str | None = None
    """Name."""
    size: int = 1
    """Size."""

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, values: dict) -> dict:
        return {"size": 7, **values} if values.get("preset") == "big" else values


class Holder(Settings):
    part: WithPreset = WithPreset()
    """Part."""


def test_a_preset_fills_in_only_what_was_not_said() -> None:
    assert load(Holder, None, ["part.preset=big"]).part.size == 7
    assert load(Holder, None, ["part.preset=big", "part.size=3"]).part.size == 3


def test_an_override_can_open_an_optional_section() -> None:
    assert load(Outer, None, ["maybe.rate=1.0"]).maybe == Inner(rate=1.0)


def test_a_written_configuration_reads_back_equal(tmp_path: Path) -> None:
    config = load(Outer, None, ["inner.names=[文, b]"])
    (tmp_path / "c.yaml").write_text(dump_yaml(config))
    assert load(Outer, str(tmp_path / "c.yaml"), []) == config


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["inner.rat=0.1"], r"inner\.rat: unknown key; did you mean inner\.rate\?"),
        (["iner.rate=0.1"], r"iner: unknown key; did you mean inner\?"),
        (["items[0].pth=q"], r"items\[0\]\.pth: unknown key; did you mean items\[0\]\.path\?"),
        (["rate=0.1"], r"rate: unknown key; did you mean inner\.rate\?"),
        (["inner.rate=2"], r"inner\.rate: .*less than or equal to 1.*got 2"),
        (["inner.rate=much"], r"inner\.rate: .*valid number.*got 'much'"),
        (["inner.rate"], "is not an override"),
        (["items[5].path=q"], r"items\[5\]: the list has 1 entries; the next index is 1"),
        (["inner.rate.x=1"], r"inner\.rate: .*valid number"),
        (["inner.names=[a"], r"inner\.names: cannot read the value"),
    ],
)
def test_a_mistake_names_its_key_and_the_nearest_valid_one(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load(Outer, None, overrides)


def test_every_mistake_is_reported_at_once() -> None:
    with pytest.raises(UserError) as e:
        validate(Outer, {"inner": {"rate": 3, "nams": []}})
    assert "inner.rate" in str(e.value)
    assert "inner.nams" in str(e.value)


def test_a_missing_file_is_a_user_error() -> None:
    with pytest.raises(UserError, match=r"nowhere\.yaml: no such file"):
        load(Outer, "nowhere.yaml", [])


def test_paths_take_dots_and_indices() -> None:
    assert parse_path("a.b[0].c") == ["a", "b", 0, "c"]


def test_an_index_into_something_else_is_refused() -> None:
    with pytest.raises(UserError, match=r"a\[0\]: a is not a list"):
        apply_override({"a": {}}, "a[0]=1")


def test_help_shows_every_key_with_default_and_documentation() -> None:
    text = help_text(Outer)
    for expected in ("inner.rate = 0.5", "Share of something.", "items[].path = 'x'", "maybe.rate"):
        assert expected in text
