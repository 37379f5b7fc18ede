"""Configuration of the curation stages."""

import difflib
from typing import Any

from pydantic import Field, ValidationError, model_validator

from raypt import plugins
from raypt.curation import languages
from raypt.curation.base import StageSettings
from raypt.curation.classify.config import Classify
from raypt.curation.custom import FunctionStage, custom_stage, mistakes
from raypt.curation.fineweb2 import segmented_stop_words
from raypt.curation.language import LanguageConfig
from raypt.curation.perplexity.config import Perplexity
from raypt.curation.pii.config import PiiConfig
from raypt.curation.plan import (
    NO_LANGUAGE,
    Entry,
    Stage,
    StageEntry,
    check_inputs,
    check_order,
    split_name,
    with_later,
)
from raypt.curation.presets import BY_LANGUAGE, PRESETS
from raypt.curation.quality.config import QualityConfig
from raypt.curation.rules.bad_words import BadWords
from raypt.curation.rules.base import RuleSettings
from raypt.curation.rules.c4 import C4
from raypt.curation.rules.character_repetition import CharacterRepetition
from raypt.curation.rules.characters import Characters
from raypt.curation.rules.columns import Columns
from raypt.curation.rules.dclm_quality import DclmQuality
from raypt.curation.rules.dclm_repetition import DclmRepetition
from raypt.curation.rules.fineweb import FineWeb
from raypt.curation.rules.gopher_quality import GopherQuality
from raypt.curation.rules.gopher_repetition import GopherRepetition
from raypt.curation.rules.keywords import Keywords
from raypt.curation.rules.length import Length
from raypt.curation.rules.normalise import Normalise
from raypt.curation.rules.refinedweb_lines import RefinedWebLines
from raypt.curation.rules.repeated_phrases import RepeatedPhrases
from raypt.curation.rules.roots import Roots
from raypt.curation.rules.url import UrlFilter
from raypt.curation.segmenters import Words
from raypt.packages import package_version
from raypt.settings import Settings


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`base` with the values of `over`, section by section."""
    out = dict(base)
    for key, value in over.items():
        old = out.get(key)
        out[key] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return out


def _respelled(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Both merged, with the languages of `over.by_language` named as `base` names them."""
    given = over.get("by_language")
    if not isinstance(given, dict):
        return _merged(base, over)
    if pair := languages.twice(map(str, given)):
        raise ValueError(f"by_language: {pair[0]} and {pair[1]} are the same language; name it once")
    names = {name: languages.same(str(name), base["by_language"]) or name for name in given}
    return _merged(base, {**over, "by_language": {names[name]: value for name, value in given.items()}})


