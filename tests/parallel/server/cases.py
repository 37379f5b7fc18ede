"""What the ranks of the parameter server's tests do, in one launch: the same steps under ZeRO 0 and through servers."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
import torch

from raypt.model import Llama
from raypt.parallel import comm
from raypt.parallel.config import ParameterServerConfig
from raypt.parallel.flat.replica import Replica
from raypt.parallel.initial_state import InitialState
from raypt.parallel.mesh import Mesh
from raypt.parallel.server import engine as of_engine
from raypt.parallel.server.engine import ServerEngine
from raypt.training.batch_plan import BatchPlan
from raypt.training.checkpoint.directory import latest_checkpoint
from raypt.training.checkpoint.manifest import Progress
from raypt.training.checkpoint.reader import CheckpointReader
from raypt.training.checkpoint.writer import CheckpointWriter
from raypt.training.config import CheckpointConfig, OptimizerConfig
from raypt.training.optim.optimizer import build_optimizer
from tests.parallel import cases

STEPS, SAVE_AT = 20, 8
LION = OptimizerConfig(kind="lion", lr=3e-4, clip_norm=0.5)


def server_engine(
    servers: int, optimizer: OptimizerConfig = cases.OPTIMIZER, precision: str = "fp32", gradient_dtype: Any = "fp32"
) -> ServerEngine:
    return ServerEngine(
        replica(precision),
        topology=Mesh.of_data_ranks().topology,
        config=ParameterServerConfig(servers=servers, cpus_per_server=0.1, gradient_dtype=gradient_dtype),
        optimizer=lambda held: build_optimizer(held, optimizer),
        clip_norm=optimizer.clip_norm,
        timeout_s=60,
    )


def replica(precision: str = "fp32") -> Replica:
    return Replica(
        lambda: Llama(cases.MODEL),
        dtype=torch.bfloat16 if precision == "bf16" else torch.float32,
        device=torch.device("cpu"),
        z_loss=0.0,
        loss_chunk_tokens=2048,
        compile_blocks=False,
    )


def train(engine: Any, plan: BatchPlan, rank: int, first: int, last: int) -> list[list[float]]:
    out = []
    for step in range(first, last):
        loss = engine.forward_backward(cases.step_batches(plan, rank, step % cases.STEPS))
        out.append([loss.loss, engine.step(1.0).grad_norm])
    return out


def weights(engine: Any) -> list[float]:
    return torch.cat([p.detach().float().reshape(-1) for p in engine.module.parameters()]).tolist()


def save(engine: Any, uri: str, rank: int, world: int) -> None:
    writer = CheckpointWriter(uri, CheckpointConfig(), rank=rank, world=world, meta={})
    writer.save(comm.broadcast_object(writer.new_name(SAVE_AT)), engine.shard(), Progress(step=SAVE_AT))
    writer.wait()
    comm.barrier()


def resume(engine: Any, uri: str) -> None:
    info = latest_checkpoint(uri)
    assert info is not None
    engine.restore(CheckpointReader(info))


def join(address: str) -> tuple[int, int, BatchPlan]:
    torch.set_num_threads(1)
    comm.init_process_group(use_gpu=False)
    ray.init(address=address, log_to_driver=False, logging_level="error")
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    return rank, world, cases.plan_for(world)


def zero_engine(plan: BatchPlan, stage: int = 0) -> Any:
    return cases.engine_for(stage, "fp32", plan, torch.device("cpu"))


def parity(address: str, checkpoints: str, server_counts: list[int]) -> dict[str, Any]:
    """Twenty steps of each kind, a checkpoint of each in between, and the rest from the other kind's."""
    rank, world, plan = join(address)
    out: dict[str, Any] = {}
    zero = zero_engine(plan)
    out["zero"] = train(zero, plan, rank, 0, SAVE_AT)
    save(zero, f"{checkpoints}/zero", rank, world)
    out["zero"] += train(zero, plan, rank, SAVE_AT, STEPS)
    out["zero-weights"] = weights(zero)
    for servers in server_counts:
        engine = server_engine(servers)
        engine.restore(InitialState(cases.MODEL, 0))
        with travelling(engine) as out[f"{servers}-travelled"]:
            run = train(engine, plan, rank, 0, 1)
        run += train(engine, plan, rank, 1, SAVE_AT)
        save(engine, f"{checkpoints}/{servers}", rank, world)
        out[f"{servers}"] = run + train(engine, plan, rank, SAVE_AT, STEPS)
        out[f"{servers}-weights"] = weights(engine)
        resume(engine, f"{checkpoints}/{servers}")  # the engine goes back, as a rewind does
        out[f"{servers}-again"] = train(engine, plan, rank, SAVE_AT, STEPS)
        resume(engine, f"{checkpoints}/zero")
        out[f"{servers}-from-zero"] = train(engine, plan, rank, SAVE_AT, STEPS)
        moved = zero_engine(plan, stage=1)
        resume(moved, f"{checkpoints}/{servers}")
        out[f"{servers}-to-zero"] = train(moved, plan, rank, SAVE_AT, STEPS)
    return out


