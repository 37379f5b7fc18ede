"""What the ranks of the traffic tests do."""

import inspect
from collections.abc import Callable
from typing import Any, ClassVar

import torch
import torch.distributed as dist

from raypt.model import Llama
from raypt.parallel import comm
from raypt.run.planner.shape import Layout
from tests.parallel import cases


class Counter:
    """Bytes that a ring would have this rank send for the calls of torch.distributed. All of DeepSpeed's and raypt's
    communication passes through these functions.
    """

    RULES: ClassVar[dict[str, tuple[str, float]]] = {
        "all_reduce": ("tensor", 2.0),
        "all_gather_into_tensor": ("output_tensor", 1.0),
        "reduce_scatter_tensor": ("input", 1.0),
    }
    """Function -> (the argument that is the whole buffer, how often a ring moves it)."""
    REFUSED = ("all_gather", "all_to_all", "all_to_all_single", "gather", "reduce", "reduce_scatter", "scatter")
    """What an engine does not call: its bytes would go uncounted."""

    def __init__(self) -> None:
        self.bytes = 0.0
        self.on = False
        for name, (argument, times) in self.RULES.items():
            setattr(dist, name, self._counted(getattr(dist, name), argument, times))
        for name in self.REFUSED:
            setattr(dist, name, self._refused(getattr(dist, name), name))

    def _counted(self, function: Callable[..., Any], argument: str, times: float) -> Callable[..., Any]:
        signature = inspect.signature(function)

        def call(*args: Any, **kwargs: Any) -> Any:
            if self.on:
                n = dist.get_world_size(kwargs.get("group"))
                whole = signature.bind(*args, **kwargs).arguments[argument]
                self.bytes += times * (n - 1) / n * whole.numel() * whole.element_size()
            return function(*args, **kwargs)

        return call

    def _refused(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            assert not self.on, f"{name} is not counted"
            return function(*args, **kwargs)

        return call


def counted(precisions: list[str]) -> dict[str, Any]:
    """Bytes of the second step at every stage, with what the model is."""
    counter = Counter()  # before DeepSpeed keeps functions of torch.distributed for itself
    # Wide enough for stage 3 to cut matrices up; the embeddings and norms stay whole.
    cases.MODEL = cases.MODEL.model_copy(update={"hidden_size": 256, "intermediate_size": 512})
    torch.set_num_threads(1)
    device = comm.init_process_group(use_gpu=False)
    plan, rank = cases.plan_for(dist.get_world_size()), dist.get_rank()
    numels = [p.numel() for p in Llama(cases.MODEL).parameters()]
    out: dict[str, Any] = {"parameters": sum(numels), "whole": sum(n for n in numels if n <= Layout.persistent)}
    for precision in precisions:
        for stage in range(4):
            engine = cases.engine_for(stage, precision, plan, device)
            cases.train(engine, plan, rank, 0, 1)
            counter.bytes, counter.on = 0.0, True
            cases.train(engine, plan, rank, 1, 2)
            counter.on = False
            out[f"{precision}-{stage}"] = counter.bytes
    return out
