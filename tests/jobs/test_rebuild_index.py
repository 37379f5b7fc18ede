"""`raypt rebuild-index` as a command: an index that two runs left, compared as one batch."""

import json
from pathlib import Path

from raypt.dedup.config import FuzzyConfig
from tests.dedup.reference import documents
from tests.dedup.test_index import Runs, words
from tests.jobs.helpers import run_job


def test_an_index_of_two_runs_is_compared_as_one_batch(cluster_address: str, tmp_path: Path) -> None:
    runs = Runs(tmp_path, FuzzyConfig())
    first, second = (" ".join(words(seed)) for seed in (1, 2))
    runs.run("one", [documents([first])])
    runs.run("two", [documents([first, second])])
    arguments = ["run.dir=run", f"dedup.index={runs.config.index}"]
    done = run_job("rebuild_index.py", *arguments, cwd=tmp_path, address=cluster_address)
    assert done.returncode == 0, done.stderr
    assert "2 of 3 documents kept" in done.stdout
    assert len(json.loads((tmp_path / "run" / "dedup" / "shards.json").read_text())) == 2
