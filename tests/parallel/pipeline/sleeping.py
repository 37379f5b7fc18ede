"""Stages that only sleep, in real processes over the real transport: what a schedule costs by itself."""

import contextlib
import time
from typing import Any

import torch
from torch import Tensor

from raypt.model import Llama, ModelConfig
from raypt.model.batch import MicroBatch
from raypt.model.llama import Targets
from raypt.parallel.pipeline.stage import Stage
from raypt.parallel.pipeline.weights import PutOff

FORWARD_S, BACKWARD_S = 0.060, 0.120
"""Of one rank's layers. Backward is half gradients of inputs, half of weights."""
MODEL = ModelConfig(
    vocab_size=16, hidden_size=8, intermediate_size=8, num_layers=8, num_heads=2, num_kv_heads=2, tie_embeddings=False
)


class _Sleep(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, part: float, put_off: PutOff | None) -> Tensor:
        ctx.part, ctx.put_off = part, put_off
        time.sleep(FORWARD_S * part)
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        seconds = BACKWARD_S * ctx.part
        if ctx.put_off is not None:
            seconds /= 2
            ctx.put_off.add(lambda: time.sleep(seconds))
        time.sleep(seconds)
        return grads[0], None, None


class SleepingStage(Stage):
    """A part of a rank's layers."""

    def __init__(self, model: Llama, part: int, parts: int) -> None:
        super().__init__(model, part, parts, [])
        self.share = 0.0
        """Of a rank's layers."""
        self.put_off: PutOff | None = None

    def hidden(self, micro: MicroBatch, x_BSE: Tensor | None) -> Tensor:
        """See Stage."""
        if x_BSE is None:
            x_BSE = torch.zeros(*micro.tokens_BS.shape, MODEL.hidden_size, requires_grad=True)
        return _Sleep.apply(x_BSE, self.share, self.put_off)

    def loss(self, hidden_BSE: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
        """See Stage."""
        return hidden_BSE.sum(), hidden_BSE.sum()


def idle(schedules: list[tuple[Any, int]], micro_batches: int) -> list[float]:
    """The measured idle share of a step under each schedule."""
    import numpy as np
    import torch.distributed as dist

    from raypt.model.batch import micro_batch
    from raypt.parallel import comm
    from raypt.parallel.mesh import Mesh
    from raypt.parallel.pipeline.runner import Plan, Runner
    from raypt.parallel.topology import Topology

    torch.set_num_threads(1)
    device = comm.init_process_group(use_gpu=False)
    rank, size = dist.get_rank(), dist.get_world_size()
    group = Mesh(Topology(rank, pipeline_size=size)).pipeline
    tokens = np.zeros((1, 5), np.int64)
    micro = micro_batch({"tokens": tokens, "segments": np.ones_like(tokens), "sample_index": np.arange(1)})
    model = Llama(MODEL)
    out = []
    for name, virtual in schedules:
        stages = [SleepingStage(model, rank + i * size, size * virtual) for i in range(virtual)]
        runner = Runner(stages, Plan(name, virtual, micro_batches), group, 1, device)
        for stage in stages:
            stage.put_off = runner.put_off if name == "zero_bubble" else None
        batch = [micro] * micro_batches
        for share in (0.0, 1 / virtual):  # once awake: what is loaded and set up by the first actions
            for stage in stages:
                stage.share = share
            _, record = runner.run(batch, MicroBatch.targets, 1.0, lambda _: contextlib.nullcontext(), record=True)
        assert record is not None
        out.append(record.idle_share)
    return out
