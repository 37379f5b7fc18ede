"""What the ranks of the engine tests do. One launch runs every stage, since importing DeepSpeed takes seconds."""

import gc
import math
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raypt.model import Llama, ModelConfig
from raypt.model.batch import MicroBatch, micro_batch
from raypt.model.initial import InitialWeights
from raypt.parallel.config import ZeroConfig
from raypt.parallel.state import MASTER, Box
from raypt.tokens.stream.cursor import Cursor
from raypt.training.batch_plan import BatchPlan, plan_batches
from raypt.training.checkpoint.directory import latest_checkpoint
from raypt.training.checkpoint.manifest import Progress
from raypt.training.checkpoint.reader import CheckpointReader
from raypt.training.checkpoint.writer import CheckpointWriter
from raypt.training.config import CheckpointConfig, OptimizerConfig
from raypt.training.optim.optimizer import build_optimizer

LENGTH, SAMPLES, ACCUMULATION = 32, 16, 2
STEPS, SAVE_AT = 12, 6
MODEL = ModelConfig(
    vocab_size=128, hidden_size=64, intermediate_size=96, num_layers=2, num_heads=4, num_kv_heads=2, init_std=0.1
)
OPTIMIZER = OptimizerConfig(lr=3e-3, clip_norm=0.5)
GROUPS = (
    {"match": "*.embed_tokens.*", "lr_scale": 0.3, "weight_decay": 0.0},
    {"match": "*.layers.0.*", "lr_scale": 2.0},
)
OPTIMIZERS = {
    "adamw": OPTIMIZER,
    "muon": OPTIMIZER.model_copy(update={"kind": "muon"}),
    "groups": OptimizerConfig.model_validate({"lr": 3e-3, "clip_norm": 0.5, "groups": GROUPS}),
}


def plan_for(world: int) -> BatchPlan:
    """The same global batch for every number of ranks, always in two micro-batches a rank."""
    plan = plan_batches(
        global_batch_tokens=LENGTH * SAMPLES,
        sequence_length=LENGTH,
        micro_batch_size=SAMPLES // (ACCUMULATION * world),
        data_size=world,
    )
    assert plan.accumulation == ACCUMULATION
    return plan


def samples() -> tuple[np.ndarray, np.ndarray]:
    """Skewed random tokens in documents of uneven length, with uneven padding at the end of each row."""
    random = np.random.default_rng(7)
    n = plan_for(1).samples_per_step * STEPS
    tokens = random.zipf(1.5, (n, LENGTH + 1)) % 128
    segments = np.zeros((n, LENGTH + 1), np.int32)
    for row in segments:
        filled = int(random.integers(4, LENGTH + 2))
        cuts = np.sort(random.integers(0, filled, 2))
        row[:filled] = 1 + np.searchsorted(cuts, np.arange(filled), side="right")
    return tokens, segments


def step_batches(plan: BatchPlan, rank: int, step: int) -> list[MicroBatch]:
    tokens, segments = samples()
    out = []
    for start in plan.starts(step * plan.samples_per_step)[rank]:
        rows = np.arange(start, start + plan.micro_batch_size)
        out.append(micro_batch({"tokens": tokens[rows], "segments": segments[rows], "sample_index": rows}))
    return out


def engine_for(
    stage: int,
    precision: str,
    plan: BatchPlan,
    device: torch.device,
    kind: str = "adamw",
    *,
    compile_blocks: bool = False,
    checkpointing: str = "none",
    **zero: Any,
) -> Any:
    from raypt.parallel.initial_state import InitialState
    from raypt.parallel.mesh import Mesh
    from raypt.parallel.zero.engine import ZeroEngine

    engine = ZeroEngine(
        lambda: Llama(MODEL, checkpointing),
        mesh=Mesh.of_data_ranks(),
        optimizer=lambda model: build_optimizer(model, OPTIMIZERS[kind]),
        zero=ZeroConfig(stage=stage, **zero),
        precision=precision,
        clip_norm=OPTIMIZER.clip_norm,
        micro_batch_size=plan.micro_batch_size,
        accumulation=plan.accumulation,
        device=device,
        compile_blocks=compile_blocks,
    )
    engine.restore(InitialState(MODEL, 0))
    return engine


