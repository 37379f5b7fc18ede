"""Configuration of the inputs: which files, in which format, how they are cut into shards, and what they may cost."""

import codecs
from typing import Literal

from pydantic import Field, field_validator, model_validator
from resiliparse.parse.html import HTMLTree

from raypt.corpus.limits import UnpackLimits
from raypt.settings import Settings

FORMATS = ("auto", "jsonl", "parquet", "text", "lines", "warc", "csv", "arrow", "tar", "html", "code")
ColumnType = Literal["string", "int", "float", "bool"]
DOCUMENT_COLUMNS = ("doc_key", "id", "source", "url", "text")
DEDUP_COLUMN = "dedup"
"""What deduplication says of a curated document, a struct as a stage's metrics are: `dedup.cluster_size`."""
AUTO = "auto"

_WIDER = {"gb2312": "gb18030", "gbk": "gb18030", "euc_kr": "cp949", "shift_jis": "cp932"}
"""Character sets that are written in the bigger ones that hold them (WHATWG Encoding Standard)."""


class Range(Settings):
    """Numbers from `min` to `max`, both included."""

    min: float | None = None
    """Least value; null: no bound."""
    max: float | None = None
    """Greatest value; null: no bound."""

    @model_validator(mode="after")
    def _is_bounded(self) -> "Range":
        if self.min is None and self.max is None:
            raise ValueError("give min, max or both")
        return self


