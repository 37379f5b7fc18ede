"""Published data sets: which fields hold the text, the URL and the metadata.

Each entry says where its fields were published; `types` are those of the columns that are no text.
"""

from dataclasses import dataclass, field

from raypt.corpus.config import ColumnType


@dataclass(frozen=True)
class Preset:
    """Where a data set keeps what (dotted paths), and the top-level fields by which it is recognised."""

    data_set: str
    text_field: str
    fields: tuple[str, ...]
    """Top-level fields that every record has."""
    id_field: str | None = None
    url_field: str | None = None
    columns: dict[str, str] = field(default_factory=dict)
    """Columns to carry, as `name: path`."""
    types: dict[str, ColumnType] = field(default_factory=dict)
    """Types of columns that are not text."""
    literals: tuple[str, ...] = ()
    """Top-level fields that hold a Python literal as a string."""
    beside: tuple[str, ...] = ()
    """Directories of the data set that hold something else than its documents."""
    note: str = ""
    """What to say of files that lack fields."""


PRESETS: dict[str, Preset] = {
    # Gao et al. 2020. meta is an object with the name of the component.
    "pile": Preset(
        "The Pile",
        text_field="text",
        fields=("text", "meta"),
        columns={"pile_set_name": "meta.pile_set_name"},
    ),
    # Soboleva et al. 2023.
    "slimpajama": Preset(
        "SlimPajama",
        text_field="text",
        fields=("text", "meta"),
        columns={"redpajama_set_name": "meta.redpajama_set_name"},
    ),
    # Penedo et al. 2023, tiiuae/falcon-refinedweb. The text is in `content`.
    "refinedweb": Preset(
        "RefinedWeb",
        text_field="content",
        fields=("content", "url", "timestamp", "dump", "segment"),
        url_field="url",
        columns={"timestamp": "timestamp", "dump": "dump", "segment": "segment"},
    ),
    # Nguyen et al. 2023. `source` (mC4 or an OSCAR release) would collide with the name of the source.
    "culturax": Preset(
        "CulturaX",
        text_field="text",
        fields=("text", "timestamp", "url", "source"),
        url_field="url",
        columns={"timestamp": "timestamp", "culturax_source": "source"},
    ),
    # Laurençon et al. 2022. meta is str() of a Python dict, whose keys depend on the component.
    "roots": Preset(
        "ROOTS",
        text_field="text",
        fields=("text", "meta"),
        id_field="meta.id",
        url_field="meta.url",
        columns={"source_dataset": "meta.source_dataset", "title": "meta.title", "type": "meta.type"},
        literals=("meta",),
    ),
    # Penedo et al. 2024; dataset_info of HuggingFaceFW/fineweb.
    "fineweb": Preset(
        "FineWeb",
        text_field="text",
        fields=("text", "id", "dump", "url", "language", "language_score", "token_count"),
        id_field="id",
        url_field="url",
        columns={n: n for n in ("dump", "date", "language", "language_score", "token_count")},
        types={"language_score": "float", "token_count": "int"},
    ),
    # The same, with the classifier's scores; the first release has no `date`.
    "fineweb_edu": Preset(
        "FineWeb-Edu",
        text_field="text",
        fields=("text", "id", "dump", "url", "language", "language_score", "token_count", "score", "int_score"),
        id_field="id",
        url_field="url",
        columns={n: n for n in ("dump", "language", "language_score", "token_count", "score", "int_score")},
        types={"language_score": "float", "token_count": "int", "score": "float", "int_score": "int"},
    ),
    # Penedo et al. 2025; card of HuggingFaceFW/fineweb-2. What its filters removed is published beside it.
    "fineweb2": Preset(
        "FineWeb-2",
        text_field="text",
        fields=("text", "id", "dump", "url", "language", "language_script", "minhash_cluster_size"),
        id_field="id",
        url_field="url",
        columns={
            n: n
            for n in (
                "dump",
                "date",
                "language",
                "language_script",
                "language_score",
                "minhash_cluster_size",
                "top_langs",
            )
        },
        types={"language_score": "float", "minhash_cluster_size": "int"},
        beside=("removed",),
    ),
    # Card of HuggingFaceFW/finepdfs.
    "finepdfs": Preset(
        "FinePDFs",
        text_field="text",
        fields=("text", "id", "dump", "url", "language", "full_doc_lid", "is_truncated"),
        id_field="id",
        url_field="url",
        columns={
            n: n for n in ("dump", "date", "language", "full_doc_lid", "token_count", "is_truncated", "extractor")
        },
        types={"token_count": "int", "is_truncated": "bool"},
    ),
    # Li et al. 2024; card of mlfoundations/dclm-baseline-1.0.
    "dclm": Preset(
        "DCLM-Baseline",
        text_field="text",
        fields=("text", "url", "metadata", "language_id_whole_page_fasttext"),
        id_field="metadata.WARC-Record-ID",
        url_field="url",
        columns={
            "warc_date": "metadata.WARC-Date",
            "english": "language_id_whole_page_fasttext.en",
            "previous_word_count": "previous_word_count",
            "quality": "fasttext_openhermes_reddit_eli5_vs_rw_v2_bigram_200k_train_prob",
        },
        types={"english": "float", "previous_word_count": "int", "quality": "float"},
    ),
    # Soldaini et al. 2024; docs/data-format.md of allenai/dolma. `source` would collide.
    "dolma": Preset(
        "Dolma",
        text_field="text",
        fields=("id", "text", "source"),
        id_field="id",
        url_field="metadata.url",
        columns={"dolma_source": "source", "created": "created", "added": "added"},
        beside=("attributes",),
    ),
    # Raffel et al. 2020; dataset_info of allenai/c4.
    "c4": Preset(
        "C4",
        text_field="text",
        fields=("text", "timestamp", "url"),
        url_field="url",
        columns={"timestamp": "timestamp"},
    ),
    # Weber et al. 2024; card of togethercomputer/RedPajama-Data-V2: CCNet's fields, quality signals in files beside.
    "redpajama2": Preset(
        "RedPajama-V2",
        text_field="raw_content",
        fields=("raw_content", "url", "source_domain", "language", "perplexity", "bucket"),
        id_field="doc_id",
        url_field="url",
        columns={n: n for n in ("source_domain", "title", "date_download", "language", "bucket")}
        | {"language_score": "language_score", "perplexity": "perplexity", "length": "length", "nlines": "nlines"},
        types={"language_score": "float", "perplexity": "float", "length": "int", "nlines": "int"},
        beside=("quality_signals", "duplicates", "minhash"),
    ),
    # Su et al. 2024. Quality and kind are in the path: quality=high/kind=actual/kind2=actual.
    "nemotron_cc": Preset(
        "Nemotron-CC",
        text_field="text",
        fields=("text", "warc_record_id", "url"),
        id_field="warc_record_id",
        url_field="url",
        columns={n: n for n in ("language", "quality", "kind", "kind2")},
    ),
    # De Gibert et al. 2024, Burchell et al. 2025: the files of release 2, whose keys are short.
    "hplt": Preset(
        "HPLT 2",
        text_field="text",
        fields=("text", "id", "u", "ts", "collection", "lang", "doc_scores"),
        id_field="id",
        url_field="u",
        columns={"timestamp": "ts", "collection": "collection", "languages": "lang", "doc_scores": "doc_scores"},
    ),
    # Abadji et al. 2022; OSCAR 22.01 and 23.01.
    "oscar": Preset(
        "OSCAR",
        text_field="content",
        fields=("content", "warc_headers", "metadata"),
        id_field="warc_headers.warc-record-id",
        url_field="warc_headers.warc-target-uri",
        columns={
            "warc_date": "warc_headers.warc-date",
            "language": "metadata.identification.label",
            "language_score": "metadata.identification.prob",
            "harmful_pp": "metadata.harmful_pp",
            "quality_warnings": "metadata.quality_warnings",
            "categories": "metadata.categories",
        },
        types={"language_score": "float", "harmful_pp": "float"},
    ),
    # Lozhkov et al. 2024; card of bigcode/the-stack-v2.
    "the_stack2": Preset(
        "The Stack v2",
        text_field="content",
        fields=("content", "blob_id", "path", "repo_name", "language", "license_type"),
        id_field="blob_id",
        columns={
            n: n
            for n in ("path", "repo_name", "language", "extension", "license_type", "detected_licenses", "length_bytes")
        }
        | {"is_vendor": "is_vendor", "is_generated": "is_generated", "stars": "star_events_count"},
        types={"length_bytes": "int", "is_vendor": "bool", "is_generated": "bool", "stars": "int"},
        note="the published files hold ids: fetch the contents from Software Heritage into a column `content` first",
    ),
    # Wei et al. 2023.
    "skypile": Preset("SkyPile-150B", text_field="text", fields=("text",)),
    # He et al. 2023, the text part of release 1.
    "wanjuan": Preset(
        "WanJuan 1.0", text_field="content", fields=("id", "content"), id_field="id", columns={"title": "title"}
    ),
    # Chen et al. 2023; card of CASIA-LM/ChineseWebText.
    "chinese_web_text": Preset(
        "ChineseWebText",
        text_field="text",
        fields=("text", "title", "score", "url", "source_domain"),
        url_field="url",
        columns={"title": "title", "score": "score", "source_domain": "source_domain"},
        types={"score": "float"},
    ),
    # Zhang et al. 2024; card of CASIA-LM/ChineseWebText2.0.
    "chinese_web_text2": Preset(
        "ChineseWebText 2.0",
        text_field="text",
        fields=("text", "domain", "toxicity", "quality_score"),
        columns={
            "domain": "domain.single_label",
            "domains": "domain.multi_label",
            "toxic": "toxicity.label",
            "toxicity": "toxicity.score",
            "quality_score": "quality_score",
        },
        types={"toxic": "int", "toxicity": "float", "quality_score": "float"},
    ),
}