def train(engine: Any, plan: BatchPlan, rank: int, first: int, last: int) -> list[list[float]]:
    out = []
    for step in range(first, last):
        loss = engine.forward_backward(step_batches(plan, rank, step))
        result = engine.step(1.0)
        out.append([loss.loss, result.grad_norm])
    return out


def reference(config: OptimizerConfig = OPTIMIZER, dtype: torch.dtype = torch.float32) -> list[list[float]]:
    """The same training in one process, in plain torch. The optimizer works on fp32 weights, the model computes with
    their copies in `dtype`; gradients are added up in fp32.
    """
    master = Llama(MODEL).initialise(0)
    model = Llama(MODEL).to(dtype)
    optimizer = build_optimizer(master, config)
    out = []
    for step in range(STEPS):
        model.load_state_dict(master.state_dict())
        batches = step_batches(plan_for(1), 0, step)
        tokens = sum(m.tokens for m in batches)
        total = 0.0
        for m in batches:
            loss, _ = model(m.tokens_BS, m.segments_BS, targets=m.targets())
            (loss / tokens).backward()
            total += loss.item()
            for low, high in zip(model.parameters(), master.parameters(), strict=True):
                assert low.grad is not None
                high.grad = low.grad.float() + (0 if high.grad is None else high.grad)
                low.grad = None
        norm = torch.nn.utils.clip_grad_norm_(master.parameters(), config.clip_norm or math.inf)
        optimizer.step()
        optimizer.zero_grad()
        out.append([total / tokens, norm.item()])
    return out


def fresh(engine: Any) -> dict[str, Any]:
    """Fill an engine with the first weights: what it drew for that, and whether it now holds its part of them, to the
    bit, and nothing else.
    """
    from raypt.parallel.initial_state import InitialState

    class Counted(InitialWeights):
        drawn = 0

        def run(self, name: str, start: int, numel: int) -> Tensor:
            self.drawn += numel
            return super().run(name, start, numel)

    state = InitialState(MODEL, 0)
    state.weights = weights = Counted(MODEL, state.weights.shapes, 0)
    engine.restore(state)
    whole = dict(Llama(MODEL).initialise(0).named_parameters())
    held = engine.shard().tensors.items()
    same = all(
        key.state == MASTER and torch.equal(value, whole[key.name][key.box.inside(Box.whole(whole[key.name].shape))])
        for key, value in held
    )
    return {"same": same, "drawn": weights.drawn / MODEL.parameters()}


def every_stage(checkpoints: str, restore_from: str | None, kind: str = "adamw") -> dict[str, Any]:
    """For each stage: a whole run with a checkpoint in the middle, the run resumed from it, and a run resumed from the
    checkpoint that another number of ranks wrote at the stage before.
    """
    from raypt.parallel import comm

    torch.set_num_threads(1)
    device = comm.init_process_group(use_gpu=False)
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    plan = plan_for(world)
    out: dict[str, Any] = {}
    for stage in range(4):
        engine = engine_for(stage, "fp32", plan, device, kind)
        out[f"fresh-{stage}"] = fresh(engine)
        run = train(engine, plan, rank, 0, SAVE_AT)
        uri = str(Path(checkpoints) / f"{world}-{stage}")
        writer = CheckpointWriter(uri, CheckpointConfig(), rank=rank, world=world, meta={})
        progress = Progress(step=SAVE_AT, cursor=Cursor(SAVE_AT * plan.samples_per_step, "f"))
        writer.save(comm.broadcast_object(writer.new_name(SAVE_AT)), engine.shard(), progress)
        run += train(engine, plan, rank, SAVE_AT, STEPS)
        writer.wait()
        comm.all_gather_ints(np.zeros(1), device)
        out[f"run-{stage}"] = run
        out[f"resumed-{stage}"] = resume(uri, stage, plan, rank, device, kind)
        if restore_from is not None:
            other = str(Path(restore_from) / f"2-{(stage + 1) % 4}")
            out[f"moved-{stage}"] = resume(other, stage, plan, rank, device, kind)
        else:
            for mode in ("selective", "full"):
                engine = engine_for(stage, "fp32", plan, device, kind, checkpointing=mode)
                out[f"{mode}-{stage}"] = train(engine, plan, rank, 0, STEPS)
        out[f"bf16-{stage}"] = train(engine_for(stage, "bf16", plan, device, kind), plan, rank, 0, STEPS)
    return out


