"""Attributes of documents: what every enabled stage measures, and the text as the editing stages leave it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from raypt.curation.config import CurationConfig
from raypt.curation.language import identify
from raypt.curation.pii.mask import mask_pii
from raypt.curation.quality.model import QualityModel
from raypt.curation.rules import (
    bad_words,
    c4,
    character_repetition,
    characters,
    fineweb,
    gopher_quality,
    gopher_repetition,
    keywords,
    length,
    refinedweb_lines,
    repeated_phrases,
    url,
)
from raypt.curation.scan import Buffers
from raypt.curation.view import Measured, View
from raypt.text.buffers import TextBatch, byte_lengths, slices

SLICE_BYTES = 4 << 20

RULES: dict[str, Callable[[View, Any], Measured]] = {
    "url": url.measure,
    "length": length.measure,
    "characters": characters.measure,
    "gopher_repetition": gopher_repetition.measure,
    "gopher_quality": gopher_quality.measure,
    "character_repetition": character_repetition.measure,
    "c4": c4.measure,
    "refinedweb_lines": refinedweb_lines.measure,
    "repeated_phrases": repeated_phrases.measure,
    "fineweb": fineweb.measure,
    "bad_words": bad_words.measure,
    "keywords": keywords.measure,
}


class Tagger:
    """Adds attribute columns to documents and rewrites their text. Pure: the same table in, the same table out; but
    one table at a time, since its memory is kept from one to the next.

    The stages run in the order of the configuration, each on the text as the ones before it left it. Columns added:
    language: `lang` string, `lang_score` float32; each rule stage: a struct named like the stage with its metrics
    (null: the rule does not apply) and, if it edits, `cut_bytes_<reason>` int64; quality: `quality_score` float32; pii:
    `pii_spans`, a list of the spans masked (byte positions in the text before masking). `source_bytes` and `text_bytes`
    (int64) are the lengths of the text in UTF-8 before and after.

    Memory: 0.3 GB for the process with its models and compiled kernels, the table, 50 MB for a slice of it at work, and
    about 12 bytes a byte of the longest document.
    """

    def __init__(self, config: CurationConfig, quality: QualityModel | None = None) -> None:
        self.config, self.quality = config, quality
        self._buffers = Buffers()

    def tag(self, docs: pa.Table) -> pa.Table:
        """`docs` (document table; any columns beside `text` pass through) with text rewritten and attributes added."""
        pieces = list(slices(docs.column("text"), SLICE_BYTES)) or [(0, pa.array([], pa.string()))]
        return pa.concat_tables(self._tag_slice(docs.slice(row, len(text)), text) for row, text in pieces)

    def _tag_slice(self, docs: pa.Table, text: pa.Array) -> pa.Table:
        config = self.config
        batch = TextBatch.from_arrow(text)
        added: dict[str, pa.Array] = {"source_bytes": pa.array(np.diff(batch.offsets))}
        added["lang"] = _given(docs, "lang", config.language.assume)
        view = View(batch, added["lang"], _given(docs, "url", None), self._buffers)
        for stage in config.stages:
            if stage == "language":
                added["lang"], score = identify(view.text, config.language)
                added["lang_score"] = pa.array(score)
                view.languages = added["lang"]
            elif stage == "quality":
                if self.quality is not None:
                    added["quality_score"] = pa.array(self.quality.score(view.text.to_arrow()))
            elif stage == "pii":
                if config.pii.kinds:
                    masked, added["pii_spans"], _ = mask_pii(view.text.to_arrow(), config.pii)
                    view = view.edited(TextBatch.from_arrow(masked))
            else:
                measured = RULES[stage](view, getattr(config, stage))
                added[stage] = measured.attributes
                if measured.text is not None:
                    view = view.edited(measured.text)
        final = view.text.to_arrow().cast(pa.string())
        added["text_bytes"] = pa.array(byte_lengths(final))
        out = docs.set_column(docs.column_names.index("text"), "text", final)
        for name, column in added.items():
            if name in out.column_names:
                out = out.set_column(out.column_names.index(name), name, column)
            else:
                out = out.append_column(name, column)
        return out


def _given(docs: pa.Table, column: str, default: str | None) -> pa.Array:
    """A string column of the input, or `default` in every row."""
    if column not in docs.column_names:
        return pa.array([default] * len(docs), pa.string())
    values = docs.column(column).cast(pa.string()).combine_chunks()
    return pa.concat_arrays(values.chunks) if isinstance(values, pa.ChunkedArray) else values
