"""Training on meshes of ranks, held against one process.

    python -m tests.parallel.meshes

runs the whole grid of cells, some minutes long, and with `--resume` lets each begin from what the one before it has
saved; the tests run some of them.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from raypt.model import Llama, ModelConfig
from raypt.model.batch import MicroBatch
from raypt.model.llama import MLP
from raypt.parallel.config import ParallelConfig
from raypt.parallel.layout import Part
from raypt.parallel.pipeline.cut import layers_of_parts
from raypt.parallel.pipeline.stage import take_stages
from raypt.parallel.state import MASTER, Box
from raypt.parallel.tensor.layout import layout
from raypt.parallel.topology import Topology
from raypt.training.batch_plan import BatchPlan, plan_batches
from raypt.training.checkpoint.directory import latest_checkpoint
from raypt.training.checkpoint.manifest import Progress
from raypt.training.checkpoint.reader import CheckpointReader
from raypt.training.checkpoint.writer import CheckpointWriter
from raypt.training.config import CheckpointConfig
from raypt.training.optim.optimizer import build_optimizer
from tests.parallel import cases
from tests.parallel.ranks import LIMIT_S, LONG_S, run_ranks

STEPS = 10
BEFORE = 2
"""Steps before a checkpoint that another cell goes on from."""
MICRO_BATCH = 2
A_LAUNCH = 8
"""Cells of one launch of the grid."""
MODELS: dict[str, ModelConfig] = {
    # Neither the vocabulary nor the feed-forward width divides by 2; 2 key/value heads are fewer than 4 ranks.
    "gqa": ModelConfig(
        vocab_size=131, hidden_size=64, intermediate_size=97, num_layers=4, num_heads=4, num_kv_heads=2, init_std=0.1
    ),
    "untied": ModelConfig(
        vocab_size=131, hidden_size=64, intermediate_size=97, num_layers=4, num_heads=4, num_kv_heads=4, init_std=0.1,
        tie_embeddings=False, qk_norm=True,
    ),
    "mqa": ModelConfig(
        vocab_size=131, hidden_size=64, intermediate_size=97, num_layers=4, num_heads=4, num_kv_heads=1, init_std=0.1,
        tie_embeddings=False,
    ),
    "deep": ModelConfig(
        vocab_size=131, hidden_size=32, intermediate_size=49, num_layers=9, num_heads=4, num_kv_heads=2, init_std=0.1,
        tie_embeddings=False,
    ),
}  # fmt: skip
OPTIMIZERS = {kind: config.model_copy(update={"eps": 1e-5}) for kind, config in cases.OPTIMIZERS.items()}
"""With LLaMA 2's eps: under a smaller one, gradients that are nothing but rounding move weights by whole steps."""
Z_LOSS = 1e-3
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


BOUNDS = {
    "fp32": {"loss": 1e-6, "first norm": 1e-5, "norm": 1e-5, "z": 1e-6, "weights": 1e-5, "evaluation": 1e-5},
    "bf16": {
        "loss": 2**-8, "first norm": 2**-8, "norm": 2**-4, "z": 2**-8, "weights": 2**-6, "evaluation": 2**-8,
    },
}  # fmt: skip
"""How far a cell may be from one process.

In fp32 the issue's: sums in another order, over ten steps that feed what they round to the next. bf16 rounds a value by
2^-9 of itself at most. Losses, and the first step's norm, at which the weights are the same, are within one bit more of
those in fp32. Later norms are of weights that were moved by other roundings, of which Adam makes steps of full length
wherever a gradient is small: bf16 in one process is up to 6.5e-2 off fp32, so a mesh may be 2^-4 off bf16 in one
process. The weights differ by some such steps, of 3e-3 each in weights of 0.1: a sixtyfourth.
"""


