"""The checks of `bench gpu`: each a function from a device to figures; what is wrong is an exception.

Run by `raypt.bench.gpu`, one process each: `python -m raypt.bench.gpu_checks NAME --device cuda --out FILE`.
"""

import argparse
import json
import os
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from raypt.model import ModelConfig
    from raypt.model.batch import MicroBatch
    from raypt.training.config import TrainConfig

Figures = dict[str, Any]

BF16_ERROR = 3e-2
"""Relative error of a loss or a gradient in bf16 (8 bits of mantissa, sums over some hundred products) against fp32."""
FP32_ERROR = 1e-4
"""The same of fp32 sums in another order. TF32 is off."""


def has_gpu() -> bool:
    """Whether torch sees a CUDA device."""
    import torch

    return torch.cuda.is_available()


def small_model(device: str) -> "ModelConfig":
    """A shape that a device computes in a moment, with grouped key/value heads and a loss in chunks. On a CPU a smaller
    one: without instructions for bf16 it multiplies eleven times slower than in fp32."""
    from raypt.model import ModelConfig

    if device == "cpu":
        return ModelConfig(
            vocab_size=512, hidden_size=128, intermediate_size=256, num_layers=2, num_heads=4, num_kv_heads=2,
            max_length=128, tie_embeddings=False,
        )  # fmt: skip
    return ModelConfig(
        vocab_size=1024, hidden_size=256, intermediate_size=512, num_layers=4, num_heads=4, num_kv_heads=2,
        max_length=256, tie_embeddings=False,
    )  # fmt: skip


def large_model(device: str) -> "ModelConfig":
    """1.1 B parameters (TinyLlama's shape); on a CPU the small one."""
    from raypt.model import ModelConfig

    if device == "cpu":
        return small_model(device)
    return ModelConfig(
        vocab_size=32000, hidden_size=2048, intermediate_size=5632, num_layers=22, num_heads=32, num_kv_heads=4,
        max_length=2048, tie_embeddings=False,
    )  # fmt: skip


def packed(model: "ModelConfig", rows: int, seed: int, documents: int = 3) -> "MicroBatch":
    """Random tokens, each row of `documents` documents."""
    import numpy as np

    from raypt.model.batch import micro_batch

    random = np.random.default_rng(seed)
    length = model.max_length + 1
    tokens = random.integers(0, model.vocab, (rows, length))
    segments = 1 + np.arange(length)[None] * documents // length + np.zeros((rows, 1), np.int64)
    return micro_batch({"tokens": tokens, "segments": segments, "sample_index": np.arange(rows)})


def relative(a: "torch.Tensor", b: "torch.Tensor") -> float:
    """|a - b| / |b|, both as float64 on the CPU."""
    a, b = a.detach().double().cpu(), b.detach().double().cpu()
    return float((a - b).norm() / b.norm())


def device_figures(device: str) -> Figures:
    """What there is: names, memory, versions."""
    import torch

    figures: Figures = {"torch": torch.__version__}
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        figures |= {
            "gpus": torch.cuda.device_count(),
            "gpu": properties.name,
            "memory_gib": round(properties.total_memory / 2**30, 1),
            "capability": f"{properties.major}.{properties.minor}",
            "cuda": torch.version.cuda,
            "nccl": ".".join(map(str, torch.cuda.nccl.version())),
            "bf16": torch.cuda.is_bf16_supported(),
        }
    return figures


def matmul(device: str) -> Figures:
    """The best square matrix product against the stated peak."""
    import torch

    from raypt.accelerators import stated_flops
    from raypt.training.peak import matmul_flops

    figures: Figures = {}
    for precision in ("fp32", "bf16"):
        figures[f"{precision}_tflops"] = round(matmul_flops(torch.device(device), precision) / 1e12, 3)
    stated = stated_flops(torch.cuda.get_device_name(0), "bf16") if device == "cuda" else None
    if stated is not None:
        figures["of_stated_bf16"] = round(figures["bf16_tflops"] * 1e12 / stated, 3)
    return figures


