"""Faults other than deaths, one run each: what is wrong is said, and the run ends as if nothing had been."""

import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.chaos.kills import Moment, disturbed, stage_seconds
from tests.chaos.world import STEPS, Job, cluster, differences, wait_until
from tests.jobs.helpers import ROOT, environment

_OWN_MOUNTS = "RAYPT_CHAOS_MOUNTS"
SMALL_BYTES = 3 << 19
"""Of a disk that is full while the data stages run: the run takes some 3.6 MB, of which they write 2."""


def own_mounts() -> None:
    """Start this program again in a mount namespace of its own, as root: what is mounted ends with it."""
    if os.geteuid() or os.environ.get(_OWN_MOUNTS) or not shutil.which("unshare"):
        return
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        return  # a container without the right to
    os.environ[_OWN_MOUNTS] = "1"
    os.execvp("unshare", ["unshare", "--mount", sys.executable, "-m", "tests.chaos", *sys.argv[1:]])


def mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise OSError(done.stderr.strip())


@contextmanager
def disk(root: Path, name: str, size: int) -> Iterator[Path | None]:
    """A folder on a disk of its own, of so many bytes; None where that cannot be."""
    if not os.environ.get(_OWN_MOUNTS):
        yield None
        return
    folder = root / f"{name}-disk"
    folder.mkdir(exist_ok=True)
    mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=False)


NO_MOUNTS = "not done: it takes a disk of its own, which is mounted by root in a namespace of its own (unshare --mount)"


def _end(job: Job, said: str) -> list[str]:
    """What is wrong with how a job ended that could not go on: status, its last line, and what a person must read."""
    status = job.to_the_end()
    last = (job.said().strip().splitlines() or [""])[-1]
    print(f"  status {status}: {' / '.join(job.said().strip().splitlines()[-2:])[:400]}", flush=True)
    if status not in (1, 2):
        return [f"status {status} instead of 1 or 2"]
    if not re.search(said, job.said()):
        return [f"the log does not say {said!r}: {last[:300]}"]
    return []


def _goes_on(job: Job, root: Path) -> list[str]:
    job.start()
    if status := job.to_the_end():
        return [f"started again, it ended with status {status}: {job.said()[-1500:]}"]
    return differences(job.run, root / "undisturbed")


def full(root: Path, scratch: str) -> list[str]:
    """run.dir's disk is full while the data stages run, and is made larger afterwards."""
    with disk(root, "full", SMALL_BYTES) as folder:
        if folder is None:
            return [NO_MOUNTS]
        job = Job(folder / "run")
        job.log = root / "full.log"
        try:
            job.start()
            problems = _end(job, "No space left on device")
            mount("-o", "remount,size=1g", str(folder))
            return problems + _goes_on(job, root)
        finally:
            job.kill()


def readonly(root: Path, scratch: str) -> list[str]:
    """run.dir's disk becomes read-only while the job trains, as disks do that have errors."""
    with disk(root, "readonly", 1 << 30) as folder:
        if folder is None:
            return [NO_MOUNTS]
        job = Job(folder / "run")
        job.log = root / "readonly.log"
        try:
            job.start()
            if not wait_until(lambda: job.steps() > STEPS // 4, job):
                return [f"it ended too soon: {job.said()[-1500:]}"]
            deadline = time.monotonic() + 60
            while True:
                try:  # refused while a file is open for writing
                    mount("-o", "remount,ro", str(folder))
                    break
                except OSError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.01)
            problems = _end(job, "Read-only file system")
            mount("-o", "remount,rw", str(folder))
            return problems + _goes_on(job, root)
        finally:
            job.kill()


def stop(root: Path, scratch: str) -> list[str]:
    """A rank is stopped (SIGSTOP): it is named, and its group started again."""
    with cluster(f"{scratch}/s") as nodes:
        job = Job(root / f"stop-{os.getpid()}", address=nodes.address)
        try:
            job.start()
            if not wait_until(lambda: job.steps() > STEPS // 4 and bool(nodes.ranks()), job):
                return [f"it ended too soon: {job.said()[-1500:]}"]
            rank = nodes.ranks()[-1]
            rank.send_signal(signal.SIGSTOP)
            print(f"  stopped a rank at step {job.steps()}", flush=True)
            begun, steps = time.monotonic(), job.steps()
            wait_until(lambda: job.steps() > steps + 1, job)
            print(f"  it went on after {time.monotonic() - begun:.0f} s", flush=True)
            if status := job.to_the_end():
                return [f"status {status}: {job.said()[-1500:]}"]
            named = [] if re.search(r"rank \d.*(not heard|was heard|last)", job.said()) else ["nobody said which rank"]
            return named + differences(job.run, root / "undisturbed")
        finally:
            job.kill()


SKEW_S = -7200
SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/time.h>
#include <time.h>
static int (*real)(clockid_t, struct timespec *);
int clock_gettime(clockid_t id, struct timespec *t) {
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int r = real(id, t);
    if (r == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) t->tv_sec += SKEW;
    return r;
}
int gettimeofday(struct timeval *restrict v, void *restrict zone) {
    struct timespec t;
    int r = clock_gettime(CLOCK_REALTIME, &t);
    v->tv_sec = t.tv_sec; v->tv_usec = t.tv_nsec / 1000;
    return r;
}
time_t time(time_t *out) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    if (out) *out = t.tv_sec;
    return t.tv_sec;
}
"""
"""The C library's clocks, moved: a machine's own can be moved by root alone, and for all who are on it."""


def skew(root: Path, scratch: str) -> list[str]:
    """The second node's clock is two hours behind that of the driver and the head."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        return ["not done: a clock of one's own is a library that is loaded first, and there is no compiler to make it"]
    source, library = Path(scratch) / "clock.c", Path(scratch) / "clock.so"
    source.write_text(SHIM)
    command = [compiler, "-shared", "-fPIC", f"-DSKEW=({SKEW_S})", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True)
    second = {"LD_PRELOAD": str(library)}
    there = subprocess.run(
        [sys.executable, "-c", "import time; print(time.time())"],
        env=os.environ | second,
        capture_output=True,
        text=True,
    )
    if not -60 < float(there.stdout) - time.time() - SKEW_S < 60:
        return [f"not done: the library does not move the clock here ({there.stdout})"]
    with cluster(f"{scratch}/c", second) as nodes:
        job = Job(root / f"skew-{os.getpid()}", address=nodes.address)
        try:
            job.start()
            if status := job.to_the_end():
                return [f"status {status}: {job.said()[-1500:]}"]
            return differences(job.run, root / "undisturbed")
        finally:
            job.kill()