@dataclass(frozen=True)
class Cell:
    """A way to train one of `MODELS`."""

    tensor: int = 1
    pipeline: int = 1
    context: int = 1
    data: int = 1
    stage: int = 0
    model: str = "gqa"
    sequence_parallel: bool = True
    optimizer: str = "adamw"
    precision: str = "fp32"
    checkpointing: str = "none"
    schedule: str = "1f1b"
    virtual: int | None = None
    stages: tuple[int, ...] | None = None
    """Layers of each part of a pipeline; None = balanced."""
    zero: dict[str, Any] = field(default_factory=dict)
    """Further keys of `train.zero`."""
    compiled: bool = False
    """Each block by torch.compile."""

    @property
    def parallel(self) -> ParallelConfig:
        """The keys of `train.parallel` for the pipeline."""
        return ParallelConfig.model_validate({
            "pipeline": self.pipeline, "schedule": self.schedule, "virtual_stages": self.virtual, "record_every": 2,
            "stages": self.stages,
        })  # fmt: skip

    @property
    def world(self) -> int:
        return self.tensor * self.pipeline * self.context * self.data

    def __str__(self) -> str:
        sizes = {"pp": self.pipeline, "dp": self.data, "cp": self.context, "tp": self.tensor}
        parts = [f"{name}{n}" for name, n in sizes.items() if n > 1] + [f"zero{self.stage}", self.model]
        parts += ["alike"] if self.tensor > 1 and not self.sequence_parallel else []
        parts += [self.schedule] if self.pipeline > 1 else []
        parts += [f"v{self.virtual}"] if self.virtual else []
        parts += ["-".join(map(str, self.stages))] if self.stages else []
        parts += [x for x in (self.optimizer, self.precision, self.checkpointing) if x not in ("adamw", "fp32", "none")]
        parts += ["compiled"] if self.compiled else []
        return " ".join([*parts, *(f"{k}={v}" for k, v in self.zero.items())])


def plan_for(data: int) -> BatchPlan:
    """16 samples a step in micro-batches of 2: 8 or, of two replicas each, 4."""
    return plan_batches(
        global_batch_tokens=cases.LENGTH * cases.SAMPLES,
        sequence_length=cases.LENGTH,
        micro_batch_size=MICRO_BATCH,
        data_size=data,
    )


def batches(plan: BatchPlan, data_rank: int, step: int) -> list[MicroBatch]:
    """Of one replica, in packed documents with padding."""
    return cases.step_batches(plan, data_rank, step)


def engine_for(cell: Cell, device: torch.device) -> Any:
    """With the first weights."""
    from raypt.parallel.config import ZeroConfig
    from raypt.parallel.initial_state import InitialState
    from raypt.parallel.mesh import Mesh
    from raypt.parallel.zero.engine import ZeroEngine

    topology = Topology(
        dist.get_rank(), data_size=cell.data, pipeline_size=cell.pipeline, context_size=cell.context,
        tensor_size=cell.tensor,
    )  # fmt: skip
    plan = plan_for(cell.data)
    engine = ZeroEngine(
        lambda: Llama(MODELS[cell.model], cell.checkpointing),
        mesh=Mesh(topology),
        sequence_parallel=cell.sequence_parallel,
        pipeline=cell.parallel,
        layers=layers_of_parts(MODELS[cell.model], cell.parallel, cases.LENGTH),
        optimizer=lambda model: build_optimizer(model, OPTIMIZERS[cell.optimizer]),
        zero=ZeroConfig.model_validate({"stage": cell.stage, **cell.zero}),
        precision=cell.precision,
        clip_norm=cases.OPTIMIZER.clip_norm,
        micro_batch_size=plan.micro_batch_size,
        accumulation=plan.accumulation,
        device=device,
        z_loss=Z_LOSS,
        loss_chunk_tokens=24,
        compile_blocks=cell.compiled,
    )
    engine.restore(InitialState(MODELS[cell.model], 0))
    return engine


