"""Configuration of the curation stages."""

from typing import Any, Literal, get_args

from pydantic import Field, field_validator, model_validator

from raypt.curation.language import LanguageConfig
from raypt.curation.pii.config import PiiConfig
from raypt.curation.presets import PRESETS
from raypt.curation.quality.config import QualityConfig
from raypt.curation.rules.base import RuleSettings
from raypt.curation.rules.c4 import C4
from raypt.curation.rules.gopher_quality import GopherQuality
from raypt.curation.rules.gopher_repetition import GopherRepetition
from raypt.settings import Settings

Stage = Literal["language", "gopher_repetition", "gopher_quality", "c4", "quality", "pii"]

STAGES: tuple[Stage, ...] = get_args(Stage)


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`base` with the values of `over`, section by section."""
    out = dict(base)
    for key, value in over.items():
        old = out.get(key)
        out[key] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return out


class CurationConfig(Settings):
    """Decisions about one document at a time: which rules, in which order, with which thresholds."""

    preset: str | None = None
    """Start from the order and the values of a published recipe; any value given beside it wins. One of: gopher, c4,
    fineweb."""
    stages: tuple[Stage, ...] = ("language", "gopher_repetition", "gopher_quality", "c4", "quality", "pii")
    """Stages that run, in the order in which they are asked: the first rule that fails is the reason for removal.
    A stage that is not named here is off. Text is edited in the order c4, pii, whatever the order here;
    gopher_* judge the text before edits."""
    language: LanguageConfig = LanguageConfig()
    """Language identification."""
    gopher_repetition: GopherRepetition = GopherRepetition()
    """Repeated lines, paragraphs and n-grams."""
    gopher_quality: GopherQuality = GopherQuality()
    """Length, words, symbols, stop words."""
    c4: C4 = C4()
    """Removal of lines, and documents with too little left."""
    quality: QualityConfig = QualityConfig()
    """Classifier of reference text against raw pages."""
    pii: PiiConfig = PiiConfig()
    """Masking of personal data."""
    by_language: dict[str, dict[str, dict[str, float | None]]] = Field(default_factory=dict)
    """Thresholds (`*_min`, `*_max`) that differ for a language, e.g.
    `{zh: {gopher_quality: {alpha_word_fraction_min: 0.6}}}`."""

    @model_validator(mode="before")
    @classmethod
    def _from_preset(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("preset") is not None:
            name = values["preset"]
            if name not in PRESETS:
                raise ValueError(f"preset: there is no {name!r}; the presets are {', '.join(PRESETS)}")
            return _merged(PRESETS[name], values)
        return values

    @field_validator("stages")
    @classmethod
    def _stages_once(cls, value: tuple[Stage, ...]) -> tuple[Stage, ...]:
        twice = {name for name in value if value.count(name) > 1}
        if twice:
            raise ValueError(f"{', '.join(sorted(twice))} is named more than once")
        return value

    @model_validator(mode="after")
    def _overrides_exist(self) -> "CurationConfig":
        for language, stages in self.by_language.items():
            for stage, values in stages.items():
                settings = getattr(self, stage, None) if stage in STAGES else None
                keys = [b.key for b in settings.bounds()] if isinstance(settings, RuleSettings) else []
                if not keys:
                    raise ValueError(f"by_language.{language}.{stage}: no stage with thresholds has this name")
                for key in values:
                    if key not in keys:
                        raise ValueError(f"by_language.{language}.{stage}.{key}: not one of {', '.join(keys)}")
        return self

    def rule_stages(self) -> list[RuleSettings]:
        """Settings of the stages that are on and bound metrics, in order."""
        sections = (getattr(self, stage) for stage in self.stages)
        return [section for section in sections if isinstance(section, RuleSettings)]
