"""Configuration of deduplication."""

from typing import Literal

from pydantic import Field, model_validator

from raypt.dedup.minhash import choose_bands
from raypt.settings import Settings

TRACKING = (
    "utm_*", "gclid", "gclsrc", "dclid", "gbraid", "wbraid", "fbclid", "msclkid", "yclid", "twclid", "ttclid",
    "li_fat_id", "igshid", "igsh", "mc_cid", "mc_eid", "mkt_tok", "_ga", "_gl", "_hsenc", "_hsmi", "hsctatracking",
    "vero_id", "vero_conv", "oly_anon_id", "oly_enc_id", "wickedid", "ref_src", "ref_url", "spm", "scm", "cmpid",
    "icid", "s_cid", "wt.mc_id", "__twitter_impression", "phpsessid", "jsessionid", "aspsessionid*", "sessionid",
)  # fmt: skip
"""Query parameters that say where a visitor came from or who it is, not which page is meant: those that browsers and
their extensions strip (Firefox's and Brave's query stripping, ClearURLs), and session identifiers."""


class UrlConfig(Settings):
    """Versions of one page, by its address. Runs before texts are compared."""

    enabled: bool = False
    """Keep one document of each address."""
    keep: Literal["latest", "best", "first"] = "latest"
    """The version that stays: by `date_column`, by source priority and quality, or the first in manifest order."""
    date_column: str | None = "date"
    """Column of the documents with the date of the version: timestamps, numbers (20240131, seconds), or ISO 8601. A
    document without a date is older than any with one. Carry it with `columns` of a source."""
    url_column: str = "url"
    """Column of the documents with the address. A document without one takes no part."""
    tracking: tuple[str, ...] = TRACKING
    """Query parameters that do not count, in any case; `*` at the end stands for any ending."""

    @model_validator(mode="after")
    def _needs_a_date(self) -> "UrlConfig":
        if self.enabled and self.keep == "latest" and self.date_column is None:
            raise ValueError("keep: latest needs date_column; without dates take keep: best or first")
        return self


class ExactConfig(Settings):
    """Documents whose normalised text has the same xxh3-128 hash."""

    enabled: bool = True
    """Remove exact duplicates."""
    normalise: Literal["none", "whitespace"] = "whitespace"
    """What is hashed: the text as it is, or with each run of white space made one space and both ends stripped."""


class NormaliseConfig(Settings):
    """What of a text counts when near duplicates are looked for; the default is raypt's declared normalisation.

    FineWeb's is `{punctuation: fineweb, diacritics: remove, numbers: zero}`; SlimPajama's `{punctuation: ascii, spaces:
    keep}` with `unit: character`, on text in NFC."""

    unicode: Literal["none", "NFC", "NFKC", "NFD", "NFKD"] = "none"
    """Normalisation form of Unicode, before all else."""
    case: Literal["lower", "keep"] = "lower"
    """Whether case counts; lower case is simple, one character for one (but see `punctuation`)."""
    punctuation: Literal["separate", "join", "ascii", "fineweb"] = "separate"
    """Punctuation, symbols and control characters end a word (`don't` is two), or are taken out (join: `dont`). With
    ascii or fineweb only a list is taken out, Python's `string.punctuation` (SlimPajama) or datatrove's marks of
    Western and Chinese text and control characters (FineWeb), and nothing separates but white space: a word is what
    stands between blanks, in Chinese too, symbols are letters, each code point is a character, and lower case is
    Python's."""
    diacritics: Literal["keep", "remove"] = "keep"
    """Whether marks count; removed, a letter is its base after NFD without characters of category Mn."""
    numbers: Literal["keep", "zero"] = "keep"
    """Whether a run of decimal digits counts, or is one 0 whatever it is."""
    spaces: Literal["separate", "keep"] = "separate"
    """With `unit: character`: white space only separates, or a run of it is a character of its own."""