def train(
    engine: Any, cell: Cell, first: int, last: int, before_update: Callable[[], None] = lambda: None
) -> list[list[float]]:
    """Loss and norm of each step."""
    plan, out = plan_for(cell.data), []
    for step in range(first, last):
        loss = engine.forward_backward(batches(plan, engine.topology.data_rank, step))
        before_update()
        result = engine.step(1.0)
        out.append([loss.loss, result.grad_norm, loss.z_sum])
    return out


@cache
def reference(
    model: str, optimizer: str = "adamw", steps: int = STEPS, precision: str = "fp32"
) -> tuple[list[list[float]], dict[str, Tensor]]:
    """The same in one process, in plain torch; the weights at the end. The optimizer works on fp32 weights, the model
    computes with their copies in `precision`; gradients are added up in fp32.
    """
    config = OPTIMIZERS[optimizer]
    master = Llama(MODELS[model]).initialise(0)
    module = Llama(MODELS[model]).to(DTYPES[precision])
    inner, out = build_optimizer(master, config), []
    assert config.clip_norm is not None
    for step in range(steps):
        module.load_state_dict(master.state_dict())
        some = batches(plan_for(1), 0, step)
        tokens = sum(m.tokens for m in some)
        total = squares = 0.0
        for m in some:
            loss, z = module(m.tokens_BS, m.segments_BS, targets=m.targets(Z_LOSS))
            (loss / tokens).backward()
            total += loss.item()
            squares += z.item()
            for low, high in zip(module.parameters(), master.parameters(), strict=True):
                assert low.grad is not None
                high.grad = low.grad.float() + (0 if high.grad is None else high.grad)
                low.grad = None
        norm = torch.nn.utils.clip_grad_norm_(master.parameters(), config.clip_norm)
        inner.step()
        inner.zero_grad()
        out.append([total / tokens, norm.item(), squares])
    return out, {name: p.detach() for name, p in master.named_parameters()}


@cache
def bytes_of_one(model: str, optimizer: str) -> dict[str, dict[str, float]]:
    """What one process in plain torch, fp32, holds for each parameter before its second update."""
    module = Llama(MODELS[model]).initialise(0)
    inner = build_optimizer(module, OPTIMIZERS[optimizer])
    for p in module.parameters():
        p.grad = torch.ones_like(p)
    inner.step()
    out = {}
    for name, p in module.named_parameters():
        assert p.grad is not None
        states = [t for t in inner.state[p].values() if torch.is_tensor(t) and t.dim() > 0]
        out[name] = {"parameters": p.nbytes, "gradients": p.grad.nbytes, "optimizer": sum(t.nbytes for t in states)}
    return out


def held_bytes(engine: Any) -> dict[str, int]:
    """What a rank holds between a backward pass and the update. Under ZeRO 3, of parameters its part of each; those
    smaller than DeepSpeed's threshold it keeps whole besides. Master weights are the optimizer's, where the model does
    not compute with them.
    """
    parameters = [getattr(p, "ds_tensor", p) for p in engine.module.parameters()]
    masters = engine.partition.buffers()
    states = [t for held in engine.partition.inner.state.values() for t in held.values() if torch.is_tensor(t)]
    if engine.stage == 3:
        gradients = [t for group in engine.engine.optimizer.averaged_gradients.values() for t in group or ()]
    else:
        gradients = engine.updates._sums
    apart = [t for t in masters if t.untyped_storage().data_ptr() not in {*map(_storage, parameters)}]
    assert all(p.grad is None for p in engine.module.parameters())
    return {
        "parameters": _nbytes(parameters),
        "gradients": _nbytes(gradients),
        "optimizer": _nbytes([*apart, *(t for t in states if t.dim() > 0)]),
    }


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _nbytes(tensors: Iterable[Tensor]) -> int:
    """Each storage once."""
    return sum({_storage(t): t.untyped_storage().nbytes() for t in tensors}.values())


def apart(engine: Any, cell: Cell, steps: int) -> float:
    """How far this rank's master weights are from the reference's: the norm of the difference over their norm, of the
    parameter where it is most.
    """
    _, weights = reference(cell.model, cell.optimizer, steps, cell.precision)
    worst = 0.0
    for key, value in engine.shard().tensors.items():
        if key.state == MASTER:
            true = weights[key.name][key.box.inside(Box.whole(weights[key.name].shape))]
            worst = max(worst, float((value - true).norm() / true.norm()))
    return worst


