"""Examples for the report: removed documents by rule beside what the rule measured, and records in quarantine.

Of removed documents those that were chosen when they were written (`raypt.run.removed_examples`), or, where that is not
known, of MOST_PARTS files of `removed/` and of the tagged text. Of `quarantine/` the beginning of as many.
"""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

from raypt import storage
from raypt.curation import languages
from raypt.curation.config import CurationConfig
from raypt.curation.plan import Stage
from raypt.curation.tagging import collection, tagged_uri
from raypt.errors import UserError
from raypt.html import table, text
from raypt.outside import shown
from raypt.run.removed_examples import MOST_PARTS, PER_RULE, Looked, Part, Removed, chosen, excerpt, spread
from raypt.run_dir import RunDir

log = logging.getLogger("raypt")

QUARANTINE_BYTES = 64 << 10
"""Read from the beginning of a file of quarantined records: four or more of them."""
SIDES = ("_min", "_max", "_keep", "_drop", "_percentile", "_missing")
"""Ends of a rule's name after the metric that it bounds."""


def look(run: RunDir, shards: Sequence[int]) -> Looked:
    """Examples from the parts of `removed/` of some of these shards."""
    parts, unreadable = [], []
    looked_at = spread(shards, MOST_PARTS)
    for shard, found in zip(looked_at, storage.in_order(lambda s: _removed(run, s), looked_at, ahead=4), strict=True):
        if isinstance(found, str):
            unreadable.append(found)
            continue
        part = Part(shard)
        part.add(found.drop_columns(["reason"]), found["reason"], rows=False)
        parts.append(part)
    return replace(chosen(parts), unreadable=unreadable)


def _removed(run: RunDir, shard: int) -> pa.Table | str:
    try:
        return storage.read_parquet(run.removed(shard), ["doc_key", "id", "source", "reason"])
    except FileNotFoundError:
        return f"{run.removed(shard)} is not there"
    except UserError as e:
        return str(e)


def tagged_rows(run: RunDir, documents: Iterable[Removed]) -> dict[int, dict[str, Any]]:
    """By doc_key: the row of each document among the tagged ones, its text cut to an excerpt. Those whose file is not
    there any more, or is damaged, are left out."""
    wanted: dict[int, list[int]] = {}
    for document in documents:
        wanted.setdefault(document.shard, []).append(document.doc_key)
    out: dict[int, dict[str, Any]] = {}
    # Whose documents lie in packs, their cards say; on a local disk none do.
    cards = {} if storage.is_local(run.uri) or not wanted else collection(run).read_cards()
    uris = {s: tagged_uri(run, s, cards[s]) if s in cards else run.tagged(s) for s in wanted}
    for rows in storage.in_order(lambda shard: _rows(uris[shard], wanted[shard]), sorted(wanted), ahead=4):
        out |= rows
    return out


def _rows(uri: str, doc_keys: list[int]) -> dict[int, dict[str, Any]]:
    out: dict[int, dict[str, Any]] = {}
    try:
        with storage.open_parquet(uri) as file:
            for group in range(file.num_row_groups):
                keys = file.read_row_group(group, ["doc_key"])["doc_key"].to_numpy()
                rows = np.flatnonzero(np.isin(keys, doc_keys))
                if not rows.size:
                    continue
                for row in file.read_row_group(group).take(pa.array(rows)).to_pylist():
                    out[row["doc_key"]] = row | {"text": excerpt(row["text"])}
    except FileNotFoundError:
        return {}
    except UserError as e:
        log.warning("the report lacks examples: %s", e)
    return out


def stages_of(run: RunDir) -> dict[str, Stage]:
    """The curation stages of a run by name, as its config.yaml has them; none where that cannot be said here."""
    try:
        tree = yaml.safe_load(storage.read_bytes(run.config))
        return {stage.name: stage for stage in CurationConfig.model_validate(tree["curation"]).plan()}
    except FileNotFoundError:
        return {}
    except (
        UserError,
        ValueError,
        KeyError,
        TypeError,
        yaml.YAMLError,
    ) as e:  # code of the user's own that is not on this machine
        log.info("the report shows no thresholds: %s", e)
        return {}


def values_of(reason: str, row: Mapping[str, Any], stages: Mapping[str, Stage]) -> list[tuple[str, str, str]]:
    """`(metric, value, bound)` of a removed document: first what the rule looked at, then the stage's other metrics."""
    name, _, rule = reason.partition(".")
    metric, side = next(((rule[: -len(s)], s) for s in SIDES if rule.endswith(s)), (rule, ""))
    stage = stages.get(name)
    bound = "" if stage is None else _bound(stage, rule, row.get("lang"))
    sign = {"_min": "at least ", "_max": "at most "}.get(side, "")
    own = row.get(name if stage is None else stage.column)
    measured = dict(own) if isinstance(own, dict) else {}
    if stage is not None:
        measured = {column: row[column] for column in stage.settings.adds if column in row} | measured
    first = [(key, measured[key]) for key in (metric, f"lang_{metric}", f"{name}_{metric}") if key in measured][:1]
    rest = [(key, value) for key, value in measured.items() if (key, value) not in first]
    marked = [(key, _figure(value), f"{sign}{bound}" if bound else "") for key, value in first]
    if bound and not first:
        marked = [(rule, "", bound)]
    return marked + [(key, _figure(value), "") for key, value in rest if not isinstance(value, dict | list)]


