"""One order of samples on a cluster of four raylets: for any number of workers, live or from a finished store, and with
the processes that curate and tokenize killed at their work.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import ray
from ray.data import DataIterator

from raypt.curation.tagger import Tagger
from raypt.curation.tagging import collection, identities, tag_shard
from raypt.run.curate import freeze_inputs
from raypt.run_dir import RunDir
from raypt.tokens.config import TokensConfig
from raypt.tokens.store import files as store
from raypt.tokens.stream.blocks import Layout
from raypt.tokens.stream.dataset import Batches
from raypt.tokens.stream.producer import Tokenizing, tokenize_parts
from raypt.tokens.stream.reader import SampleReader
from raypt.tokens.stream.spec import StorePlan, StreamSpec, plan_stream, prepare_store
from raypt.tokens.tokenizer.tokenizer import Tokenizer
from tests.tokens.helpers import small_config, write_parts
from tests.tokens.on_ray import LABELS, Raylets, driver, iterators, kill_at_work, raylets, wait_until
from tests.tokens.recorder import Recording, curate_raw, data_side, row_hashes

BATCH, STEPS = 24, 12
ENGLISH = (
    "the of and to that have with in is be ship engine water light cold house river bridge harbour winter letter "
    "morning people carried across quiet market window stone garden evening travelled written between mountain "
    "followed answer station coming older bright several under music paper village stood among large field"
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Raylets]:
    with raylets() as cluster:
        yield cluster


def write_raw(directory: Path, files: int = 8, documents: int = 2000) -> str:
    """`<source>-NN.jsonl` of random English words with an e-mail address; most documents are too short to keep."""
    rng, english = np.random.default_rng(0), ENGLISH.split()
    directory.mkdir()
    for file in range(files):
        lines = []
        for i in range(documents):
            words = " ".join(rng.choice(english, rng.integers(100, 900) if i % 25 == 0 else 20))
            lines.append(json.dumps({"id": f"{file}-{i}", "text": f"{words}. Write to post{i}@harbour{file}.org."}))
        (directory / f"{'books' if file % 3 == 0 else 'web'}-{file:02d}.jsonl").write_text("\n".join(lines))
    return str(directory)


def make_without_ray(run: Recording) -> None:
    """Curated documents, tokenizer and token store of the run's raw documents, by this process alone."""
    job, at = data_side(run), RunDir(run.root)
    manifest, tagger = freeze_inputs(job, at), Tagger(job.curation)
    for shard, identity in enumerate(identities(manifest, job.corpus, job.curation, None)):
        tag_shard(at, manifest, job.corpus, tagger, shard, identity)
    curate_raw(run)
    tokenize_parts(run.plan(), run.config, f"{run.root}/tokenizer")


@dataclass
class Storm:
    """A job from raw documents to training in which two processes were killed."""

    run: Recording
    calm: Recording
    """The same without Ray; not trained."""
    killed: list[tuple[Path, float]]
    """What marks the shard as done that the process was at work on, and when it was killed."""
    step: int
    """Steps that had been trained when the tokenizing task was killed."""


@pytest.fixture(scope="module")
def storm(cluster: Raylets, tmp_path_factory: pytest.TempPathFactory) -> Storm:
    root = tmp_path_factory.mktemp("storm")
    log, raw = root / "log", write_raw(root / "raw")
    calm = Recording(str(root / "calm"), 2, 40, 0.05, LABELS, cluster.address, sequence_length=256, raw=raw)
    make_without_ray(calm)
    run = replace(calm, root=str(root / "killed"))
    tagged, curated = Path(run.root) / "work" / "tagged", Path(run.root) / "curated"
    with driver(run, log) as process:
        wait_until(lambda: len(list(tagged.glob("0*.json"))) >= 1, process)
        half_written = kill_at_work(cluster.nodes, "MapWorker(MapBatches(TagShards))", tagged)
        number = int(half_written[half_written.index("shard-") :].removeprefix("shard-").removesuffix(".parquet"))
        killed = [(Path(collection(RunDir(run.root)).card_uri(number)), time.time())]
        wait_until(lambda: run.steps_done() >= 2, process)
        part = kill_at_work(cluster.data, "ray::tokenize", curated)
        killed.append(
            (Path(store.collection(run.store).card_uri(int(Path(part).stem.removeprefix("part-")))), time.time())
        )
        step = run.steps_done()
        assert process.wait(120) == 0, log.read_text()[-3000:]
    return Storm(run, calm, killed, step)


def test_a_curation_actor_killed_at_work_changes_no_document(storm: Storm) -> None:
    calm, killed = (sorted(Path(r.root).glob("curated/part-*.parquet")) for r in (storm.calm, storm.run))
    assert [f.name for f in calm] == [f.name for f in killed]
    assert all(pq.read_table(a).equals(pq.read_table(b)) for a, b in zip(calm, killed, strict=True))


