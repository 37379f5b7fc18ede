"""Running job scripts as a user does: a process of its own, its exit status and what it printed."""

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from raypt.run.cli import run

ROOT = Path(__file__).resolve().parents[2]

TINY = [
    "ray.dashboard=false",
    "corpus.builtin.max_bytes=2000000",
    "corpus.builtin.files=6",
    "dedup.sentences.enabled=true",
    "tokens.tokenizer.vocab_size=512",
    "tokens.packing.sequence_length=64",
    "tokens.stream.window_shards=1",
    "tokens.stream.ahead_shards=1",
    "tokens.stream.ahead_steps=4",
    "tokens.heldout.fraction=0.05",
    "model.hidden_size=32",
    "model.intermediate_size=64",
    "model.num_layers=2",
    "model.num_heads=2",
    "model.num_kv_heads=1",
    "train.global_batch_tokens=1024",
    "train.micro_batch_size=4",
    "train.tensorboard=false",
]
"""A run of the whole way that takes well under a minute of training."""


def environment(address: str | None = None) -> dict[str, str]:
    """Without what this process says of Ray, but for where it keeps its files, and for the address of a cluster that
    this process started: Ray asks for its token there if anything before it in this process started Ray, and the
    environment of a user says so.
    """
    clean = {k: v for k, v in os.environ.items() if not k.startswith("RAY_") or k == "RAY_TMPDIR"}
    clean["PYTHONUNBUFFERED"] = "1"
    if address is None:
        return clean
    return clean | {"RAY_ADDRESS": address, "RAY_AUTH_MODE": os.environ.get("RAY_AUTH_MODE", "disabled")}


def run_job(
    script: str, *arguments: str, cwd: Path, address: str | None = None, timeout: float = 400
) -> subprocess.CompletedProcess[str]:
    """On a Ray of its own, or on the one at an address."""
    command = [sys.executable, str(ROOT / "jobs" / script), *arguments]
    env = environment(address)
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout, env=env)


def run_here(name: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The command in this process, which has imported what it needs: of what starts no Ray."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.chdir(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run([name, *arguments])
    return subprocess.CompletedProcess([name, *arguments], code, out.getvalue(), err.getvalue())


def start_job(script: str, *arguments: str, cwd: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, str(ROOT / "jobs" / script), *arguments]
    log = (cwd / "killed.log").open("wb")
    return subprocess.Popen(command, cwd=cwd, stdout=log, stderr=subprocess.STDOUT, env=environment())


def rows(directory: Path) -> pa.Table:
    """All Parquet parts of a directory, in order."""
    return pa.concat_tables([pq.read_table(p) for p in sorted(directory.glob("part-*.parquet"))])


def metrics(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