def run(cells: list[dict[str, Any]], steps: int, path: str) -> list[dict[str, Any]]:
    """On each rank, for each cell: what it trained, with a step that is not finite before the last one; its distance
    from the reference, its evaluation of a batch and, which all ranks together must have once, the elements it would
    write to a checkpoint. The first weights are saved under `path` and the cell's name.
    """
    from raypt.parallel import comm

    torch.set_num_threads(1)
    device = comm.init_process_group(use_gpu=False)
    out = []
    for cell in (Cell(**c) for c in cells):
        engine = engine_for(cell, device)
        saved(engine, str(Path(path) / str(cell)), 0)
        rows = train(engine, cell, 0, steps - 1)
        skipped = not_finite(engine, cell, steps - 1)
        record = engine.timing.pipeline
        in_memory: dict[str, int] = {}
        rows += train(engine, cell, steps - 1, steps, lambda e=engine, m=in_memory: m.update(held_bytes(e)))
        held = engine.shard().tensors
        out.append({
            "rows": rows,
            "apart": apart(engine, cell, steps),
            "bytes": in_memory,
            "written": sum(t.numel() for key, t in held.items() if key.state == MASTER),
            "peaks": list(record.peak_bytes) if record is not None else [],
            "not_finite": skipped,
            "losses": engine.evaluate(batches(plan_for(1), 0, STEPS)),
        })  # fmt: skip
    return out


def compiled(cell: dict[str, Any], steps: int) -> dict[str, Any]:
    """So many steps with compiled blocks, an evaluation, and how many frames were compiled for them."""
    from torch._dynamo.utils import counters

    from raypt.parallel import comm

    torch.set_num_threads(1)
    device = comm.init_process_group(use_gpu=False)
    engine = engine_for(Cell(**cell), device)
    rows = train(engine, Cell(**cell), 0, steps)
    losses = engine.evaluate(batches(plan_for(1), 0, STEPS))
    return {"rows": rows, "losses": losses, "frames": counters["frames"]["ok"]}


def chain(
    cells: list[dict[str, Any]], path: str, first: int = 0, last: int = STEPS, source: str | None = None
) -> list[list[float]]:
    """One run of the steps from `first` to `last`, on each cell for some of them and on the next from a checkpoint of
    the one before; on the first, from the newest under `source`.
    """
    from raypt.parallel import comm

    torch.set_num_threads(1)
    device = comm.init_process_group(use_gpu=False)
    each, out = (last - first) // len(cells), []
    for i, cell in enumerate(Cell(**c) for c in cells):
        engine = engine_for(cell, device)
        if source is not None:
            engine.restore(newest(source))
        begin, end = first + each * i, last if i == len(cells) - 1 else first + each * (i + 1)
        out += train(engine, cell, begin, end)
        source = str(Path(path) / str(i))
        saved(engine, source, end)
    return out


def go_on(cells: list[dict[str, Any]], sources: list[str], steps: int) -> list[dict[str, Any]]:
    """For each cell: so many steps from the newest checkpoint under its source, and the elements of optimizer state
    that this rank had of it.
    """
    from raypt.parallel import comm

    torch.set_num_threads(1)
    device = comm.init_process_group(use_gpu=False)
    out = []
    for cell, source in zip((Cell(**c) for c in cells), sources, strict=True):
        engine, reader = engine_for(cell, device), newest(source)
        engine.restore(reader)
        moments = sum(t.numel() for key, t in engine.shard().tensors.items() if key.state != MASTER)
        first = reader.info.progress.step
        out.append({"first": first, "moments": moments, "rows": train(engine, cell, first, first + steps)})
    return out


