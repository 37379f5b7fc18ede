"""The configuration of a study: a base, variants of it, seeds, and what they are judged on."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from raypt import storage
from raypt.run.config import RunConfig
from raypt.settings import Settings
from raypt.tokens.groups import Naming, naming


class HeldoutSet(Settings):
    """The documents that all variants are judged on: of the base's curated text, and in no variant's training text.

    Every variant's text is decontaminated with them (`dedup.contamination`: a document that holds 70 % of one's n-grams
    goes), and how many documents that took is counted.
    """

    fraction: float = Field(0.03, gt=0, lt=1)
    """Share of the base's curated documents that is set aside, by a seeded hash of doc_key."""
    max_documents: int = Field(200, ge=2)
    """At most so many, those of the lowest hash. An interval over documents is as wide as 1 / sqrt(documents)."""
    min_words: int = Field(30, ge=16)
    """Shorter documents are not taken: decontamination does not look for texts of fewer than 16 words."""
    max_chars: int = Field(4000, ge=100)
    """A document is judged by its first so many characters, so that no single one decides."""
    balanced: bool = False
    """Of each group of the mixture, take at most its share of `max_documents`. (kind: freshness does.)"""
    groups: tuple[str, ...] | None = None
    """Take only documents of these groups of the mixture (`base.tokens.mixture.by`); None = all."""


class Variant(Settings):
    """One way of doing it: what differs from the base."""

    name: str = Field(min_length=1)
    """Name in tables and pictures."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Dotted key of a run -> value: `{dedup.fuzzy.enabled: false, train.steps: 2k}`."""
    held_out: bool = False
    """scale: keep its runs out of the fit, and say whether the law predicts them: a size or a number of tokens beyond
    the others'."""
    against: str | None = None
    """compare: the variant that this one is held against, where it is not study.reference: of a rule that is added to
    raw text, the raw text."""


class RandomMixtures(Settings):
    """Variants with random weights, drawn as RegMix draws them (Liu et al. 2024)."""

    count: int = Field(24, ge=1)
    """How many. A regression on S sources wants S + 2 runs at the very least, and several times that to be good."""
    groups: tuple[str, ...] = Field(min_length=2)
    """Groups of the mixture (`base.tokens.mixture.by`) that get weights."""
    concentration: tuple[float, float] = (0.5, 5.0)
    """Range of the Dirichlet concentration, drawn evenly (RegMix: 0.1 to 5; below 0.5 one source is nearly all, and
    repeats in a small corpus)."""
    seed: int = Field(0, ge=0)
    """Of the draw."""

    @model_validator(mode="after")
    def _check(self) -> "RandomMixtures":
        low, high = self.concentration
        if not 0 < low <= high:
            raise ValueError(f"concentration={[low, high]}: 0 < least <= most")
        return self


class Periods(Settings):
    """Variants that each train on the text of one period, and are judged on that of all."""

    column: str = Field("date", min_length=1)
    """Column of the curated text that has the time: `url`, or one that corpus.sources[].columns carries along."""
    pattern: str = Field(r"\d{4}", min_length=1)
    """RE2 expression that finds a whole number in it, such as a year; of `(?P<time>...)` what that group holds. Text in
    which it finds nothing is neither trained on nor judged."""
    edges: tuple[int, ...] = Field(min_length=3)
    """Where the periods begin, and where the last one ends: 2010, 2015, 2020 are 2010 to 2014 and 2015 to 2019."""
    unit: str = "years"
    """What the number counts, in words."""

    @property
    def naming(self) -> Naming:
        """What puts a document in its period."""
        return Naming(self.column, self.pattern, self.edges)

    @model_validator(mode="after")
    def _check(self) -> "Periods":
        naming(str(self.naming))
        return self


class StudySection(Settings):
    """What is asked, of how many seeds, and where the answer goes."""

    name: str = "study"
    """Name of the study; the default directory is `runs/<name>`."""
    dir: str | None = None
    """Directory or URI everything is written under (default `runs/<study.name>`). On a cluster: one all nodes share.
    The same command resumes, and with other variants takes over what was made before."""
    question: str = ""
    """Title of the page."""
    kind: Literal["compare", "scale", "repetition", "mixture", "freshness", "learned"] = "compare"
    """What is made of the runs. compare: each variant against `reference`. scale: L(N, D) and the best size of a
    budget. repetition: what repeated text is worth. mixture: the best weights. freshness: each of `periods` against
    each. learned: when `base.train.evaluation.tasks` are answered better than by guessing."""
    reference: str | None = None
    """compare: the variant that the others are held against; None = the first."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of initial weights and order of samples; each variant is trained with each. One seed: intervals are over
    documents alone, and what luck does is not seen."""
    match: Literal["tokens", "compute"] | None = "tokens"
    """tokens: all variants must train on equally many (a mistake if not). compute: the steps of each are set to the
    reference's training FLOP. None: as configured, for studies of size."""
    cpus_per_training: float = Field(1.0, gt=0)
    """CPUs that a training reserves; as many run side by side as fit."""
    gpus_per_training: float = Field(0.0, ge=0)
    """GPUs that a training reserves; below 1, several share one. Needs base.train.use_gpu=true."""

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        if not value or not all(c.isalnum() or c in "_-." for c in value) or value.startswith("."):
            raise ValueError("use letters, digits, '_', '-' and '.' (not first)")
        return value

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or len(set(value)) < len(value) or min(value) < 0:
            raise ValueError("name at least one seed, 0 or more, each once")
        return value


class StudyConfig(Settings):
    """A study."""

    study: StudySection = StudySection()
    base: RunConfig = RunConfig()
    variants: tuple[Variant, ...] = ()
    """What is compared; empty with `mixtures`."""
    mixtures: RandomMixtures | None = None
    """Random mixtures as variants, after those of `variants`."""
    periods: Periods | None = None
    """kind: freshness. Periods as variants, after those of `variants`."""
    heldout: HeldoutSet = HeldoutSet()

    @model_validator(mode="after")
    def _check(self) -> "StudyConfig":
        names = [v.name for v in self.variants]
        if len(set(names)) < len(names):
            raise ValueError("variants: two have one name")
        if self.study.reference is not None and self.study.reference not in names:
            raise ValueError(f"study.reference={self.study.reference}: the variants are {', '.join(names)}")
        for i, v in enumerate(self.variants):
            if v.against is not None and (v.against not in names or v.against == v.name):
                others = ", ".join(name for name in names if name != v.name)
                raise ValueError(f"variants[{i}].against={v.against}: the other variants are {others}")
        if (self.periods is not None) != (self.study.kind == "freshness"):
            raise ValueError("study.kind=freshness and `periods` go together")
        if self.study.kind == "learned" and not self.base.train.evaluation.tasks:
            raise ValueError("study.kind=learned asks base.train.evaluation.tasks; name at least one")
        kept = [v for v in self.variants if not v.held_out]
        if self.study.kind != "scale" and len(kept) < len(self.variants):
            raise ValueError("variants[].held_out: is for study.kind=scale")
        gpus = self.study.gpus_per_training
        if bool(gpus) != self.base.train.use_gpu:
            raise ValueError(
                f"study.gpus_per_training={gpus:g} and base.train.use_gpu={str(self.base.train.use_gpu).lower()} go "
                "together"
            )
        return self

    @property
    def uri(self) -> str:
        """The study's directory, absolute."""
        return storage.absolute(self.study.dir or f"runs/{self.study.name}")
