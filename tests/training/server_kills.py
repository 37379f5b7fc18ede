"""SIGKILL of workers, parameter servers and drivers at random moments of a run, beside the run undisturbed:

    python -m tests.training.server_kills [--kills 10] [--staleness 0] [--seed 16] [--dir DIR]

Workers of synchronous servers (staleness 0) must end with the undisturbed run's losses; asynchronous ones (a bound, or
null) with every sample index exactly once. Prints who was killed when, and what was found; exits with 1 if it is not
so. With --dir, data and the undisturbed run are kept there and taken from there: several runs of a few kills each.
"""

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

from raypt import storage
from raypt.training.records import read_metrics, read_updates
from tests.training import tiny_run
from tests.training.drivers import Driver, actors

STEPS = 60
PATIENCE_S = 1800
"""For the next kill, and for the end: a driver that was killed starts its cluster again."""
RELATIVE = 1e-6
"""The issue's bound for losses."""


def there(driver: Driver, kind: str) -> bool:
    return len(actors(driver.process.pid, kind)) == 2


def disturbed(job: tiny_run.Job, kills: int, seed: int) -> None:
    """The run, to its end."""
    moments = random.Random(seed)
    worker = "ray::RayTrainWorker" if job.staleness == 0 else "ray::GradientWorker"
    kinds = [("ray::Server" if job.staleness == 0 else "ray::AsyncServer"), worker, "driver"]
    driver = Driver(job)
    try:
        for i, step in enumerate(sorted(moments.sample(range(2, STEPS - 5), kills))):
            kind = kinds[(i + seed) % len(kinds)]
            driver.wait_for_step(step, PATIENCE_S)
            if kind != "driver":
                driver.wait_for(partial(there, driver, kind), PATIENCE_S)
            time.sleep(moments.uniform(0, 0.2))
            print(f"after step {driver.steps()}: SIGKILL of a {kind}", flush=True)
            if kind == "driver":
                driver.kill()
                driver = Driver(job)
            elif found := actors(driver.process.pid, kind):
                moments.choice(found).kill()
        driver.finish(PATIENCE_S)
    finally:
        driver.kill()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--staleness", default="0", help="0, a bound, or null")
    parser.add_argument("--seed", type=int, default=16)
    parser.add_argument("--dir", type=Path)
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the driver it has started ends with it
    root = args.dir or Path(tempfile.mkdtemp())
    staleness = None if args.staleness == "null" else int(args.staleness)
    tiny_run.prepare(root / "data", STEPS)
    killed = root / "killed"
    shutil.rmtree(killed, ignore_errors=True)
    job = tiny_run.Job(
        str(root / "data"), str(killed), steps=STEPS, every=5, cpus_per_worker=0.4, max_failures=args.kills,
        strategy="parameter_server", staleness=staleness,
        hidden=256,  # slow enough a step for a moment to be one of the run
    )  # fmt: skip
    disturbed(job, args.kills, args.seed)
    samples = storage.read_parquet(str(killed / "samples.parquet"))
    indexes = samples.column("sample_index").to_pylist()
    once = sorted(indexes) == list(range(STEPS * tiny_run.BATCH))
    print(f"every sample once: {once}")
    losses = [row["loss"] for row in read_metrics(str(killed))]
    if staleness != 0:
        stale = read_updates(str(killed)).column("stale_steps").to_pylist()
        print(f"{len(losses)} steps, {len(stale)} updates, at most {max(stale)} steps stale")
        return 0 if once and len(losses) == STEPS and len(stale) == 2 * STEPS else 1
    if not (root / "whole" / "samples.parquet").exists():
        Driver(replace(job, out=str(root / "whole"))).finish()
    whole = [row["loss"] for row in read_metrics(str(root / "whole"))]
    assert len(losses) == len(whole) == STEPS
    furthest = max(abs(a - b) / b for a, b in zip(losses, whole, strict=True))
    trail = samples.equals(storage.read_parquet(str(root / "whole" / "samples.parquet")))
    print(f"largest difference of a loss, relative: {furthest:.2e}; the same trail: {trail}")
    return 0 if once and trail and furthest <= RELATIVE else 1


if __name__ == "__main__":
    sys.exit(main())
