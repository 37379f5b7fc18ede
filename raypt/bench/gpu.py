"""Is this machine's GPU ready for training? Everything of CUDA that a run uses, each tried by itself.

    python jobs/bench.py gpu --minutes 8 --out gpu.json

Each check runs in a process of its own with a time limit: one that fails, hangs or crashes does not hide the others.
Results are compared with the CPU's; the speed of a 1 B shape in bf16 at ZeRO 1 and 3 is printed as tokens/s and as MFU
against the peak that the card's maker states, with memory and the seconds of a checkpoint and of a resume. All is left
in one JSON file. Without a GPU (`--device cpu`, the default there) the same list runs with small shapes, and says what
only a GPU can tell. What is not begun when the minutes are over is listed as such. Exit status 1 if a check failed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from raypt.bench.gpu_checks import CHECKS, ONLY_ON_GPU, has_gpu

LONGEST_S = 150.0
"""Limit of one check; the 1 B shape at ZeRO 3 is the longest."""
SPARE_S = 10.0
"""Less than this is not enough to start a process that imports torch and DeepSpeed."""


def run_check(name: str, device: str, limit_s: float) -> dict[str, Any]:
    """One check in a process of its own: {name, status, seconds, and its figures or its error}."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "result.json"
        command = [sys.executable, "-m", "raypt.bench.gpu_checks", name, "--device", device, "--out", str(out)]
        environment = os.environ | {
            "DEEPSPEED_LOG_LEVEL": "error",
            "PYTHONWARNINGS": "ignore",
            "TMPDIR": scratch,
        }
        log = Path(scratch) / "log"
        with log.open("wb") as sink:
            try:
                code = subprocess.run(command, stdout=sink, stderr=sink, timeout=limit_s, env=environment).returncode
            except subprocess.TimeoutExpired:
                code = None
        result: dict[str, Any] = {"name": name, "seconds": round(time.monotonic() - started, 1)}
        if code == 0 and out.exists():
            figures: dict[str, Any] = json.loads(out.read_text())
            return result | {"status": "ok"} | figures
        lines = log.read_text("utf-8", "replace").strip().splitlines()
        said = lines[-1] if lines else "nothing was printed"
        if code is None:
            return result | {"status": "timeout", "error": f"not done after {limit_s:.0f} s; the last line: {said}"}
        return result | {"status": "failed", "exit": code, "error": said, "log": lines[-30:]}


def run_all(device: str, minutes: float, names: list[str]) -> list[dict[str, Any]]:
    """The checks in order, within the minutes; prints a line for each."""
    deadline = time.monotonic() + 60 * minutes
    results = []
    for name in names:
        left = deadline - time.monotonic()
        if device == "cpu" and name in ONLY_ON_GPU:
            result: dict[str, Any] = {"name": name, "status": "needs a GPU"}
        elif left < SPARE_S:
            result = {"name": name, "status": "no time left"}
        else:
            result = run_check(name, device, min(left, LONGEST_S))
        results.append(result)
        figures = {k: v for k, v in result.items() if k not in ("name", "status", "seconds", "log")}
        said = ", ".join(f"{k} {v}" for k, v in figures.items())
        print(f"{name:20}{result['status']:14}{result.get('seconds', ''):>6}  {said}", flush=True)
    return results


def main(argv: list[str]) -> int:
    """`jobs/bench.py gpu ...`: run the checks, write the JSON; its exit status."""
    parser = argparse.ArgumentParser(
        prog="bench.py gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=8.0, help="when to stop; default: %(default)s")
    parser.add_argument("--device", choices=("cuda", "cpu"), default=None, help="default: cuda where there is one")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), help="default: %(default)s")
    parser.add_argument("--only", nargs="+", choices=list(CHECKS), metavar="CHECK", help=f"of {', '.join(CHECKS)}")
    args = parser.parse_args(argv)
    device = args.device or ("cuda" if has_gpu() else "cpu")
    results = run_all(device, args.minutes, args.only or list(CHECKS))
    args.out.write_text(json.dumps({"device": device, "minutes": args.minutes, "checks": results}, indent=1) + "\n")
    failed = [r["name"] for r in results if r["status"] in ("failed", "timeout")]
    print(
        f"{args.out}: {len(results) - len(failed)} of {len(results)} without failure"
        + f"; failed: {failed}" * bool(failed)
    )
    return int(bool(failed))