def resume(uri: str, stage: int, plan: BatchPlan, rank: int, device: torch.device, kind: str) -> list[list[float]]:
    info = latest_checkpoint(uri)
    assert info is not None
    engine = engine_for(stage, "fp32", plan, device, kind)
    engine.restore(CheckpointReader(info))
    return train(engine, plan, rank, info.step, STEPS)


def not_finite_on_one_rank() -> dict[str, Any]:
    """A rank whose hidden states turn NaN in one step, at every stage and precision; then two steps without."""
    from raypt.parallel import comm

    torch.set_num_threads(1)
    device = comm.init_process_group(use_gpu=False)
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    plan = plan_for(world)
    out: dict[str, Any] = {}
    for precision in ("fp32", "bf16"):
        for stage in range(4):
            engine = engine_for(stage, precision, plan, device)
            train(engine, plan, rank, 0, 2)
            before = {k: v.clone() for k, v in engine.shard().tensors.items()}
            hook = engine.module.model.norm.register_forward_hook(lambda m, i, o: o * float("nan"))
            if rank != 1:
                hook.remove()
            loss = engine.forward_backward(step_batches(plan, rank, 2))
            result = engine.step(1.0)
            hook.remove()
            same = all(torch.equal(v, before[k]) for k, v in engine.shard().tensors.items())
            discarded_from = {k: v.clone() for k, v in engine.shard().tensors.items()}
            engine.forward_backward(step_batches(plan, rank, 3))
            engine.discard()
            kept = all(torch.equal(v, discarded_from[k]) for k, v in engine.shard().tensors.items())
            engine.forward_backward(step_batches(plan, rank, 3))
            refused = engine.step(1.0, max_norm=1e-3)
            refused_kept = all(torch.equal(v, discarded_from[k]) for k, v in engine.shard().tensors.items())
            after = train(engine, plan, rank, 3, 5)
            out[f"{precision}-{stage}"] = {
                "loss_finite": math.isfinite(loss.loss_sum),
                "skipped": result.skipped,
                "unchanged": same,
                "discard_unchanged": kept,
                "refused": (refused.skipped, refused.grad_norm, refused_kept),
                "after": after,
            }
    return out


def offloaded() -> dict[str, Any]:
    """Whole runs with the state in host memory."""
    from raypt.parallel import comm

    torch.set_num_threads(1)
    device = comm.init_process_group(use_gpu=False)
    rank, plan = int(os.environ["RANK"]), plan_for(int(os.environ["WORLD_SIZE"]))
    out: dict[str, Any] = {}
    for stage in (1, 2, 3):
        engine = engine_for(stage, "fp32", plan, device, offload_optimizer="cpu")
        out[f"optimizer-{stage}"] = train(engine, plan, rank, 0, STEPS)
    engine = engine_for(3, "fp32", plan, device, offload_optimizer="cpu", offload_params="cpu")
    out["params-3"] = train(engine, plan, rank, 0, STEPS)
    return out


def grouped() -> dict[str, list[list[float]]]:
    """Whole runs in which some parameters have rates and decays of their own, at each stage."""
    from raypt.parallel import comm

    torch.set_num_threads(1)
    device = comm.init_process_group(use_gpu=False)
    rank, plan = int(os.environ["RANK"]), plan_for(int(os.environ["WORLD_SIZE"]))
    return {str(s): train(engine_for(s, "fp32", plan, device, "groups"), plan, rank, 0, STEPS) for s in range(4)}