class CurationConfig(Settings):
    """Decisions about one document at a time: which rules, in which order, with which thresholds."""

    preset: str | None = None
    """Start from the order and the values of a published recipe; any value given beside it wins. One of: gopher, c4,
    fineweb, fineweb2 (thresholds of 53 languages), refinedweb, dclm, chinese, documentation (looser, for the reference
    pages of software)."""
    stages: tuple[Entry, ...] = (
        "language",
        "gopher_repetition",
        "gopher_quality",
        "c4",
        "quality",
        "pii",
    )
    """Stages that run, in this order, each on the text as the ones before it left it (normalise, c4,
    refinedweb_lines, repeated_phrases, roots and pii edit). The first rule that fails is the reason for removal. A
    stage that is not named is off. An entry is a name; `name@label` for a further turn of a stage;
    `package.module:Name` for one of your own; or a mapping `{stage: ..., settings: {...}, when: {...}}`, which runs it
    with other settings, or on the documents that meet a condition, such as `when: {quality_score: {max: 0.5}}`. Known:
    columns, url, normalise, language, length, characters, gopher_repetition, gopher_quality, dclm_repetition,
    dclm_quality, character_repetition, c4, refinedweb_lines, repeated_phrases, fineweb, roots, bad_words, keywords,
    quality, classify, perplexity, pii."""
    custom: tuple[Entry, ...] = ()
    """Stages of your own, by `package.module:Name`, that run after those of `stages`, or where `stages` says `custom`.
    A function from a batch (a pyarrow.Table with `text`, `lang`, `url`, the carried columns and the metrics so far) to
    an array of reasons or of numbers, or a class like those of raypt/curation/rules: see raypt/curation/README.md."""
    words: Words = Words()
    """Segmenters of scripts written without spaces; without one a character is a word."""
    columns: Columns = Columns()
    """Bounds on carried numbers by column: `{edu_score: {min: 3}}`. The stage runs first if `stages` does not name
    it."""
    url: UrlFilter = UrlFilter()
    """Blocked domains, and words in the URL."""
    normalise: Normalise = Normalise()
    """Repair of encodings, and clean-up of addresses, lines of symbols and empty lines."""
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
    dclm_quality: DclmQuality = DclmQuality()
    """Gopher's quality rules as DCLM reads them."""
    dclm_repetition: DclmRepetition = DclmRepetition()
    """Gopher's repetition rules as DCLM reads them."""
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
    roots: Roots = Roots()
    """ROOTS's filters: words, repetition, special characters, stop words and flagged words."""
    bad_words: BadWords = BadWords()
    """Bad words by language."""
    keywords: Keywords = Keywords()
    """Keyword rules of one's own."""
    quality: QualityConfig = QualityConfig()
    """Classifier of reference text against raw pages."""
    classify: Classify = Classify()
    """fastText classifiers with any labels: topics, formats, qualities."""
    perplexity: Perplexity = Perplexity()
    """Perplexity under n-gram models of good text, one a language."""
    pii: PiiConfig = PiiConfig()
    """Masking of personal data."""
    by_language: dict[str, dict[str, dict[str, float | None]]] = Field(default_factory=lambda: dict(BY_LANGUAGE))
    """Thresholds (`*_min`, `*_max`) that differ for a language (any code or English name), e.g.
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
        beneath = _respelled({"by_language": BY_LANGUAGE}, PRESETS[name] if name is not None else {})
        if name == "fineweb2":
            words = values.get("words", {})
            segmenters = words.segmenters if isinstance(words, Words) else words.get("segmenters", {})
            beneath = _merged(beneath, {"gopher_quality": {"stop_words": segmented_stop_words(segmenters)}})
        return _respelled(beneath, values)

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

    @model_validator(mode="after")
    def _stages_can_run(self) -> "CurationConfig":
        stages = self.plan()
        names = [stage.name for stage in stages]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(
                f"stages: {', '.join(sorted(twice))} is named more than once; a further turn of a stage is named "
                "<stage>@<label>"
            )
        once = [stage.settings.stage for stage in stages if not stage.settings.repeatable]
        again = {name for name in once if once.count(name) > 1}
        if again:
            raise ValueError(f"stages: {', '.join(sorted(again))} is named more than once, and can only run once")
        for stage, (entry, _) in zip(stages, self._entries(), strict=True):
            if stage.settings.repeatable or plugins.is_plugin(split_name(entry.stage)[0]):
                continue
            if stage.name != stage.settings.stage:
                raise ValueError(f"stages: {stage.name}: a stage that can only run once has no label")
            if entry.settings and isinstance(stage.settings, QualityConfig):
                raise ValueError(
                    "stages: quality can only run once: give its settings in curation.quality, where a run looks for "
                    "them when it trains the classifier"
                )
        known = self.language.assume is not None
        check_order(stages, language_known=known, segmenters=bool(self.words.segmenters))
        return self

    @classmethod
    def known_stages(cls) -> list[str]:
        """Names of the stages that come with raypt: the sections of this configuration that are stages."""
        fields = cls.model_fields.items()
        return [n for n, f in fields if isinstance(f.annotation, type) and issubclass(f.annotation, StageSettings)]

    def _entries(self) -> list[tuple[StageEntry, str]]:
        """Every turn of a stage in order, and the key that names it."""

        def entry(value: Entry) -> StageEntry:
            return StageEntry(stage=value) if isinstance(value, str) else value

        custom = [(entry(value), f"curation.custom[{i}]") for i, value in enumerate(self.custom)]
        out: list[tuple[StageEntry, str]] = []
        placed = False
        for i, value in enumerate(self.stages):
            if value == "custom":
                out += custom
                placed = True
            else:
                out.append((entry(value), f"curation.stages[{i}]"))
        if self.columns.bounds and not any(e.stage == "columns" for e, _ in out):
            out.insert(0, (StageEntry(stage="columns"), "curation.columns"))
        return out if placed else out + custom

    def plan(self) -> tuple[Stage, ...]:
        """The stages that run, in order.

        Raises:
            ValueError: a stage that raypt does not have.
            UserError: code of the user's own that cannot be imported, or settings that it does not take.
        """
        return with_later(self._stage(entry, key) for entry, key in self._entries())

    def runs(self, stage: str) -> bool:
        """Whether a stage is among those that run, named alone or with settings or conditions."""
        return any(s.settings.stage == stage for s in self.plan())

    def _stage(self, entry: StageEntry, key: str) -> Stage:
        base, name = split_name(entry.stage)
        if plugins.is_plugin(base):
            settings = custom_stage(base, entry.settings, key)
            own = base.rpartition(":")[2] if isinstance(settings, FunctionStage) else settings.stage
            return Stage(own + name.removeprefix(base), settings, {}, entry.when)
        known = self.known_stages()
        if base not in known:
            near = difflib.get_close_matches(base, known, 1, 0.6)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ValueError(
                f"stages: there is no stage {base!r}{hint} The stages are {', '.join(known)}, and your own by "
                "package.module:name"
            )
        settings = getattr(self, base)
        if entry.settings:
            try:
                settings = type(settings).model_validate(_merged(settings.model_dump(), entry.settings))
            except ValidationError as e:
                raise ValueError(f"stages: the settings of {name} are wrong: {mistakes(e)}") from None
        overrides = {language: stages[base] for language, stages in self.by_language.items() if base in stages}
        return Stage(name, settings, overrides, entry.when)

    def check_inputs(self, carried: frozenset[str]) -> None:
        """ValueError if the documents of a run, which have the columns `carried`, lack what a rule asks for."""
        check_inputs(self.plan(), carried, language_known=self.language.assume is not None)
        if self.knows_language(carried):
            return
        for stage in self.plan():
            for language, values in stage.overrides.items():
                if values != BY_LANGUAGE.get(language, {}).get(stage.settings.stage):  # those come with raypt
                    raise ValueError(f"by_language.{language}.{stage.settings.stage} {NO_LANGUAGE}")

    def knows_language(self, carried: frozenset[str]) -> bool:
        """Whether anything says the language of documents that are read with the columns `carried`."""
        found = any("lang" in stage.settings.adds for stage in self.plan())
        return found or self.language.assume is not None or "lang" in carried

    def user_code(self) -> list[tuple[str, str]]:
        """`(key, package.module:name)` of every stage of the user's own."""
        named = [(key, split_name(entry.stage)[0]) for entry, key in self._entries()]
        return [(key, name) for key, name in named if plugins.is_plugin(name)]

    def tagging_settings(self) -> dict[str, Any]:
        """The settings that decide the attributes and the text of a tagged document: no thresholds."""
        stages: list[Any] = []
        for stage in self.plan():
            when = {name: one.model_dump(mode="json") for name, one in stage.when.items() if name not in stage.later}
            stages.append({"name": stage.name, "settings": stage.settings.measures(), "when": when})
        code = {name: plugins.fingerprint(name, key) for key, name in self.user_code()}
        given = self.language.model_dump(mode="json", include={"assume"})
        needed = {name: package_version(name) for name in self.packages()}
        words = {"words": self.words.segmenters} if self.words.segmenters else {}
        return {"stages": stages, "code": code, "language": given, **words, **({"packages": needed} if needed else {})}

    def packages(self) -> dict[str, str]:
        """Packages beside raypt's own that the stages need, and how to install each."""
        named = {name: how for stage in self.plan() for name, how in stage.settings.packages().items()}
        return {**named, **self.words.packages()}

    def deciding_settings(self) -> dict[str, Any]:
        """The settings that decide, over attributes, which documents are kept."""
        stages: list[dict[str, Any]] = []
        for stage in self.plan():
            later = {name: stage.when[name].model_dump(mode="json") for name in sorted(stage.later)}
            settings = stage.settings.model_dump(mode="json")
            stages.append({"name": stage.name, "settings": settings, **({"when": later} if later else {})})
        return {"stages": stages, "by_language": self.by_language}
