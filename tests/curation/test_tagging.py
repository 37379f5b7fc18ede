"""Curation over shards on Ray: an actor that dies changes nothing, and done shards are not done again."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
import ray

from raypt import storage
from raypt.artefact import Card
from raypt.config_io import validate
from raypt.corpus.manifest import build_manifest
from raypt.curation.deciding import decide_all
from raypt.curation.tagging import collection, tag
from raypt.run.config import RunConfig
from raypt.run_dir import RunDir

SHARDS = 12
SENTENCE = "The {} ferry crossed the bay at noon, and the people on the pier of {} waved to it. "


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    ray.init(address="local", num_cpus=2, include_dashboard=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    source = tmp_path_factory.mktemp("source")
    for shard in range(SHARDS):
        rows = [{"id": f"{shard}-{i}", "text": SENTENCE.format(i, shard) * 40} for i in range(60)]
        (source / f"{shard:02d}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return validate(
        RunConfig,
        {
            "corpus": {"sources": [{"name": "s", "paths": str(source / "*.jsonl")}], "shard_bytes": 210_000},
            "curation": {"stages": ["language", "gopher_quality", "pii"]},
        },
    )


def tagged(config: RunConfig, run: RunDir) -> list[Card]:
    manifest = build_manifest(config.corpus, run.uri)
    storage.write_json(run.manifest, manifest.to_json())
    assert len(manifest.shards) == SHARDS
    return tag(run, manifest, config.corpus, config.curation, None, config.ray, "sizes")


def kill_the_first_actor_at_work(run: RunDir, killed: list[int]) -> None:
    """SIGKILL a curation actor once the first shards are done, so that it dies with work in its hands."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and len(storage.listdir(run.path("work", "tagged"))) < 2:
        time.sleep(0.005)
    for process in psutil.Process().children(recursive=True):
        if process.cmdline() and "MapWorker(MapBatches(TagShards))" in process.cmdline()[0]:
            process.kill()
            killed.append(process.pid)
            return


def test_an_actor_killed_at_work_changes_no_document(
    local_ray: None, config: RunConfig, tmp_path_factory: pytest.TempPathFactory
) -> None:
    calm, stormy = (RunDir(str(tmp_path_factory.mktemp(name))) for name in ("calm", "stormy"))
    tagged(config, calm)
    killed: list[int] = []
    killer = threading.Thread(target=kill_the_first_actor_at_work, args=(stormy, killed))
    killer.start()
    tagged(config, stormy)
    killer.join()
    assert killed
    for shard in range(SHARDS):
        assert pq.read_table(calm.tagged(shard)).equals(pq.read_table(stormy.tagged(shard)))


def times(run: RunDir) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in Path(run.path("work", "tagged")).glob("*.parquet")}


def test_only_a_shard_without_a_card_is_tagged_again(local_ray: None, config: RunConfig, tmp_path: Path) -> None:
    run = RunDir(str(tmp_path))
    cards = tagged(config, run)
    before = times(run)
    storage.remove(collection(run).index_uri)
    storage.remove(collection(run).card_uri(5))
    again = tagged(config, run)
    assert [name for name, time in times(run).items() if time != before[name]] == ["shard-00005.parquet"]
    assert [card.content for card in again] == [card.content for card in cards]


def test_thresholds_change_without_tagging_again(local_ray: None, config: RunConfig, tmp_path: Path) -> None:
    run = RunDir(str(tmp_path))
    _, ledger = decide_all(run, tagged(config, run), config.curation, {}, "sizes")
    assert ledger.stages["pii"].kept.documents == SHARDS * 60
    before = times(run)
    strict = config.curation.gopher_quality.model_copy(update={"word_count_min": 10_000})
    changed = config.model_copy(update={"curation": config.curation.model_copy(update={"gopher_quality": strict})})
    _, ledger = decide_all(run, tagged(changed, run), changed.curation, {}, "sizes")
    assert ledger.stages["gopher_quality"].removed["gopher_quality.word_count_min"].documents == SHARDS * 60
    assert times(run) == before


def test_another_rule_is_tagged_anew(local_ray: None, config: RunConfig, tmp_path: Path) -> None:
    run = RunDir(str(tmp_path))
    tagged(config, run)
    before = times(run)
    stages = (*config.curation.stages, "fineweb")
    changed = config.model_copy(update={"curation": config.curation.model_copy(update={"stages": stages})})
    assert "fineweb" in pq.read_schema(run.tagged(0)).names if tagged(changed, run) else False
    assert all(time != before[name] for name, time in times(run).items())