def newest(uri: str) -> CheckpointReader:
    """The newest checkpoint there."""
    info = latest_checkpoint(uri)
    assert info is not None
    return CheckpointReader(info)


def resumed(pairs: list[list[dict[str, Any]]], path: str) -> list[list[list[float]]]:
    """For each pair of cells: the steps that the second makes from a checkpoint of the first's second step."""
    from raypt.parallel import comm

    torch.set_num_threads(1)
    device = comm.init_process_group(use_gpu=False)
    out = []
    for i, pair in enumerate(pairs):
        first, second = (Cell(**cell) for cell in pair)
        engine = engine_for(first, device)
        train(engine, first, 0, BEFORE)
        source = saved(engine, str(Path(path) / str(i)), BEFORE)
        engine = engine_for(second, device)
        engine.restore(source)
        out.append(train(engine, second, BEFORE, BEFORE + STEPS))
    return out


def saved(engine: Any, uri: str, step: int) -> CheckpointReader:
    """A checkpoint by all ranks."""
    from raypt.parallel import comm

    writer = CheckpointWriter(uri, CheckpointConfig(), rank=dist.get_rank(), world=dist.get_world_size(), meta={})
    writer.save(comm.broadcast_object(writer.new_name(step)), engine.shard(), Progress(step=step))
    writer.wait()
    comm.barrier()
    return newest(uri)


def not_finite(engine: Any, cell: Cell, step: int) -> dict[str, bool]:
    """A step in which the last rank's activations turn NaN: whether the loss is finite, whether the step was skipped,
    and whether this rank's state is what it was.
    """
    before = {k: v.clone() for k, v in engine.shard().tensors.items()}
    hook = None
    if dist.get_rank() == cell.world - 1:
        layer = [m for m in engine.module.modules() if isinstance(m, MLP)][-1]
        hook = layer.down_proj.register_forward_hook(lambda m, i, o: o * float("nan"), prepend=True)
    loss = engine.forward_backward(batches(plan_for(cell.data), engine.topology.data_rank, step))
    result = engine.step(1.0)
    if hook is not None:
        hook.remove()
    same = all(torch.equal(v, before[k]) for k, v in engine.shard().tensors.items())
    return {"finite": bool(np.isfinite(loss.loss_sum)), "skipped": result.skipped, "same": same}


def launch(
    cells: Sequence[Cell], tmp: Path, steps: int = STEPS, limit_s: float = LIMIT_S
) -> list[list[dict[str, Any]]]:
    """Results of so many steps, by rank and cell; the cells have one number of ranks."""
    (world,) = {cell.world for cell in cells}
    arguments = {"cells": [asdict(cell) for cell in cells], "steps": steps, "path": str(tmp)}
    return run_ranks(world, "tests.parallel.meshes", "run", tmp, limit_s=limit_s, **arguments)


