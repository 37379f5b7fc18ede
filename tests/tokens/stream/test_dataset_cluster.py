"""The stream on a cluster of four raylets while workers, fetchers, a raylet and the driver are killed.

One scenario, run once; each test looks at what is left of it.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from raypt.tokens.stream.reader import SampleReader
from raypt.tokens.tokenizer.tokenizer import Tokenizer
from tests.tokens.helpers import write_parts
from tests.tokens.on_ray import LABELS, driver, kill, raylets, wait_until
from tests.tokens.recorder import Recording, row_hashes

STEPS = 60


@pytest.fixture(scope="module")
def chaos(tmp_path_factory: pytest.TempPathFactory, tokenizer_uri: str) -> Iterator[Recording]:
    root = tmp_path_factory.mktemp("chaos")
    write_parts(root / "curated", [["web" if (i + j) % 3 else "books" for j in range(30)] for i in range(10)])
    Tokenizer.load(tokenizer_uri).save(str(root / "tokenizer"))
    log = root / "log"
    with raylets() as cluster:
        run = Recording(str(root), 2, STEPS, 0.15, LABELS, cluster.address)
        # Two workers: kill a fetcher, a train worker, a raylet of the data nodes, then the driver.
        with driver(run, log) as two:
            wait_until(lambda: run.steps_done() >= 5, two)
            kill(cluster.data, "MapWorker")
            wait_until(lambda: run.steps_done() >= 10, two)
            kill([cluster.training], "RayTrainWorker")
            killed_at = run.steps_done()
            wait_until(lambda: run.steps_done() >= killed_at + 4, two)
            cluster.remove(cluster.data[0])
            killed_at = run.steps_done()
            wait_until(lambda: run.steps_done() >= killed_at + 8, two)
            two.kill()
            two.wait()
            killed_at = run.steps_done()
        # Then four workers; the driver is killed again; then three, to the end.
        with driver(replace(run, workers=4), log) as four:
            wait_until(lambda: run.steps_done() >= killed_at + 7, four)
            four.kill()
            four.wait()
        with driver(replace(run, workers=3, step_s=0.0), log) as three:
            assert three.wait(150) == 0, log.read_text()[-3000:]
        yield run


def test_every_rank_was_given_its_samples_of_each_step_in_their_order(chaos: Recording) -> None:
    unit = chaos.spec().blocks.unit
    for step, ranks in enumerate(chaos.recorded()):
        dealt = np.arange(24 * step, 24 * (step + 1)).reshape(-1, len(ranks), unit)
        for rank, record in enumerate(ranks):
            assert record["samples"] == dealt[:, rank].ravel().tolist()


def test_every_sample_is_trained_on_once_in_the_step_where_it_belongs(chaos: Recording) -> None:
    for step, ranks in enumerate(chaos.recorded()):
        samples = [s for record in ranks for s in record["samples"]]
        assert sorted(samples) == list(range(24 * step, 24 * (step + 1)))


def test_the_samples_are_those_of_the_finished_store_read_without_ray(chaos: Recording) -> None:
    expected: dict[int, str] = {}
    for block in SampleReader(chaos.spec()).rank_blocks(0, 1):
        expected |= zip(block["sample_index"].tolist(), row_hashes(block["tokens"]), strict=True)
    recorded = {
        s: h
        for ranks in chaos.recorded()
        for record in ranks
        for s, h in zip(record["samples"], record["hashes"], strict=True)
    }
    assert recorded == expected


def test_the_run_went_through_two_four_and_three_workers(chaos: Recording) -> None:
    workers = list(dict.fromkeys(record["ranks"] for ranks in chaos.recorded() for record in ranks))
    assert workers == [2, 4, 3]


def test_training_went_on_while_tokenizing(chaos: Recording) -> None:
    first_record = min(f.stat().st_mtime for f in chaos.records.iterdir())
    last_shard = max(f.stat().st_mtime for f in Path(chaos.store).glob("shard-*.tok"))
    assert first_record < last_shard