class SourceConfig(Settings):
    """One named input: a set of files that share a format and a meaning."""

    name: str = ""
    """Name in ledgers, mixtures and reports; letters, digits, `_`, `-`, `.`. Empty: derived from the first path."""
    paths: tuple[str, ...]
    """Files, directories, globs or URIs (s3://, gs://, hf://, http://), or `builtin:python-docs`, the documentation of
    this Python environment. A single string is a list of one. Of a directory, files of unknown kinds, hidden and
    temporary ones are passed over, and said."""
    format: str = AUTO
    """auto: by file name. jsonl: JSON objects, one a line, in an array or one after another. parquet. csv: CSV and TSV
    with a header. arrow: Arrow IPC, what `datasets.save_to_disk` writes. tar: WebDataset. text: one document a file.
    lines: one document a line. html: one page a file. code: one source file a document, with its `language`. warc:
    WARC, WET or ARC records (HTML is turned into text). Text formats may be compressed (.gz, .zst, .bz2, .xz).
    `package.module:name`: a reader of one's own, a function from a `raypt.corpus.records.ReadRequest` to an iterator of
    records and faults."""
    preset: str | None = None
    """A published data set's schema by name (pile, slimpajama, refinedweb, culturax, roots, fineweb, fineweb2,
    fineweb_edu, finepdfs, dclm, dolma, c4, redpajama2, nemotron_cc, hplt, oscar, the_stack, the_stack2, skypile,
    wanjuan, chinese_web_text, chinese_web_text2): sets the fields below and checks them against the files."""
    text_field: str = "text"
    """Field or column with the text; a dot descends into an object. auto: found out from the first file, and said."""
    id_field: str | None = "id"
    """Field or column with the input's own identifier; documents without it have a null id."""
    url_field: str | None = "url"
    """Field or column with the document's URL, if it has one."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Further columns to carry through, as `new_name: field.path`; usable in mixtures and ledgers. Values become text
    (numbers as written, objects and lists as JSON) unless `column_types` says otherwise. `year=2024` in a path is a
    field `year` of the records below it. `lang` is the language that the input names: it holds where no stage
    `language` finds another, which can believe it (`curation.language.trust_column`)."""
    column_types: dict[str, ColumnType] = Field(default_factory=dict)
    """Types of carried columns: string (default), int, float or bool. Values that are none become null, and are
    counted."""
    where: dict[str, tuple[str, ...] | Range] = Field(default_factory=dict)
    """Take only the records in which a column (or field path) has one of these values, as `{pile_set_name: [ArXiv]}`,
    or a number in a range, as `{int_score: {min: 3}}`: the components of one data set become sources with weights of
    their own. The others are counted, not quarantined. A field that no record has is a mistake."""
    encoding: str | None = None
    """Character set of jsonl, csv, text, lines and code (null: utf-8) and of html (null: what the page says)."""
    weight: float = Field(1.0, ge=0)
    """Relative share of this source in the training mixture."""
    priority: int = 0
    """Of two duplicates in different sources, the copy in the source of higher priority is kept."""

    @field_validator("paths", mode="before")
    @classmethod
    def _one_path_is_a_list(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("paths")
    @classmethod
    def _at_least_one_path(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("name at least one file, glob or URI")
        if any("\0" in path for path in value):
            raise ValueError("a path cannot hold a null character")
        return value

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        if not all(c.isalnum() or c in "_-." for c in value):
            raise ValueError("use letters, digits, '_', '-' and '.' only")
        return value

    @field_validator("format")
    @classmethod
    def _known_format(cls, value: str) -> str:
        if value not in FORMATS and ":" not in value:
            raise ValueError(f"there is no {value!r}; the formats are {', '.join(FORMATS)}, or package.module:name")
        return value

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            name = codecs.lookup(value).name
            "".encode(name)
        except LookupError:
            raise ValueError(f"there is no character set {value!r}") from None
        return _WIDER.get(name, name)

    @field_validator("columns")
    @classmethod
    def _columns_do_not_collide(cls, value: dict[str, str]) -> dict[str, str]:
        taken = {*DOCUMENT_COLUMNS, DEDUP_COLUMN} & set(value)
        if taken:
            raise ValueError(f"{sorted(taken)} are columns of every document; choose other names")
        return value

    @field_validator("where", mode="before")
    @classmethod
    def _one_value_is_a_list(cls, value: object) -> object:
        def listed(one: object) -> object:
            values = one if isinstance(one, list | tuple) else (one,)
            return one if isinstance(one, dict | Range) else tuple(map(_as_written, values))

        return {k: listed(v) for k, v in value.items()} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _language_is_text(self) -> "SourceConfig":
        if self.column_types.get("lang", "string") != "string":
            raise ValueError("column_types.lang: the language of a document is a string")
        return self

    @property
    def is_builtin(self) -> bool:
        return any(p.startswith("builtin:") for p in self.paths)

    @property
    def where_fields(self) -> dict[str, str]:
        """The field path that each name in `where` stands for."""
        return {name: self.columns.get(name, name) for name in self.where}


def _as_written(value: object) -> object:
    """A number or truth value of a configuration file as the text that records are compared with."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


class BuiltinConfig(Settings):
    """The embedded corpus: docstrings, README and licence texts of the Python environment the job runs in."""

    max_bytes: int = Field(12_000_000, gt=0)
    """UTF-8 bytes of text to take, sampled by the hash of each file's name, so that it is the same on every run."""
    files: int = Field(24, gt=0)
    """Number of JSON Lines files it is written to under `<run.dir>/input`."""


class HtmlConfig(Settings):
    """How HTML becomes text."""

    engine: Literal["raypt", "resiliparse", "trafilatura", "union"] = "raypt"
    """Whose rules find the main content. raypt: its own. resiliparse: as DCLM and Dolma 3 were made. trafilatura: with
    datatrove's options for FineWeb, precision and no repeats (`pip install 'raypt[trafilatura]'`, about 10 times
    slower). union: each line that one of the three finds, trafilatura without these options."""
    main_content: bool = True
    """Leave out navigation, footers and other boilerplate (False: all visible text)."""
    preserve_formatting: bool = True
    """Keep paragraphs, lists and line breaks (False: one line a page)."""
    comments: bool = False
    """Keep readers' comments below an article. A page that is mostly comments (a forum) is kept anyway."""
    lists: Literal["content", "all", "none"] = "content"
    """Lists of the main content to keep. content: those that are not links for the most part. none: as resiliparse
    does, which takes every list for navigation. Engine raypt only, as are the keys from here to `title`."""
    tables: Literal["pipes", "text"] = "pipes"
    """Tables of data as lines of cells between `|` (GitHub's Markdown), or as text."""
    code_fences: bool = True
    """Source code between fences (three backticks), with its language where the page names it."""
    math: bool = True
    """Formulas as LaTeX between $ or $$, once each: from MathML or its annotation, `math/tex`, `alt` of images."""
    ruby: bool = True
    """Readings of characters in brackets after them (漢字（かんじ）), as HTML's `rp` asks; False: without readings."""
    links: bool = False
    """Links as `[text](address)`."""
    title: bool = False
    """Put the page's <title> above its text."""
    skip: tuple[str, ...] = ()
    """CSS selectors of elements to leave out of every page."""
    max_page_bytes: int = Field(5 << 20, gt=0)
    """Larger pages, after undoing compression, are quarantined: a page takes up to 60 times its size in memory. Common
    Crawl cuts pages at 5 MiB (1 MiB before March 2025)."""

    def packages(self) -> dict[str, str]:
        """Packages beside raypt's own that the engine needs, and how to install each."""
        needed = ("trafilatura", "lxml_html_clean") if self.engine in ("trafilatura", "union") else ()
        return dict.fromkeys(needed, "pip install 'raypt[trafilatura]'")

    @field_validator("skip", mode="before")
    @classmethod
    def _one_selector_is_a_list(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("skip")
    @classmethod
    def _selectors_can_be_read(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        document = HTMLTree.parse("").document
        assert document is not None
        for selector in value:
            try:
                document.query_selector_all(selector)
            except ValueError as e:
                raise ValueError(f"{selector!r} is no CSS selector: {e}") from None
        return value


class CorpusConfig(Settings):
    """What goes in."""

    sources: tuple[SourceConfig, ...] = (SourceConfig(paths=("builtin:python-docs",)),)
    """The inputs."""
    builtin: BuiltinConfig = BuiltinConfig()
    """Size of the embedded corpus."""
    html: HtmlConfig = HtmlConfig()
    """HTML to text."""
    shard_bytes: int | None = Field(None, gt=0)
    """Target size of a shard, in bytes as stored. Bigger Parquet, JSONL and line files are split by row group or byte
    range; smaller files are grouped (never across sources). null: a 64th of the input, from 128 KiB to 64 MiB. A size
    that would make more than 4,194,304 shards is refused."""
    batch_bytes: int = Field(8 << 20, gt=0, le=1 << 30)
    """Text bytes in one in-memory batch: bounds a worker's memory."""
    max_document_bytes: int | None = Field(20_000_000, gt=0)
    """Longer documents are quarantined (None: no limit)."""
    max_record_seconds: float | None = Field(10.0, gt=0)
    """A page that takes longer to become text is quarantined (None: no limit, and no child process to keep it). Usual
    pages take 2 ms."""
    max_quarantined_fraction: float = Field(0.05, ge=0, le=1)
    """The run fails when more than this share of the records cannot be read, or when the files that cannot be read to
    their end hold more than this share of the bytes (what they lost is not known)."""
    broken_files: Literal["limit", "fail", "quarantine"] = "limit"
    """Files that cannot be read to their end. limit: they count against `max_quarantined_fraction`. fail: one fails the
    run. quarantine: what stands before the break is taken, the break is in quarantine/, the bytes behind it are in the
    ledger, and the run goes on however many there are."""
    max_window_bytes: int = Field(1 << 31, gt=0, le=1 << 31)
    """Memory that a zstd or xz file may ask for to be unpacked (`zstd --long=31` writes files that need 2 GiB)."""
    max_unpack_ratio: float | None = Field(1000.0, gt=0)
    """A compressed file that unpacks to more than this multiple of its size, and to more than 256 MiB, is given up as
    broken (text comes to 3-20, gzip cannot exceed 1,032)."""
    max_unpacked_bytes: int | None = Field(1 << 40, gt=0)
    """A compressed file is given up as broken when it unpacks to more than this."""
    max_batch_seconds: float | None = Field(600.0, gt=0)
    """A worker that takes longer to read or to tag a batch of `batch_bytes` hangs: it is ended, and what it hung on is
    found in a child process and quarantined. null: it may."""
    max_decoder_bytes: int | None = Field(512 << 20, gt=0)
    """Memory of the child process that decodes Parquet and Arrow files, beyond what it starts with; what needs more is
    quarantined. null: no limit."""

    @model_validator(mode="after")
    def _sources_are_distinct(self) -> "CorpusConfig":
        if not self.sources:
            raise ValueError("name at least one source")
        names = [s.name for s in self.sources if s.name]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise ValueError(f"two sources are named {twice[0]!r}; give each its own name")
        return self

    @property
    def unpack_limits(self) -> UnpackLimits:
        return UnpackLimits(self.max_window_bytes, self.max_unpack_ratio, self.max_unpacked_bytes)
