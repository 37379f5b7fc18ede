"""Say how a run is doing: what is done, what it is at, how long that will take, its last checkpoint and last error.

    raypt status RUN

RUN is a run directory (a path or URI). Reads a few small files and the end of the metrics; needs no Ray, and may be
asked from any machine that reaches the directory.
"""

import statistics
import sys
import time
from typing import Any

import yaml

from raypt import storage
from raypt.durations import RECENT, duration
from raypt.errors import UserError
from raypt.lease import holder_of
from raypt.run.diary import Start, ahead_of, ahead_words, now, starts, under_way
from raypt.run.open import LEASE
from raypt.run_dir import RunDir
from raypt.training.checkpoint.directory import newest_step
from raypt.training.records import read_last_metrics

MOST_METRICS = 1 << 20
"""Bytes of the end of the metrics that are read: some thousand steps, of which one was evaluated after."""


def existing_run(uri: str) -> RunDir:
    """The run of a directory. Raises UserError if raypt has not worked there."""
    run = RunDir(storage.absolute(uri))
    if not storage.exists(run.config):
        raise UserError(f"{uri} is no run directory: there is no config.yaml in it")
    return run


def status_lines(run: RunDir) -> list[str]:
    """What `raypt status` prints."""
    diary = starts(run)
    held = holder_of(run.path(*LEASE))
    lines = [run.uri, _state(diary, held is not None)]
    if held is not None:
        lines[1] += f"; {held[0].what} on {held[0].host}, last sign of life {duration(held[1])} ago"
    stages = {n: storage.read_json(run.path("work", "stages", n)) for n in storage.listdir(run.path("work", "stages"))}
    if stages:
        order = sorted(stages.items(), key=lambda item: item[1].get("started", 0))
        lines.append("done: " + ", ".join(f"{n.removesuffix('.json')} {duration(s['seconds'])}" for n, s in order))
    at = now(run)
    if held is not None and at is not None:
        lines += _at(at)
    training = _training(run)
    if held is not None and at is not None and (ahead := ahead_of(at)) and not (training and at["stage"] == "train"):
        lines.append(ahead_words(ahead[0], whole=ahead[1]))  # in training its own line knows better
    lines += training
    worst = next((s for s in reversed(diary) if s.error), None)
    if worst is not None and worst.error is not None:
        where = f" in {worst.stage}" if worst.stage else ""
        last = worst.error.strip().splitlines()[-1]
        lines.append(f"last error, {duration(time.time() - (worst.ended or worst.started))} ago{where}: {last}")
        lines += [f"what to do: {worst.remedy}"] if worst.remedy else []
    return lines


def _state(diary: list[Start], held: bool) -> str:
    if not diary:
        return "running" if held else "nothing is known of its starts"
    last = diary[-1]
    count = f"start {len(diary)}" if len(diary) > 1 else "first start"
    if held:
        return f"running for {duration(time.time() - last.started)} ({count})"
    if last.ended is None:
        return f"was killed, begun {duration(time.time() - last.started)} ago ({count}); the same command resumes"
    return (
        f"{last.status} {duration(time.time() - last.ended)} ago, after {duration(last.ended - last.started)} ({count})"
    )


def _at(at: dict[str, Any]) -> list[str]:
    """The stage, and how far each work is that has told of itself: in a stage, or beside the stages."""
    lines, place = [], at.get("place")
    if at.get("stage"):
        which = f", stage {place[0]} of {place[1]}" if isinstance(place, list) and len(place) == 2 else ""
        lines.append(f"at: {at['stage']}{which}, for {duration(time.time() - at['started'])}")
    for told in under_way(at):
        age = time.time() - told.at
        lines.append(f"{told.line(time.time())} (told {duration(age)} ago)")
    return lines


def _training(run: RunDir) -> list[str]:
    rows = read_last_metrics(run.uri, MOST_METRICS)
    if not rows:
        return []
    steps = yaml.safe_load(storage.read_bytes(run.config))["train"]["steps"]
    last = rows[-1]
    seconds = statistics.median_low(row["step_s"] for row in rows[-RECENT:])
    loss = "not finite" if last["loss"] is None else f"{last['loss']:.4f}"
    line = f"step {last['step']:,} of {steps:,} ({last['step'] / steps:.1%}), loss {loss}"
    heldout = next((row["heldout_loss"] for row in reversed(rows) if row.get("heldout_loss") is not None), None)
    line += f", held-out {heldout:.4f}" if heldout is not None else ""
    line += f", {last['tokens_per_s']:,.0f} tokens/s"
    if last["step"] < steps:
        left = seconds * (steps - last["step"])
        line += f", about {duration(left)} left, by the pace of the last {min(len(rows), RECENT)}"
    newest = newest_step(run.path("checkpoints"))
    return [line, f"last checkpoint: step {newest:,}" if newest else "no checkpoint yet"]


def main(argv: list[str]) -> int:
    """Print the status of each run that is named."""
    if not argv or argv[0] in ("-h", "--help"):
        print((__doc__ or "").strip())
        return 0 if argv else 2
    for i, uri in enumerate(argv):
        print(("\n" if i else "") + "\n  ".join(status_lines(existing_run(uri))))
    sys.stdout.flush()
    return 0
