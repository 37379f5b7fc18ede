"""Attributes of documents: what every enabled stage measures, and the text after line removal and masking."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from raypt.curation.config import CurationConfig
from raypt.curation.language import identify
from raypt.curation.quality.model import QualityModel
from raypt.curation.rules import c4, gopher_quality, gopher_repetition
from raypt.curation.scan import Features, scan
from raypt.curation.text import TextBatch, byte_lengths, slices

SLICE_BYTES = 4 << 20


class Tagger:
    """Adds attribute columns to documents and rewrites their text. Pure: the same table in, the same table out.

    Columns added, by stage: language: `lang` string, `lang_score` float32; each rule stage: a struct named like the
    stage with its metrics (null: the rule does not apply) and, if it edits, `cut_bytes_<reason>` int64; quality:
    `quality_score` float32; pii: `pii_spans`, a list of the spans masked. `source_bytes` and `text_bytes` (int64) are
    the lengths of the text in UTF-8 before and after.
    """

    def __init__(self, config: CurationConfig, quality: QualityModel | None = None) -> None:
        self.config, self.quality = config, quality

    def tag(self, docs: pa.Table) -> pa.Table:
        """`docs` (document table; any columns beside `text` pass through) with text rewritten and attributes added."""
        text = docs.column("text")
        parts = [self._tag_slice(docs.slice(row, len(array)), array) for row, array in slices(text, SLICE_BYTES)]
        if not parts:
            return self._tag_slice(docs, pa.array([], pa.string()))
        return pa.concat_tables(parts, promote_options="permissive")

    def _tag_slice(self, docs: pa.Table, text: pa.Array) -> pa.Table:
        config, on = self.config, set(self.config.stages)
        batch = TextBatch.from_arrow(text)
        added: dict[str, Any] = {"source_bytes": pa.array(np.diff(batch.offsets))}
        if "language" in on:
            lang, score = identify(batch, config.language)
            added |= {"lang": lang, "lang_score": pa.array(score)}
        elif "lang" in docs.column_names:
            lang = docs.column("lang").combine_chunks().cast(pa.string())
        else:
            lang = pa.array([config.language.assume] * len(docs), pa.string())
            added["lang"] = lang
        features = _once(lambda: scan(batch))
        if "gopher_repetition" in on:
            added["gopher_repetition"] = gopher_repetition.measure(features())
        if "gopher_quality" in on:
            added["gopher_quality"] = gopher_quality.measure(features(), lang.to_pylist(), config.gopher_quality)
        if "c4" in on:
            added["c4"], batch = c4.apply(features(), config.c4)
        final = batch.to_arrow() if "c4" in on else text
        if "quality" in on and self.quality is not None:
            added["quality_score"] = pa.array(self.quality.score(final))
        if "pii" in on and config.pii.kinds:
            from raypt.curation.pii.mask import mask_pii

            final, added["pii_spans"], _ = mask_pii(final, config.pii)
        final = final.cast(pa.string())
        added["text_bytes"] = pa.array(byte_lengths(final))
        out = docs.set_column(docs.column_names.index("text"), "text", final)
        for name, column in added.items():
            at = out.column_names.index(name) if name in out.column_names else None
            out = out.append_column(name, column) if at is None else out.set_column(at, name, column)
        return out


def _once(make: Callable[[], Features]) -> Callable[[], Features]:
    """`make`, called at the first use only."""
    made: list[Features] = []

    def get() -> Features:
        if not made:
            made.append(make())
        return made[0]

    return get
