"""The engine facade over DeepSpeed ZeRO."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from raypt.model import Llama
from raypt.model.batch import MicroBatch
from raypt.model.llama import Targets
from raypt.parallel import comm
from raypt.parallel.agreement import Agreed, Offer, agree_in_step
from raypt.parallel.comm_clock import CLOCK
from raypt.parallel.config import ParallelConfig, ZeroConfig
from raypt.parallel.cut import Forward, cut_to_mesh
from raypt.parallel.engine import BatchLoss, StepResult, Timing
from raypt.parallel.mesh import Mesh
from raypt.parallel.pipeline.runner import Plan, Runner
from raypt.parallel.pulse import PULSE
from raypt.parallel.state import ShardSource, StateShard
from raypt.parallel.tensor.regions import stay_uncompiled
from raypt.parallel.zero.deepspeed_config import bucket_elements, deepspeed_config
from raypt.parallel.zero.exact.terms import group_terms
from raypt.parallel.zero.exact.tree import split, turns
from raypt.parallel.zero.exact.updates import ExactParameterUpdates
from raypt.parallel.zero.load import load_deepspeed
from raypt.parallel.zero.model_parallel import ModelParallelUnit, count_in_norm, counts_in_norm
from raypt.parallel.zero.stages import FlatUpdates, ParameterUpdates, ReplicatedUpdates
from raypt.parallel.zero.state import PARTITIONS, Partition
from raypt.parallel.zero.updates import Updates

SKIPPED = StepResult(grad_norm=None, skipped=True)
TRAVEL = {"fp32": torch.float32, "bf16": torch.bfloat16}
"""By `train.zero.communication_dtype`."""


class ZeroEngine:
    """Data parallelism with DeepSpeed's ZeRO stages 0 to 3, over any mesh.

    Gradients are of (global loss sum) / (global valid tokens): each rank's sum is divided by the tokens of all and the
    ranks' gradients are added up, so uneven valid tokens weigh as they should. The process group must exist.
    A new engine holds no values: `restore` it from a checkpoint or from `InitialState`. `layers`: of each part of a
    pipeline. With `exact`, a step's bits depend neither on the number of ranks nor on the stage
    (`raypt.parallel.zero.exact`); replicas alone, nothing offloaded, AdamW.
    """

    def __init__(
        self,
        build: Callable[[], Llama],
        *,
        mesh: Mesh,
        sequence_parallel: bool = True,
        pipeline: ParallelConfig | None = None,
        layers: Sequence[int] = (),
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
        exact: bool = False,
    ) -> None:
        deepspeed = load_deepspeed(use_gpu=device.type != "cpu")
        self.device, self.stage, self.clip_norm = device, zero.stage, clip_norm
        self.z_loss, self.loss_chunk_tokens = z_loss, loss_chunk_tokens
        self.topology = mesh.topology
        self.timing = Timing()
        config = deepspeed_config(
            zero,
            precision=precision,
            clip_norm=clip_norm,
            micro_batch_size=micro_batch_size,
            accumulation=accumulation,
            world=mesh.gradient.size,
            use_gpu=device.type != "cpu",
            exact=exact,
        )
        pipeline = pipeline or ParallelConfig()
        assert mesh.pipeline.size == 1 or zero.stage <= 1, "ZeRO 2 cuts gradients that the next micro-batch adds to"
        model, self.layout, stages = cut_to_mesh(build, mesh, sequence_parallel=sequence_parallel, layers=layers)
        mpu = ModelParallelUnit.of(mesh)
        _allocate(model, config, device, torch.bfloat16 if precision == "bf16" else torch.float32, mpu)
        if exact:
            group_terms(model)
        if compile_blocks:
            stay_uncompiled()
            for layer in model.model.layers:
                layer.compile()
        for name, parameter in model.named_parameters():
            count_in_norm(parameter, self.layout[name].counted)
        inner = optimizer(model)
        self._peak_lrs = [group["lr"] for group in inner.param_groups]
        self.module = model
        self.engine, self._outer, *_ = deepspeed.initialize(model=model, optimizer=inner, config=config, mpu=mpu)
        self.partition: Partition = PARTITIONS[zero.stage](self.engine, mesh, self.layout)
        assert not exact or mesh.topology.replica_size == 1, "a cut model's gradients are sums of another order"
        self._exact = accumulation * mesh.gradient.size if exact else None
        self._turns = None if self._exact is None else turns(split(self._exact, mesh.gradient.size)[1])
        """In which micro-batches are taken; None = as they come."""
        self.updates = self._make_updates(zero, mesh, use_gpu=device.type != "cpu")
        at = mesh.topology
        self._speaks = at.tensor_rank == 0 and at.pipeline_rank == at.pipeline_size - 1
        """Between them, those of a replica know its loss, each for other positions."""
        self._runner: Runner | None = None
        self._record_every, self._steps = pipeline.record_every, 0
        if stages:
            shares = mesh.context.size * (mesh.tensor.size if sequence_parallel else 1)
            plan = Plan(pipeline.schedule, pipeline.parts, accumulation)
            self._runner = Runner(stages, plan, mesh.pipeline, shares, device)
        self._forward = Forward(self.engine, self._runner, mesh, device)
        # DeepSpeed averages what it adds up over the ranks itself.
        self._scale = mesh.gradient.size if zero.stage == 3 and not exact else 1

    def _make_updates(self, zero: ZeroConfig, mesh: Mesh, *, use_gpu: bool) -> Updates:
        travel = TRAVEL[zero.communication_dtype]
        if zero.stage == 3 and self._exact is not None:
            return ExactParameterUpdates(self.engine, mesh, self.clip_norm, counts_in_norm, self._exact)
        if zero.stage == 3:
            return ParameterUpdates(self.engine)
        if zero.stage == 0:
            return ReplicatedUpdates(self.engine, mesh, self.clip_norm, counts_in_norm, travel, self._exact)
        bucket = bucket_elements(zero, use_gpu=use_gpu)
        return FlatUpdates(self.engine, mesh, self.clip_norm, counts_in_norm, travel, self._exact, bucket=bucket)

    def agree(self, offer: Offer) -> Agreed:
        """See TrainEngine."""
        return agree_in_step(self.topology, offer, self.device)

    def forward_backward(self, micro_batches: Sequence[MicroBatch]) -> BatchLoss:
        """See TrainEngine."""
        self.timing = Timing()
        with self._timed("communication"):
            own = sum(m.tokens for m in micro_batches) if self.topology.leads_replica else 0
            tokens = round(comm.all_reduce_floats([own], self.device)[0])
        sums = self._passes(micro_batches, self._scale / max(tokens, 1))
        with self._timed("communication"):
            comm.all_reduce(sums.mul_(self._speaks))
            loss_sum, z_sum = sums.tolist()
        return BatchLoss(loss_sum, z_sum, tokens)

    def _targets(self, micro: MicroBatch) -> Targets:
        return micro.targets(self.z_loss, self.loss_chunk_tokens)

    def _passes(self, micro_batches: Sequence[MicroBatch], scale: float) -> Tensor:
        """Forward and backward; the sums of loss and squared log-partition that this rank knows."""
        if self._runner is not None:
            here = [micro.to(self.device) for micro in micro_batches]
            self.engine.set_gradient_accumulation_boundary(True)
            sums, self.timing.pipeline = self._runner.run(here, self._targets, scale, self._timed, self._records())
            with self._timed("backward"):
                self.updates.finish()
            return sums
        sums = torch.zeros(2, dtype=torch.float64, device=self.device)
        for i, turn in enumerate(self._turns or range(len(micro_batches))):
            micro = micro_batches[turn].to(self.device)
            last = i == len(micro_batches) - 1
            self.engine.set_gradient_accumulation_boundary(last)
            with self._timed("forward"):
                loss, z = self.engine(micro.tokens_BS, micro.segments_BS, targets=self._targets(micro))
            with self._timed("backward"):
                self.engine.backward(loss * scale, scale_wrt_gas=False)
                self.updates.end_micro_batch()
                sums += torch.stack((loss.detach(), z.detach())).double()
                if not last:
                    self.engine.step()  # counts the micro-batch; there is no update before the boundary
                elif self.device.type == "cuda":
                    torch.cuda.synchronize(self.device)  # reading the sums would wait here anyway
                if last:
                    self.updates.finish()
        return sums

    def _records(self) -> bool:
        """Whether this step is recorded. The first of the process pays for much that is done once."""
        self._steps += 1
        return self._record_every > 0 and self._steps % self._record_every == 2 % self._record_every

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

    def step(self, lr_scale: float, max_norm: float | None = None) -> StepResult:
        """See TrainEngine."""
        for group, peak in zip(self._outer.param_groups, self._peak_lrs, strict=True):
            group["lr"] = peak * lr_scale
        with self._timed("step"):
            norm = self.updates.step(max_norm)
        if norm is None:
            return SKIPPED
        return StepResult(norm, skipped=max_norm is not None and norm > max_norm)

    def discard(self) -> StepResult:
        """See TrainEngine."""
        self.updates.discard()
        self.engine.micro_steps += 1
        return SKIPPED

    def evaluate(self, micro_batches: Sequence[MicroBatch]) -> list[float]:
        """See TrainEngine."""
        return self._forward.losses(micro_batches, self.loss_chunk_tokens)

    def shard(self) -> StateShard:
        """See TrainEngine."""
        return self.partition.shard()

    def restore(self, source: ShardSource) -> None:
        """See TrainEngine."""
        self.partition.restore(source)

    def close(self) -> None:
        """See Closes. Hooks of parameters are circles that Python's collector does not find. At stage 3 DeepSpeed's
        objects stay for other reasons too (a list that it never takes a model out of): what they hold is let go of.
        """
        outer = self.engine.optimizer
        self.updates.close()
        self.engine.destroy()
        if self.stage < 3:
            return
        self.engine.optimizer = None
        for master in outer.fp32_partitioned_groups_flat:
            master.grad, master.data = None, master.data.new_empty(0)
        outer.optimizer.state.clear()
        outer.optimizer.param_groups.clear()
        for parameter in self.module.parameters():
            vars(parameter).clear()
            parameter.data = parameter.data.new_empty(0)  # small ones are kept whole
        vars(outer).clear()


def _allocate(
    model: Llama, config: dict[str, Any], device: torch.device, dtype: torch.dtype, mpu: ModelParallelUnit | None
) -> None:
    """Give a model of the meta device memory, without values. Under stage 3 each rank ever holds only its cut of each
    parameter, beside the one that is being cut.
    """
    import deepspeed

    if config["zero_optimization"]["stage"] < 3:
        model.allocated(device, dtype)
        return
    group = None if mpu is None else mpu.get_data_parallel_group()
    empty = torch.nn.Module()
    init = deepspeed.zero.Init(module=empty, data_parallel_group=group, config_dict_or_path=config, mpu=mpu)
    tied = model.lm_head if model.config.tie_embeddings else None
    for module in model.to(dtype).modules():
        if module is not tied:
            init._convert_to_zero_parameters(module.to_empty(device=device, recurse=False).parameters(recurse=False))
    if tied is not None:  # to_empty gives each name storage of its own
        tied.weight = model.model.embed_tokens.weight
