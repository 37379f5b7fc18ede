"""The base of every configuration section: immutable, typed, and closed to unknown keys."""

import ast
import functools
import inspect
import itertools
import textwrap
from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """A section of the run configuration.

    Each field's docstring (the string under it) is its documentation: `--help` prints it (`field_docs`). A threshold
    says its unit and the paper or system its default comes from; `None` switches a rule off.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


@functools.cache
def field_docs(section: type[BaseModel]) -> Mapping[str, str]:
    """The string under each field of a section, also of those that it has from another class; read from the sources.
    (pydantic's `use_attribute_docstrings` reads them as each class is made, 0.15 s of every process.)
    """
    out: dict[str, str] = {}
    for cls in reversed(section.__mro__):
        if not issubclass(cls, BaseModel) or cls is BaseModel:
            continue
        try:
            definition = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
        except OSError:  # it was put together, and has no source (`create_model`)
            continue
        assert isinstance(definition, ast.ClassDef)
        for field, under in itertools.pairwise(definition.body):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                out.pop(field.target.id, None)
                if isinstance(under, ast.Expr) and isinstance(under.value, ast.Constant):
                    out[field.target.id] = inspect.cleandoc(str(under.value.value))
    return out
