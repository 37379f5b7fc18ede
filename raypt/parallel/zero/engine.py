"""The engine facade over DeepSpeed ZeRO."""

import importlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist

from raypt.model import Llama
from raypt.model.batch import MicroBatch
from raypt.parallel import comm
from raypt.parallel.comm_clock import CLOCK
from raypt.parallel.config import ZeroConfig
from raypt.parallel.engine import BatchLoss, StepResult, Timing
from raypt.parallel.pulse import PULSE
from raypt.parallel.state import ShardSource, StateShard
from raypt.parallel.zero.deepspeed_config import deepspeed_config
from raypt.parallel.zero.state import PARTITIONS, Partition
from raypt.parallel.zero.update import divisor

SKIPPED = StepResult(grad_norm=None, skipped=True)


class ZeroEngine:
    """Data parallelism with DeepSpeed's ZeRO stages 0 to 3.

    Gradients are of (global loss sum) / (global valid tokens): each rank's sum is scaled by world / tokens and
    DeepSpeed averages over ranks, so uneven valid tokens weigh as they should. The process group must exist.
    """

    def __init__(
        self,
        build: Callable[[], Llama],
        *,
        seed: int,
        optimizer: Callable[[Llama], torch.optim.Optimizer],
        zero: ZeroConfig,
        precision: str,
        clip_norm: float | None,
        micro_batch_size: int,
        accumulation: int,
        device: torch.device,
        z_loss: float = 0.0,
        loss_chunk_tokens: int = 2048,
        compile_blocks: bool = False,
    ) -> None:
        import deepspeed

        self.device, self.stage, self.clip_norm = device, zero.stage, clip_norm
        self.z_loss, self.loss_chunk_tokens = z_loss, loss_chunk_tokens
        self.world = dist.get_world_size()
        self.timing = Timing()
        self._plain = zero.stage == 0 and precision == "fp32"
        config = deepspeed_config(
            zero,
            precision=precision,
            clip_norm=None if self._plain else clip_norm,
            micro_batch_size=micro_batch_size,
            accumulation=accumulation,
            world=self.world,
            use_gpu=device.type != "cpu",
        )
        model = _initialised(build, seed, config, device)
        if compile_blocks:
            for layer in model.model.layers:
                layer.compile()
        inner = optimizer(model)
        self._peak_lrs = [group["lr"] for group in inner.param_groups]
        self.module = model
        self.engine, self._outer, *_ = deepspeed.initialize(model=model, optimizer=inner, config=config)
        self.partition: Partition = PARTITIONS[zero.stage](self.engine)

    def forward_backward(self, micro_batches: Sequence[MicroBatch]) -> BatchLoss:
        """See TrainEngine."""
        self.timing = Timing()
        with self._timed("communication"):
            tokens = round(comm.all_reduce_floats([sum(m.tokens for m in micro_batches)], self.device)[0])
        scale = self.world / max(tokens, 1)
        sums = torch.zeros(2, dtype=torch.float64, device=self.device)
        for i, micro in enumerate(micro_batches):
            micro = micro.to(self.device)
            last = i == len(micro_batches) - 1
            self.engine.set_gradient_accumulation_boundary(last)
            with self._timed("forward"):
                loss, z = self.engine(
                    micro.tokens_BS, micro.segments_BS, targets=micro.targets(self.z_loss, self.loss_chunk_tokens)
                )
            with self._timed("backward"):
                self.engine.backward(loss * scale, scale_wrt_gas=False)
                sums += torch.stack((loss.detach(), z.detach())).double()
                if not last:
                    self.engine.step()  # counts the micro-batch; there is no update before the boundary
                elif self.device.type == "cuda":
                    torch.cuda.synchronize(self.device)  # reading the sums would wait here anyway
        with self._timed("communication"):
            comm.all_reduce(sums)
            loss_sum, z_sum = sums.tolist()
        return BatchLoss(loss_sum, z_sum, tokens)

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        """Add the time of the block to a part, and what it stood in collectives to communication instead."""
        PULSE.at(part)
        started, communicated = time.perf_counter(), CLOCK.seconds
        yield
        communication = CLOCK.seconds - communicated
        self.timing.communication += communication
        own = time.perf_counter() - started - communication
        setattr(self.timing, part, getattr(self.timing, part) + own)

    def step(self, lr_scale: float) -> StepResult:
        """See TrainEngine."""
        for group, peak in zip(self._outer.param_groups, self._peak_lrs, strict=True):
            group["lr"] = peak * lr_scale
        with self._timed("step"):
            return self._step_plain() if self._plain else self._step_checked()

    def _step_plain(self) -> StepResult:
        """Stage 0 in fp32: DeepSpeed neither checks nor reports the norm. The gradients are already the same on all
        ranks, so every rank comes to the same decision.
        """
        grads = [p.grad for p in self.module.parameters() if p.grad is not None]
        total = torch.nn.utils.get_total_norm(grads)
        if not math.isfinite(norm := total.item()):
            return self.discard()
        if self.clip_norm is not None and type(self._outer) is torch.optim.AdamW:
            # The fused update divides by this on its way: one pass over the gradients less.
            self._outer.grad_scale = torch.full_like(total, divisor(norm, self.clip_norm))  # type: ignore[attr-defined]
        elif self.clip_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(self.module.parameters(), self.clip_norm, total)
        self.engine.step()
        return StepResult(norm, skipped=False)

    def _step_checked(self) -> StepResult:
        self.engine.step()
        if self._outer.overflow:
            return SKIPPED
        norm = self.engine.get_global_grad_norm()
        return StepResult(float(norm), skipped=False)

    def discard(self) -> StepResult:
        """See TrainEngine."""
        self.partition.discard()
        self.engine.micro_steps += 1
        return SKIPPED

    def evaluating(self) -> Llama:
        """See TrainEngine."""
        return self.engine

    def shard(self) -> StateShard:
        """See TrainEngine."""
        return self.partition.shard()

    def restore(self, source: ShardSource) -> None:
        """See TrainEngine."""
        self.partition.restore(source)


def _initialised(build: Callable[[], Llama], seed: int, config: dict[str, Any], device: torch.device) -> Llama:
    """The module with its first weights. Under stage 3 each rank ever holds only its cut of each parameter: the values
    are drawn by rank 0, one parameter at a time.
    """
    import deepspeed

    if config["zero_optimization"]["stage"] < 3:
        return build().initialise(seed)
    importlib.import_module("torch._dynamo")  # cannot be imported while zero.Init patches tensor construction

    with deepspeed.zero.Init(config_dict_or_path=config):
        model = build()
    for parameter, values in model.initial_values(seed):
        with deepspeed.zero.GatheredParameters([parameter], modifier_rank=0):
            if dist.get_rank() == 0:
                parameter.data.copy_(values())
    return model