def test_a_curation_actor_and_a_tokenizing_task_killed_at_work_change_neither_samples_nor_their_order(
    storm: Storm,
) -> None:
    reader, recorded = SampleReader(storm.calm.spec()), storm.run.recorded()
    for rank in range(storm.run.workers):
        blocks = list(reader.rank_blocks(rank, storm.run.workers))
        assert [s for ranks in recorded for s in ranks[rank]["samples"]] == [
            s for b in blocks for s in b["sample_index"]
        ]
        assert [h for ranks in recorded for h in ranks[rank]["hashes"]] == [
            h for b in blocks for h in row_hashes(b["tokens"])
        ]


def test_both_were_killed_before_their_shard_was_done_and_in_the_midst_of_the_run(storm: Storm) -> None:
    assert all(done.stat().st_mtime > killed_at for done, killed_at in storm.killed)
    assert 2 <= storm.step < storm.run.steps


@pytest.fixture(scope="module")
def connected(cluster: Raylets) -> None:
    ray.init(address=cluster.address, log_to_driver=False)


@dataclass
class Corpus:
    """A curated corpus, its tokenizer, and the order of the samples of its finished store as it is read without Ray."""

    config: TokensConfig
    tokenizer_uri: str
    plan: StorePlan
    finished: StreamSpec
    order: list[str]


def stream(plan: StorePlan, config: TokensConfig) -> StreamSpec:
    return plan_stream(plan, config, samples=STEPS * BATCH, global_batch=BATCH, ranks=(1, 2, 3, 4))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory, tokenizer_uri: str) -> Corpus:
    root = tmp_path_factory.mktemp("corpus")
    sources = [["web" if (i + j) % 3 else "books" for j in range(6)] for i in range(8)]
    config = small_config(
        stream={
            "labels": LABELS,
            "fetchers": (2, 2),
            "fetcher_cpus": 0.2,
            "window_shards": 1,
            "ahead_shards": 1,
            "ahead_steps": 2,
            "stall_timeout_s": 60,
        }
    )
    parts = write_parts(root / "curated", sources)
    plan = prepare_store(parts, Tokenizer.load(tokenizer_uri), config, str(root / "store"), seed=0)
    tokenize_parts(plan, config, tokenizer_uri)
    spec = stream(plan, config)
    order = [h for block in SampleReader(spec).rank_blocks(0, 1) for h in row_hashes(block["tokens"])]
    assert len(set(order)) > len(order) / 3, "too few different samples to tell orders apart"
    return Corpus(config, tokenizer_uri, plan, spec, order)


@ray.remote(num_cpus=0, resources={"train": 1})
def record(split: DataIterator, rank: int, ranks: int) -> tuple[list[int], list[str]]:
    """A worker on the training node: the samples it was given, in order, and their hashes."""
    samples, hashes = [], []
    with Batches(split, 2, rank=rank, world_size=ranks) as batches:
        for batch in batches:
            samples += batch["sample_index"].tolist()
            hashes += row_hashes(batch["tokens"])
    return samples, hashes


def run_workers(spec: StreamSpec, ranks: int) -> tuple[list[list[int]], list[list[str]]]:
    """By rank, the samples and their hashes."""
    splits = iterators(spec, ranks)
    samples, hashes = zip(*ray.get([record.remote(s, r, ranks) for r, s in enumerate(splits)]), strict=True)
    return list(samples), list(hashes)


def merged(spec: StreamSpec, by_rank: list[list[Any]]) -> list[Any]:
    """What all ranks were given in the order of the stream, told by each sample's place in its rank alone."""
    layout = Layout(spec.blocks.unit, 1, len(by_rank))
    out: list[Any] = [None] * sum(map(len, by_rank))
    for rank, ours in enumerate(by_rank):
        for place, value in zip(layout.place(rank, np.arange(len(ours))).tolist(), ours, strict=True):
            out[place] = value
    return out


@pytest.mark.usefixtures("connected")
@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_a_finished_store_is_streamed_in_one_order(corpus: Corpus, ranks: int) -> None:
    samples, hashes = run_workers(corpus.finished, ranks)
    assert merged(corpus.finished, hashes) == corpus.order
    assert merged(corpus.finished, samples) == list(range(STEPS * BATCH))


@pytest.mark.usefixtures("connected")
@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_a_store_under_way_is_streamed_in_the_same_order(corpus: Corpus, ranks: int, tmp_path: Path) -> None:
    plan = replace(corpus.plan, uri=str(tmp_path / "store"))
    spec = stream(plan, corpus.config)
    tokenizing = Tokenizing(plan, corpus.config, corpus.tokenizer_uri, spec)
    # Tokenizing keeps `ahead_shards` before the readers: what follows the first shard is made while they wait for it.
    assert len(list(Path(plan.uri).glob("shard-*.json"))) <= 1 < len(plan.parts)
    samples, hashes = run_workers(spec, ranks)
    tokenizing.wait()
    assert merged(spec, hashes) == corpus.order
    assert merged(spec, samples) == list(range(STEPS * BATCH))
