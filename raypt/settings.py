"""The base of every configuration section: immutable, typed, and closed to unknown keys."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """A section of the run configuration.

    Each field's docstring (the string under it) is its documentation: `--help` prints it. A threshold says its unit and
    the paper or system its default comes from; `None` switches a rule off.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=True)
