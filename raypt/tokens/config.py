"""The `tokens` section of the run configuration."""

import itertools
from typing import Literal

from pydantic import Field, field_validator, model_validator

from raypt.plugins import PluginName
from raypt.settings import Settings


class TokenizerConfig(Settings):
    """A tokenizer trained inside the job on the curated text, or one loaded from a file."""

    path: str | None = None
    """Load this tokenizer and train none: a file or a directory that holds one of tokenizer.json, vocab.json +
    merges.txt (GPT-2), vocab.txt (BERT), tokenizer.model (SentencePiece, or tiktoken's as LLaMA 3's is), *.tiktoken,
    tekken.json. None = train."""
    algorithm: Literal["bpe", "wordpiece", "unigram"] = "bpe"
    """What to train. `bpe` is byte-level: no text is unknown to it."""
    vocab_size: int = Field(4096, ge=300, le=2**31 - 1)
    """Entries of the trained vocabulary, special tokens included; 32k-128k are usual from 100 M parameters on."""
    min_frequency: int = Field(2, ge=1)
    """A pair is merged only if it occurs this often in the sample."""
    normalization: Literal["nfc", "nfkc"] | None = None
    """Unicode normal form applied before training and encoding; None keeps the text as it is."""
    split: Literal["gpt2", "llama3", "cl100k", "o200k"] | None = None
    """BPE: whose published pattern splits text into words before pairs merge. `llama3` also keeps a word together with
    the sign before it, and symbols with the line end after them; `cl100k` (GPT-4) is the same but for white space at
    the end of a text; `o200k` (GPT-4o, LLaMA 4) also splits before a capital within a word. None = `llama3` to train
    (3 % more bytes a token than `gpt2` on mixed English, Chinese and documentation, 1-9 % by source), and what was
    published with a file that is loaded."""
    split_digits: Literal["individual", "triples"] | None = None
    """Split numbers into single digits (LLaMA 1/2, Qwen) or runs of up to three (GPT-4, LLaMA 3); None = as `split`
    has it (`gpt2`: not at all, the others: runs of up to three). Unigram: individual only."""
    byte_fallback: bool = True
    """Unigram only: characters outside the vocabulary become byte tokens instead of the unknown token."""
    lowercase: bool = False
    """WordPiece only: lower-case and strip accents, as in BERT's uncased models."""
    bos_token: str | None = "<|begin_of_text|>"
    """Token that marks the start of a document; None = the tokenizer has none."""
    eos_token: str | None = "<|end_of_text|>"
    """Token that marks the end of a document; None = the tokenizer has none."""
    pad_token: str | None = None
    """Token used to pad; None = `eos_token`, else id 0. Padding is never a target."""
    extra_special_tokens: tuple[str, ...] = ()
    """Further special tokens to reserve, e.g. for fine-tuning later."""
    sample_bytes: int = Field(64_000_000, ge=1)
    """UTF-8 bytes of curated text to train on, drawn by a seeded hash of doc_key, spread over sources and languages."""
    sample_alpha: float = Field(0.7, ge=0, le=1)
    """Share of a (source, language) in the sample is its share of the bytes to this power, renormalised: 1 = as it is,
    0 = all equal. 0.7 lifts small languages (XLM, Lample and Conneau 2019, use 0.5-0.7)."""

    @model_validator(mode="after")
    def _check(self) -> "TokenizerConfig":
        if self.algorithm != "bpe" and self.split is not None:
            raise ValueError(f"split={self.split} is a pattern of byte-level BPE; algorithm={self.algorithm} has none")
        if self.algorithm == "unigram" and self.split_digits == "triples":
            raise ValueError(
                "split_digits=triples: SentencePiece, which trains unigram, splits into single digits only"
            )
        return self


