"""What is said of the fields of a section."""

from pydantic import Field, create_model

from raypt.settings import Settings, field_docs


class Base(Settings):
    """A section."""

    a: int = 1
    """Of the base,
    in two lines."""
    b: int = 2
    """Also of it."""
    c: int = 3


class Derived(Base):
    """Another one."""

    b: int = Field(4, ge=0)
    """Its own."""
    d: int = 5

    def method(self) -> None:
        """No field's."""


def test_each_field_has_the_string_under_it() -> None:
    assert field_docs(Base) == {"a": "Of the base,\nin two lines.", "b": "Also of it."}


def test_a_derived_section_has_those_of_its_base_and_its_own() -> None:
    assert {name: field_docs(Derived)[name] for name in "ab"} == {"a": "Of the base,\nin two lines.", "b": "Its own."}


def test_a_section_that_was_put_together_has_those_of_its_base() -> None:
    made = create_model("Made", __base__=Base, e=(int, 6))
    assert field_docs(made) == field_docs(Base)
