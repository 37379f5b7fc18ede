"""From attributes and thresholds to keep or drop: cheap, reads attribute columns only."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raypt.curation.config import CurationConfig
from raypt.curation.language import rejections
from raypt.curation.quality.threshold import QualityThreshold
from raypt.curation.rules.base import RuleSettings


def decide(tagged: pa.Table, config: CurationConfig, quality: QualityThreshold | None = None) -> pa.Array:
    """string[n]: `"<stage>.<rule>"` of the first rule that fails, in the configured order; null: kept.

    `tagged` is what a `Tagger` with the same stages returned (thresholds may differ). Raises ValueError if a stage's
    attributes are missing.
    """
    n = len(tagged)
    reasons: list[str] = []
    chosen = np.full(n, -1, np.int64)
    for reason, fails in _failures(tagged, config, quality):
        chosen[fails & (chosen < 0)] = len(reasons)
        reasons.append(reason)
    return pa.array(reasons, pa.string()).take(pa.array(chosen, mask=chosen < 0))


def _failures(
    tagged: pa.Table, config: CurationConfig, quality: QualityThreshold | None
) -> Iterator[tuple[str, np.ndarray]]:
    for stage in config.stages:
        section = getattr(config, stage)
        if stage == "language":
            score = _column(tagged, "lang_score", stage).to_numpy()
            yield from rejections(_column(tagged, "lang", stage), score, config.language).items()
        elif stage == "quality" and quality is not None:
            lang = tagged.column("lang").combine_chunks() if "lang" in tagged.column_names else None
            keys = tagged.column("doc_key").to_numpy()
            yield "quality.score", ~quality.keep(_column(tagged, "quality_score", stage), keys, lang)
        elif isinstance(section, RuleSettings):
            yield from _rule_failures(tagged, section, config)


def _rule_failures(tagged: pa.Table, section: RuleSettings, config: CurationConfig) -> Iterator[tuple[str, np.ndarray]]:
    attributes = _column(tagged, section.stage, section.stage)
    overrides = {language: stages.get(section.stage, {}) for language, stages in config.by_language.items()}
    for bound in section.bounds():
        special = {language: values[bound.key] for language, values in overrides.items() if bound.key in values}
        if bound.threshold is None and not special:
            continue
        thresholds = np.full(len(tagged), np.nan if bound.threshold is None else float(bound.threshold))
        for language, value in special.items():
            here = pc.fill_null(pc.equal(tagged.column("lang"), language), False).to_numpy()
            thresholds[here] = np.nan if value is None else value
        values = attributes.field(bound.metric).cast(pa.float64()).to_numpy(zero_copy_only=False)
        yield f"{section.stage}.{bound.key}", bound.fails(values, thresholds)


def _column(tagged: pa.Table, name: str, stage: str) -> pa.Array:
    if name not in tagged.column_names:
        raise ValueError(
            f"curation.stages: {stage} is on, but the documents were tagged without it (no column {name!r}); "
            "tag them again"
        )
    column = tagged.column(name).combine_chunks()
    return column if isinstance(column, pa.Array) else pa.concat_arrays(column.chunks)
