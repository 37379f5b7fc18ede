"""Ray Data's scheduling loop: kept from spinning, and seen from outside (`raypt_queue_bytes`, `raypt_actors`).

The loop waits (0.1 s) for a task with something to give. A streaming task whose output may not be read yet, because
what comes after it is full, counts as such at once: the loop then turns as fast as it can and takes half a core or
more, on the node where the training is that it feeds. A stage that keeps ahead of the next one spends most of its life
so.
"""

import logging
import time
from typing import TYPE_CHECKING

from ray.data._internal.execution.execution_callback import ExecutionCallback

from raypt import metrics

if TYPE_CHECKING:
    from ray.data import DataContext
    from ray.data._internal.execution.streaming_executor import StreamingExecutor

log = logging.getLogger("raypt")

_FIRST_S, _LONGEST_S = 0.001, 0.05
"""The first wait after a turn that moved nothing, and the longest, by doubling. A block that becomes due is noticed
that much later at most; a stream holds several blocks a rank."""
TELL_S = 5.0
"""Between two words to the metrics."""
_RUN = "raypt_run"
"""Where a dataset's context has the label of its run: the loop may turn in an actor that knows of none."""


class Rest(ExecutionCallback):
    """Waits after a turn of the loop that moved nothing and did not wait itself; tells queues and actors."""

    def __init__(self) -> None:
        self._moved = -1
        self._wait_s = 0.0
        self._ended = 0.0
        self._told: float | None = None

    def on_execution_step(self, executor: "StreamingExecutor") -> None:
        moved = 0
        for operator in executor._topology or ():
            of = operator.metrics
            moved += of.num_inputs_received + of.num_task_outputs_generated + of.num_outputs_taken
            moved += of.num_tasks_submitted + of.num_tasks_finished
        if moved != self._moved:
            self._moved, self._wait_s = moved, 0.0
        elif time.perf_counter() - self._ended < _LONGEST_S:
            self._wait_s = min(max(2 * self._wait_s, _FIRST_S), _LONGEST_S)
            time.sleep(self._wait_s)
        self._ended = time.perf_counter()
        if self._told is None or self._ended - self._told >= TELL_S:
            self._told = self._ended
            self._tell(executor)

    def after_execution_succeeds(self, executor: "StreamingExecutor") -> None:
        self._tell(executor, ended=True)

    def after_execution_fails(self, executor: "StreamingExecutor", error: Exception) -> None:
        self._tell(executor, ended=True)

    def _tell(self, executor: "StreamingExecutor", *, ended: bool = False) -> None:
        try:
            run = executor._data_context.get_config(_RUN) or metrics.current()
            task = executor._dataset_id.rsplit("_", 2)[0]  # its name, before an id and a count
            waiting, actors = (0, 0) if ended else sights(executor)
            metrics.put("raypt_queue_bytes", waiting, run, task=task)
            metrics.put("raypt_actors", actors, run, task=task)
        except Exception as e:  # another Ray's inside: nothing depends on it
            log.debug("queues cannot be told: %s", e)


def sights(executor: "StreamingExecutor") -> tuple[int, int]:
    """Bytes of blocks that wait for the next stage of a dataset or for who takes them, and actors that work on it."""
    waiting = actors = 0
    for operator, state in (executor._topology or {}).items():
        waiting += state.total_enqueued_output_blocks_bytes() + state.total_enqueued_input_blocks_bytes()
        if (info := getattr(operator, "get_actor_info", None)) is not None:
            actors += info().running
    return waiting, actors


def rest_when_idle(context: "DataContext", run: str | None = None) -> None:
    """Have the loops of the datasets of a context rest. `run`: the label of their metrics; None: that of `set_run`."""
    if (label := run or metrics.current()) is not None:
        context.set_config(_RUN, label)
    if Rest not in context.custom_execution_callback_classes:
        context.custom_execution_callback_classes = [*context.custom_execution_callback_classes, Rest]
