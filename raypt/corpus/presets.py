"""Published data sets by name: which fields hold the text, the URL and the metadata, and how to check that they do.

`corpus.sources: [{preset: pile, paths: /data/pile/*.jsonl.zst}]` is all it takes. A preset fills in the fields of its
source that were left at their defaults and adds the data set's metadata as columns, for mixtures and ledgers.
"""

import ast
import difflib
from collections.abc import Iterable
from typing import Any

from raypt.corpus.config import SourceConfig
from raypt.corpus.data_sets import PRESETS, Preset
from raypt.errors import UserError
from raypt.outside import redact, shown

MAX_LITERAL_CHARS = 65_536
"""Longest Python literal that is parsed; parsing costs memory and stack in proportion to it."""


def preset_of(source: SourceConfig, key: str) -> Preset | None:
    """The preset a source names; UserError, naming the configuration `key` of the source, if there is no such one."""
    if source.preset is None:
        return None
    if source.preset not in PRESETS:
        near = difflib.get_close_matches(source.preset.lower(), PRESETS, n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise UserError(f"{key}.preset: there is no preset {source.preset!r}{hint} There are {', '.join(PRESETS)}")
    return PRESETS[source.preset]


def apply_preset(source: SourceConfig, key: str) -> SourceConfig:
    """`source` with its preset's fields where its own are the defaults; its own columns come on top."""
    preset = preset_of(source, key)
    if preset is None:
        return source
    defaults = {name: info.default for name, info in SourceConfig.model_fields.items()}
    filled: dict[str, Any] = {
        name: getattr(preset, name)
        for name in ("text_field", "id_field", "url_field")
        if getattr(source, name) == defaults[name]
    }
    types = {name: kind for name, kind in preset.types.items() if name not in source.columns}
    return source.model_copy(
        update={
            **filled,
            "columns": {**preset.columns, **source.columns},
            "column_types": {**types, **source.column_types},
        }
    )


def is_passed_over(source: SourceConfig, uri: str) -> bool:
    """Whether a file lies in a directory of its data set that holds something else than documents."""
    preset = PRESETS.get(source.preset or "")
    return preset is not None and not set(preset.beside).isdisjoint(uri.split("/")[:-1])


def document_columns(sources: Iterable[SourceConfig]) -> frozenset[str]:
    """Columns, beside the text, of the documents that are read from these sources."""
    presets = [(source, PRESETS.get(source.preset or "")) for source in sources]
    carried = {name for source, preset in presets for name in (*source.columns, *(preset.columns if preset else ()))}
    return frozenset(carried | {"doc_key", "id", "source", "url"})


def check_fields(source: SourceConfig, names: Iterable[str], uri: str, key: str) -> None:
    """UserError if a file's columns (or its first record's fields) are not those of the source's preset."""
    preset = preset_of(source, key)
    if preset is None:
        return
    present = list(names)
    missing = [name for name in preset.fields if name not in present]
    if not missing:
        return
    # Of the presets that fit, those that ask for most: nearly every file has what the others ask for.
    fitting = {name: len(other.fields) for name, other in PRESETS.items() if all(f in present for f in other.fields)}
    most = max(fitting.values(), default=0)
    fits = [name for name, count in fitting.items() if count == most > 1]
    hint = "; leave `preset` out and set text_field"
    if fits:
        hint = f"; these are the fields of preset {' or '.join(fits)}"
    elif preset.note:
        hint = f"; {preset.note}"
    raise UserError(
        f"{key}.preset: {redact(uri)} is not {preset.data_set}: "
        f"it lacks {', '.join(missing)} and has {', '.join(shown(str(n), 60) for n in present[:50])}{hint}"
    )


def parse_literal(value: str) -> Any:
    """The value of a Python literal (never evaluated, at most MAX_LITERAL_CHARS long), or None if it is none."""
    if len(value) > MAX_LITERAL_CHARS:
        return None
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def has_literals(source: SourceConfig) -> bool:
    """Whether fields of the source's records hold Python literals."""
    return source.preset in PRESETS and bool(PRESETS[source.preset].literals)


def decode_fields(source: SourceConfig, fields: dict[str, Any]) -> dict[str, Any]:
    """A record's fields with the preset's literals parsed; what cannot be parsed stays the string it is."""
    literals = PRESETS[source.preset].literals if source.preset in PRESETS else ()
    if not literals:
        return fields
    parsed = {name: parse_literal(fields[name]) for name in literals if isinstance(fields.get(name), str)}
    return {**fields, **{name: value for name, value in parsed.items() if value is not None}}