def on_disk(path: str) -> dict[str, Any]:
    """Runs with the state in host memory and on a disk, and one that goes on from a checkpoint of the latter. The model
    is wide enough for DeepSpeed to swap its matrices: it leaves less than 1 MiB a rank in memory.
    """
    from raypt.parallel import comm

    global MODEL
    MODEL = MODEL.model_copy(update={"hidden_size": 256, "intermediate_size": 512})
    torch.set_num_threads(1)
    device = comm.init_process_group(use_gpu=False)
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    plan, out = plan_for(world), {}
    out["memory"] = train(engine_for(3, "fp32", plan, device), plan, rank, 0, 6)
    for params in (None, "nvme"):
        options = {"offload_optimizer": "nvme", "offload_params": params, "nvme_path": f"{path}/{params}"}
        engine = engine_for(3, "fp32", plan, device, **options)
        run = train(engine, plan, rank, 0, 4)
        uri = f"{path}/checkpoints-{params}"
        writer = CheckpointWriter(uri, CheckpointConfig(), rank=rank, world=world, meta={})
        writer.save(comm.broadcast_object(writer.new_name(4)), engine.shard(), Progress(step=4))
        run += train(engine, plan, rank, 4, 6)
        writer.wait()
        comm.barrier()
        info = latest_checkpoint(uri)
        assert info is not None
        again = engine_for(3, "fp32", plan, device, **options | {"nvme_path": f"{path}/{params}-again"})
        swapped = [buffer.numel() == 0 for buffer in again.partition.buffers()]
        again.restore(CheckpointReader(info))
        out[f"disk-{params}"] = {"run": run, "resumed": train(again, plan, rank, 4, 6), "swapped": swapped}
    return out


def compiled(steps: int) -> dict[str, Any]:
    """A run with compiled blocks, and how many frames were compiled for it."""
    from torch._dynamo.utils import counters

    from raypt.parallel import comm

    torch.set_num_threads(1)
    device = comm.init_process_group(use_gpu=False)
    plan = plan_for(1)
    run = train(engine_for(1, "fp32", plan, device, compile_blocks=True), plan, 0, 0, steps)
    return {"run": run, "frames": counters["frames"]["ok"]}


def late(delay_s: float) -> dict[str, Any]:
    """Steps in which rank 1 comes `delay_s` late to one part, at every stage: the parts as each rank sees them."""
    from raypt.parallel import comm

    torch.set_num_threads(1)
    device = comm.init_process_group(use_gpu=False)
    rank, plan = int(os.environ["RANK"]), plan_for(int(os.environ["WORLD_SIZE"]))

    def sleep(*_: Any) -> None:
        if rank == 1:
            time.sleep(delay_s)

    out: dict[str, Any] = {}
    for stage in range(4):
        engine = engine_for(stage, "fp32", plan, device)
        train(engine, plan, rank, 0, 1)
        model = engine.module.model
        for step, part in enumerate(("forward", "backward", "step"), start=1):
            hook = None
            if part == "forward":
                hook = model.embed_tokens.register_forward_hook(sleep)
            elif part == "backward":
                hook = model.norm.register_full_backward_pre_hook(sleep)
            engine.forward_backward(step_batches(plan, rank, step))
            if hook is not None:
                hook.remove()
            if part == "step":
                sleep()
            engine.step(1.0)
            out[f"{part}-{stage}"] = asdict(engine.timing)
    return out


def with_settings(path: str, runs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """For each of some `train.zero`, in bf16: two steps, a save, two steps, and the last two after a restore."""
    from raypt.parallel import comm

    torch.set_num_threads(1)
    device = comm.init_process_group(use_gpu=False)
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    plan, out = plan_for(world), {}
    gc.freeze()  # `memory_breakdown` collects garbage a hundred times a step: let there be little to look through
    for name, zero in runs.items():
        engine = engine_for(zero["stage"], "bf16", plan, device, **{k: v for k, v in zero.items() if k != "stage"})
        run = train(engine, plan, rank, 0, 2)
        uri = f"{path}/{name}"
        writer = CheckpointWriter(uri, CheckpointConfig(), rank=rank, world=world, meta={})
        writer.save(comm.broadcast_object(writer.new_name(2)), engine.shard(), Progress(step=2))
        run += train(engine, plan, rank, 2, 4)
        writer.wait()
        comm.barrier()
        info = latest_checkpoint(uri)
        assert info is not None
        again = engine_for(zero["stage"], "bf16", plan, device, **{k: v for k, v in zero.items() if k != "stage"})
        again.restore(CheckpointReader(info))
        out[name] = {"run": run, "resumed": train(again, plan, rank, 2, 4)}
    return out
