"""What a person may ask of a configuration: its sections, the keys of one, and where each value comes from."""

import difflib
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from raypt.config_io import COMMAND_LINE, Loaded, all_fields, all_keys, submodel
from raypt.config_yaml import Steps
from raypt.errors import UserError
from raypt.settings import field_docs

WIDTH = 100


def _sentence(doc: str | None) -> str:
    """The first sentence of a docstring, in one line."""
    text = " ".join((doc or "").split())
    return re.split(r"(?<=[.])(?<! al\.) ", text, maxsplit=1)[0]


@dataclass(frozen=True)
class _Key:
    """A dotted key, and the section that has it, by this name."""

    key: str
    holder: type[BaseModel]
    name: str

    @property
    def info(self) -> FieldInfo:
        return self.holder.model_fields[self.name]

    @property
    def section(self) -> type[BaseModel] | None:
        """What the key holds, if it is a section itself."""
        return submodel(self.info.annotation)

    @property
    def doc(self) -> str:
        return self.info.description or field_docs(self.holder).get(self.name, "")


def documented(cls: type[BaseModel]) -> list[tuple[str, str]]:
    """Every dotted key that takes a value, with what is said of it."""
    keys = [_Key(*field) for field in all_fields(cls)]
    return [(key.key, key.doc) for key in keys if key.section is None]


def _entry(entry: _Key) -> str:
    """A key with its default and documentation; of a section, one line."""
    key, info, inner = entry.key, entry.info, entry.section
    if inner is not None:
        return f"  {key}: {_sentence(entry.doc) or _sentence(inner.__doc__)}"
    default = "(required)" if info.is_required() else f"= {info.get_default(call_default_factory=True)!r}"
    doc = " ".join(entry.doc.split())
    indent = " " * 6
    lines = [f"  {key} {default}", textwrap.fill(doc, WIDTH, initial_indent=indent, subsequent_indent=indent)]
    return "\n".join(line for line in lines if line.strip())


def sections_text(cls: type[BaseModel]) -> str:
    """The sections and their parts, a line each."""
    rows = []
    for key, info in all_keys(cls):
        inner = submodel(info.annotation)
        if inner is not None and key.count(".") < 2:
            rows.append((key.replace("[]", ""), _sentence(inner.__doc__)))
    width = max(len(key) for key, _ in rows) + 2
    return "\n".join(f"  {key:{width}}{doc}" for key, doc in rows)


def section_text(cls: type[BaseModel], name: str) -> str:
    """The keys of a section, its parts in a line each; or one key. Lists are named without an index.

    Raises:
        UserError: there is no such section or key; the nearest is named.
    """
    wanted = re.sub(r"\[\d*\]", "", name)
    keys = {key.replace("[]", ""): _Key(key, holder, name) for key, holder, name in all_fields(cls)}
    if wanted not in keys:
        near = difflib.get_close_matches(wanted, list(keys), 1, 0.6)
        ends = [key for key in keys if key.rsplit(".", 1)[-1] == wanted]
        hint = f"; did you mean {(near or ends)[0]}?" if near or ends else ""
        raise UserError(f"--help {name}: there is no such section or key{hint}")
    inner = keys[wanted].section
    if inner is None:
        return _entry(keys[wanted])
    head = textwrap.fill(" ".join((inner.__doc__ or "").split()), WIDTH)
    own = [entry for plain, entry in keys.items() if plain.rpartition(".")[0] == wanted]
    return "\n".join([f"{keys[wanted].key}: {head}", *(_entry(entry) for entry in own)])


def help_text(cls: type[BaseModel]) -> str:
    """Every key with its default and its documentation."""
    lines = []
    for key in (_Key(*field) for field in all_fields(cls)):
        lines.append(f"\n{_entry(key)[2:]}" if key.section and "." not in key.key else _entry(key))
    return "\n".join(lines)


def origins_text(loaded: Loaded[Any]) -> str:
    """The configuration as YAML, each value with where it comes from: default, preset, FILE:line, command line."""
    lines = list(_lines(loaded.config, loaded, (), ""))
    width = min(max((len(line) for line, _ in lines), default=0), 72)
    return "".join(f"{line:{width}}  # {origin}\n" if origin else f"{line}\n" for line, origin in lines)


def _lines(section: BaseModel, loaded: Loaded[Any], at: Steps, indent: str) -> Iterator[tuple[str, str]]:
    plain = section.model_dump(mode="json")
    for name in type(section).model_fields:
        yield from _value_lines(name, getattr(section, name), plain[name], loaded, (*at, name), indent)


def _value_lines(
    name: str, value: Any, plain: Any, loaded: Loaded[Any], at: Steps, indent: str
) -> Iterator[tuple[str, str]]:
    key = yaml.safe_dump(name).splitlines()[0]
    if isinstance(value, BaseModel):
        yield f"{indent}{key}:", ""
        yield from _lines(value, loaded, at, indent + "  ")
    elif isinstance(value, Mapping) and any(isinstance(v, BaseModel) for v in value.values()):
        yield f"{indent}{key}:", ""
        for inner, entry in value.items():
            yield from _value_lines(inner, entry, plain[inner], loaded, (*at, inner), indent + "  ")
    elif isinstance(value, tuple) and any(isinstance(v, BaseModel) for v in value):
        yield f"{indent}{key}:", ""
        for i, entry in enumerate(value):
            for j, (line, origin) in enumerate(_lines(entry, loaded, (*at, i), "")):
                yield f"{indent}{'  ' if j else '- '}{line}", origin
    else:
        yield f"{indent}{key}: {_flow(plain)}", _origin(loaded, at)


def _flow(plain: Any) -> str:
    text = yaml.safe_dump(plain, default_flow_style=True, allow_unicode=True, width=2**31, sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...")


def _origin(loaded: Loaded[Any], at: Steps) -> str:
    """Where the value at `at` was said: the nearest key around it that was, or a preset, or nowhere."""
    places = [at[:end] for end in range(len(at), 0, -1) if at[:end] in loaded.origins]
    if not places or not _said(loaded.tree, at):
        return _unsaid(loaded.config, at)
    inside = {origin for steps, origin in loaded.origins.items() if steps[: len(at)] == at}
    return ", ".join(dict.fromkeys([loaded.origins[places[0]], *(inside & {COMMAND_LINE})]))


def _said(tree: Any, at: Steps) -> bool:
    for step in at:
        known = range(len(tree)) if isinstance(tree, list) else tree if isinstance(tree, dict) else ()
        if step not in known:
            return False
        tree = tree[step]
    return True


def _unsaid(config: BaseModel, at: Steps) -> str:
    """`preset NAME` where validation set the value of a key that was not said, else `default`."""
    holder: Any = config
    preset: str | None = None
    for step in at[:-1]:
        if isinstance(holder, BaseModel):
            preset = getattr(holder, "preset", None) or preset
            holder = getattr(holder, str(step))
        else:
            holder = holder[step]
    if isinstance(holder, BaseModel):
        preset = getattr(holder, "preset", None) or preset
        if at[-1] in holder.model_fields_set and preset:
            return f"preset {preset}"
    return "default"
