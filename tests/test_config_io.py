"""Configuration from files and overrides, and what a mistake in it says."""

from pathlib import Path

import pytest
from pydantic import Field, model_validator

from raypt.config_io import apply_override, dump_yaml, load, parse_path, validate
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


class Texts(Settings):
    word: str = ""
    """Text."""
    maybe: str | None = "x"
    """Text or nothing."""
    words: tuple[str, ...] = ()
    """Texts."""
    by_word: dict[str, str] = Field(default_factory=dict)
    """Texts by text."""
    shard_bytes: int = 1
    """Bytes."""
    wait_s: float = 1.0
    """Seconds."""


@pytest.mark.parametrize("text", ["no", "001", "*", "a #b", "a: b", "{x", "@x", "1e3", " padded ", "x=y", "null"])
def test_text_on_the_command_line_is_taken_as_it_stands(text: str) -> None:
    assert load(Texts, None, [f"word={text}"]).word == text
    assert load(Texts, None, [f"by_word.k={text}"]).by_word == {"k": text}


def test_quotes_around_all_of_it_are_yamls() -> None:
    assert load(Texts, None, ["word='no'"]).word == "no"
    assert load(Texts, None, ['word="a\\tb"']).word == "a\tb"
    assert load(Texts, None, ["maybe=null"]).maybe is None
    assert load(Texts, None, ["maybe='null'"]).maybe == "null"


def test_one_text_is_a_list_of_one(tmp_path: Path) -> None:
    assert load(Texts, None, ["words=data/*.gz"]).words == ("data/*.gz",)
    (tmp_path / "c.yaml").write_text("words: no\n")
    assert load(Texts, str(tmp_path / "c.yaml"), []).words == ("no",)
    with pytest.raises(UserError, match="words: Input should be a valid tuple"):
        load(Texts, None, ["words=null"])


def test_lists_and_mappings_of_text_hold_text() -> None:
    assert load(Texts, None, ["words=[no, 001, '*.gz']"]).words == ("no", "001", "*.gz")
    assert load(Texts, None, ["by_word={no: 001}"]).by_word == {"no": "001"}


def test_numbers_take_units() -> None:
    config = load(Texts, None, ["shard_bytes=64MiB", "wait_s=1.5h"])
    assert (config.shard_bytes, config.wait_s) == (64 << 20, 5400.0)
    with pytest.raises(UserError, match=r"wait_s: cannot read the value '2MB', line 1: '2MB': 'MB' counts bytes"):
        load(Texts, None, ["wait_s=2MB"])


def test_a_mistake_in_a_file_names_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("inner:\n  rate: 3\nitems:\n- path: a\n  pth: b\n")
    with pytest.raises(UserError) as e:
        load(Outer, str(file), [])
    assert f"inner.rate: Input should be less than or equal to 1 (got 3.0) ({file}:2)" in str(e.value)
    assert f"items[0].pth: unknown key; did you mean items[0].path? ({file}:5)" in str(e.value)


def test_a_value_of_the_command_line_is_not_laid_to_the_file(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("inner:\n  rate: 1\n")
    with pytest.raises(UserError) as e:
        load(Outer, str(file), ["inner.rate=3"])
    assert str(file) not in str(e.value)


def test_a_file_that_is_no_text_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_bytes(b"a: \xff\xfe")
    with pytest.raises(UserError, match="cannot be read as text"):
        load(Outer, str(tmp_path / "c.yaml"), [])
    with pytest.raises(UserError, match="cannot be read as text"):
        load(Outer, str(tmp_path), [])


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
