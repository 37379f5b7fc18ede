"""YAML read for a configuration: typed by the keys, each key once, bounded, and with the line of every value.

Files come from outside: depth and size are bounded, tags are refused, and aliases are followed only so far.
"""

from dataclasses import dataclass, field
from typing import Any

import yaml

from raypt.config_values import Slot, read_scalar
from raypt.errors import UserError

MAX_DEPTH = 32
MAX_VALUES = 100_000

Steps = tuple[str | int, ...]


def parse_yaml(text: str, where: str, slot: Slot, origins: dict[Steps, str] | None = None, at: Steps = ()) -> Any:
    """The value of a YAML document, as `slot` takes it; None if it is empty.

    Args:
        where: what to call the text in messages and origins: a file's name.
        origins: gets the place (`web.yaml:12`) of every key and entry, by its steps from the top.
        at: the steps that lead to this value.

    Raises:
        UserError: what is no YAML, a key said twice, too deep or too much, each with its line.
    """
    _check_events(text, where)
    try:
        node = yaml.SafeLoader(text).get_single_node()
    except yaml.YAMLError as e:
        raise _broken(e, where) from None
    return None if node is None else _Builder(where, {} if origins is None else origins).build(node, slot, at)


def _broken(error: yaml.YAMLError, where: str) -> UserError:
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return UserError(f"{where}: not valid YAML: {error}")
    context = getattr(error, "context", None)
    said = ", ".join(part for part in (context, getattr(error, "problem", None)) if part)
    return UserError(f"{where}, line {mark.line + 1}, column {mark.column + 1}: not valid YAML: {said}")


def _line(marked: yaml.Node | yaml.Event) -> int:
    mark: Any = marked.start_mark
    return int(mark.line) + 1


def _check_events(text: str, where: str) -> None:
    """Depth and tags, before anything is built."""
    depth = 0
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            line = _line(event)
            tag = getattr(event, "tag", None)
            if tag is not None:
                raise UserError(f"{where}, line {line}: tags such as {tag!r} are not read")
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
            if depth > MAX_DEPTH:
                raise UserError(f"{where}, line {line}: nested deeper than {MAX_DEPTH} levels")
    except yaml.YAMLError as e:
        raise _broken(e, where) from None


@dataclass
class _Builder:
    where: str
    origins: dict[Steps, str]
    count: int = field(default=0)

    def build(self, node: yaml.Node, slot: Slot, at: Steps) -> Any:
        line = _line(node)
        self.count += 1
        if self.count > MAX_VALUES or len(at) > MAX_DEPTH:
            raise UserError(f"{self.where}, line {line}: more than {MAX_VALUES:,} values or {MAX_DEPTH} levels")
        if at:
            self.origins[at] = f"{self.where}:{line}"
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, slot, at)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(entry, slot.child(i), (*at, i)) for i, entry in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode)
        try:
            return read_scalar(node.value, slot, quoted=node.style in ("'", '"', "|", ">"))
        except ValueError as e:
            raise UserError(f"{self.where}, line {line}: {node.value!r}: {e}") from None

    def mapping(self, node: yaml.MappingNode, slot: Slot, at: Steps) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        out: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            line = _line(key_node)
            if not isinstance(key_node, yaml.ScalarNode):
                raise UserError(f"{self.where}, line {line}: a key must be a plain word")
            key = key_node.value
            if key in lines:
                raise UserError(f"{self.where}, line {line}: {key!r} is said twice, first in line {lines[key]}")
            lines[key] = line
            if key == "<<" and key_node.style is None:
                several = isinstance(value_node, yaml.SequenceNode)
                for other in reversed(value_node.value) if several else [value_node]:
                    if not isinstance(other, yaml.MappingNode):
                        raise UserError(f"{self.where}, line {line}: << takes a mapping or a list of them")
                    merged |= self.build(other, slot, at)
            else:
                out[key] = self.build(value_node, slot.child(key), (*at, key))
                self.origins[(*at, key)] = f"{self.where}:{line}"  # the value may begin a line later
        return merged | out
