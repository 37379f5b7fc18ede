"""SIGKILL of workers and of parameter servers in the middle of a run, in turn, beside the run undisturbed:

    python -m tests.training.server_kills [KILLS]

Prints who was killed when, and how far the losses, the samples and the last loss are from those of the undisturbed run.
"""

import random
import sys
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

from raypt import storage
from raypt.training.records import read_metrics
from tests.training import tiny_run
from tests.training.drivers import Driver, actors

STEPS = 60


def there(driver: Driver, kind: str) -> bool:
    return len(actors(driver.process.pid, kind)) == 2


def main(kills: int) -> None:
    root = Path(tempfile.mkdtemp())
    tiny_run.prepare(root / "data", STEPS)
    job = tiny_run.Job(
        str(root / "data"), str(root / "killed"), steps=STEPS, every=5, cpus_per_worker=0.4, max_failures=kills,
        strategy="parameter_server",
    )  # fmt: skip
    moments = random.Random(16)
    driver = Driver(job)
    try:
        for i, step in enumerate(sorted(moments.sample(range(2, STEPS - 5), kills))):
            driver.wait_for_step(step)
            kind = ("RayTrainWorker", "ray::Server")[i % 2]
            driver.wait_for(partial(there, driver, kind))
            time.sleep(moments.uniform(0, 0.2))
            print(f"after step {driver.steps()}: SIGKILL of a {kind}", flush=True)
            moments.choice(actors(driver.process.pid, kind)).kill()
        driver.finish()
    finally:
        driver.kill()
    whole = Driver(replace(job, out=str(root / "whole")))
    whole.finish()
    got, want = ([row["loss"] for row in read_metrics(str(root / name))] for name in ("killed", "whole"))
    assert len(got) == len(want) == STEPS
    print(f"largest difference of a loss, relative: {max(abs(a - b) / b for a, b in zip(got, want, strict=True)):.2e}")
    samples = [storage.read_parquet(str(root / name / "samples.parquet")) for name in ("killed", "whole")]
    once = samples[0].column("sample_index").to_pylist() == list(range(STEPS * tiny_run.BATCH))
    print(f"every sample once, in order: {once}; the same trail: {samples[0].equals(samples[1])}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