def check(cell: Cell, ranks: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Hold a cell's results against the reference, within `BOUNDS`; the distances found."""
    steps = len(ranks[0]["rows"])
    bound = BOUNDS[cell.precision]
    true, _ = reference(cell.model, cell.optimizer, steps, cell.precision)
    assert all(rank["rows"] == ranks[0]["rows"] for rank in ranks), "all ranks see the same figures"
    got, want = np.array(ranks[0]["rows"]), np.array(true)
    if cell.precision != "fp32":
        exact = np.array(reference(cell.model, cell.optimizer, steps)[0])
        want[:, 0], want[0, 1] = exact[:, 0], exact[0, 1]
    off = np.abs(got / want - 1)
    loss, norm, z = off.max(axis=0).tolist()
    weights = max(rank["apart"] for rank in ranks)
    found = {"loss": loss, "first norm": float(off[0, 1]), "norm": norm, "z": z, "weights": weights}
    assert all(found[what] < bound[what] for what in found), (str(cell), found, bound)
    for rank in ranks:
        assert rank["not_finite"] == {"finite": False, "skipped": True, "same": True}, str(cell)
    assert sum(rank["written"] for rank in ranks) == MODELS[cell.model].parameters(), "each element is written once"
    check_memory(cell, [rank["bytes"] for rank in ranks])
    losses = evaluated(cell, steps)
    for rank in ranks:
        np.testing.assert_allclose(rank["losses"], losses, rtol=bound["evaluation"])
    return found


def evaluated(cell: Cell, steps: int) -> list[float]:
    """The losses that one process finds with the weights after so many steps."""
    module = Llama(MODELS[cell.model]).to(DTYPES[cell.precision])
    module.load_state_dict(reference(cell.model, cell.optimizer, steps, cell.precision)[1], strict=False)
    with torch.no_grad():
        return [
            module(m.tokens_BS, m.segments_BS, targets=m.targets())[0].item() for m in batches(plan_for(1), 0, STEPS)
        ]


def parts_of(cell: Cell, rank: int) -> dict[str, Part]:
    """What a rank holds before ZeRO cuts it further."""
    model, at = MODELS[cell.model], Topology(rank, cell.data, cell.pipeline, cell.context, cell.tensor)
    parts = layout(model, cell.tensor, at.tensor_rank, sequence_parallel=cell.sequence_parallel)
    with torch.device("meta"):
        held = Llama(model)
    if cell.pipeline > 1:
        take_stages(held, at.pipeline_rank, cell.pipeline, layers_of_parts(model, cell.parallel, cases.LENGTH))
    return {name: parts[name] for name, _ in held.named_parameters()}


def check_memory(cell: Cell, ranks: Sequence[dict[str, int]]) -> None:
    """A rank holds the bytes of its part of the model, to 1 %, and all ranks together those of one process and of the
    copies: norms, and key/value heads of which there are fewer than tensor ranks.
    """
    one, sharing = bytes_of_one(cell.model, cell.optimizer), cell.data * cell.context
    masters = 4 if cell.stage > 0 or cell.precision != "fp32" else 0
    cut_from = {"parameters": 3, "gradients": 2, "optimizer": 1}
    wide = DTYPES[cell.precision].itemsize / 4
    for kind, stage in cut_from.items():
        cut = sharing if cell.stage >= stage else 1
        total = copies = 0.0
        for rank, held in enumerate(ranks):
            want = 0.0
            for name, part in parts_of(cell, rank).items():
                share = part.box.numel / Box.whole(part.shape).numel
                own = share * one[name][kind] * (wide if kind == "parameters" else 1)
                own = (own + masters * part.box.numel if kind == "optimizer" else own) / cut
                want += own
                if not part.counted:
                    assert "norm" in name or "k_proj" in name or "v_proj" in name
                    copies += own
            assert held[kind] == pytest.approx(want, rel=0.01), (str(cell), rank, kind)
            total += want
        alone = sum(bytes_[kind] for bytes_ in one.values()) * (wide if kind == "parameters" else 1)
        alone += masters * MODELS[cell.model].parameters() if kind == "optimizer" else 0
        assert total - copies == pytest.approx(alone * sharing / cut)


SCHEDULES = (("gpipe", None), ("1f1b", None), ("interleaved_1f1b", 2), ("zero_bubble", None), ("zero_bubble", 2))
GRID = (
    [
        Cell(tensor=t, data=d, stage=stage, model=model, sequence_parallel=sp)
        for t, d in ((2, 1), (4, 1), (2, 2))
        for stage in range(4)
        for model in ("gqa", "untied", "mqa")
        for sp in (True, False)
    ]
    + [
        Cell(pipeline=p, tensor=t, data=d, stage=stage, model=model, schedule=schedule, virtual=virtual)
        for p, t, d, model in (
            (2, 1, 1, "untied"),
            (4, 1, 1, "deep"),
            (2, 2, 1, "mqa"),
            (2, 1, 2, "untied"),
            (4, 1, 2, "deep"),
            (2, 2, 2, "mqa"),
        )
        for stage in (0, 1)
        for schedule, virtual in SCHEDULES
    ]
    + [
        Cell(context=c, tensor=t, data=d, stage=stage, model=model, sequence_parallel=sp)
        for c, t, d, sp in (
            (2, 1, 1, True),
            (4, 1, 1, True),
            (2, 1, 2, True),
            (2, 2, 1, True),
            (2, 2, 1, False),
            (2, 2, 2, True),
        )
        for stage in range(4)
        for model in ("gqa", "untied", "mqa")
    ]
    + [
        Cell(pipeline=2, context=2, tensor=t, stage=stage, model="mqa", schedule=schedule, virtual=virtual)
        for t in (1, 2)
        for stage in (0, 1)
        for schedule, virtual in SCHEDULES
    ]
    + [
        Cell(**mesh, stage=stage, model="untied", precision="bf16")
        for mesh in ({"tensor": 2}, {"context": 2})
        for stage in (0, 1, 3)
    ]
    + [
        Cell(pipeline=2, stage=stage, model="untied", schedule=schedule, precision="bf16")
        for stage in (0, 1)
        for schedule in ("1f1b", "zero_bubble")
    ]
)


def _resumed_on_another(cells: Sequence[Cell]) -> int:
    """Each cell goes on from a checkpoint of one before it that trains the same model; how many went elsewhere. Of
    those in fp32: what bf16 rounds is another thing in each cell.
    """
    pairs = []
    for model in MODELS:
        some = [cell for cell in cells if cell.model == model and cell.precision == "fp32"]
        pairs += [(some[i - 7 if len(some) > 7 else i - 1], cell) for i, cell in enumerate(some) if len(some) > 1]
    failed = 0
    for at in range(0, len(pairs), A_LAUNCH):
        few = pairs[at : at + A_LAUNCH]
        with tempfile.TemporaryDirectory() as tmp:
            arguments = {"pairs": [[asdict(cell) for cell in pair] for pair in few], "path": tmp}
            (got, *_) = run_ranks(
                cells[0].world, "tests.parallel.meshes", "resumed", Path(tmp), limit_s=LONG_S, **arguments
            )
        for (first, second), rows in zip(few, got, strict=True):
            true, _ = reference(second.model, second.optimizer, BEFORE + STEPS)
            loss, norm, _ = np.abs(np.array(rows) / np.array(true[BEFORE:]) - 1).max(axis=0).tolist()
            wrong = not (loss < 1e-6 and norm < 1e-5)
            failed += wrong
            print(f"{first} -> {second}: loss {loss:.1e}, norm {norm:.1e}{' WRONG' if wrong else ''}", flush=True)
    return failed


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="cells whose name has this in it")
    parser.add_argument("--ranks", type=int, nargs="+", default=[2, 4, 8], help="numbers of ranks; default: all")
    parser.add_argument("--resume", action="store_true", help="each cell goes on from a checkpoint of another")
    args = parser.parse_args(argv)
    failed = 0
    chosen = [cell for cell in GRID if args.only in str(cell) and cell.world in args.ranks]
    for world in sorted({cell.world for cell in chosen}):
        some = [cell for cell in chosen if cell.world == world]
        if args.resume:
            failed += _resumed_on_another(some)
            continue
        for first in range(0, len(some), A_LAUNCH):
            few = some[first : first + A_LAUNCH]
            with tempfile.TemporaryDirectory() as tmp:
                by_rank = launch(few, Path(tmp), limit_s=LONG_S)
            for i, cell in enumerate(few):
                try:
                    found = check(cell, [rank[i] for rank in by_rank])
                except AssertionError as e:
                    failed += 1
                    print(f"{cell}: {e}", flush=True)
                else:
                    peaks = [f"{peak / 1e6:.3f}" for peak in by_rank[0][i]["peaks"]]
                    active = f", activations {' '.join(peaks)} MB" if peaks else ""
                    print(f"{cell}: " + ", ".join(f"{k} {v:.1e}" for k, v in found.items()) + active, flush=True)
    print(f"{failed} of {len(chosen)} wrong")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
