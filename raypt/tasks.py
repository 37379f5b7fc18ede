"""Map a function over many small, idempotent pieces of work: Ray tasks when Ray is running, a plain loop when not.

The pieces are files in and files out; only small summaries come back. Results are returned in the order of the items,
so nothing downstream can depend on the order in which tasks happened to finish.
"""

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar

import ray

from raypt import storage, written
from raypt.errors import UserError
from raypt.progress import TaskProgress

Item = TypeVar("Item")
Result = TypeVar("Result")


def user_error_in(error: BaseException | None) -> UserError | None:
    """The UserError that Ray wrapped on its way from a task or an actor, if there is one."""
    while error is not None:
        if isinstance(error, UserError):
            # Ray makes the exception a task error too, with the remote traceback in its text: take the message alone.
            return UserError(*error.args) if type(error) is not UserError else error
        error = getattr(error, "cause", None) or error.__cause__
    return None


def cluster_cpus() -> float:
    """CPUs of the cluster as it is now."""
    resources: dict[str, float] = ray.cluster_resources()
    return float(resources.get("CPU", 1))


@dataclass(frozen=True)
class Placement:
    """Where the tasks of a job may run, and whether nodes come when they are asked for."""

    labels: Mapping[str, str] = field(default_factory=dict)
    """Node labels that tasks ask for which name none of their own and need no GPU."""
    growing: bool = False
    """The cluster has an autoscaler: what is there now does not bound what is asked for."""


_placement = Placement()


@contextmanager
def placed(placement: Placement) -> Iterator[None]:
    """For the length of the block, all tasks of this process run there: on whatever thread they are submitted."""
    global _placement
    before, _placement = _placement, placement
    try:
        yield
    finally:
        _placement = before


ASKED_AHEAD = 64
"""Tasks that are under way at least where the cluster grows: what waits is what an autoscaler counts, and twice the
CPUs of a cluster that has none yet would bring its nodes one after the other."""
CPUS_LOOK_S = 5.0


def _in_flight(num_cpus: float) -> int:
    """How many tasks to submit to the cluster as it is now."""
    return max(ASKED_AHEAD if _placement.growing else 2, int(2 * cluster_cpus() / max(num_cpus, 1e-3)))


TOGETHER_BYTES, MORE_TOGETHER = 16 << 20, 32
"""Text of small artefacts that a task makes together on an object store, and how many times as much where there is
plenty: what is done again if it is killed, some 1 s of curation, and 30. (Shards of 64 MB, as `corpus.shard_bytes` cuts
them from 4 GiB on, so are eight a task, not two.)"""
LEAST_TASKS, STEADY_TASKS = 8, 16
"""Before a task has more than `TOGETHER_BYTES`; so many where they must not depend on the cluster. (That is, of less
text than 16 times 512 MiB: each has some 5 s of tokenizing then.)"""