def model_against_cpu(device: str) -> Figures:
    """Loss and gradients of packed documents on the device, in fp32 and bf16, against the CPU's in fp32."""
    import torch

    from raypt.model import Llama

    config = small_model(device)
    batch = packed(config, 4, 0)

    def gradients(where: str, dtype: "torch.dtype") -> "tuple[torch.Tensor, torch.Tensor]":
        model = Llama(config).initialise(0).to(where, dtype)
        here = batch.to(torch.device(where))
        loss, _ = model(here.tokens_BS, here.segments_BS, targets=here.targets())
        (loss / batch.tokens).backward()
        grads = [p.grad.flatten().float().cpu() for p in model.parameters() if p.grad is not None]
        return loss, torch.cat(grads)

    loss, grads = gradients("cpu", torch.float32)
    figures: Figures = {}
    for name, dtype, most in (("fp32", torch.float32, FP32_ERROR), ("bf16", torch.bfloat16, BF16_ERROR)):
        other_loss, other_grads = gradients(device, dtype)
        errors = relative(other_loss, loss), relative(other_grads, grads)
        figures[name] = {"loss_error": float(f"{errors[0]:.1e}"), "gradient_error": float(f"{errors[1]:.1e}")}
        if max(errors) > most:
            raise AssertionError(f"{name} on {device}: errors {errors} against the CPU's fp32, more than {most}")
    return figures


def varlen(device: str) -> Figures:
    """Variable-length flash attention against the dense mask, and the speed of both at 2,048 tokens."""
    import torch

    from raypt.model.attention import attention, documents, varlen_attention

    heads, kv, length, width = 16, 4, 2048, 64
    generator = torch.Generator().manual_seed(0)
    segments_BS = (1 + torch.arange(length)[None] * 5 // length).expand(2, -1).to(device)
    q, k, v = (
        torch.randn(2, h, length, width, generator=generator).to(device, torch.bfloat16).requires_grad_()
        for h in (heads, kv, kv)
    )
    mask = (segments_BS[:, None, :, None] == segments_BS[:, None, None, :]).tril()
    docs = documents(segments_BS)
    figures: Figures = {}
    results = {}
    ways: dict[str, Callable[[], torch.Tensor]] = {
        "dense": lambda: attention(q, k, v, mask),
        "varlen": lambda: varlen_attention(q, k, v, docs),
    }
    for name, way in ways.items():
        seconds = []
        for _ in range(5):
            for x in (q, k, v):
                x.grad = None
            torch.cuda.synchronize()
            started = time.perf_counter()
            y = way()
            y.float().square().sum().backward()
            torch.cuda.synchronize()
            seconds.append(time.perf_counter() - started)
        results[name] = torch.cat([t.flatten().float() for t in (y, q.grad, k.grad, v.grad)])  # type: ignore[union-attr]
        figures[f"{name}_ms"] = round(1000 * statistics.median(seconds), 2)
    error = relative(results["varlen"], results["dense"])
    if error > BF16_ERROR:
        raise AssertionError(f"varlen attention is {error:.1e} off the dense mask, more than {BF16_ERROR}")
    return figures | {"error": float(f"{error:.1e}")}


def compiled(device: str) -> Figures:
    """torch.compile of the blocks: the same loss, and the seconds of a step with and without."""
    import torch

    from raypt.model import Llama

    config = small_model(device)
    batch = packed(config, 4, 0).to(torch.device(device))
    figures: Figures = {}
    losses = []
    for name in ("eager", "compiled"):
        model = Llama(config).initialise(0).to(device)
        if name == "compiled":
            for layer in model.model.layers:
                layer.compile()
        seconds = []
        for _ in range(6):
            started = time.perf_counter()
            loss, _ = model(batch.tokens_BS, batch.segments_BS, targets=batch.targets())
            loss.backward()
            losses.append(float(loss))  # waits for the device
            seconds.append(time.perf_counter() - started)
        figures[f"{name}_ms"] = round(1000 * statistics.median(seconds[1:]), 2)
        figures[f"{name}_first_s"] = round(seconds[0], 1)
    if abs(losses[-1] - losses[0]) > FP32_ERROR * losses[0]:
        raise AssertionError(f"the compiled loss is {losses[-1]}, the eager one {losses[0]}")
    return figures


def _join(device: str, rank: int = 0, world: int = 1, port: int | None = None) -> "torch.device":
    from raypt.parallel import comm

    os.environ.update(
        RANK=str(rank), WORLD_SIZE=str(world), LOCAL_RANK=str(rank), MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port or _free_port()),
    )  # fmt: skip
    return comm.init_process_group(use_gpu=device == "cuda", timeout_s=120)


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def _collectives_of_a_rank(rank: int, world: int, port: int, device: str) -> None:
    import torch
    import torch.distributed as dist

    here = _join(device, rank, world, port)
    whole = torch.arange(8 * world, dtype=torch.float32, device=here) + rank
    expected = torch.arange(8 * world, dtype=torch.float32, device=here) * world + sum(range(world))
    mine = slice(8 * rank, 8 * rank + 8)
    total = whole.clone()
    dist.all_reduce(total)
    assert torch.equal(total, expected), "all-reduce"
    part = torch.empty(8, device=here)
    dist.reduce_scatter_tensor(part, whole)
    assert torch.equal(part, expected[mine]), "reduce-scatter"
    gathered = torch.empty_like(whole)
    dist.all_gather_into_tensor(gathered, part)
    assert torch.equal(gathered, expected), "all-gather"
    swapped = torch.empty_like(whole)
    dist.all_to_all_single(swapped, whole)
    rows = [torch.arange(8, device=here) + 8 * rank + other for other in range(world)]
    assert torch.equal(swapped, torch.cat(rows).float()), "all-to-all"
    sent = total if rank == 0 else torch.empty_like(total)
    dist.broadcast(sent, src=0)
    assert torch.equal(sent, expected), "broadcast"
    dist.barrier()
    dist.destroy_process_group()


