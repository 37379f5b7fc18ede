"""Records that kill or hang the process that touches them are found and quarantined; the others are not lost."""

import functools
import json
import os
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest
import ray

from raypt import storage
from raypt.artefact import Card
from raypt.config_io import validate
from raypt.corpus.config import CorpusConfig, SourceConfig
from raypt.corpus.manifest import Manifest, build_manifest
from raypt.corpus.reader import NOTHING, Poison, read_shard
from raypt.curation.attempts import MOST_ATTEMPTS, PLAIN_ATTEMPTS, begin, begin_together, finish
from raypt.curation.config import CurationConfig
from raypt.curation.poison import find_poison
from raypt.curation.tagger import Tagger
from raypt.curation.tagging import identities, tag, tag_together
from raypt.errors import UserError
from raypt.run.config import RunConfig
from raypt.run_dir import RunDir
from tests.corpus.killers import KillingTagger

READ = "tests.corpus.killers:read"


def inputs(tmp_path: Path, rows: list[dict], kind: str = READ) -> tuple[Manifest, CorpusConfig]:
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    source = SourceConfig(name="s", paths=(str(tmp_path / "x.jsonl"),), format=kind)
    config = CorpusConfig(sources=(source,), shard_bytes=1 << 20, max_batch_seconds=2.0)
    return build_manifest(config, str(tmp_path)), config


def search(manifest: Manifest, config: CorpusConfig, tmp_path: Path) -> Poison:
    return find_poison(manifest, 0, config, str(tmp_path), KillingTagger, NOTHING)


ROWS = [{"id": i, "text": f"document {i}"} for i in range(40)]


def with_rows(changes: dict[int, dict]) -> list[dict]:
    return [{**row, **changes.get(i, {})} for i, row in enumerate(ROWS)]


def test_every_record_that_kills_or_hangs_is_found_and_no_other_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raypt.curation.poison.LEAST_SECONDS", 0.7)
    changes = {7: {"kill": True}, 21: {"text": "kill the tagger"}, 30: {"hang": True}, 33: {"text": "hang the tagger"}}
    manifest, config = inputs(tmp_path, with_rows(changes))
    poison = search(manifest, config, tmp_path)
    assert sorted(poison.rows) == [(0, 7), (0, 30)]
    assert sorted(poison.documents) == [21, 33]
    batches = list(read_shard(manifest, 0, config, str(tmp_path), poison))
    kept = [i for b in batches for i in b.documents["id"].to_pylist()]
    assert kept == [str(i) for i in range(40) if i not in changes]
    entries = sorted((q["row"], q["kind"]) for b in batches for q in b.quarantined)
    assert entries == [(7, "killed_reader"), (21, "killed_worker"), (30, "killed_reader"), (33, "killed_worker")]
    assert sum(b.records for b in batches) == 40


def test_where_a_reader_cannot_leave_a_record_out_the_file_ends_there_and_says_so(tmp_path: Path) -> None:
    manifest, config = inputs(tmp_path, with_rows({7: {"kill": True}}), "tests.corpus.killers:read_without_skipping")
    poison = search(manifest, config, tmp_path)
    [batch] = read_shard(manifest, 0, config, str(tmp_path), poison)
    assert batch.documents["id"].to_pylist() == [str(i) for i in range(7)]
    assert [q["kind"] for q in batch.quarantined] == ["broken_file"]
    assert batch.unfinished_bytes == batch.stored_bytes


def test_a_shard_without_such_records_has_no_poison(tmp_path: Path) -> None:
    manifest, config = inputs(tmp_path, ROWS)
    assert search(manifest, config, tmp_path) == NOTHING


def test_a_shard_is_looked_through_after_two_deaths_and_given_up_after_six(tmp_path: Path) -> None:
    run, found = RunDir(str(tmp_path)), Poison(documents=(3,))
    asked: list[Poison] = []

    def find(known: Poison) -> Poison:
        asked.append(known)
        return found

    for attempt in range(MOST_ATTEMPTS):
        assert begin(run, 5, find) == (NOTHING if attempt < PLAIN_ATTEMPTS else found)
    assert asked == [NOTHING] + [found] * (MOST_ATTEMPTS - PLAIN_ATTEMPTS - 1)
    with pytest.raises(UserError, match="shard 5 ended 6 workers"):
        begin(run, 5, find)
    finish(run, 5)
    assert begin(run, 5, find) == NOTHING