def together(todo: Sequence[int], sizes: Sequence[int], uri: str, *, as_now: bool = True) -> list[list[int]]:
    """The numbers of `todo`, ascending, by task: those of neighbours together that have up to about `TOGETHER_BYTES`
    (`sizes` has the bytes of every number there is), so that they share requests; up to MORE_TOGETHER times as much
    where that leaves LEAST_TASKS tasks, and two for each CPU of the cluster as it is now, or grows to be. Without
    `as_now`, who is with whom depends on the sizes alone, and STEADY_TASKS are left. Where `uri` is on a local disk,
    which asks nothing for a request, each is alone.
    """
    if storage.is_local(uri):
        return [[number] for number in todo]
    tasks = STEADY_TASKS
    if as_now:
        tasks = max(LEAST_TASKS, _in_flight(1.0) if ray.is_initialized() else 0)
    return _neighbours(todo, sizes, max(TOGETHER_BYTES, min(sum(sizes) // tasks, MORE_TOGETHER * TOGETHER_BYTES)))


def few_together(todo: Sequence[int], sizes: Sequence[int], uri: str) -> list[list[int]]:
    """As `together`, of what is so little that it needs no more tasks than have `TOGETHER_BYTES` each."""
    return [[number] for number in todo] if storage.is_local(uri) else _neighbours(todo, sizes, TOGETHER_BYTES)


def _neighbours(todo: Sequence[int], sizes: Sequence[int], most_bytes: int) -> list[list[int]]:
    before = itertools.accumulate(sizes, initial=0)
    of = [(start + size // 2) // most_bytes for start, size in zip(before, sizes, strict=False)]
    return [list(group) for _, group in itertools.groupby(todo, key=of.__getitem__)]


_IN_TASK: ContextVar[bool] = ContextVar("raypt-task", default=False)


@dataclass
class Inline:
    """What tasks cost that ran in this process, one after the other, for want of a Ray."""

    seconds: float = 0.0
    cpu_s: float = 0.0


INLINE = Inline()


def in_task() -> bool:
    """Whether this code runs as one of many tasks, and not in the one driver."""
    return _IN_TASK.get()


@contextmanager
def as_task() -> Iterator[None]:
    """Mark what the block runs as the work of a task."""
    token = _IN_TASK.set(True)
    try:
        yield
    finally:
        _IN_TASK.reset(token)


def _call(fn: Callable[[Item], Result], item: Item) -> Result:
    with as_task():
        return fn(item)


def run_tasks(
    fn: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    name: str,
    num_cpus: float = 1.0,
    num_gpus: float = 0.0,
    memory_bytes: int | None = None,
    max_in_flight: int | None = None,
    labels: dict[str, str] | None = None,
    progress: TaskProgress | None = None,
) -> list[Result]:
    """`[fn(x) for x in items]`, as Ray tasks if Ray is initialised in this process.

    `fn` must be importable (or picklable) and idempotent: Ray retries a task whose worker or node died. At most
    `max_in_flight` tasks are submitted at a time (default: twice the cluster's CPUs, also as it grows), so a million
    items do not flood the scheduler. `labels` are node labels that the tasks' nodes must have (default: those of
    `placed`). These items may be a part of what `progress` counts. An exception inside `fn` is raised here as itself,
    not wrapped.
    """
    progress = progress or TaskProgress(name, len(items))
    if not ray.is_initialized():
        out = []
        for item in items:
            start, cpu = time.perf_counter(), time.process_time()
            with written.apart():
                out.append(_call(fn, item))
            INLINE.seconds += time.perf_counter() - start
            INLINE.cpu_s += time.process_time() - cpu
            progress.add()
        return out
    options: dict[str, Any] = {"num_cpus": num_cpus, "name": name, "max_retries": 4}
    if num_gpus:
        options["num_gpus"] = num_gpus
    if memory_bytes is not None:
        options["memory"] = memory_bytes
    if selector := labels or (None if num_gpus else _placement.labels):
        options["label_selector"] = dict(selector)
    remote: Any = ray.remote(_call).options(**options)
    function = ray.put(fn)  # pickled once, and any callable will do
    limit, looked = max_in_flight or _in_flight(num_cpus), time.monotonic()
    results: list[Any] = [None] * len(items)
    pending: dict[Any, int] = {}
    nxt = 0
    try:
        while nxt < len(items) or pending:
            while nxt < len(items) and len(pending) < limit:
                pending[remote.remote(function, items[nxt])] = nxt
                nxt += 1
            ready, _ = ray.wait(list(pending), num_returns=1)
            for ref in ready:
                results[pending.pop(ref)] = ray.get(ref)
                progress.add()
            if max_in_flight is None and time.monotonic() - looked > CPUS_LOOK_S:
                limit, looked = _in_flight(num_cpus), time.monotonic()
    except ray.exceptions.RayTaskError as e:
        # Of those that have not ended: Ray (2.60) ends this process where a task is cancelled that is just done, as the
        # one that failed is here ("Tried to complete task that was not pending").
        _, running = ray.wait(list(pending), num_returns=len(pending), timeout=0)
        for ref in running:
            ray.cancel(ref)
        cause = user_error_in(e) or e.cause
        raise (cause if isinstance(cause, Exception) else e) from None
    return results
