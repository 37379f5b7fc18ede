"""Curation over shards on Ray: an actor that dies changes nothing, and done shards are not done again."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray

from raypt import storage
from raypt.artefact import Card
from raypt.config_io import validate
from raypt.corpus.manifest import build_manifest
from raypt.curation import tagging
from raypt.curation.base import Attributes
from raypt.curation.classify import percentiles as classify_percentiles
from raypt.curation.classify.config import Classify
from raypt.curation.classify.percentiles import Percentiles
from raypt.curation.classify.prepare import prepare as prepare_classify
from raypt.curation.deciding import DecideAtOnce, decide_all
from raypt.curation.deciding import collection as decided_collection
from raypt.curation.percentiles import Counts, count, merge
from raypt.curation.perplexity import percentiles as perplexity_percentiles
from raypt.curation.perplexity.config import Perplexity
from raypt.curation.perplexity.percentiles import Settled
from raypt.curation.perplexity.prepare import prepare as prepare_perplexity
from raypt.curation.quality.fit import fit
from raypt.curation.tagging import Made, collection, tag
from raypt.run.config import RunConfig
from raypt.run_dir import RunDir
from tests.curation.perplexity.test_perplexity import written

SHARDS = 12
SENTENCE = "The {} ferry crossed the bay at noon, and the people on the pier of {} waved to it. "
CRAB = "A crab crossed the sand on its way to the sea. "


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    ray.init(address="local", num_cpus=2, include_dashboard=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    source = tmp_path_factory.mktemp("source")
    for shard in range(SHARDS):
        rows = [{"id": f"{shard}-{i}", "text": SENTENCE.format(i, shard) * 40 + CRAB * (i % 12)} for i in range(60)]
        (source / f"{shard:02d}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return validate(
        RunConfig,
        {
            "corpus": {"sources": [{"name": "s", "paths": str(source / "*.jsonl")}], "shard_bytes": 210_000},
            "curation": {"stages": ["language", "gopher_quality", "pii"]},
        },
    )


@pytest.fixture(scope="module")
def with_models(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """Every kind of stage: rules, edits, and models that decide by percentiles of the run."""
    where = tmp_path_factory.mktemp("models")
    lines = [f"__label__{animal} the {animal} crossed the bay {i}" for i in range(60) for animal in ("ferry", "crab")]
    (where / "train.txt").write_text("\n".join(lines) + "\n")
    fit(str(where / "train.txt"), str(where / "boat.bin"), dim=2, epoch=5, lr=0.5, minCount=1)
    written(where / "en.arpa", lines=[SENTENCE.format(i, i % 7) for i in range(60)])
    curation = {
        "stages": ["language", "gopher_quality", "pii", "perplexity", "classify"],
        "perplexity": {"models": {"en": str(where / "en.arpa")}, "percentiles": {"max": 90}},
        "classify": {
            "models": {"boat": {"model": str(where / "boat.bin")}},
            "decisions": {"boat_ferry": {"percentile": 20}},
        },
    }
    return validate(RunConfig, {"corpus": config.corpus.model_dump(mode="json"), "curation": curation})


def tagged(config: RunConfig, run: RunDir) -> list[Card]:
    manifest = build_manifest(config.corpus, run.uri)
    storage.write_json(run.manifest, manifest.to_json())
    assert len(manifest.shards) == SHARDS
    made: dict[str, Made] = {}
    for stage in config.curation.plan():
        if isinstance(stage.settings, Perplexity):
            models = prepare_perplexity(run, stage.settings, config.corpus, config.curation.language, 0, "sizes")
            made[stage.name] = models
        elif isinstance(stage.settings, Classify):
            made[stage.name] = prepare_classify(run, stage.name, stage.settings, "sizes")
    return tag(run, manifest, config.corpus, config.curation, None, config.ray, "sizes", made).cards


def settled(config: RunConfig, tables: list[pa.Table]) -> tuple[Settled, Percentiles]:
    """What the percentiles over the shards come to, counted in this order."""
    fluency, decisions = config.curation.perplexity.percentiles, config.curation.classify.decisions
    perplexities: Counts = {}
    answers: Counts = {}
    for table in tables:
        of = Attributes(table, "perplexity")
        merge(perplexities, count(of, {"per_token": fluency.within}, perplexity_percentiles.bins))
        of = Attributes(table, "classify")
        merge(answers, count(of, {name: d.within for name, d in decisions.items()}, classify_percentiles.bins))
    return perplexity_percentiles.settle(perplexities, fluency), classify_percentiles.settle(answers, decisions)


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
    local_ray: None, with_models: RunConfig, tmp_path_factory: pytest.TempPathFactory
) -> None:
    calm, stormy = (RunDir(str(tmp_path_factory.mktemp(name))) for name in ("calm", "stormy"))
    tagged(with_models, calm)
    killed: list[int] = []
    killer = threading.Thread(target=kill_the_first_actor_at_work, args=(stormy, killed))
    killer.start()
    tagged(with_models, stormy)
    killer.join()
    assert killed
    undisturbed, survived = ([pq.read_table(run.tagged(s)) for s in range(SHARDS)] for run in (calm, stormy))
    for one, other in zip(undisturbed, survived, strict=True):
        assert one.equals(other)
    perplexities, answers = settled(with_models, undisturbed)
    assert (perplexities, answers) == settled(with_models, survived[::-1])
    whole = pa.concat_tables(undisturbed)
    assert 0 < perplexities.above(Attributes(whole, "perplexity")).sum() <= SHARDS * 60 * 0.1
    assert 0 < answers.below("boat_ferry", Attributes(whole, "classify"), ()).sum() <= SHARDS * 60 * 0.2


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


def test_what_is_decided_when_it_is_tagged_is_what_is_decided_afterwards(
    local_ray: None, config: RunConfig, tmp_path: Path
) -> None:
    some = config.curation.gopher_quality.model_copy(update={"word_count_max": 850})
    stages = ("language", "gopher_quality", "c4", "fineweb", "pii")
    curation = config.curation.model_copy(update={"stages": stages, "gopher_quality": some})
    run = RunDir(str(tmp_path))
    manifest = build_manifest(config.corpus, run.uri)
    now = tag(
        run,
        manifest,
        config.corpus,
        curation,
        None,
        config.ray,
        "sizes",
        decide=DecideAtOnce(run.uri, curation, {}),
    )
    at_once, ledger = decide_all(run, now.cards, curation, {}, "sizes", now.decided)
    assert at_once == [now.decided[shard] for shard in range(SHARDS)]
    storage.remove(decided_collection(run).cards_uri)
    afterwards, same = decide_all(run, now.cards, curation, {}, "sizes")
    assert [card.content for card in afterwards] == [card.content for card in at_once]
    assert same.to_json() == ledger.to_json()
    assert 0 < ledger.stages["pii"].entered.documents < SHARDS * 60


def test_another_rule_is_tagged_anew(local_ray: None, config: RunConfig, tmp_path: Path) -> None:
    run = RunDir(str(tmp_path))
    tagged(config, run)
    before = times(run)
    stages = (*config.curation.stages, "fineweb")
    changed = config.model_copy(update={"curation": config.curation.model_copy(update={"stages": stages})})
    assert "fineweb" in pq.read_schema(run.tagged(0)).names if tagged(changed, run) else False
    assert all(time != before[name] for name, time in times(run).items())


@pytest.mark.parametrize(
    ("sizes", "groups", "waiting"),
    [
        ([800_000] * 64, [[i] for i in range(64)], 6),
        ([3 << 20] * 4, [[i] for i in range(4)], 2),
        ([2 << 20] * 4, [[0], [1], [2], [3]], 3),
        ([800_000] * 64, [list(range(32)), list(range(32, 64))], 2),  # as they share a task on an object store
        ([64 << 20, 0, 0], [[1], [2]], 6),  # of what is to be done
    ],
)
def test_more_small_tasks_than_large_ones_wait_at_an_actor(
    sizes: list[int], groups: list[list[int]], waiting: int
) -> None:
    assert tagging._at_an_actor(sizes, groups) == waiting
