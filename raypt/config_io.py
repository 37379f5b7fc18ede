"""From a command line to a validated configuration: YAML file, dotted overrides, precise error messages."""

import copy
import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from raypt import storage
from raypt.config_values import NULLS, Slot
from raypt.config_yaml import Steps, parse_yaml
from raypt.errors import UserError

Config = TypeVar("Config", bound=BaseModel)

COMMAND_LINE = "command line"

_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


@dataclass(frozen=True)
class Loaded(Generic[Config]):
    """A configuration, and where what was said of it was said."""

    config: Config
    tree: dict[str, Any]
    """What was said, without defaults and presets."""
    origins: dict[Steps, str]
    """`FILE:line` or `command line` of every key of the tree, by its steps."""


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


def parse_value(text: str, slot: Slot, key: str) -> Any:
    """The value of an override: text as it stands where the key takes text, else YAML, typed by the key."""
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    if not quoted:
        if slot.is_text() or (slot.takes_texts() and not text.startswith("[")):
            if text in NULLS and (slot.nullable() or not slot.is_text()):
                return None if text else text
            return text if slot.is_text() else [text]
        if not text.strip():
            return text
    return parse_yaml(text, f"{key}: cannot read the value {text!r}", slot)


def apply_override(
    tree: dict[str, Any],
    text: str,
    defaults: dict[str, Any] | None = None,
    *,
    cls: type[BaseModel] | None = None,
    origins: dict[Steps, str] | None = None,
) -> None:
    """Set `dotted.key=value` in `tree`, the value read as `cls` has it. The index one past a list's end appends.

    `tree` holds only what was set; a list that is indexed into and not set yet is taken from `defaults`. `origins` gets
    the key as said on the command line.
    """
    key, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"{text!r} is not an override: write section.key=value (or --config FILE)")
    steps = parse_path(key.strip())
    slot = Slot(Any if cls is None else cls)
    for step in steps:
        slot = slot.child(step)
    parsed = parse_value(value, slot, key.strip())
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
    if origins is not None:
        place = tuple(steps)
        for known_place in [p for p in origins if p[: len(place)] == place]:
            del origins[known_place]
        origins[place] = COMMAND_LINE


def read_yaml(uri: str, cls: type[BaseModel], origins: dict[Steps, str] | None = None) -> dict[str, Any]:
    """What a configuration file says, typed by the keys of `cls`; `origins` gets the line of every key."""
    try:
        text = storage.read_bytes(uri).decode("utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"--config {uri}: no such file") from None
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(f"--config {uri}: cannot be read as text: {e}") from None
    value = parse_yaml(text, uri, Slot(cls), origins)
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


def all_keys(cls: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    """Every dotted key of a configuration class, depth first, sections included."""
    return ((key, holder.model_fields[name]) for key, holder, name in all_fields(cls))


def all_fields(cls: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, type[BaseModel], str]]:
    """As `all_keys`; the class of the section that has the key, and its name there."""
    for name, info in cls.model_fields.items():
        key = f"{prefix}{name}"
        yield key, cls, name
        inner = submodel(info.annotation)
        if inner is not None:
            many = "tuple[" in str(info.annotation) or "list[" in str(info.annotation)
            yield from all_fields(inner, f"{key}[]." if many else f"{key}.")


def _describe(cls: type[BaseModel], error: Any, origins: Mapping[Steps, str]) -> str:
    loc = tuple(step for step in error["loc"] if not str(step).startswith("function-"))
    key = format_path(loc) or "the configuration"
    origin = origins.get(loc, COMMAND_LINE)
    said = "" if origin == COMMAND_LINE else f" ({origin})"
    if error["type"] != "extra_forbidden":
        message = error["msg"].removeprefix("Value error, ")
        got = error.get("input")
        shown = "" if isinstance(got, dict | BaseModel) or error["type"] == "missing" else f" (got {got!r})"
        return f"{key}: {message}{shown}{said}"
    wrong = str(loc[-1])
    holder = _class_at(cls, loc)
    near = difflib.get_close_matches(wrong, list(holder.model_fields), 1, 0.5) if holder else []
    if near:
        return f"{key}: unknown key; did you mean {format_path([*loc[:-1], near[0]])}?{said}"
    same = [k for k, _ in all_keys(cls) if k.rsplit(".", 1)[-1] == wrong]
    if same:
        return f"{key}: unknown key; did you mean {same[0]}?{said}"
    known = f"; known here: {', '.join(holder.model_fields)}" if holder else ""
    return f"{key}: unknown key{known}{said}"


def validate(cls: type[Config], tree: dict[str, Any], origins: Mapping[Steps, str] | None = None) -> Config:
    """`tree` as a `cls`. Raises UserError with one line a mistake, each naming its key, and where a file says it."""
    try:
        return cls.model_validate(tree)
    except ValidationError as e:
        lines = list(dict.fromkeys(_describe(cls, error, origins or {}) for error in e.errors()))
        raise UserError("\n".join(lines)) from None


def read(cls: type[Config], config_uri: str | None, overrides: list[str]) -> Loaded[Config]:
    """Defaults, then the YAML file, then the overrides in order, with where each was said.

    What is not set stays out of the tree: a section's `preset` fills in for what was not said, not for what was.
    """
    origins: dict[Steps, str] = {}
    tree = read_yaml(config_uri, cls, origins) if config_uri else {}
    defaults = cls().model_dump(mode="json")
    for text in overrides:
        apply_override(tree, text, defaults, cls=cls, origins=origins)
    return Loaded(validate(cls, tree, origins), tree, origins)


def load(cls: type[Config], config_uri: str | None, overrides: list[str]) -> Config:
    """The configuration alone that `read` gives."""
    return read(cls, config_uri, overrides).config


def dump_yaml(config: BaseModel) -> str:
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def differences(old: Any, new: Any, at: tuple[str | int, ...] = ()) -> list[tuple[str, Any, Any]]:
    """(key, old value, new value) of the leaves in which two trees of settings differ; a list is a leaf."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = list(dict.fromkeys([*old, *new]))
        return [d for k in keys for d in differences(old.get(k), new.get(k), (*at, k))]
    return [] if old == new else [(format_path(at), old, new)]