class PackingConfig(Settings):
    """Documents to fixed-length samples."""

    sequence_length: int = Field(256, ge=8, le=2**20)
    """Input tokens of a sample (S); a sample stores S + 1, so that every input has its target."""
    strategy: Literal["best_fit", "greedy"] = "best_fit"
    """`best_fit`: documents are cut only when longer than a sample, and placed by best-fit decreasing (Ding et al.,
    2024, "Fewer Truncations Improve Language Modeling"). `greedy`: concatenate in order, cut at every S + 1 tokens."""
    document_boundaries: bool = True
    """Each document is a segment of its own: attention does not cross it and positions restart. False = plain
    concatenation, one segment a sample."""
    add_bos: bool = False
    """Put the BOS token before each document. Left out, a tokenizer that is brought along (tokens.tokenizer.path) and
    puts BOS before a text when it is used is trained so; the exported tokenizer does as was trained."""
    add_eos: bool = True
    """Put the EOS token after each document."""


class CurriculumStep(Settings):
    """From a point of the run on, other weights."""

    at_tokens: int = Field(gt=0)
    """The weights hold from this many tokens of the run on (rounded down to a whole sample)."""
    weights: dict[str, float]
    """Source name -> relative weight; a source left out is not drawn."""


class SourceLimit(Settings):
    """Where one source leaves the mixture."""

    epochs: float | None = Field(None, gt=0)
    """Passes over the source; a fraction is allowed."""
    tokens: int | None = Field(None, gt=0)
    """Tokens drawn from the source (rounded down to whole samples)."""


class Upsampling(Settings):
    """How much oftener documents are drawn by the value, or the bucket of values, of one column."""

    edges: tuple[float, ...] = ()
    """Of a column of numbers: where its buckets meet, ascending. `[0.2, 0.8]` makes the groups `<0.2`, `0.2-0.8` and
    `>=0.8`; without edges each value is a group."""
    weights: dict[str, float] | None = None
    """Value or bucket -> factor; one left out has 1."""
    steps: tuple[float, ...] | None = None
    """A factor a bucket, from the lowest on, rising or falling throughout."""
    power: float | None = None
    """The factor is the bucket's percentile (its middle, by bytes of text, in (0, 1)) to this power: 0 leaves all as it
    is, 2 draws the best text four times as often as the median."""
    missing: float | None = Field(None, ge=0)
    """Factor of documents without a value. None = the smallest of the others (with `weights`: that of `""`, else 1)."""

    @model_validator(mode="after")
    def _check(self) -> "Upsampling":
        if any(a >= b for a, b in itertools.pairwise(self.edges)):
            raise ValueError("edges must ascend")
        rules = [name for name in ("weights", "steps", "power") if getattr(self, name) is not None]
        if len(rules) > 1:
            raise ValueError(f"{' and '.join(rules)} exclude each other")
        if rules and rules != ["weights"] and not self.edges:
            raise ValueError(f"{rules[0]} needs edges")
        if self.weights is not None and any(w < 0 for w in self.weights.values()):
            raise ValueError("weights must be >= 0")
        if self.steps is not None:
            if len(self.steps) != len(self.edges) + 1:
                raise ValueError(
                    f"steps: {len(self.edges)} edges make {len(self.edges) + 1} buckets, not {len(self.steps)}"
                )
            if min(self.steps) < 0 or list(self.steps) not in (sorted(self.steps), sorted(self.steps, reverse=True)):
                raise ValueError("steps must be >= 0, and rise or fall throughout")
        return self


