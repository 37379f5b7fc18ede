"""raypt.corpus.presets: published data sets, one line of configuration each."""

import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raypt.corpus.config import CorpusConfig, SourceConfig
from raypt.corpus.manifest import build_manifest
from raypt.corpus.presets import MAX_LITERAL_CHARS, PRESETS, apply_preset, parse_literal
from raypt.corpus.reader import read_shard
from raypt.errors import UserError
from tests.corpus.published import PUBLISHED

SAMPLES = Path(__file__).resolve().parents[2].parent / "shared" / "corpora" / "schemas" / "dev"


def documents(tmp_path: Path, **source: object) -> pa.Table:
    config = CorpusConfig(sources=(SourceConfig.model_validate(source),))
    manifest = build_manifest(config, str(tmp_path))
    batches = [b for s in range(len(manifest.shards)) for b in read_shard(manifest, s, config, str(tmp_path))]
    assert not [q for b in batches for q in b.quarantined]
    return pa.concat_tables([b.documents for b in batches])


SAMPLE_OF = {
    # preset: (paths, documents, column, a value of it)
    "pile": ("pile/*.jsonl.zst", 890, "pile_set_name", "Gutenberg (PG-19)"),
    "slimpajama": ("slimpajama/train/*/*.jsonl.zst", 850, "redpajama_set_name", "RedPajamaCommonCrawl"),
    "refinedweb": ("refinedweb/data/*.parquet", 780, "timestamp", "2022-05-01T00:00:00"),
    "culturax": ("culturax/*/*.parquet", 1874, "culturax_source", "OSCAR-2301"),
    "roots": ("roots/*/*.parquet", 1320, "source_dataset", "lm_zh_sample"),
}


@pytest.mark.parametrize("preset", SAMPLE_OF)
def test_a_sample_in_the_published_schema_is_read_with_its_metadata(preset: str, tmp_path: Path) -> None:
    if not SAMPLES.exists():
        pytest.skip("the samples of the five data sets' schemas are absent")
    paths, count, column, value = SAMPLE_OF[preset]
    table = documents(tmp_path, preset=preset, paths=str(SAMPLES / paths))
    assert table.num_rows == count
    assert value in table[column].to_pylist()
    assert set(PRESETS[preset].columns) <= set(table.column_names)
    if PRESETS[preset].url_field:
        assert any(url and url.startswith("http") for url in table["url"].to_pylist())


