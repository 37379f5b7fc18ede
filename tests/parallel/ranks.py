"""Run a function in several processes that form a gloo group, and get every rank's result back.

The processes are forked off one that has imported torch and DeepSpeed: five seconds of a core for each rank.
"""

import importlib
import json
import multiprocessing
import os
import socket
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

from raypt.causes import LEFT

ROOT = Path(__file__).resolve().parents[2]

IMPORTED = ["torch", "deepspeed", "torch._dynamo", "raypt.model", "raypt.parallel.zero.engine"]
"""Before the ranks are forked. What starts threads when it is imported (pyarrow) must not be here."""


def _rank(module: str, function: str, arguments: Mapping[str, Any], out: str, log: str, env: dict[str, str]) -> None:
    """What a rank does."""
    os.environ.clear()
    os.environ.update(env)
    os.chdir(ROOT)
    with Path(log).open("wb") as f:
        os.dup2(f.fileno(), 1)
        os.dup2(f.fileno(), 2)
    code = 1
    try:
        _compute(module, function, arguments, out)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        # A finished rank may abort in the interpreter's shutdown ("terminate called without an active exception", seen
        # once in gloo's threads on a busy machine); its result is written.
        os._exit(code)


def _compute(module: str, function: str, arguments: Mapping[str, Any], out: str) -> None:
    result = getattr(importlib.import_module(module), function)(**arguments)
    Path(out).write_text(json.dumps(result))
    import torch.distributed as dist

    if dist.is_initialized():
        # Nobody leaves while others compute. A rank may be through before another has heard of it, to whom its leaving
        # then is a closed connection: the results are written.
        try:
            dist.barrier()
            dist.destroy_process_group()
        except RuntimeError as e:
            if "closed by peer" not in str(e):
                raise


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


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _first_to_fail(logs: Mapping[int, str]) -> int:
    """The lowest rank whose last words are its own, and not that another has left."""
    own = [rank for rank, log in logs.items() if not LEFT.search(log.rstrip().rpartition("\n")[2])]
    return min(own or logs)


def run_ranks(
    world: int, module: str, function: str, tmp: Path, *, limit_s: float = LIMIT_S, **arguments: Any
) -> list[Any]:
    """`module.function(**arguments)` on `world` ranks of one thread each; their results, which must be JSON."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    base = variables() | {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    arguments = json.loads(json.dumps(arguments))
    outputs = [tmp / f"{function}-{world}-{rank}.json" for rank in range(world)]
    logs = [tmp / f"{function}-{world}-{rank}.log" for rank in range(world)]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    with _environment(variables()):  # of the first call: some of it is read by an import
        forkserver.ensure_running()
    processes = []
    for rank in range(world):
        env = base | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        given = (module, function, arguments, str(outputs[rank]), str(logs[rank]), env)
        processes.append(context.Process(target=_rank, args=given, name=f"rank-{rank}"))
        processes[-1].start()
    end = time.monotonic() + limit_s
    try:
        for process in processes:
            process.join(max(end - time.monotonic(), 0))
        codes = [process.exitcode for process in processes]
    finally:
        for process in processes:
            process.kill()
    if any(codes) or None in codes:
        failed = _first_to_fail({r: logs[r].read_text() for r, code in enumerate(codes) if code != 0})
        ended = "did not end" if codes[failed] is None else f"exited with {codes[failed]}"
        raise AssertionError(f"rank {failed} {ended}:\n{logs[failed].read_text()[-4000:]}")
    return [json.loads(o.read_text()) for o in outputs]