class MixtureConfig(Settings):
    """How samples of the groups (sources, if not said otherwise) interleave. Realised shares follow the target within
    one sample at every prefix."""

    by: tuple[str, ...] = ("source",)
    """Columns of the curated documents whose values name the groups: `[source]`, `[topic]`, `[source, lang]`, or
    metrics of stages: `[classify.topic]`. Several values are joined by `/` (`web/zh`); a null is an empty string.
    `dedup.cluster_size` is how many documents a kept one stands for. `corpus.sources[].columns` carries a data set's
    own columns along. `url~/(?P<year>\\d{4})/` is what an expression finds in a column, `date~\\d{4}@2010,2015,2020`
    the range of a number in it (`2010-2015`); where it finds none, the group is an empty string."""
    weights: dict[str, float] | PluginName | None = None
    """Group -> relative share of the samples, or `package.module:function` of your own that gives them from the groups'
    sizes. None = by size of the curated text (by source: by its `weight`)."""
    temperature: float = Field(1.0, gt=0)
    """Shares are raised to 1/temperature and renormalised: above 1 flattens them (mT5 uses 1/0.3)."""
    upsample: dict[str, Upsampling] = Field(default_factory=dict)
    """Column of `by` -> how much oftener its values or buckets are drawn than their size says; with several columns the
    factors multiply. E.g. `by: [quality_score]` with `upsample: {quality_score: {edges: [0.2, 0.5, 0.8], power: 2}}`
    (Dolma 3, FineWeb-2 and Nemotron-CC repeat good text so)."""
    max_repeats: float | None = Field(None, gt=0)
    """Most passes over a group, whatever its weight; then it leaves, and the others share its place. Four are nearly as
    good as new text (Muennighoff et al., 2023)."""
    limits: dict[str, SourceLimit] = Field(default_factory=dict)
    """Source name -> where it ends. With every source limited the stream is finite; with weights unset, a limit also
    sets the source's share (epochs * size, or its token budget), so that all end together."""
    curriculum: tuple[CurriculumStep, ...] = ()
    """Weights that change during the run."""

    @property
    def edges(self) -> dict[str, tuple[float, ...]]:
        """Column -> where its buckets meet, of those that have buckets."""
        return {name: u.edges for name, u in self.upsample.items() if u.edges}

    @field_validator("by", mode="before")
    @classmethod
    def _one_column_is_a_list(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("by")
    @classmethod
    def _distinct_columns(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or len(set(value)) < len(value):
            raise ValueError("name at least one column, each once")
        from raypt.tokens.groups import naming  # Arrow comes with it

        for entry in value:
            naming(entry)
        return value

    @model_validator(mode="after")
    def _check(self) -> "MixtureConfig":
        at = [step.at_tokens for step in self.curriculum]
        if at != sorted(set(at)):
            raise ValueError("curriculum: at_tokens must increase from step to step")
        if self.upsample and self.weights is not None:
            raise ValueError("upsample multiplies shares by size; with weights given there are none")
        foreign = sorted(set(self.upsample) - set(self.by))
        if foreign:
            raise ValueError(f"upsample.{foreign[0]}: not a column of by, which names {', '.join(self.by)}")
        named = self.weights if isinstance(self.weights, dict) else {}
        for where, weights in [("weights", named), *(("curriculum", s.weights) for s in self.curriculum)]:
            if any(w < 0 for w in weights.values()) or (weights and not any(weights.values())):
                raise ValueError(f"{where}: weights must be >= 0 and not all 0")
        return self


class StreamConfig(Settings):
    """The way of the samples to the trainer."""

    window_shards: int | None = Field(4, ge=1)
    """Shards whose samples are shuffled together; None = all (a full permutation: training then waits for the whole
    corpus to be tokenized, and each reader keeps up to 4096 shards open, so its resident memory grows with the store:
    the mapped pages, which the system takes back when it needs them, and the index of each shard)."""
    block_bytes: int = Field(4_000_000, ge=1)
    """Aim for the size of a stream block; 1-8 MB feeds the trainer early at little overhead."""
    fetchers: tuple[int, int] = (1, 2)
    """Least and most actors that read samples for the trainer."""
    fetcher_cpus: float = Field(0.05, ge=0)
    """CPUs reserved for one fetcher; it mostly waits, so a fraction keeps small clusters from blocking."""
    tokenizers: int | None = Field(None, ge=1)
    """Shards tokenized at a time; None = one a CPU that training leaves free, at least one."""
    ahead_shards: int | None = Field(8, ge=1)
    """Shards tokenized beyond the furthest one the stream has reached, so that tokenizing takes neither CPU from
    training nor storage before its time; None = all as fast as they come."""
    ahead_steps: int = Field(32, ge=1)
    """Optimizer steps that blocks under way to the trainer may be ahead of it, within `memory_bytes`."""
    tokenizer_cpus: float = Field(0.5, gt=0)
    """CPUs reserved for one tokenizing task; 1 unless set where nothing trains beside it (`raypt tokenize`)."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Ray node labels (label selector) that tokenizers and fetchers must run on, e.g. {"raypt/pool": "cpu"}."""
    memory_bytes: int = Field(256_000_000, ge=1)
    """Bound on the object-store memory that blocks under way to the trainer may hold."""
    stall_timeout_s: float = Field(1800.0, gt=0)
    """Fail, naming the shard, when one that the trainer needs has not been tokenized for this long."""

    @model_validator(mode="after")
    def _check(self) -> "StreamConfig":
        least, most = self.fetchers
        if not 1 <= least <= most:
            raise ValueError(f"fetchers: [least, most] must satisfy 1 <= least <= most, not {[least, most]}")
        return self


class HeldoutConfig(Settings):
    """Documents kept out of training for evaluation, chosen by a seeded hash of doc_key."""

    fraction: float = Field(0.01, ge=0, lt=1)
    """Share of the documents that is held out; 0 = none."""
    max_documents: int | None = Field(100_000, ge=1)
    """About how many documents are held out at most, whatever their share: of 10^10 documents, a hundredth would be
    more than is ever evaluated. None = no limit."""

    def bounded(self, documents: int) -> "HeldoutConfig":
        """What it comes to for so many documents: the same rule with a fraction alone."""
        most = 1.0 if self.max_documents is None else self.max_documents / max(documents, 1)
        return HeldoutConfig(fraction=min(self.fraction, most), max_documents=None)


class TokenExportConfig(Settings):
    """The same tokens as files of other programs (jobs/tokenize.py): whole documents, with the BOS and EOS of
    `packing`, in the order of the text; held-out documents apart."""

    formats: tuple[Literal["megatron", "nanogpt", "mds", "datatrove", "litdata"], ...] = ()
    """What to write: Megatron-LM's .bin/.idx, nanoGPT's train.bin and val.bin (16-bit ids only), MosaicML streaming's
    MDS (samples of `packing.sequence_length` tokens), datatrove's .ds, LitData's chunks. Empty = nothing."""
    out: str | None = None
    """Directory or URI; None = `<run.dir>/token-export`."""


class TokensConfig(Settings):
    """Tokenizer, packing, mixture and stream."""

    tokenizer: TokenizerConfig = Field(default_factory=TokenizerConfig)
    packing: PackingConfig = Field(default_factory=PackingConfig)
    mixture: MixtureConfig = Field(default_factory=MixtureConfig)
    stream: StreamConfig = Field(default_factory=StreamConfig)
    heldout: HeldoutConfig = Field(default_factory=HeldoutConfig)
    export: TokenExportConfig = Field(default_factory=TokenExportConfig)
    megatron: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Source name -> prefixes of Megatron-LM's .bin/.idx files, of which jobs/tokenize.py makes a token store instead
    of reading text; `tokenizer.path` names the tokenizer of their ids."""

    @model_validator(mode="after")
    def _check(self) -> "TokensConfig":
        if self.megatron and self.tokenizer.path is None:
            raise ValueError("megatron: the files hold ids of a tokenizer; name it by tokenizer.path")
        for name in ("bos", "eos"):
            trained = self.tokenizer.path is None
            if trained and getattr(self.packing, f"add_{name}") and getattr(self.tokenizer, f"{name}_token") is None:
                raise ValueError(f"packing.add_{name} needs tokenizer.{name}_token; set the one to false or the other")
        return self