def write(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return str(path)


def test_a_roots_meta_is_parsed_as_a_literal_and_never_evaluated(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    rows = [
        {
            "text": "one",
            "meta": "{'url': 'https://a.example/', 'title': \"l'été\", 'id': 7, 'source_dataset': 'lm_fr'}",
        },
        {"text": "two", "meta": f"__import__('pathlib').Path({str(ran)!r}).touch()"},
        {"text": "three", "meta": "not a literal"},
        {"text": "four", "meta": "'a string'"},
        {"text": "five", "meta": {"url": "https://b.example/"}},
        {"text": "six", "meta": "{'url': '" + "x" * MAX_LITERAL_CHARS + "'}"},
    ]
    table = documents(tmp_path, preset="roots", paths=write(tmp_path / "r.jsonl", rows))
    assert table["text"].to_pylist() == [
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
    ]  # no text is lost to bad metadata
    assert table["url"].to_pylist() == ["https://a.example/", None, None, None, "https://b.example/", None]
    assert table["id"].to_pylist()[0] == "7" and table["title"].to_pylist()[0] == "l'été"
    assert not ran.exists()


@pytest.mark.parametrize(
    "value", ["(" * 60_000, "[" * 5_000 + "]" * 5_000, "{1: ", "9" * 60_000, "-" * 60_000 + "1", "\x00", "{[]: 1}"]
)
def test_a_hostile_literal_is_none_and_does_no_harm(value: str) -> None:
    assert parse_literal(value) is None


def test_the_users_own_fields_win_over_the_presets() -> None:
    source = SourceConfig(preset="refinedweb", paths=("x",), url_field="link", columns={"dump": "crawl", "mine": "m"})
    applied = apply_preset(source, "corpus.sources[0]")
    assert (applied.text_field, applied.url_field, applied.id_field) == ("content", "link", None)
    assert applied.columns == {"timestamp": "timestamp", "dump": "crawl", "segment": "segment", "mine": "m"}
    assert apply_preset(applied, "corpus.sources[0]") == applied


def test_an_unknown_preset_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"corpus\.sources\[0\]\.preset: there is no preset 'the-pile'; did you mean 'pile'"
    ):
        documents(tmp_path, preset="the-pile", paths=write(tmp_path / "a.jsonl", [{"text": "x"}]))


def test_another_data_set_is_refused_and_the_preset_that_fits_named(tmp_path: Path) -> None:
    culturax = [{"text": "x", "timestamp": "t", "url": "u", "source": "mC4"}]
    with pytest.raises(
        UserError, match=r"a\.jsonl is not The Pile: it lacks meta .* these are the fields of preset culturax"
    ):
        documents(tmp_path, preset="pile", paths=write(tmp_path / "a.jsonl", culturax))
    pq.write_table(pa.Table.from_pylist(culturax), tmp_path / "b.parquet")
    with pytest.raises(UserError, match=r"b\.parquet is not RefinedWeb: it lacks content, dump, segment"):
        documents(tmp_path, preset="refinedweb", paths=str(tmp_path / "b.parquet"))


def test_a_presets_columns_count_documents_by_component(tmp_path: Path) -> None:
    rows = [{"text": f"t{i}", "meta": {"pile_set_name": "ArXiv" if i % 3 else "FreeLaw"}} for i in range(9)]
    table = documents(tmp_path, preset="pile", paths=write(tmp_path / "p.jsonl", rows))
    assert Counter(table["pile_set_name"].to_pylist()) == {"ArXiv": 6, "FreeLaw": 3}


def test_components_of_one_data_set_become_sources_of_their_own(tmp_path: Path) -> None:
    rows = [{"text": f"t{i}", "meta": {"pile_set_name": "ArXiv" if i % 3 else "FreeLaw"}} for i in range(9)]
    path = write(tmp_path / "p.jsonl", rows)
    config = CorpusConfig.model_validate(
        {
            "sources": [
                {"name": name, "preset": "pile", "paths": path, "where": {"pile_set_name": name}, "weight": weight}
                for name, weight in (("ArXiv", 1.0), ("FreeLaw", 2.0))
            ]
        }
    )
    manifest = build_manifest(config, str(tmp_path))
    batches = [next(iter(read_shard(manifest, s, config, str(tmp_path)))) for s in range(len(manifest.shards))]
    assert [b.documents["source"].to_pylist() for b in batches] == [["ArXiv"] * 6, ["FreeLaw"] * 3]
    assert [b.not_documents for b in batches] == [{"other_subset": 3}, {"other_subset": 6}]
    assert [b.bytes_lost for b in batches] == [{"other_subset": 6}, {"other_subset": 12}]
    keys = [k for b in batches for k in b.documents["doc_key"].to_pylist()]
    assert [k & 0xFFFFFFFF for k in keys] == [1, 2, 4, 5, 7, 8, 0, 3, 6]  # a key is the row, filtered or not


def test_every_preset_has_a_sample_or_a_published_record() -> None:
    assert set(SAMPLE_OF) | set(PUBLISHED) == set(PRESETS)


@pytest.mark.parametrize("preset", PUBLISHED)
@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_record_of_the_published_schema_is_read_with_its_types(preset: str, suffix: str, tmp_path: Path) -> None:
    record, expected = PUBLISHED[preset]
    folder = tmp_path / "quality=high" / "kind=actual" / "kind2=actual"
    folder.mkdir(parents=True)
    if suffix == ".jsonl":
        write(folder / "a.jsonl", [record])
    else:
        # Parquet has no type for an empty list or a column of nulls alone that another file could fill.
        pq.write_table(pa.Table.from_pylist([record]), folder / "a.parquet")
    [row] = documents(tmp_path, preset=preset, paths=str(tmp_path)).to_pylist()
    assert row["text"] == "t"
    assert {name: row[name] for name in expected} == expected
    assert {name: type(row[name]) for name in expected} == {name: type(value) for name, value in expected.items()}


def test_directories_of_a_data_set_that_hold_no_documents_are_passed_over(tmp_path: Path) -> None:
    record, _ = PUBLISHED["redpajama2"]
    for folder in ("documents", "quality_signals", "minhash"):
        (tmp_path / "rp" / folder / "2023-06").mkdir(parents=True)
        write(tmp_path / "rp" / folder / "2023-06" / "en_head.json", [record if folder == "documents" else {"id": 1}])
    assert documents(tmp_path, preset="redpajama2", paths=str(tmp_path / "rp")).num_rows == 1


def test_files_of_ids_alone_are_refused_with_what_to_do(tmp_path: Path) -> None:
    record = {k: v for k, v in PUBLISHED["the_stack2"][0].items() if k != "content"}
    with pytest.raises(UserError, match=r"is not The Stack v2: it lacks content .* fetch the contents"):
        documents(tmp_path, preset="the_stack2", paths=write(tmp_path / "a.jsonl", [record]))
