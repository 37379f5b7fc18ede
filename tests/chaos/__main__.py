"""The main job under chaos: python -m tests.chaos [--kills 100] [--seed 0] [--dir DIR] [--only kills,stop,full,...]

First `--kills` SIGKILLs at random moments over all stages, on two raylets: actors, tasks, ranks of training, the
second node, the driver. Each run has some of them; the next ones meet another run. Then, one run each: `stop` (SIGSTOP
of a rank), `node` (in curation, deduplication, tokenizing, training and export one of two more nodes is taken away, as
spot machines are), `full` and `readonly` (run.dir on a disk that is full, or that becomes read-only while the job
trains; as root, in mounts of its own), `spill` (Ray's object store is full, and so is the disk that it spills to),
`skew` (the second node's clock is two hours behind), `s3` (run.dir on an object store of which a twentieth of the
requests fail, each 200 ms late; killed twice as well). After each the ledger adds up, and ledger, samples and losses
are those of the undisturbed run, exactly. Prints each kill as it is done, and at the end the share of the time that was
not lost. With `--dir`, the same command goes on where an earlier one was ended, at the run it was at.

A kill takes some ten seconds, one of the others one to five minutes. Exit 1 if a run was not as undisturbed.
"""

import argparse
import functools
import json
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.chaos import faults
from tests.chaos.kills import A_ROUND, disturbed, plan, stage_seconds, strike
from tests.chaos.world import Job, cluster

BETWEEN_FAULTS_S = 3 * 3600.0
"""Llama 3 (arXiv:2407.21783, 3.3.4): 466 interruptions in 54 days on 16,384 GPUs, one in three hours."""


def undisturbed_run(root: Path, address: str, state: dict[str, Any]) -> Path:
    run = root / "undisturbed"
    if "undisturbed_s" not in state:
        begun = time.monotonic()
        job = Job(run, address=address)
        job.start()
        try:
            status = job.to_the_end()
        finally:
            job.kill()
        if status:
            sys.exit(f"the undisturbed run ended with status {status}:\n{job.said()[-3000:]}")
        state["undisturbed_s"] = time.monotonic() - begun
    print(f"undisturbed: {state['undisturbed_s']:.0f} s", flush=True)
    return run


def kill_all(arguments: argparse.Namespace, root: Path, state: dict[str, Any], scratch: str) -> None:
    """Rounds of kills until there are as many as asked for."""
    rounds: list[dict[str, Any]] = state.setdefault("rounds", [])
    with cluster(f"{scratch}/k") as nodes:
        undisturbed = undisturbed_run(root, nodes.address, state)
        save(root, state)
        stages = stage_seconds(undisturbed)
        tries = len(rounds)
        while (done := sum(len(r["kills"]) for r in rounds)) < arguments.kills:
            run = root / f"round-{tries:03d}-{time.time_ns() // 10**9}"
            rng = random.Random(f"{arguments.seed}/{tries}")
            tries += 1
            moments = plan(rng, min(A_ROUND, arguments.kills - done), stages)
            hit = functools.partial(strike, rng, nodes)
            found = disturbed(nodes, run, undisturbed, stages, moments, hit, done)
            rounds.append(vars(found))
            save(root, state)
            verdict = "; ".join(found.problems) or "ledger, samples and losses as undisturbed"
            print(f"run {tries}: {len(found.kills)} kills, {found.seconds:.0f} s: {verdict}", flush=True)


def save(root: Path, state: dict[str, Any]) -> None:
    (root / "state.json").write_text(json.dumps(state, indent=1))


def tell(state: dict[str, Any]) -> None:
    """The share of the time that was not lost, here and as it would be where faults are rarer."""
    rounds = state.get("rounds", [])
    kills, seconds = sum(len(r["kills"]) for r in rounds), sum(r["seconds"] for r in rounds)
    if not kills:
        return
    whole = len(rounds) * state["undisturbed_s"]
    each = (seconds - whole) / kills
    print(
        f"{kills} kills in {seconds:.0f} s, one in {seconds / kills:.0f} s: {min(1.0, whole / seconds):.1%} of the "
        f"time was not lost, {max(each, 0):.1f} s a kill. At one fault in {BETWEEN_FAULTS_S / 3600:g} h that is "
        f"{1 - max(each, 0) / BETWEEN_FAULTS_S:.2%} (of a model whose restart takes no longer)"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dir", type=Path)
    parser.add_argument("--only", default=",".join(("kills", *faults.ALL)), help="of kills," + ",".join(faults.ALL))
    arguments = parser.parse_args()
    wanted = arguments.only.split(",")
    if unknown := set(wanted) - {"kills", *faults.ALL}:
        parser.error(f"--only: unknown {', '.join(sorted(unknown))}")
    faults.own_mounts()
    os.environ.pop("RAY_ADDRESS", None)
    with tempfile.TemporaryDirectory(prefix="rc-", dir="/tmp") as scratch:  # the paths of Ray's sockets are bounded
        root = (arguments.dir or Path(scratch) / "runs").absolute()
        root.mkdir(parents=True, exist_ok=True)
        kept = root / "state.json"
        state: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
        kill_all(arguments if "kills" in wanted else argparse.Namespace(kills=0, seed=0), root, state, scratch)
        for name in (name for name in faults.ALL if name in wanted):
            if state.get("faults", {}).get(name) == []:
                continue
            begun = time.monotonic()
            problems = faults.ALL[name](root, scratch)
            state.setdefault("faults", {})[name] = problems
            save(root, state)
            print(f"{name}: {time.monotonic() - begun:.0f} s: {'; '.join(problems) or 'as undisturbed'}", flush=True)
        tell(state)
        bad = [p for r in state["rounds"] for p in r["problems"]]
        bad += [p for problems in state.get("faults", {}).values() for p in problems if not p.startswith("not done")]
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
