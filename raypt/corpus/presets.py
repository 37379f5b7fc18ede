"""Published data sets by name: which fields hold the text, the URL and the metadata, and how to check that they do.

`corpus.sources: [{preset: pile, paths: /data/pile/*.jsonl.zst}]` is all it takes. A preset fills in the fields of its
source that were left at their defaults and adds the data set's metadata as columns, for mixtures and ledgers.
"""

import ast
import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from raypt.corpus.config import SourceConfig
from raypt.errors import UserError

MAX_LITERAL_CHARS = 65_536
"""Longest Python literal that is parsed; parsing costs memory and stack in proportion to it."""


@dataclass(frozen=True)
class Preset:
    """Where a data set keeps what (dotted paths), and the top-level fields by which it is recognised."""

    data_set: str
    text_field: str
    fields: tuple[str, ...]
    """Top-level fields that every record has."""
    id_field: str | None = None
    url_field: str | None = None
    columns: dict[str, str] = field(default_factory=dict)
    """Columns to carry, as `name: path`."""
    literals: tuple[str, ...] = ()
    """Top-level fields that hold a Python literal as a string."""


PRESETS: dict[str, Preset] = {
    # Gao et al. 2020. meta is an object with the name of the component.
    "pile": Preset(
        "The Pile",
        text_field="text",
        fields=("text", "meta"),
        columns={"pile_set_name": "meta.pile_set_name"},
    ),
    # Soboleva et al. 2023.
    "slimpajama": Preset(
        "SlimPajama",
        text_field="text",
        fields=("text", "meta"),
        columns={"redpajama_set_name": "meta.redpajama_set_name"},
    ),
    # Penedo et al. 2023, tiiuae/falcon-refinedweb. The text is in `content`.
    "refinedweb": Preset(
        "RefinedWeb",
        text_field="content",
        fields=("content", "url", "timestamp", "dump", "segment"),
        url_field="url",
        columns={"timestamp": "timestamp", "dump": "dump", "segment": "segment"},
    ),
    # Nguyen et al. 2023. `source` (mC4 or an OSCAR release) would collide with the name of the source.
    "culturax": Preset(
        "CulturaX",
        text_field="text",
        fields=("text", "timestamp", "url", "source"),
        url_field="url",
        columns={"timestamp": "timestamp", "culturax_source": "source"},
    ),
    # Laurençon et al. 2022. meta is str() of a Python dict, whose keys depend on the component.
    "roots": Preset(
        "ROOTS",
        text_field="text",
        fields=("text", "meta"),
        id_field="meta.id",
        url_field="meta.url",
        columns={"source_dataset": "meta.source_dataset", "title": "meta.title", "type": "meta.type"},
        literals=("meta",),
    ),
}


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
    return source.model_copy(update={**filled, "columns": {**preset.columns, **source.columns}})


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
    fits = [name for name, other in PRESETS.items() if all(f in present for f in other.fields)]
    hint = (
        f"; these are the fields of preset {' or '.join(fits)}" if fits else "; leave `preset` out and set text_field"
    )
    raise UserError(
        f"{key}.preset: {uri} is not {preset.data_set}: "
        f"it lacks {', '.join(missing)} and has {', '.join(present)}{hint}"
    )


def parse_literal(value: str) -> Any:
    """The value of a Python literal (never evaluated, at most MAX_LITERAL_CHARS long), or None if it is none."""
    if len(value) > MAX_LITERAL_CHARS:
        return None
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def decode_fields(source: SourceConfig, fields: dict[str, Any]) -> dict[str, Any]:
    """A record's fields with the preset's literals parsed; what cannot be parsed stays the string it is."""
    literals = PRESETS[source.preset].literals if source.preset in PRESETS else ()
    if not literals:
        return fields
    parsed = {name: parse_literal(fields[name]) for name in literals if isinstance(fields.get(name), str)}
    return {**fields, **{name: value for name, value in parsed.items() if value is not None}}
