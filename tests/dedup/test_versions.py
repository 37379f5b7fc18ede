"""One document of each address stays: the latest, the best or the first."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from raypt import storage
from raypt.dedup import DedupConfig, DedupResult, deduplicate
from raypt.dedup.config import ContaminationConfig, FuzzyConfig, UrlConfig
from raypt.errors import UserError
from tests.dedup.reference import documents, removed_keys, split, write_shards

URLS = [
    "http://a.org/x",
    "https://www.a.org/x/?utm_source=m",
    "http://b.org/",
    None,
    "http://A.org/x#top",
    "http://b.org/y",
]
DATES = ["2024-01-01", "2024-03-01", "2023-01-01", None, "2024-02-01", "2022-01-01"]
QUALITY = [0.5, 0.1, 0.5, 0.5, 0.9, 0.5]


Outcome = tuple[dict[int, str], DedupResult]


def pages(shard: int = 0, **columns: Any) -> pa.Table:
    texts = [f"page {shard} {i} of its own words w{shard}{i}" for i in range(len(URLS))]
    filled = {"url": pa.array(URLS), "date": pa.array(DATES), "quality_score": pa.array(QUALITY)} | columns
    return documents(texts, shard, **filled)


def config(keep: str = "latest", **options: Any) -> DedupConfig:
    url = UrlConfig(enabled=True, keep=keep, **options)  # type: ignore[arg-type]
    return DedupConfig(url=url, fuzzy=FuzzyConfig(enabled=False), max_removed_fraction=None)


def run(directory: Path, tables: list[pa.Table], config: DedupConfig, **priority: int) -> Outcome:
    shards = write_shards(directory, tables)
    result = deduplicate(shards, config, str(directory / "work"), str(directory / "out"), source_priority=priority)
    return removed_keys(directory / "work", shards), result


@pytest.mark.parametrize(("keep", "kept"), [("latest", 1), ("best", 4), ("first", 0)])
def test_the_version_that_is_asked_for_stays(tmp_path: Path, keep: str, kept: int) -> None:
    removed, result = run(tmp_path, [pages()], config(keep))
    assert removed == dict.fromkeys({0, 1, 4} - {kept}, "dedup.url")
    assert result.removed == {"dedup.url": 2}
    result.account.check("dedup")
    report = result.report["url"]
    assert (report["documents"], report["undated"], report["repeated_addresses"], report["removed"]) == (5, 0, 1, 2)
    assert report["biggest"] == [{"documents": 3, "url": URLS[4]}]


def test_source_priority_chooses_the_best_and_dates_the_latest(tmp_path: Path) -> None:
    table = pages(source=["crawl"] * 5 + ["wiki"]).set_column(4, "url", pa.array([*URLS[:5], "http://a.org/x"]))
    assert run(tmp_path / "best", [table], config("best"), wiki=1)[0].keys() == {0, 1, 4}
    assert run(tmp_path / "latest", [table], config("latest"), wiki=1)[0].keys() == {0, 4, 5}


def test_a_document_without_a_date_is_older_than_any_with_one(tmp_path: Path) -> None:
    table = pages(date=pa.array([None, None, None, None, "1999-01-01", None]))
    removed, result = run(tmp_path, [table], config())
    assert removed.keys() == {0, 1}
    assert result.report["url"]["undated"] == 4


def test_scope_source_keeps_a_version_a_source(tmp_path: Path) -> None:
    table = pages(source=["a", "b", "a", "a", "a", "a"])
    assert run(tmp_path, [table], config().model_copy(update={"scope": "source"}))[0].keys() == {0}


def test_a_document_that_goes_for_its_address_takes_no_part_in_what_follows(tmp_path: Path) -> None:
    copy = "the very same text of enough words to be a near duplicate of itself, twice"
    docs = documents(
        [copy, "other words entirely", copy],
        url=pa.array(["http://a.org/1", "http://a.org/1", "http://c.org/2"]),
        date=pa.array(["2020-01-01", "2021-01-01", "2020-01-01"]),
    )
    removed, _ = run(tmp_path, [docs], config())
    assert removed == {0: "dedup.url"}, "the copy of a removed version was removed too"


def test_a_contaminated_latest_version_gives_way_to_an_older_one(tmp_path: Path) -> None:
    question = "If a train leaves the station at noon and travels at sixty miles an hour, when does it arrive?"
    (tmp_path / "eval.txt").write_text(question)
    docs = documents(["an older page", question], url=pa.array(["http://a.org/"] * 2), date=pa.array(["2020", "2021"]))
    contamination = ContaminationConfig(paths=(str(tmp_path / "eval.txt"),))
    removed, _ = run(tmp_path, [docs], config().model_copy(update={"contamination": contamination}))
    assert removed == {1: "dedup.contamination"}


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"dedup\.url: the documents have no column 'date', only doc_key, source, url"):
        run(tmp_path, [pages().drop_columns("date")], config())
    removed, _ = run(tmp_path, [pages().drop_columns("date")], config("best"))
    assert removed.keys() == {0, 1}


def test_the_latest_needs_a_date() -> None:
    with pytest.raises(ValidationError, match="keep: latest needs date_column"):
        UrlConfig(enabled=True, date_column=None)


def test_the_result_depends_on_neither_shards_nor_partitions_nor_order(tmp_path: Path) -> None:
    urls = [f"http://www{i % 3 or ''}.site{i % 7}.org/{i % 11}/?b={i % 2}&utm_x={i}&a=1" for i in range(400)]
    dates = [f"20{10 + i * 7 % 13}-0{1 + i % 9}-01" for i in range(400)]
    whole = documents([f"words {i} of page number {i}" for i in range(400)], url=pa.array(urls), date=pa.array(dates))
    found = []
    for shards, partitions in ((1, 1), (5, 1), (5, 7)):
        tables = split(whole, shards)
        name = tmp_path / f"{shards}-{partitions}"
        removed, _ = run(name, tables[::-1], config().model_copy(update={"partitions": partitions}))
        ids = dict(zip(*(pa.concat_tables(tables)[c].to_pylist() for c in ("doc_key", "id")), strict=True))
        found.append({ids[key] for key in removed})
    assert found[0] == found[1] == found[2]
    assert len(found[0]) == 400 - len({(i % 7, i % 11, i % 2) for i in range(400)})


class Crawls:
    """One run a crawl over one index."""

    def __init__(self, directory: Path, keep: str) -> None:
        self.directory = directory
        self.config = config(keep).model_copy(update={"index": str(directory / "index")})

    def run(self, name: str, date: str, quality: float) -> Outcome:
        docs = documents(
            [f"the page as it was in {name}"],
            url=pa.array(["http://a.org/"]),
            date=pa.array([date]),
            quality_score=pa.array([quality]),
        )
        return run(self.directory / name, [docs], self.config)


def test_across_crawls_a_newer_version_stays_and_an_older_one_goes(tmp_path: Path) -> None:
    crawls = Crawls(tmp_path, "latest")
    assert crawls.run("first", "2022-01-01", 0.5)[0] == {}
    removed, result = crawls.run("second", "2023-01-01", 0.1)
    assert removed == {} and result.report["url"]["newer_than_indexed"] == 1
    assert crawls.run("third", "2022-06-01", 0.9)[0] == {0: "dedup.url"}
    assert crawls.run("fourth", "2023-01-01", 0.1)[0] == {0: "dedup.url"}, "the index wins where all is equal"


def test_across_crawls_a_better_version_stays(tmp_path: Path) -> None:
    crawls = Crawls(tmp_path, "best")
    assert [crawls.run(str(q), "2022", q)[0] == {} for q in (0.5, 0.4, 0.6, 0.6)] == [True, False, True, False]


def test_an_index_made_with_other_tracking_parameters_is_refused(tmp_path: Path) -> None:
    crawls = Crawls(tmp_path, "latest")
    crawls.run("first", "2022-01-01", 0.5)
    other = crawls.config.url.model_copy(update={"tracking": ("x",)})
    crawls.config = crawls.config.model_copy(update={"url": other})
    with pytest.raises(UserError, match=r"other parameters \(url"):
        crawls.run("second", "2022-01-01", 0.5)
    assert storage.exists(str(tmp_path / "index" / "index.json"))
