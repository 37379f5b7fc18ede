"""Attributes of documents: what every enabled stage measures, and the text as the editing stages leave it."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from raypt.curation.config import CurationConfig
from raypt.curation.scan import Buffers
from raypt.curation.segmenters import Segmenters
from raypt.curation.view import View
from raypt.text.buffers import TextBatch, byte_lengths, slices

SLICE_BYTES = 4 << 20


class Tagger:
    """Adds attribute columns to documents and rewrites their text. Pure: the same table in, the same table out; but
    one table at a time, since its memory is kept from one to the next.

    The stages run in the order of the configuration, each on the text as the ones before it left it. Columns added: a
    struct a rule stage, named like it, with its metrics (null: the rule does not apply) and, if it edits,
    `cut_bytes_<reason>` int64; and the columns that other stages name. `source_bytes` and `text_bytes` (int64) are the
    lengths of the text in UTF-8 before and after.

    Memory: 0.3 GB for the process with its models and compiled kernels, the table, 50 MB for a slice of it at work, and
    about 12 bytes a byte of the longest document.
    """

    def __init__(self, config: CurationConfig, artefacts: Mapping[str, str] | None = None) -> None:
        """`artefacts`: URIs of what was made for stages in the run (a trained classifier), by name of the stage."""
        self.config = config
        made = artefacts or {}
        self._stages = [(stage, stage.settings.load(made.get(stage.name))) for stage in config.plan()]
        self._buffers = Buffers()
        self._segmenters = Segmenters(config.words.segmenters) if config.words.segmenters else None

    def tag(self, docs: pa.Table) -> pa.Table:
        """`docs` (document table; any columns beside `text` pass through) with text rewritten and attributes added."""
        pieces = list(slices(docs.column("text"), SLICE_BYTES)) or [(0, pa.array([], pa.string()))]
        return pa.concat_tables(self._tag_slice(docs.slice(row, len(text)), text) for row, text in pieces)

    def _tag_slice(self, docs: pa.Table, text: pa.Array) -> pa.Table:
        batch = TextBatch.from_arrow(text)
        given = {name: _array(docs, name) for name in docs.column_names if name != "text"}
        lang = _strings(given.get("lang"), len(docs), self.config.language.assume)
        url = _strings(given.get("url"), len(docs), None)
        view = View(batch, {**given, "lang": lang, "url": url}, self._buffers, self._segmenters)
        added: dict[str, pa.Array] = {"source_bytes": pa.array(np.diff(batch.offsets)), "lang": lang}
        for stage, resources in self._stages:
            columns, edited = stage.measure(view, resources)
            added |= columns
            view = view.after(edited, columns)
        final = view.text.to_arrow().cast(pa.string())
        added["text_bytes"] = pa.array(byte_lengths(final))
        out = docs.set_column(docs.column_names.index("text"), "text", final)
        for name, column in added.items():
            if name in out.column_names:
                out = out.set_column(out.column_names.index(name), name, column)
            else:
                out = out.append_column(name, column)
        return out


def _array(docs: pa.Table, column: str) -> pa.Array:
    values = docs.column(column).combine_chunks()
    return pa.concat_arrays(values.chunks) if isinstance(values, pa.ChunkedArray) else values


def _strings(values: pa.Array | None, rows: int, default: str | None) -> pa.Array:
    """A string column of the input, or `default` in every row."""
    return pa.array([default] * rows, pa.string()) if values is None else values.cast(pa.string())