def test_shards_whose_joint_attempt_died_are_done_one_by_one(tmp_path: Path) -> None:
    for shard in range(3):
        (tmp_path / f"{shard}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    source = SourceConfig(name="s", paths=(str(tmp_path / "*.jsonl"),))
    corpus, run = CorpusConfig(sources=(source,), shard_bytes=1000), RunDir(str(tmp_path / "run"))
    manifest = build_manifest(corpus, run.uri)
    wanted = identities(manifest, corpus, CurationConfig(stages=[]), None)
    tagger = functools.partial(Tagger, CurationConfig(stages=[]), {})
    attempt = functools.partial(tag_together, run, manifest, corpus, tagger(), [0, 1, 2], wanted, tagger)
    assert begin_together(run, [0, 1, 2]), "and the worker dies"
    assert [card.account["documents"] for card in attempt().cards] == [40, 40, 40]
    alone = [f"{n:05d}.json" for n in range(3)]
    assert [name for name in storage.listdir(run.path("work", "tagged")) if "card" in name or "json" in name] == alone
    assert storage.listdir(run.path("work", "attempts")) == []
    attempt()
    assert any(name.endswith(".cards") for name in storage.listdir(run.path("work", "tagged")))
    assert storage.listdir(run.path("work", "attempts")) == []


@pytest.fixture
def local_ray() -> Iterator[None]:
    ray.init(address="local", num_cpus=2, include_dashboard=False)
    yield
    ray.shutdown()


def test_the_actor_pool_outlives_a_record_that_kills_its_reader(local_ray: None, tmp_path: Path) -> None:
    for shard in range(3):
        rows = [{"id": f"{shard}-{i}", "text": "The ferry crossed the bay at noon. " * 3} for i in range(20)]
        if shard == 1:
            rows[11]["kill"] = True
        (tmp_path / f"{shard}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = validate(
        RunConfig,
        {
            "ray": {"max_actors": 1},
            "corpus": {
                "sources": [{"name": "s", "paths": str(tmp_path / "*.jsonl"), "format": READ}],
                "shard_bytes": 2000,
            },
            "curation": {"stages": []},
        },
    )
    run = RunDir(str(tmp_path / "run"))
    manifest = build_manifest(config.corpus, run.uri)
    storage.write_json(run.manifest, manifest.to_json())
    assert len(manifest.shards) == 3
    cards = tag(run, manifest, config.corpus, config.curation, None, config.ray, "sizes").cards
    accounts = [card.account for card in cards]
    assert [a["documents"] for a in accounts] == [20, 19, 20]
    assert accounts[1]["quarantined"] == {"killed_reader": 1}
    entry = json.loads(storage.read_bytes(run.quarantine(1)))
    assert (entry["row"], entry["file"]) == (11, str(tmp_path / "1.jsonl"))
    assert storage.listdir(run.path("work", "attempts")) == []


def test_partial_factories_travel(tmp_path: Path) -> None:
    manifest, config = inputs(tmp_path, with_rows({2: {"text": "kill the tagger"}}))
    poison = find_poison(manifest, 0, config, str(tmp_path), partial(KillingTagger), NOTHING)
    assert poison == Poison(documents=(2,))


def end_the_worker(tagged: Mapping[int, tuple[Card, pa.Table]]) -> list[Card]:
    """A decision that no process survives."""
    os._exit(1)


def test_a_decision_that_kills_its_worker_is_not_tried_for_ever(local_ray: None, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    source = {"name": "s", "paths": str(tmp_path / "a.jsonl")}
    tree = {"ray": {"max_actors": 1}, "corpus": {"sources": [source]}, "curation": {"stages": []}}
    config, run = validate(RunConfig, tree), RunDir(str(tmp_path / "run"))
    manifest = build_manifest(config.corpus, run.uri)
    storage.write_json(run.manifest, manifest.to_json())
    with pytest.raises(UserError, match=f"shard 0 ended {MOST_ATTEMPTS} workers"):
        tag(run, manifest, config.corpus, config.curation, None, config.ray, "sizes", decide=end_the_worker)
