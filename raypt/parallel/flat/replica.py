"""A whole model on one worker, its weights and the gradient each one flat array."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor

from raypt.model import Llama
from raypt.model.batch import MicroBatch
from raypt.parallel.comm_clock import CLOCK
from raypt.parallel.engine import Timing
from raypt.parallel.flat.layout import Flat
from raypt.parallel.pulse import PULSE


class Replica:
    """Forward and backward passes of one worker. It holds no values until `weights` is filled."""

    def __init__(
        self,
        build: Callable[[], Llama],
        *,
        dtype: torch.dtype,
        device: torch.device,
        z_loss: float,
        loss_chunk_tokens: int,
        compile_blocks: bool,
    ) -> None:
        self.device, self.z_loss, self.loss_chunk_tokens = device, z_loss, loss_chunk_tokens
        self.timing = Timing()
        with torch.device("meta"):
            model = build()
        self.module = model.allocated(device, dtype)
        if compile_blocks:
            for layer in self.module.model.layers:
                layer.compile()
        self.flat = Flat.of(self.module)
        self.weights = torch.empty(self.flat.numel, dtype=dtype, device=device)
        """What the model computes with."""
        self.gradient = torch.empty(self.flat.numel, device=device)
        """Of the passes since `begin`, added up in fp32."""
        for name, p in self.module.named_parameters():
            start, shape = self.flat.places[name]
            p.data = self.weights.narrow(0, start, p.numel()).view(shape)
            into = self.gradient.narrow(0, start, p.numel())
            p.register_post_accumulate_grad_hook(partial(_add_up, into=into))

    def begin(self) -> Timing:
        """A new step, and what its times are added up in."""
        self.timing = Timing()
        return self.timing

    def passes(self, micro_batches: Sequence[MicroBatch], tokens: int) -> Tensor:
        """Forward and backward; `gradient` is then that of the loss over `tokens`. Returns the sums of loss and squared
        log-partition, float64.
        """
        self.gradient.zero_()
        sums = torch.zeros(2, dtype=torch.float64, device=self.device)
        for micro in micro_batches:
            micro = micro.to(self.device)
            with self.timed("forward"):
                targets = micro.targets(self.z_loss, self.loss_chunk_tokens)
                loss, z = self.module(micro.tokens_BS, micro.segments_BS, targets=targets)
            with self.timed("backward"):
                (loss / max(tokens, 1)).backward()
                sums += torch.stack((loss.detach(), z.detach())).double()
        return sums

    @torch.no_grad()
    def evaluate(self, micro_batches: Sequence[MicroBatch]) -> list[float]:
        """See TrainEngine."""
        sums = []
        for micro in micro_batches:
            micro = micro.to(self.device)
            targets = micro.targets(chunk_tokens=self.loss_chunk_tokens)
            sums.append(self.module(micro.tokens_BS, micro.segments_BS, targets=targets)[0])
        return torch.stack(sums).tolist() if sums else []

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Add the time of the block to a part, and what it waited for others in it to communication instead."""
        PULSE.at(part)
        started, communicated = time.perf_counter(), CLOCK.seconds
        yield
        communication = CLOCK.seconds - communicated
        self.timing.communication += communication
        own = time.perf_counter() - started - communication
        setattr(self.timing, part, getattr(self.timing, part) + own)


def _add_up(p: Tensor, *, into: Tensor) -> None:
    """The gradient of one backward pass, added in fp32."""
    assert p.grad is not None
    into.add_(p.grad.reshape(-1))
    p.grad = None
