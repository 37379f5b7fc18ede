"""Run a function in several processes that form a gloo group, and get every rank's result back."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

_MAIN = """
import importlib, json, os, sys
module, function, arguments, out = sys.argv[1:]
result = getattr(importlib.import_module(module), function)(**json.loads(arguments))
with open(out, "w") as f:
    f.write(json.dumps(result))
import torch.distributed as dist
if dist.is_initialized():
    # Nobody leaves while others compute. A rank may be through before another has heard of it, to whom its leaving then
    # is a closed connection: the results are written.
    try:
        dist.barrier()
        dist.destroy_process_group()
    except RuntimeError as e:
        if "closed by peer" not in str(e):
            raise
# A finished rank may abort in the interpreter's shutdown ("terminate called without an active exception", seen once in
# gloo's threads on a busy machine); its result is written.
os._exit(0)
"""


def variables() -> dict[str, str]:
    """The environment of a rank but for who it is."""
    return os.environ | {
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": "1",
        "DS_ACCELERATOR": "cpu",
        "DEEPSPEED_LOG_LEVEL": "error",
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "PYTHONWARNINGS": "ignore",
    }


LIMIT_S = 300.0
"""That ranks of a test may take."""
LONG_S = 3600.0
"""That those of a command may which measures everything."""


def run_ranks(
    world: int, module: str, function: str, tmp: Path, *, limit_s: float = LIMIT_S, **arguments: Any
) -> list[Any]:
    """`module.function(**arguments)` on `world` ranks of one thread each; their results, which must be JSON."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    base = variables() | {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    outputs = [tmp / f"{function}-{world}-{rank}.json" for rank in range(world)]
    logs = [tmp / f"{function}-{world}-{rank}.log" for rank in range(world)]
    processes: list[subprocess.Popen[bytes]] = []
    for rank in range(world):
        command = [sys.executable, "-c", _MAIN, module, function, json.dumps(arguments), str(outputs[rank])]
        with logs[rank].open("w") as log:
            processes.append(
                subprocess.Popen(
                    command, env=base | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, stdout=log, stderr=log, cwd=ROOT
                )
            )
    try:
        codes = [p.wait(timeout=limit_s) for p in processes]
    finally:
        for p in processes:
            p.kill()
    if any(codes):
        failed = next(r for r, code in enumerate(codes) if code)
        raise AssertionError(f"rank {failed} exited with {codes[failed]}:\n{logs[failed].read_text()[-4000:]}")
    return [json.loads(o.read_text()) for o in outputs]