TAKEN_AWAY = (("curate", 0.3), ("dedup", 0.3), ("tokenizer", 0.5), ("train", 0.1), ("train", 0.6), ("export", 0.3))
"""Stage, and the share of it that is done. Tokenizing goes on beside training, until the first steps at least."""


def node(root: Path, scratch: str) -> list[str]:
    """In each phase a node is taken away with all that it does and holds, and another comes in its place."""
    with cluster(f"{scratch}/n", others=2) as nodes:
        turns = itertools.cycle((0, 1))

        def hit(job: Job) -> str:
            which = next(turns)
            nodes.kill_other(which)
            return f"node {which + 2} of 3"

        undisturbed = root / "undisturbed"
        moments = [Moment(*at) for at in TAKEN_AWAY]
        found = disturbed(nodes, root / f"node-{os.getpid()}", undisturbed, stage_seconds(undisturbed), moments, hit)
        missed = [] if len(found.kills) == len(TAKEN_AWAY) else [f"only {', '.join(found.kills)} were taken away"]
        started = [f"the command had to be started again {found.restarts} times"] if found.restarts else []
        return found.problems + missed + started


STORE_BYTES = 80 << 20
"""Of Ray's object store: about the least that Ray takes."""
SPILL_BYTES = 16 << 20
_HOLDER = """
import sys, time
import numpy as np, ray
ray.init(address=sys.argv[1], log_to_driver=False)
held = []
try:
    for i in range(200):
        held.append(ray.put(np.full(1 << 20, i % 250, np.uint8)))
except Exception as e:
    print(type(e).__name__, flush=True)
print("full", len(held), flush=True)
time.sleep(3600)
"""
"""Another job of the cluster: it holds what the object store and the disk have room for."""


def spill(root: Path, scratch: str) -> list[str]:
    """Ray's object store is full with another job's objects, and the disk that it spills to is full too; later there is
    room again."""
    with disk(root, "spill", SPILL_BYTES) as folder:
        if folder is None:
            return [NO_MOUNTS]
        # Small results go past the object store, unless none is small.
        every = {"max_direct_call_object_size": 1000, "task_rpc_inlined_bytes_limit": 1000}
        arguments = {"num_cpus": 4, "object_store_memory": STORE_BYTES, "object_spilling_directory": str(folder)}
        with cluster(f"{scratch}/o", others=0, _system_config=every, **arguments) as nodes:
            holder = subprocess.Popen(
                [sys.executable, "-c", _HOLDER, nodes.address], stdout=subprocess.PIPE, text=True, env=environment()
            )
            job = Job(root / f"spill-{os.getpid()}", address=nodes.address)
            try:
                assert holder.stdout is not None
                said = iter(holder.stdout.readline, "")
                print(f"  object store and disk: {next(line for line in said if 'full' in line).strip()}", flush=True)
                job.start()
                problems = _end(job, "disk is full where Ray spills objects")
                mount("-o", "remount,size=1g", str(folder))
                return problems + _goes_on(job, root)
            finally:
                job.kill()
                holder.kill()


def s3(root: Path, scratch: str) -> list[str]:
    """On an object store that fails and is slow, killed twice."""
    command = [sys.executable, "-m", "tests.jobs.on_s3", "0.05", "200"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    print("  " + "\n  ".join(done.stdout.strip().splitlines()), flush=True)
    return [f"status {done.returncode}: {(done.stdout + done.stderr)[-1500:]}"] if done.returncode else []


ALL: dict[str, Callable[[Path, str], list[str]]] = {
    "stop": stop, "node": node, "full": full, "readonly": readonly, "spill": spill, "skew": skew, "s3": s3,
}  # fmt: skip
