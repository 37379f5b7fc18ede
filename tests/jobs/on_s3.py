"""The whole main job on an object store, killed and resumed: python -m tests.jobs.on_s3 [SHARE] [LATENCY_MS]

Inputs and run.dir are on moto's S3 server, reached through one that fails: SHARE of the requests (default 0.05) are
answered with 503 SlowDown, 500, a reset or half a body by turns, each LATENCY_MS late (default 5). The job is killed
with SIGKILL, all its processes, once it curates and once it trains, and started again by the same command. It must end
well, with a ledger that adds up, the samples of a run that nothing disturbed (on a local disk), and nothing on this
machine's disk. Prints the requests. Some minutes; starts Ray.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow.parquet as pq

from raypt import storage
from raypt.config_io import load
from raypt.corpus import python_docs
from raypt.run.config import RunConfig
from tests.faulty import Faults, faulty
from tests.jobs.helpers import ROOT, TINY, environment
from tests.s3 import S3Server, s3_server

OPTIONS = [
    *[o for o in TINY if not o.startswith("corpus.")],
    "corpus.shard_bytes=60k",
    "curation.stages=[language, gopher_quality]",
    "curation.quality.reference=[]",
    "train.steps=60",
    "train.checkpoint.every_steps=10",
    "run.record_samples=true",
    "train.max_failures=10",
]


def command(inputs: str, run: str) -> list[str]:
    source = f"corpus.sources=[{{name: docs, paths: {inputs}}}]"
    return [sys.executable, str(ROOT / "jobs" / "pretrain.py"), *OPTIONS, source, f"run.dir={run}"]


def start(inputs: str, run: str, log: Path, cwd: Path) -> "subprocess.Popen[bytes]":
    """The main job, with all that it starts in a session of its own."""
    return subprocess.Popen(
        command(inputs, run),
        cwd=cwd,
        stdout=log.open("ab"),
        stderr=subprocess.STDOUT,
        env=environment(),
        start_new_session=True,
    )


def kill_when(process: "subprocess.Popen[bytes]", there: str, log: Path) -> None:
    """SIGKILL to the job and all that it started, once there is something at a URI."""
    import psutil

    deadline = time.monotonic() + 300
    while not storage.listdir(there):
        if process.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"the job ended before there was {there}:\n{log.read_text()[-3000:]}")
        time.sleep(0.2)
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for member in family:
        try:
            member.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    process.wait()
    print(f"killed {len(family)} processes when there was {there}", flush=True)


def samples(uri: str) -> list[tuple[int, str]]:
    with storage.open_read(storage.join(uri, "samples.parquet")) as f:
        table = pq.read_table(f)
    return sorted(zip(table["sample_index"].to_pylist(), table["tokens_xxh3"].to_pylist(), strict=True))


def finish(process: "subprocess.Popen[bytes]", log: Path) -> None:
    if process.wait(timeout=900):
        sys.exit(f"exit status {process.returncode}:\n{log.read_text()[-4000:]}")


def in_folder(names: list[str], uri: str, folder: Path) -> str:
    """The inputs on a local disk, for the run that nothing disturbs."""
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes(storage.read_bytes(storage.join(uri, name)))
    return str(folder)


def upload(uri: str, scratch: Path) -> None:
    """Six files of three MB of text."""
    config = load(RunConfig, None, ["corpus.builtin.max_bytes=3000000", "corpus.builtin.files=6"])
    python_docs.materialize(config.corpus.builtin, str(scratch / "text"))
    for path in sorted((scratch / "text").rglob("*.jsonl*")):
        storage.write_bytes(storage.join(uri, path.name), path.read_bytes())


def as_undisturbed(run: str, inputs: str, scratch: Path) -> bool:
    """Whether samples and ledger are those of a run on a local disk that nothing disturbs; says so."""
    log, local = scratch / "local.log.txt", str(scratch / "local")
    there = in_folder(storage.listdir(inputs), inputs, scratch / "local-in")
    finish(start(there, local, log, scratch), log)
    ours, theirs = samples(run), samples(local)
    print(f"samples trained on: {len(ours):,}, as undisturbed: {ours == theirs}")
    first, second = (storage.read_json(storage.join(uri, "ledger.json")) for uri in (run, local))
    print(f"ledger as undisturbed: {first == second}")
    return ours == theirs and first == second


def killed_twice(inputs: str, run: str, log: Path, work: Path) -> None:
    """The job from raw text to export, killed once it curates and once it trains, and started again in `work`, of which
    nothing must have been written."""
    work.mkdir()
    for there in (storage.join(run, "work", "tagged"), storage.join(run, "checkpoints")):
        kill_when(start(inputs, run, log, work), there, log)
        # The mark of a job that was killed on this machine is taken over at once.
    begun = time.monotonic()
    finish(start(inputs, run, log, work), log)
    print(f"the last start took {time.monotonic() - begun:.0f} s")
    left = [str(p.relative_to(work)) for p in work.rglob("*") if p.is_file()]
    assert not left, f"on the local disk: {left[:5]}"


def on_s3(server: S3Server, share: float, latency_s: float, scratch: Path) -> str:
    run, inputs = server.uri("runs", "a"), server.uri("in")
    with faulty(server, Faults(None, share=share, latency_s=latency_s)) as faults:
        server.requests()
        killed_twice(inputs, run, scratch / "s3.log.txt", scratch / "work")
        print(f"requests that failed: {faults.done['faults']} of {faults.done['requests']}")
    shards = len(json.loads(storage.read_bytes(storage.join(run, "manifest.json")))["shards"]["source"])
    asked = server.requests()
    each = sum(asked.values()) / shards
    print(f"requests: {dict(asked)}; {each:.0f} for each of {shards} shards, three starts and training in all")
    return run


def main() -> None:
    share = float(sys.argv[1]) if len(sys.argv) > 1 else 0.05
    latency_s = float(sys.argv[2]) / 1e3 if len(sys.argv) > 2 else 0.005
    os.environ.pop("RAY_ADDRESS", None)
    with tempfile.TemporaryDirectory(prefix="raypt-on-s3-") as folder, s3_server(Path(folder)) as server:
        upload(server.uri("in"), Path(folder))
        run = on_s3(server, share, latency_s, Path(folder))
        sys.exit(0 if as_undisturbed(run, server.uri("in"), Path(folder)) else 1)


if __name__ == "__main__":
    main()