def collectives(device: str) -> Figures:
    """The collectives that training uses, over every GPU of this machine (two processes with gloo on a CPU)."""
    import torch
    from torch.multiprocessing.spawn import spawn

    world = torch.cuda.device_count() if device == "cuda" else 2
    spawn(_collectives_of_a_rank, (world, _free_port(), device), nprocs=world)
    return {"ranks": world, "backend": "nccl" if device == "cuda" else "gloo"}


def _engine(
    model: "ModelConfig", device: "torch.device", stage: int, rows: int, **more: Any
) -> "tuple[Any, TrainConfig]":
    from raypt.parallel.config import ZeroConfig
    from raypt.parallel.initial_state import InitialState
    from raypt.parallel.mesh import Mesh
    from raypt.training.batch_plan import plan_batches
    from raypt.training.config import OptimizerConfig, TrainConfig
    from raypt.training.engines import build_engine

    train = TrainConfig(
        workers=1,
        micro_batch_size=rows,
        global_batch_tokens=rows * model.max_length,
        optimizer=OptimizerConfig(lr=3e-4),
        zero=ZeroConfig.model_validate({"stage": stage}),
        **more,
    )
    plan = plan_batches(
        global_batch_tokens=train.global_batch_tokens,
        sequence_length=model.max_length,
        micro_batch_size=rows,
        data_size=1,
    )
    engine = build_engine(model, train, plan, Mesh.of_data_ranks(), device=device)
    engine.restore(InitialState(model, 0))
    return engine, train


def _losses(engine: Any, batches: "Sequence[MicroBatch]") -> list[float]:
    out = []
    for batch in batches:
        out.append(engine.forward_backward([batch]).loss)
        engine.step(1.0)
    return out


def zero_stages(device: str) -> Figures:
    """Five steps at ZeRO 0 to 3 in bf16, against the CPU's in fp32: a step that does nothing or too much shows."""
    import torch

    from raypt.model import Llama
    from raypt.training.config import OptimizerConfig
    from raypt.training.optim.optimizer import build_optimizer

    config = small_model(device)
    batches = [packed(config, 4, seed) for seed in (0, 1, 0, 1, 0)]
    model = Llama(config).initialise(0)
    optimizer = build_optimizer(model, OptimizerConfig(lr=3e-4))
    reference = []
    for batch in batches:
        loss, _ = model(batch.tokens_BS, batch.segments_BS, targets=batch.targets())
        (loss / batch.tokens).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), OptimizerConfig().clip_norm or float("inf"))
        optimizer.step()
        optimizer.zero_grad()
        reference.append(float(loss) / batch.tokens)
    here = _join(device)
    figures: Figures = {}
    for stage in range(4):
        engine, _ = _engine(config, here, stage, 4, precision="bf16")
        losses = _losses(engine, batches)
        error = max(abs(a - b) / b for a, b in zip(losses, reference, strict=True))
        if error > BF16_ERROR:
            raise AssertionError(f"ZeRO {stage}: losses {losses}, in fp32 on the CPU {reference}")
        figures[f"stage_{stage}_error"] = float(f"{error:.1e}")
        del engine
    return figures


