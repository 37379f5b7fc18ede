"""From a command line to a validated configuration: YAML file, dotted overrides, help text, precise error messages."""

import copy
import difflib
import re
import textwrap
from collections.abc import Iterator
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from raypt import storage
from raypt.errors import UserError

Config = TypeVar("Config", bound=BaseModel)

_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


def parse_path(dotted: str) -> list[str | int]:
    """`a.b[0].c` -> ["a", "b", 0, "c"]."""
    steps: list[str | int] = []
    at = 0
    while at < len(dotted):
        if dotted[at] == "." and steps:
            at += 1
        match = _STEP.match(dotted, at)
        if not match:
            raise UserError(f"cannot read the key {dotted!r}: write it as section.key or section.list[0].key")
        steps.append(match[1] if match[1] is not None else int(match[2]))
        at = match.end()
    if not steps:
        raise UserError("an override is written as section.key=value")
    return steps


def format_path(steps: tuple[str | int, ...] | list[str | int]) -> str:
    out = ""
    for step in steps:
        out += f"[{step}]" if isinstance(step, int) else (f".{step}" if out else str(step))
    return out


def apply_override(tree: dict[str, Any], text: str, defaults: dict[str, Any] | None = None) -> None:
    """Set `dotted.key=value` in `tree`; the value is read as YAML. The index one past a list's end appends.

    `tree` holds only what was set; a list that is indexed into and not set yet is taken from `defaults`.
    """
    key, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"{text!r} is not an override: write section.key=value (or --config FILE)")
    steps = parse_path(key.strip())
    try:
        parsed = yaml.safe_load(value) if value.strip() else value
    except yaml.YAMLError as e:
        raise UserError(f"{key}: cannot read the value {value!r} as YAML: {e}") from None
    node: Any = tree
    default: Any = defaults
    for i, step in enumerate(steps):
        here, last = format_path(steps[: i + 1]), i == len(steps) - 1
        if isinstance(step, int):
            if not isinstance(node, list):
                raise UserError(f"{here}: {format_path(steps[:i])} is not a list")
            if step > len(node):
                raise UserError(f"{here}: the list has {len(node)} entries; the next index is {len(node)}")
            if step == len(node):
                node.append({})
        elif not isinstance(node, dict):
            raise UserError(f"{here}: {format_path(steps[:i])} has no keys of its own")
        elif node.get(step) is None and not last:
            known = default.get(step) if isinstance(default, dict) else None
            node[step] = copy.deepcopy(known) if isinstance(known, list) else {}
        default = default.get(step) if isinstance(default, dict) and isinstance(step, str) else None
        if last:
            node[step] = parsed
        else:
            node = node[step]


def read_yaml(uri: str) -> dict[str, Any]:
    if not storage.exists(uri):
        raise UserError(f"--config {uri}: no such file")
    try:
        value = yaml.safe_load(storage.read_bytes(uri))
    except yaml.YAMLError as e:
        raise UserError(f"--config {uri}: not valid YAML: {e}") from None
    if value is not None and not isinstance(value, dict):
        raise UserError(f"--config {uri}: the top level must be a mapping of sections")
    return value or {}


def submodel(annotation: Any) -> type[BaseModel] | None:
    """The settings class in an annotation such as `X`, `X | None` or `tuple[X, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((m for arg in get_args(annotation) if (m := submodel(arg)) is not None), None)


def _class_at(cls: type[BaseModel], loc: tuple[str | int, ...]) -> type[BaseModel] | None:
    """The settings class that holds the last step of `loc`."""
    at: type[BaseModel] | None = cls
    for step in loc[:-1]:
        if isinstance(step, int):
            continue
        if at is None or step not in at.model_fields:
            return None
        at = submodel(at.model_fields[step].annotation)
    return at


def all_keys(cls: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every dotted key of a configuration class, depth first, sections included."""
    for name, field in cls.model_fields.items():
        key = f"{prefix}{name}"
        yield key, field
        inner = submodel(field.annotation)
        if inner is not None:
            many = "tuple[" in str(field.annotation) or "list[" in str(field.annotation)
            yield from all_keys(inner, f"{key}[]." if many else f"{key}.")


def _describe(cls: type[BaseModel], error: Any) -> str:
    loc = tuple(step for step in error["loc"] if not str(step).startswith("function-"))
    key = format_path(loc) or "the configuration"
    if error["type"] != "extra_forbidden":
        message = error["msg"].removeprefix("Value error, ")
        got = error.get("input")
        shown = "" if isinstance(got, dict | BaseModel) or error["type"] == "missing" else f" (got {got!r})"
        return f"{key}: {message}{shown}"
    wrong = str(loc[-1])
    holder = _class_at(cls, loc)
    near = difflib.get_close_matches(wrong, list(holder.model_fields), 1, 0.5) if holder else []
    if near:
        return f"{key}: unknown key; did you mean {format_path([*loc[:-1], near[0]])}?"
    same = [k for k, _ in all_keys(cls) if k.rsplit(".", 1)[-1] == wrong]
    if same:
        return f"{key}: unknown key; did you mean {same[0]}?"
    known = f"; known here: {', '.join(holder.model_fields)}" if holder else ""
    return f"{key}: unknown key{known}"


def validate(cls: type[Config], tree: dict[str, Any]) -> Config:
    """`tree` as a `cls`. Raises UserError with one line a mistake, each naming its key."""
    try:
        return cls.model_validate(tree)
    except ValidationError as e:
        lines = list(dict.fromkeys(_describe(cls, error) for error in e.errors()))
        raise UserError("\n".join(lines)) from None


def load(cls: type[Config], config_uri: str | None, overrides: list[str]) -> Config:
    """Defaults, then the YAML file, then the overrides in order.

    What is not set stays out of the tree: a section's `preset` fills in for what was not said, not for what was.
    """
    tree = read_yaml(config_uri) if config_uri else {}
    defaults = cls().model_dump(mode="json")
    for text in overrides:
        apply_override(tree, text, defaults)
    return validate(cls, tree)


def dump_yaml(config: BaseModel) -> str:
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def help_text(cls: type[BaseModel]) -> str:
    """Every key with its default and its documentation."""
    lines = []
    for key, field in all_keys(cls):
        doc = textwrap.fill(
            " ".join((field.description or "").split()), 100, initial_indent=" " * 6, subsequent_indent=" " * 6
        )
        if submodel(field.annotation) is not None:
            lines.append(f"\n{key}:" if "." not in key else f"  {key}:")
        else:
            default = "(required)" if field.is_required() else f"= {field.get_default(call_default_factory=True)!r}"
            lines.append(f"  {key} {default}")
        if doc.strip():
            lines.append(doc)
    return "\n".join(lines)