class FuzzyConfig(Settings):
    """Near duplicates by MinHash-LSH; documents that share a band are duplicates, and so is what they connect."""

    enabled: bool = True
    """Remove near duplicates."""
    unit: Literal["word", "character"] = "word"
    """What a shingle is made of. Words: runs of letters and digits, lower-cased, each Chinese, Japanese, Thai, ...
    character a word by itself. Characters: letters and digits one by one, without what separates them."""
    normalise: NormaliseConfig = NormaliseConfig()
    ngram: int = Field(5, ge=1, le=64)
    """Units in a shingle. 5 words as in FineWeb (Penedo et al., 2024); 5 to 9 in the literature."""
    num_perm: int = Field(112, ge=1, le=4096)
    """MinHash permutations. 112 = 14 x 8 as in FineWeb."""
    bands: int | None = Field(None, ge=1)
    """Bands of the signature; give `rows` with it. Without both they are chosen from `threshold` and `num_perm`."""
    rows: int | None = Field(None, ge=1)
    """Signature values a band. 14 bands x 8 rows find 92 % of the pairs of Jaccard 0.8 and 56 % of 0.7 (FineWeb)."""
    threshold: float | None = Field(None, gt=0.0, lt=1.0)
    """Jaccard similarity around which bands and rows are chosen. Leave it out when `bands` and `rows` are given."""
    seed: int = Field(1, ge=0, lt=2**32)
    """Seed of the permutations; 1 is datasketch's."""

    verify: Literal["none", "signature", "jaccard"] = "none"
    """Another definition of a duplicate: within a component a document goes only if it resembles one that is kept, by
    the share of equal signature values or by the exact Jaccard similarity of the shingles (reads the members' text
    again)."""
    verify_threshold: float = Field(0.8, gt=0.0, le=1.0)
    """Similarity from which `verify` lets a document go."""

    @model_validator(mode="after")
    def _bands_and_rows(self) -> "FuzzyConfig":
        if self.normalise.spaces == "keep" and self.unit != "character":
            raise ValueError("normalise.spaces: keep needs unit: character; between words a space is no unit")
        if (self.bands is None) != (self.rows is None):
            raise ValueError("bands and rows go together: give both, or neither and a threshold")
        if self.bands is not None and self.threshold is not None:
            raise ValueError("give either bands and rows or threshold, not all three")
        bands, rows = self.layout
        if bands * rows > self.num_perm:
            raise ValueError(
                f"{bands} bands x {rows} rows need {bands * rows} permutations, num_perm is {self.num_perm}"
            )
        return self

    @property
    def layout(self) -> tuple[int, int]:
        """(bands, rows): as given, else chosen from the threshold; with neither, 14 x 8."""
        if self.bands is not None and self.rows is not None:
            return self.bands, self.rows
        if self.threshold is not None:
            return choose_bands(self.threshold, self.num_perm)
        return 14, 8


class SentenceConfig(Settings):
    """Repeated passages, cut out of the documents that exact and fuzzy deduplication keep. The first occurrence, in
    doc_key order, stays."""

    enabled: bool = False
    """Cut repeated passages."""
    unit: Literal["sentence", "line", "paragraph"] = "sentence"
    """What a passage is made of. A paragraph ends at a blank line."""
    length: int = Field(3, ge=1, le=64)
    """Consecutive units in a passage; 3 sentences as in C4 (Raffel et al., 2020). Take 1 for lines and paragraphs."""
    max_documents: int = Field(1, ge=1)
    """Cut a passage that is found in more than this many documents. Repeats within one document are always cut."""
    min_words: int | None = Field(50, ge=1)
    """Remove a document that was cut and has fewer words left (a Chinese character is a word). 50: Gopher's lower bound
    (Rae et al., 2021)."""
    min_units: int | None = Field(None, ge=1)
    """Remove a document that was cut and has fewer units left."""


class SubstringConfig(Settings):
    """Passages that occur before, word for word, are cut wherever they begin and end (Lee et al., 2022). The first
    occurrence, in doc_key order, stays."""

    enabled: bool = False
    """Cut repeated passages."""
    unit: Literal["token", "byte"] = "token"
    """What `length` and `merge_gap` count and what is compared: words (a Chinese character is a word; case, punctuation
    and white space between them do not count), or bytes of the text as curation leaves it, where every one counts:
    what shall not (another Unicode form, line ends, runs of empty lines) the stage `normalise` makes equal before."""
    length: int = Field(50, ge=2, le=10_000)
    """Units from which an equal passage is one; 50 tokens as in Lee et al. and RefinedWeb (Penedo et al., 2023)."""
    merge_gap: int = Field(0, ge=0)
    """Cuts of a document with at most so many units between them become one: what is left between would be a scrap.
    That text goes too, though it is found nowhere else."""
    min_words: int | None = Field(50, ge=1)
    """Remove a document that was cut and has fewer words left (a Chinese character is a word). 50: Gopher's lower bound
    (Rae et al., 2021)."""