def deterministic(device: str) -> Figures:
    """`train.deterministic`: the same five losses, bit by bit, twice."""
    import torch

    from raypt.training.worker import fix_order

    fix_order()
    config = small_model(device)
    here = _join(device)
    runs = []
    for _ in range(2):
        engine, _ = _engine(config, here, 1, 4, precision="bf16")
        runs.append(_losses(engine, [packed(config, 4, seed) for seed in range(5)]))
        del engine
    if runs[0] != runs[1]:
        raise AssertionError(f"two runs differ: {runs}")
    return {"torch_deterministic": torch.are_deterministic_algorithms_enabled()}


def _speed(device: str, stage: int) -> Figures:
    """Tokens/s, MFU, memory, and the seconds of a checkpoint and of a resume, of one rank in bf16."""
    import torch

    from raypt.accelerators import stated_flops
    from raypt.training.checkpoint.manifest import Progress
    from raypt.training.checkpoint.resume import agree_on_newest, restore
    from raypt.training.checkpoint.writer import CheckpointWriter
    from raypt.training.config import CheckpointConfig

    config, here = large_model(device), _join(device)
    rows = 4
    more: dict[str, Any] = {"precision": "bf16", "varlen_attention": device == "cuda"}
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    engine, _ = _engine(config, here, stage, rows, activation_checkpointing="selective", **more)
    batches = [packed(config, rows, seed) for seed in range(8)]
    seconds = []
    for batch in batches:
        started = time.perf_counter()
        _losses(engine, [batch])
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    rate = rows * config.max_length / statistics.median(seconds[3:])
    flops = rate * config.flops_per_token(config.max_length)
    figures: Figures = {
        "parameters": config.parameters(),
        "tokens_per_s": round(rate),
        "step_parts_ms": {k: round(1000 * getattr(engine.timing, k), 1) for k in ("forward", "backward", "step")},
    }
    if device == "cuda":
        figures["peak_memory_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
        stated = stated_flops(torch.cuda.get_device_name(0), "bf16")
        figures["mfu_stated"] = None if stated is None else round(flops / stated, 3)
    with tempfile.TemporaryDirectory() as folder:
        writer = CheckpointWriter(folder, CheckpointConfig(), rank=0, world=1, meta={}, use_gpu=device == "cuda")
        started = time.perf_counter()
        writer.save(writer.new_name(len(batches)), engine.shard(), Progress(step=len(batches)))
        figures["checkpoint_stall_s"] = round(time.perf_counter() - started, 2)
        writer.wait()
        figures["checkpoint_s"] = round(time.perf_counter() - started, 2)
        expected = _losses(engine, batches[:2])
        started = time.perf_counter()
        info = agree_on_newest(folder)
        assert info is not None
        problem = restore(engine, info, 0)
        assert problem is None, problem
        figures["resume_s"] = round(time.perf_counter() - started, 2)
        again = _losses(engine, batches[:2])
    if max(abs(a - b) for a, b in zip(again, expected, strict=True)) > BF16_ERROR * expected[0]:
        raise AssertionError(f"after a resume the losses are {again}, without {expected}")
    return figures


def zero1(device: str) -> Figures:
    """The 1 B shape at ZeRO 1."""
    return _speed(device, 1)


def zero3(device: str) -> Figures:
    """The 1 B shape at ZeRO 3."""
    return _speed(device, 3)


CHECKS: dict[str, Callable[[str], Figures]] = {
    "device": device_figures,
    "matmul": matmul,
    "model": model_against_cpu,
    "varlen": varlen,
    "collectives": collectives,
    "zero_stages": zero_stages,
    "zero1_1b": zero1,
    "zero3_1b": zero3,
    "compile": compiled,
    "deterministic": deterministic,
}
"""By name, in the order in which they are tried: what most depends on comes first."""
ONLY_ON_GPU = frozenset({"varlen"})


def main(argv: list[str]) -> int:
    """Run one check and write its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=list(CHECKS))
    parser.add_argument("--device", choices=("cuda", "cpu"), required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(argv)
    args.out.write_text(json.dumps(CHECKS[args.name](args.device)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
