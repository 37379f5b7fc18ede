"""On real text of many languages and kinds: the ledger adds up, and the defaults do not favour English."""

from pathlib import Path

import pyarrow as pa
import pytest

from raypt.corpus.config import CorpusConfig, SourceConfig
from raypt.corpus.manifest import build_manifest
from raypt.corpus.reader import read_shard
from raypt.curation.config import CurationConfig
from raypt.curation.decide import decide
from raypt.curation.ledger import curation_ledger, curation_ledger_by
from raypt.curation.tagger import Tagger
from tests.curation.figures import report
from tests.curation.text_sets import CORPORA, documents

FILES = sorted(
    str(path.relative_to(CORPORA))
    for pattern in ("*/*.jsonl.gz", "*/*.jsonl.zst")
    for path in CORPORA.glob(pattern)
    if "pairs" not in path.name and "truth" not in path.name
)
ALL = CurationConfig.model_validate(
    {
        "stages": (
            "url", "language", "length", "characters", "gopher_repetition", "gopher_quality", "character_repetition",
            "refinedweb_lines", "repeated_phrases", "c4", "fineweb", "bad_words", "keywords", "pii",
        )
    }
)  # fmt: skip

pytestmark = pytest.mark.skipif(not FILES, reason="the real corpora beside the checkout (shared/corpora) are absent")


def through_the_reader(tmp_path: Path, limit: int, **source: object) -> pa.Table:
    """The first documents of a source as a run reads them."""
    config = CorpusConfig(sources=(SourceConfig.model_validate(source),), batch_bytes=1 << 20)
    manifest = build_manifest(config, str(tmp_path))
    parts: list[pa.Table] = []
    for shard in range(len(manifest.shards)):
        parts += [batch.documents for batch in read_shard(manifest, shard, config, str(tmp_path))]
    return pa.concat_tables(parts).slice(0, limit)


@pytest.mark.parametrize("name", FILES)
def test_the_ledger_adds_up(name: str) -> None:
    check_ledger(documents(name, 150))


@pytest.mark.parametrize(
    "source",
    [
        {"preset": "pile", "paths": "schemas/dev/pile/*.zst"},
        {"preset": "slimpajama", "paths": "schemas/dev/slimpajama/train/*/*.zst"},
        {"preset": "refinedweb", "paths": "schemas/dev/refinedweb/data/*.parquet"},
        {"preset": "culturax", "paths": "schemas/dev/culturax/*/*.parquet"},
        {"preset": "roots", "paths": "schemas/dev/roots/*/*.parquet"},
        {"format": "jsonl", "paths": "schemas/real_rows/*.jsonl"},
        {"format": "warc", "paths": "web/warc_samples/*.gz"},
        {"format": "warc", "paths": "web/pages_html_small.dev.warc.gz"},
        {"format": "text", "paths": "reference/*.txt"},
    ],
    ids=lambda source: source.get("preset") or source["paths"],
)
def test_the_ledger_adds_up_on_what_the_readers_read(source: dict[str, str], tmp_path: Path) -> None:
    docs = through_the_reader(tmp_path, 150, **source | {"paths": str(CORPORA / source["paths"])})
    assert len(docs)
    check_ledger(docs)


def check_ledger(docs: pa.Table) -> None:
    tagged = Tagger(ALL).tag(docs)
    reasons = decide(tagged, ALL)
    ledger = curation_ledger(tagged, reasons, ALL)
    first, last = ledger.stages["url"].entered, ledger.stages["pii"].kept
    assert (first.documents, first.bytes) == (len(docs), sum(len(t.encode()) for t in docs["text"].to_pylist()))
    kept = tagged.filter(reasons.is_null())["text"].to_pylist()
    assert (last.documents, last.bytes) == (len(kept), sum(len(t.encode()) for t in kept))
    merged = curation_ledger_by(tagged, reasons, ALL, "lang")
    assert sum(part.stages["pii"].kept.documents for part in merged.values()) == len(kept)


@pytest.mark.parametrize(
    ("name", "floor"),
    [
        ("reference/wikipedia_zh.dev.jsonl.gz", 0.9),
        ("reference/lctt_zh_ccbysa.dev.jsonl.zst", 0.64),
        ("reference/novels_en.dev.jsonl.zst", 0.85),
        ("multilingual/udhr.jsonl.gz", 0.25),
    ],
)
def test_good_text_passes_the_default_rules(name: str, floor: float) -> None:
    config = CurationConfig(stages=("language", "gopher_repetition", "gopher_quality", "c4"))
    docs = documents(name, 600)
    tagged = Tagger(config).tag(docs)
    reasons = decide(tagged, config)
    by_language = curation_ledger_by(tagged, reasons, config, "lang")
    shares = {
        language: ledger.stages["c4"].kept.documents / ledger.stages["language"].entered.documents
        for language, ledger in by_language.items()
        if ledger.stages["language"].entered.documents >= 20
    }
    by_lang = {k: round(v, 2) for k, v in shares.items()}
    report(f"{name}: kept {reasons.null_count / len(docs):.3f} by the default rules, by language {by_lang}")
    assert reasons.null_count / len(docs) >= floor