class BloomConfig(Settings):
    """What was seen before, by a Bloom filter instead of a comparison: approximate, in one pass and bounded memory (as
    DCLM's BFF, Li et al. 2024, and LSHBloom, Khan et al. 2024). The first in doc_key order stays, whatever its source's
    priority or its quality."""

    enabled: bool = False
    """Remove or cut what the filter has seen. Meant in place of `exact` and `fuzzy`; beside them it runs on what they
    leave."""
    unit: Literal["document", "paragraph", "band"] = "document"
    """What is looked for: the whole text (normalised as `dedup.exact.normalise` says); paragraphs (of the same words;
    they end at a blank line), which are cut; or the bands of `dedup.fuzzy`'s signature (its parameters, whether it is
    enabled or not): a document goes if any band was seen."""
    false_positive_rate: float = Field(1e-5, ge=1e-9, lt=1.0)
    """Chance that a document (`paragraph`: a paragraph) that is new is taken for one seen before, when the filter is
    full; over the pass it is a small part of that. `band`: over all bands of the document. Memory grows with its
    logarithm: 24 bits a key at 1e-5, 29 at 1e-6. LSHBloom uses 1e-5, BFF 1e-2."""
    min_words: int | None = Field(50, ge=1)
    """`paragraph`: remove a document that was cut and has fewer words left (a Chinese character is a word). 50:
    Gopher's lower bound (Rae et al., 2021)."""


class ContaminationConfig(Settings):
    """Documents that contain samples of evaluation sets are removed."""

    paths: tuple[str, ...] = ()
    """Files or globs of the evaluation sets: JSON lines or text of a sample a line (plain, .gz, .zst, ...), or Parquet.
    None: off."""
    fields: tuple[str, ...] = ()
    """Fields that together make a sample, as paths: `question`, `choices.text`, `messages[].content` (a list is gone
    through element by element). None named: all text of a row, nested too, but `id` and the single letters or digits
    that number choices. A field that names text in no row is an error."""
    ngram: int = Field(8, ge=1, le=64)
    """Words in an n-gram. 8 as in PaLM (Chowdhery et al., 2022)."""
    min_coverage: float = Field(0.7, gt=0.0, le=1.0)
    """Share of a sample's n-grams that a document must hold to be removed; 0.7 as in PaLM. One shared n-gram is no
    proof."""
    min_words: int = Field(16, ge=1)
    """Samples of fewer words are not looked for, only counted: what is that short is found everywhere."""


class DedupConfig(Settings):
    """Decisions across documents: exact and near duplicates, within and between sources."""

    enabled: bool = True
    """Deduplicate at all."""
    url: UrlConfig = UrlConfig()
    exact: ExactConfig = ExactConfig()
    fuzzy: FuzzyConfig = FuzzyConfig()
    bloom: BloomConfig = BloomConfig()
    sentences: SentenceConfig = SentenceConfig()
    substring: SubstringConfig = SubstringConfig()
    contamination: ContaminationConfig = ContaminationConfig()
    scope: Literal["global", "source"] = "global"
    """Compare all documents, or only those of the same source."""
    quality_column: str | None = "quality_score"
    """Column of the documents that decides, after the sources' priority, which copy is kept: the highest. Ignored
    where a shard has no such column."""
    max_removed_fraction: float | None = Field(0.9, gt=0.0, le=1.0)
    """Fail, showing the biggest clusters, when more than this share of the documents would be removed."""
    index: str | None = None
    """Directory or URI of an index. A run compares with what earlier runs left there, whose documents win, and adds
    its own hashes. Made with one set of parameters; null: no index."""
    measure_s_curve: bool = True
    """Measure on a sample of the clusters how often pairs of known Jaccard similarity share a band, for the report."""
    memory_mb: int = Field(1024, ge=16)
    """Memory a task may use; more partitions are made until each fits."""
    partitions: int | None = Field(None, ge=1, le=65536)
    """Partitions of the exchange; left out, chosen from `memory_mb` and the size of the input."""
    task_bytes: int = Field(8 << 20, ge=1)
    """Text that a task takes at least, twice as much on an object store: smaller shards are taken together, up to so
    much (eight times as much where that leaves 64 tasks; on an object store 64 times, where that leaves 8), which
    saves each its own files and requests. A task that is killed does no more than that again, or one shard."""
    keep_intermediate: bool = False
    """Keep signatures and exchange files after the last pass; otherwise they are deleted when the result stands."""
