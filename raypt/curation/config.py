"""Configuration of the curation stages."""

from typing import Any

from pydantic import Field, field_validator, model_validator

from raypt.curation.base import StageSettings
from raypt.curation.language import LanguageConfig
from raypt.curation.pii.config import PiiConfig
from raypt.curation.plan import Stage
from raypt.curation.presets import BY_LANGUAGE, PRESETS
from raypt.curation.quality.config import QualityConfig
from raypt.curation.rules.bad_words import BadWords
from raypt.curation.rules.base import RuleSettings
from raypt.curation.rules.c4 import C4
from raypt.curation.rules.character_repetition import CharacterRepetition
from raypt.curation.rules.characters import Characters
from raypt.curation.rules.fineweb import FineWeb
from raypt.curation.rules.gopher_quality import GopherQuality
from raypt.curation.rules.gopher_repetition import GopherRepetition
from raypt.curation.rules.keywords import Keywords
from raypt.curation.rules.length import Length
from raypt.curation.rules.refinedweb_lines import RefinedWebLines
from raypt.curation.rules.repeated_phrases import RepeatedPhrases
from raypt.curation.rules.url import UrlFilter
from raypt.settings import Settings


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
    fineweb, refinedweb, dclm, chinese, documentation (looser, for the reference pages of software)."""
    stages: tuple[str, ...] = ("language", "gopher_repetition", "gopher_quality", "c4", "quality", "pii")
    """Stages that run, in this order, each on the text as the ones before it left it (c4, refinedweb_lines,
    repeated_phrases and pii edit). The first rule that fails is the reason for removal. A stage that is not named is
    off. Known: url, language, length, characters, gopher_repetition, gopher_quality, character_repetition,
    c4, refinedweb_lines, repeated_phrases, fineweb, bad_words, keywords, quality, pii."""
    url: UrlFilter = UrlFilter()
    """Blocked domains, and words in the URL."""
    language: LanguageConfig = LanguageConfig()
    """Language identification."""
    length: Length = Length()
    """Bounds on the size of a document."""
    characters: Characters = Characters()
    """Shares of digits, symbols, white space, capitals and letters."""
    gopher_repetition: GopherRepetition = GopherRepetition()
    """Repeated lines, paragraphs and n-grams."""
    gopher_quality: GopherQuality = GopherQuality()
    """Length, words, symbols, stop words."""
    character_repetition: CharacterRepetition = CharacterRepetition()
    """Repeated character n-grams."""
    c4: C4 = C4()
    """Removal of lines, and documents with too little left."""
    refinedweb_lines: RefinedWebLines = RefinedWebLines()
    """Line-wise corrections of RefinedWeb."""
    repeated_phrases: RepeatedPhrases = RepeatedPhrases()
    """Removal of sentences made of a repeated word or phrase."""
    fineweb: FineWeb = FineWeb()
    """FineWeb's custom rules: ended, short and duplicate lines, lists."""
    bad_words: BadWords = BadWords()
    """Bad words by language."""
    keywords: Keywords = Keywords()
    """Keyword rules of one's own."""
    quality: QualityConfig = QualityConfig()
    """Classifier of reference text against raw pages."""
    pii: PiiConfig = PiiConfig()
    """Masking of personal data."""
    by_language: dict[str, dict[str, dict[str, float | None]]] = Field(default_factory=lambda: dict(BY_LANGUAGE))
    """Thresholds (`*_min`, `*_max`) that differ for a language, e.g.
    `{de: {gopher_quality: {mean_word_length_max: 12}}}`. Chinese, Japanese and Thai come with FineWeb-2's values where
    these are looser than the English ones (presets.py); what is given here is added, and wins."""

    @model_validator(mode="before")
    @classmethod
    def _from_preset(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        name = values.get("preset")
        if name is not None and name not in PRESETS:
            raise ValueError(f"preset: there is no {name!r}; the presets are {', '.join(PRESETS)}")
        beneath = _merged({"by_language": BY_LANGUAGE}, PRESETS[name] if name is not None else {})
        return _merged(beneath, values)

    @field_validator("stages")
    @classmethod
    def _stages_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        known = cls.known_stages()
        for name in value:
            if name not in known:
                raise ValueError(f"there is no stage {name!r}; the stages are {', '.join(known)}")
        twice = {name for name in value if value.count(name) > 1}
        if twice:
            raise ValueError(f"{', '.join(sorted(twice))} is named more than once")
        return value

    @model_validator(mode="after")
    def _overrides_exist(self) -> "CurationConfig":
        for language, stages in self.by_language.items():
            for stage, values in stages.items():
                settings = getattr(self, stage) if stage in self.known_stages() else None
                keys = [b.key for b in settings.bounds()] if isinstance(settings, RuleSettings) else []
                if not keys:
                    raise ValueError(f"by_language.{language}.{stage}: no stage with thresholds has this name")
                for key in values:
                    if key not in keys:
                        raise ValueError(f"by_language.{language}.{stage}.{key}: not one of {', '.join(keys)}")
        return self

    @classmethod
    def known_stages(cls) -> list[str]:
        """Names of the stages that come with raypt: the sections of this configuration that are stages."""
        fields = cls.model_fields.items()
        return [n for n, f in fields if isinstance(f.annotation, type) and issubclass(f.annotation, StageSettings)]

    def plan(self) -> tuple[Stage, ...]:
        """The stages that run, in order."""
        overrides = {
            name: {language: stages[name] for language, stages in self.by_language.items() if name in stages}
            for name in self.stages
        }
        return tuple(Stage(name, getattr(self, name), overrides[name]) for name in self.stages)

    def tagging_settings(self) -> dict[str, Any]:
        """The settings that decide the attributes and the text of a tagged document: no thresholds."""
        stages = [
            [stage.name, stage.settings.stage, stage.settings.model_dump(mode="json", exclude=stage.settings.decides())]
            for stage in self.plan()
        ]
        return {"stages": stages, "assume": self.language.assume}

    def deciding_settings(self) -> dict[str, Any]:
        """The settings that decide, over attributes, which documents are kept."""
        stages = [
            [stage.name, stage.settings.model_dump(mode="json", include=stage.settings.decides())]
            for stage in self.plan()
        ]
        return {"stages": stages, "by_language": self.by_language}