@contextmanager
def travelling(engine: ServerEngine) -> Iterator[dict[str, Any]]:
    """Bytes of the arrays that this worker hands to each server, and of those that it takes from each, in a step."""
    sent: list[int] = []
    taken: list[int] = []
    pack, unpack = of_engine.packed, of_engine.unpacked

    def packing(*args: Any) -> Any:
        array = pack(*args)
        sent.append(array.nbytes)
        return array

    def unpacking(array: Any) -> Any:
        taken.append(array.nbytes)
        return unpack(array)

    of_engine.packed, of_engine.unpacked = packing, unpacking  # type: ignore[attr-defined]
    out = {"sent": sent, "taken": taken, "parameters": engine.replica.flat.numel}
    try:
        yield out
    finally:
        of_engine.packed, of_engine.unpacked = pack, unpack  # type: ignore[attr-defined]
    out["said"] = engine.timing.sent_bytes


def every_setting(address: str, checkpoints: str, server_counts: list[int]) -> dict[str, Any]:
    """`parity`, and in the same launch Lion and bf16 beside ZeRO 0, a gradient that is not finite on one worker, and a
    step that is discarded.
    """
    out = parity(address, checkpoints, server_counts)
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    plan = cases.plan_for(world)
    for name, optimizer, precision, travel in (
        ("lion", LION, "fp32", "fp32"),
        ("bf16", cases.OPTIMIZER, "bf16", "bf16"),
    ):
        cases.OPTIMIZERS["of the server's test"] = optimizer
        zero = cases.engine_for(0, precision, plan, torch.device("cpu"), "of the server's test")
        out[f"{name}-zero"] = train(zero, plan, rank, 0, 6)
        engine = server_engine(1, optimizer, precision, travel)
        engine.restore(InitialState(cases.MODEL, 0))
        with travelling(engine) as out[f"{name}-travelled"]:
            out[name] = train(engine, plan, rank, 0, 1)
        out[name] += train(engine, plan, rank, 1, 6)
    before = weights(engine)
    hook = engine.module.model.norm.register_forward_hook(lambda m, i, o: o * float("nan"))
    if rank != 1:
        hook.remove()
    engine.forward_backward(cases.step_batches(plan, rank, 0))
    result = engine.step(1.0)
    hook.remove()
    out["skipped"], out["unchanged"] = result.skipped, weights(engine) == before
    engine.forward_backward(cases.step_batches(plan, rank, 0))
    out["discarded"], out["kept"] = engine.discard().skipped, weights(engine) == before
    engine.forward_backward(cases.step_batches(plan, rank, 0))
    refused = engine.step(1.0, max_norm=1e-3)
    out["refused"] = refused.skipped and refused.grad_norm is not None and weights(engine) == before
    out["after"] = train(engine, plan, rank, 0, 1)
    comm.barrier()
    return out
