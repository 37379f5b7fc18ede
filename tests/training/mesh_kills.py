"""SIGKILL of single workers of one model cut over four (tensor 2, pipeline 2), beside the run undisturbed:

    python -m tests.training.mesh_kills [KILLS] [DIRECTORY]

Exits with 1 unless losses and samples are those of the undisturbed run to the bit, a hundred steps long. With a
directory, a call that was cut off is gone on with, and a run that is done is not made again.
"""

import random
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from raypt import storage
from raypt.training.records import read_metrics
from tests.training import tiny_run
from tests.training.drivers import Driver, train_workers

STEPS, EVERY, WORKERS = 100, 5, 4
PATIENCE_S = 1800
"""For the next kill, and for the end: four workers with a quarter of a CPU each start for a minute on two cores."""


def run(job: tiny_run.Job, kills: int) -> None:
    """The job, while `kills` of its workers die at moments and in places drawn at random."""
    if len(read_metrics(job.out)) == STEPS:
        return
    moments = random.Random(15)
    driver = Driver(job)
    try:
        for step in sorted(moments.sample(range(2, STEPS - 5), kills)):
            wait_s, place = moments.uniform(0, 0.2), moments.randrange(WORKERS)
            if driver.steps() > step + EVERY:
                continue  # in the call before
            driver.wait_for_step(step, PATIENCE_S)
            driver.wait_for(lambda: len(train_workers(driver.process.pid)) == WORKERS, PATIENCE_S)
            time.sleep(wait_s)
            print(f"after step {driver.steps()}: SIGKILL of worker {place}", flush=True)
            train_workers(driver.process.pid)[place].kill()
        driver.finish(PATIENCE_S)
    finally:
        driver.kill()


def main(kills: int, root: Path) -> int:
    tiny_run.prepare(root / "data", STEPS)
    job = tiny_run.Job(
        str(root / "data"), str(root / "killed"), steps=STEPS, every=EVERY, workers=WORKERS, tensor=2, pipeline=2,
        cpus_per_worker=0.25, max_failures=kills,
    )  # fmt: skip
    run(job, kills)
    run(replace(job, out=str(root / "whole")), 0)
    got, want = (read_metrics(str(root / name)) for name in ("killed", "whole"))
    same = [(row["step"], row["loss"]) for row in got] == [(row["step"], row["loss"]) for row in want]
    samples = [storage.read_parquet(str(root / name / "samples.parquet")) for name in ("killed", "whole")]
    once = samples[0].column("sample_index").to_pylist() == list(range(STEPS * tiny_run.BATCH))
    trail = samples[0].equals(samples[1])
    print(f"last losses {got[-1]['loss']!r} and {want[-1]['loss']!r}; all {len(got)} the same: {same}")
    print(f"every sample once, in order: {once}; the same trail: {trail}")
    return int(not (same and once and trail and len(got) == len(want) == STEPS))


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    if len(sys.argv) > 2:
        sys.exit(main(count, Path(sys.argv[2])))
    with tempfile.TemporaryDirectory() as tmp:
        sys.exit(main(count, Path(tmp)))
