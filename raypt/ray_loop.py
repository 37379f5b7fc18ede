"""Ray Data's scheduling loop, kept from spinning.

The loop waits (0.1 s) for a task with something to give. A streaming task whose output may not be read yet, because
what comes after it is full, counts as such at once: the loop then turns as fast as it can and takes half a core or
more, on the node where the training is that it feeds. A stage that keeps ahead of the next one spends most of its life
so.
"""

import time
from typing import TYPE_CHECKING

from ray.data._internal.execution.execution_callback import ExecutionCallback

if TYPE_CHECKING:
    from ray.data import DataContext
    from ray.data._internal.execution.streaming_executor import StreamingExecutor

_FIRST_S, _LONGEST_S = 0.001, 0.05
"""The first wait after a turn that moved nothing, and the longest, by doubling. A block that becomes due is noticed
that much later at most; a stream holds several blocks a rank."""


class Rest(ExecutionCallback):
    """Waits after a turn of the loop that moved nothing and did not wait itself."""

    def __init__(self) -> None:
        self._moved = -1
        self._wait_s = 0.0
        self._ended = 0.0

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


def rest_when_idle(context: "DataContext") -> None:
    """Have the loops of the datasets of a context rest."""
    if Rest not in context.custom_execution_callback_classes:
        context.custom_execution_callback_classes = [*context.custom_execution_callback_classes, Rest]