def _bound(stage: Stage, rule: str, lang: str | None) -> str:
    """What a setting named like the rule says for a language; "" if there is none."""
    special = {code: values[rule] for code, values in stage.overrides.items() if rule in values}
    key = languages.match(lang, special)
    value = special[key] if key is not None else getattr(stage.settings, rule, None)
    if isinstance(value, tuple):
        return "one of " + ", ".join(map(str, value))
    return "" if value is None or not isinstance(value, int | float | str) else _figure(value)


def _figure(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "–" if value is None else shown(str(value), 80)


def removed_section(run: RunDir, looked: Looked, shards: int) -> str:
    """A few removed documents of every rule: where they are from, their text, what the rule measured of them. `shards`:
    that the run has.
    """
    if not looked.chosen:
        return ""
    stages = stages_of(run)
    documents = [document for of in looked.chosen.values() for document in of]
    rows = {document.doc_key: document.row for document in documents if document.row is not None}
    rows |= tagged_rows(run, (document for document in documents if document.row is None))
    parts = []
    for reason, documents in looked.chosen.items():
        shown_here = "".join(_document(document, rows.get(document.doc_key), stages) for document in documents)
        count = f"{looked.counts[reason]:,} documents" if looked.counts[reason] > 1 else "1 document"
        parts.append(f"<details><summary>{text(reason)} ({count})</summary>{shown_here}</details>")
    of = f"{looked.parts:,} of {shards:,} parts" if looked.parts < shards else "all parts"
    note = f"Up to {PER_RULE} documents a rule, chosen by a hash of their keys; counts are of {of}."
    if len(looked.counts) > len(looked.chosen):
        note += f" {len(looked.counts) - len(looked.chosen)} rarer rules are left out."
    if looked.unreadable:
        note += f" Not read: {len(looked.unreadable)} parts, the first: {looked.unreadable[0]}"
    return f"<p class=muted>{text(note)}</p>" + "".join(parts)


def _document(document: Removed, row: dict[str, Any] | None, stages: Mapping[str, Stage]) -> str:
    name = f"<p><b>{text(shown(document.id or str(document.doc_key)))}</b> <span class=muted>{text(document.source)}"
    if row is None:
        return f"{name}</span></p><p class=muted>Its text is not there any more (work/ was deleted).</p>"
    lang = f", {row['lang']}" if row.get("lang") else ""
    size = f", {row['text_bytes']:,} bytes" if row.get("text_bytes") is not None else ""
    head = f"{name}{text(lang + size)}</span></p>"
    values = values_of(document.reason, row, stages)
    measured = ""
    if values:
        first, rest = values[:1], values[1:]
        measured = table(["measured", "value", "kept if"], first, (1,))
        if rest:
            others = table(["measured", "value"], [value[:2] for value in rest], (1,))
            measured += f"<details><summary>{len(rest)} more of this stage</summary>{others}</details>"
    return f"{head}{measured}<pre dir=auto>{text(row['text'])}</pre>"


def quarantine_section(run: RunDir) -> str:
    """A few records in quarantine of every kind: where they are, why they could not be read, how they begin."""
    names = storage.listdir(run.path("quarantine"))
    chosen = spread(names, MOST_PARTS)
    kinds: dict[str, list[dict[str, Any]]] = {}
    for begin in storage.in_order(lambda n: _beginning(run.path("quarantine", n)), chosen):
        for entry in begin:
            kinds.setdefault(entry["kind"], []).append(entry)
    if not kinds:
        return ""
    parts = []
    for kind, entries in sorted(kinds.items()):
        inner = "".join(_record(entry) for entry in spread(entries, PER_RULE))
        parts.append(f"<details><summary>{text(kind)}</summary>{inner}</details>")
    of = f"{len(chosen)} of the {len(names):,} files" if len(chosen) < len(names) else "all files"
    note = f"Records that could not be read, with how they begin; examples from {of} in {run.path('quarantine')}."
    return f"<p class=muted>{text(note)}</p>" + "".join(parts)


def _beginning(uri: str) -> list[dict[str, Any]]:
    lines = storage.read_range(uri, 0, QUARANTINE_BYTES).split(b"\n")[:-1]  # what follows the last line end is cut
    return [json.loads(line) for line in lines]


def _record(entry: Mapping[str, Any]) -> str:
    place = f"record {entry['row']:,}" if entry.get("row") is not None else ""
    if not place and entry.get("byte_offset") is not None:
        place = f"byte {entry['byte_offset']:,}"
    records = f", {entry['records']:,} records" if entry.get("records") else ""
    head = f"<p><b>{text(shown(entry['file'], 300))}</b> <span class=muted>{text(place + records)}</span></p>"
    beginning = f"<pre dir=auto>{text(excerpt(entry['excerpt']))}</pre>" if entry.get("excerpt") else ""
    return f"{head}<p>{text(shown(entry['error'], 600))}</p>{beginning}"
