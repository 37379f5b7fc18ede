"""Where the seconds of a run go: from the command to the first step, and to the model.

    raypt bench start [RUN ...]
    raypt bench start [--job pretrain] [--runs 5] [--cold] [--corpus FILE [--mb 50]] [dotted.key=value ...]

Of the run directories that are named, from what they noted themselves: when each start, stage and step was. Without
one, `raypt pretrain`, or --job, is run into a temporary directory, --runs times one after the other, with the settings
that are given; --cold begins each with no compiled kernel. --corpus has it read these files; with --mb, as much text
made of them, by copies with words of their own (of which deduplication removes none for being copies). The last line
is JSON: medians in seconds, and each run. Of a job that tags documents it has when the first of them lay on the disk,
and how many documents a second there were from then to the end of its last stage.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from raypt import storage
from raypt.bench.corpus import enlarge
from raypt.errors import UserError
from raypt.run.diary import starts
from raypt.run.status import existing_run
from raypt.run_dir import RunDir
from raypt.training.records import read_metrics

COMMAND = "import sys; from raypt.run.cli import run; sys.exit(run(sys.argv[1:]))"

JOBS = ("pretrain", "curate", "tokenize")
FIRST, RATE, LINES = "first tagged document", "documents/s after it", "lines"
"""Beside the parts: seconds from the command; documents that were read by the seconds from then to the end of the last
stage (the first ones are counted too: at the least a shard); lines of output."""
BESIDE = (FIRST, RATE, LINES)
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


def documents_of(run: RunDir, called: float) -> dict[str, float]:
    """When the first tagged documents of a run on a local disk were there, in seconds after `called`, and documents a
    second from then to the end of the last stage. Nothing of a run that tagged none.
    """
    tagged = list(Path(run.path("work", "tagged")).glob("**/*.parquet")) if storage.is_local(run.uri) else []
    if not tagged or not storage.is_file(run.ledger):
        return {}
    names = storage.listdir(run.path("work", "stages"))
    stages = [storage.read_json(run.path("work", "stages", name)) for name in names]
    first, last = min(p.stat().st_mtime for p in tagged), max(s["started"] + s["seconds"] for s in stages)
    read = storage.read_json(run.ledger)["read"]["in"]["documents"]
    return {FIRST: first - called, RATE: read / max(last - first, 1e-9)}


def measured(settings: list[str], cold: bool, job: str = "pretrain") -> dict[str, float]:
    """The parts of one run of a job in a directory of its own."""
    with tempfile.TemporaryDirectory(prefix="raypt-start-") as place:
        environment = os.environ | ({"RAYPT_KERNEL_CACHE": os.path.join(place, "kernels")} if cold else {})
        command = [sys.executable, "-c", COMMAND, job, *settings, f"run.dir={place}/run"]
        called = time.time()
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
        returned = time.time()
        if done.returncode:
            raise UserError(f"raypt {job} ended with status {done.returncode}:\n{done.stdout[-3000:]}")
        run = RunDir(f"{place}/run")
        beside = documents_of(run, called) if job != "pretrain" else {}
        return parts_of(run, called, returned) | beside | {LINES: float(len(done.stdout.splitlines()))}


def table(runs: dict[str, dict[str, float]]) -> str:
    """A line a part: its median, its share of the whole, and each run."""
    medians = median(runs)
    whole = sum(seconds for name, seconds in medians.items() if name not in BESIDE)
    width = max(map(len, medians))
    lines = []
    for name, seconds in medians.items():
        if seconds < LEAST_S:
            continue
        each = "  ".join(f"{found.get(name, 0.0):7.1f}" for found in runs.values()) if len(runs) > 1 else ""
        unit = " s" if name == FIRST else "" if name in BESIDE else f" s {seconds / max(whole, 1e-9):6.1%}"
        lines.append(f"{name:{width}} {seconds:7.1f}{unit}  {each}".rstrip())
    return "\n".join([*lines, f"{'in all':{width}} {whole:7.1f} s"])


def median(runs: dict[str, dict[str, float]]) -> dict[str, float]:
    """Of each part over the runs."""
    names = dict.fromkeys(name for found in runs.values() for name in found)
    return {name: statistics.median(found.get(name, 0.0) for found in runs.values()) for name in names}


def _source(paths: list[str], mb: float | None, stack: contextlib.ExitStack) -> str:
    """The setting that has a run read these files, or as much text made of them, which is there until `stack` ends."""
    if mb is not None:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="raypt-corpus-")))
        count = enlarge(paths, place, int(mb * 1e6))
        print(f"{count} documents, {mb:g} MB")
        paths = [f"{place}/*.jsonl"]
    return f"corpus.sources={json.dumps([{'name': 'text', 'paths': [storage.absolute(p) for p in paths]}])}"


def main(argv: list[str]) -> int:
    """Print where the time of runs went."""
    parser = argparse.ArgumentParser(
        prog="raypt bench start", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("of", nargs="*", metavar="RUN | key=value")
    parser.add_argument("--job", choices=JOBS, default="pretrain", help="what is run (%(default)s)")
    parser.add_argument(
        "--corpus", action="append", metavar="FILE", help="a file, directory or glob that is read; again for more"
    )
    parser.add_argument("--mb", type=float, help="MB of text, made of --corpus")
    parser.add_argument("--runs", type=int, default=1, help="runs that are made (%(default)s)")
    parser.add_argument("--cold", action="store_true", help="compile all kernels")
    arguments = parser.parse_args(argv)
    if arguments.mb is not None and not arguments.corpus:
        parser.error("--mb: of which text? Name files with --corpus")
    named = [word for word in arguments.of if "=" not in word]
    settings = [word for word in arguments.of if "=" in word]
    runs: dict[str, dict[str, Any]] = {}
    try:
        if named:
            runs = {uri: parts_of(existing_run(uri)) for uri in named}
        with contextlib.ExitStack() as stack:
            if arguments.corpus and not named:
                settings = [_source(arguments.corpus, arguments.mb, stack), *settings]
            for i in range(0 if named else arguments.runs):
                runs[f"run {i + 1}"] = measured(settings, arguments.cold, arguments.job)
    except UserError as e:
        print(f"raypt bench start: {e}", file=sys.stderr)
        return 2
    print(table(runs))
    print(
        json.dumps(
            {"bench": "start", "job": arguments.job, "cold": arguments.cold, "median_s": median(runs), "runs": runs}
        )
    )
    return 0
