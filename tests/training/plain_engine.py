"""An engine that raypt does not have, as a user would write one: replicated weights, gradients added up over the ranks,
torch's optimizer, no DeepSpeed. Rank 0 owns the state.
"""

from collections.abc import Sequence

import numpy as np
import torch

from raypt.model import Llama, ModelConfig
from raypt.model.batch import MicroBatch
from raypt.parallel import comm
from raypt.parallel.agreement import Agreed, Offer, agree_in_step
from raypt.parallel.engine import BatchLoss, StepResult, Timing
from raypt.parallel.mesh import Mesh
from raypt.parallel.state import MASTER, Box, ShardSource, StateKey, StateShard, Want
from raypt.training.batch_plan import BatchPlan
from raypt.training.config import TrainConfig
from raypt.training.optim.optimizer import build_optimizer


class PlainEngine:
    def __init__(self, model: ModelConfig, train: TrainConfig, mesh: Mesh, device: torch.device) -> None:
        self.topology, self.timing, self.device = mesh.topology, Timing(), device
        self.model = Llama(model).to(device)
        self.clip = train.optimizer.clip_norm or float("inf")
        self.optimizer = build_optimizer(self.model, train.optimizer)
        self.peaks = [group["lr"] for group in self.optimizer.param_groups]
        self.names = dict(self.model.named_parameters())

    def agree(self, offer: Offer) -> Agreed:
        return agree_in_step(self.topology, offer, self.device)

    def forward_backward(self, micro_batches: Sequence[MicroBatch]) -> BatchLoss:
        tokens = round(comm.all_reduce_floats([sum(m.tokens for m in micro_batches)], self.device)[0])
        sums = torch.zeros(2, dtype=torch.float64)
        for micro in micro_batches:
            loss, z = self.model(micro.tokens_BS, micro.segments_BS, targets=micro.targets())
            (loss / tokens).backward()
            sums += torch.stack((loss.detach(), z.detach())).double()
        for p in self.names.values():
            assert p.grad is not None
            comm.all_reduce(p.grad)
        comm.all_reduce(sums)
        return BatchLoss(float(sums[0]), float(sums[1]), tokens)

    def step(self, lr_scale: float, max_norm: float | None = None) -> StepResult:
        norm = float(torch.nn.utils.clip_grad_norm_(self.names.values(), self.clip))
        skipped = not np.isfinite(norm) or (max_norm is not None and norm > max_norm)
        if not skipped:
            for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
                group["lr"] = peak * lr_scale
            self.optimizer.step()
        self.optimizer.zero_grad()
        return StepResult(norm if np.isfinite(norm) else None, skipped=skipped)

    def discard(self) -> StepResult:
        self.optimizer.zero_grad()
        return StepResult(None, skipped=True)

    @torch.no_grad()
    def evaluate(self, micro_batches: Sequence[MicroBatch]) -> list[float]:
        return [float(self.model(m.tokens_BS, m.segments_BS, targets=m.targets())[0]) for m in micro_batches]

    def shard(self) -> StateShard:
        if self.topology.rank:
            return StateShard({}, {})
        tensors, scalars = {}, {}
        for name, p in self.names.items():
            states = {MASTER: p.detach(), **self.optimizer.state[p]}
            scalars["step"] = float(states.pop("step", 0))
            tensors |= {StateKey(name, state, Box.whole(p.shape)): value for state, value in states.items()}
        return StateShard(tensors, {name: tuple(p.shape) for name, p in self.names.items()}, scalars)

    @torch.no_grad()
    def restore(self, source: ShardSource) -> None:
        for name, p in self.names.items():
            wants = [Want(StateKey(name, MASTER, Box.whole(p.shape)), p.data)]
            if saved := source.states(name) - {MASTER}:
                state = {key: torch.zeros_like(p) for key in saved}
                wants += [Want(StateKey(name, key, Box.whole(p.shape)), value) for key, value in state.items()]
                self.optimizer.state[p] = {**state, "step": torch.tensor(source.scalars["step"])}
            source.read(wants)


def build(model: ModelConfig, train: TrainConfig, plan: BatchPlan, mesh: Mesh, device: torch.device) -> PlainEngine:
    return PlainEngine(model, train, mesh, device)
