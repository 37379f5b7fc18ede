"""Where the seconds of a run go: from the command to the first step, and to the model.

    raypt bench start [RUN ...]
    raypt bench start [--runs 5] [--cold] [dotted.key=value ...]

Of the run directories that are named, from what they noted themselves: when each start, stage and step was. Without
one, `raypt pretrain` is run into a temporary directory, --runs times one after the other, with the settings that are
given; --cold begins each with no compiled kernel. The last line is JSON: medians in seconds, and each run.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

from raypt import storage
from raypt.errors import UserError
from raypt.run.diary import starts
from raypt.run.status import existing_run
from raypt.run_dir import RunDir
from raypt.training.records import read_metrics

COMMAND = "import sys; from raypt.run.cli import run; sys.exit(run(sys.argv[1:]))"

LEAST_S = 0.05
"""Parts that took less have no line."""


def parts_of(run: RunDir, called: float | None = None, returned: float | None = None) -> dict[str, float]:
    """Seconds of a run that was made in one start, by part, in order; they add up to the whole.

    `called`, `returned`: when its command began and ended, where that is known.

    Raises:
        UserError: it was started more than once, or has not ended: its stages are of different starts.
    """
    diary = starts(run)
    if len(diary) != 1 or diary[0].ended is None:
        raise UserError(
            f"{run.uri}: {len(diary)} starts; the parts of a run are told of one that was made in one start"
        )
    start = diary[0]
    assert start.ended is not None
    names = storage.listdir(run.path("work", "stages"))
    stages = {name.removesuffix(".json"): storage.read_json(run.path("work", "stages", name)) for name in names}
    out: dict[str, float] = {}
    at = start.started
    if called is not None:
        out["imports, checks"] = start.started - called
    rows = read_metrics(run.uri)
    for name, stage in sorted(stages.items(), key=lambda item: item[1]["started"]):
        between = "Ray up" if not any(part in stages for part in out) else f"before {name}"
        out[between] = stage["started"] - at
        at = stage["started"] + stage["seconds"]
        if name == "train" and rows:
            first, last = rows[0]["time"], rows[-1]["time"]
            out |= {"first step": first - stage["started"], "steps": last - first, "after the last step": at - last}
            out["train"] = 0.0  # all of it is in its three parts
        else:
            out[name] = stage["seconds"]
    out["Ray down"] = start.ended - at
    if returned is not None:
        out["report, exit"] = returned - start.ended
    return {name: seconds for name, seconds in out.items() if seconds or not name.startswith(("before", "train"))}


def measured(settings: list[str], cold: bool) -> dict[str, float]:
    """The parts of one run of `raypt pretrain` in a directory of its own."""
    with tempfile.TemporaryDirectory(prefix="raypt-start-") as place:
        environment = os.environ | ({"RAYPT_KERNEL_CACHE": os.path.join(place, "kernels")} if cold else {})
        command = [sys.executable, "-c", COMMAND, "pretrain", *settings, f"run.dir={place}/run"]
        called = time.time()
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
        returned = time.time()
        if done.returncode:
            raise UserError(f"raypt pretrain ended with status {done.returncode}:\n{done.stdout[-3000:]}")
        return parts_of(RunDir(f"{place}/run"), called, returned) | {"lines": float(len(done.stdout.splitlines()))}


def table(runs: dict[str, dict[str, float]]) -> str:
    """A line a part: its median, its share of the whole, and each run."""
    medians = median(runs)
    whole = sum(seconds for name, seconds in medians.items() if name != "lines")
    width = max(map(len, medians))
    lines = []
    for name, seconds in medians.items():
        if seconds < LEAST_S:
            continue
        each = "  ".join(f"{found.get(name, 0.0):7.1f}" for found in runs.values()) if len(runs) > 1 else ""
        unit = "" if name == "lines" else f" s {seconds / max(whole, 1e-9):6.1%}"
        lines.append(f"{name:{width}} {seconds:7.1f}{unit}  {each}".rstrip())
    return "\n".join([*lines, f"{'in all':{width}} {whole:7.1f} s"])


def median(runs: dict[str, dict[str, float]]) -> dict[str, float]:
    """Of each part over the runs."""
    names = dict.fromkeys(name for found in runs.values() for name in found)
    return {name: statistics.median(found.get(name, 0.0) for found in runs.values()) for name in names}


def main(argv: list[str]) -> int:
    """Print where the time of runs went."""
    parser = argparse.ArgumentParser(
        prog="raypt bench start", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("of", nargs="*", metavar="RUN | key=value")
    parser.add_argument("--runs", type=int, default=1, help="runs that are made (%(default)s)")
    parser.add_argument("--cold", action="store_true", help="compile all kernels")
    arguments = parser.parse_args(argv)
    named = [word for word in arguments.of if "=" not in word]
    settings = [word for word in arguments.of if "=" in word]
    runs: dict[str, dict[str, Any]] = {}
    try:
        if named:
            runs = {uri: parts_of(existing_run(uri)) for uri in named}
        for i in range(0 if named else arguments.runs):
            runs[f"run {i + 1}"] = measured(settings, arguments.cold)
    except UserError as e:
        print(f"raypt bench start: {e}", file=sys.stderr)
        return 2
    print(table(runs))
    print(json.dumps({"bench": "start", "cold": arguments.cold, "median_s": median(runs), "runs": runs}))
    return 0
