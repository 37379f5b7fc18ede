"""Published runs in the planner's terms: llm-foundry's, Megatron-LM's (2021) and Korthikanti et al.'s (2022)."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from raypt.run.planner.memory import zero_bytes
from raypt.run.planner.shape import Shape
from raypt.run.planner.step_time import Work, stacked

PLAN = Path(__file__).resolve().parents[3].parent / "shared" / "plan"
PER_NODE = 8
A100_PEAK, A100_BANDWIDTH = 312e12, 2.039e12
PEAKS = {"h100_80gb": 989e12, "a100_80gb": 312e12, "a100_40gb": 312e12}
MEMORY = {"h100_80gb": 80e9, "a100_80gb": 80e9, "a100_40gb": 40e9}


def _rows(name: str) -> list[dict[str, str]]:
    path = PLAN / name
    if not path.exists():
        pytest.skip(f"the published measurements are not here: {path}")
    with path.open() as f:
        return list(csv.DictReader(f))


@dataclass(frozen=True)
class Row:
    """A measured run."""

    name: str
    accelerator: str
    shape: Shape
    devices: int
    micro_batch: int
    length: int
    accumulation: int
    checkpointed: bool
    sharding: str
    precision: str
    step_s: float
    work: Work


def foundry() -> list[Row]:
    """The runs of llm-foundry under FSDP."""
    shapes = {r["model"]: r for r in _rows("llmfoundry_shapes.csv")}
    out = []
    for r in _rows("llmfoundry_throughput.csv"):
        s = shapes[r["Model"]]
        shape = Shape.gpt(int(s["hidden"]), int(s["layers"]), int(s["heads"]), int(s["vocab"]))
        devices, micro, length = int(r["# GPUs"]), int(r["MicroBatchSize"]), int(r["SeqLen (T)"])
        accumulation, full = int(r["GradAccum"]), r["Activation Checkpointing"] == "True"
        parameters = float(r["NumParams"])
        # FSDP in 16 bits: weights are gathered twice and gradients scattered; SHARD_GRAD_OP gathers weights once.
        times = 3 if r["Sharding Strategy"] == "FULL_SHARD" else 2
        tokens = micro * length
        work = Work(
            width=shape.hidden,
            products=parameters,
            layers=shape.layers,
            attention_width=shape.hidden,
            length=length,
            micro_tokens=tokens,
            micro_batches=accumulation,
            recomputed=full,
            attention_recomputed=full,
            fp8="fp8" in r["Precision"],
            tensor=1,
            pipeline=1,
            virtual=1,
            causal=1,
            sequence_parallel=0,
            micro_bytes=times * 2 * parameters * (devices - 1) / devices,
            step_bytes=0.0,
            between_nodes=devices > PER_NODE,
            nodes=devices / PER_NODE,
            state_share=zero_bytes(parameters, devices, 3) / MEMORY[r["GPU"]],
        )
        step_s = tokens * accumulation / float(r["Throughput (T/s/GPU)"])
        name, kind = r["Model"], r["Precision"]
        sharding = r["Sharding Strategy"]
        out.append(Row(name, r["GPU"], shape, devices, micro, length, accumulation, full, sharding, kind, step_s, work))
    return out


def _pipelined(r: dict[str, str], shape: Shape, micro: int, virtual: int, full: bool) -> dict[str, Any]:
    t, p = int(r["tp"]), int(r["pp"])
    devices, batch = int(r["gpus"]), int(r["batch"])
    data = devices // (t * p)
    local = (12 * shape.layers * shape.hidden**2 + shape.embedding) / (t * p)
    return {
        "width": shape.hidden,
        "products": shape.matmul_parameters,
        "layers": shape.layers,
        "attention_width": shape.hidden,
        "length": 2048,
        "micro_tokens": micro * 2048,
        "micro_batches": batch // (data * micro),
        "recomputed": full,
        "attention_recomputed": 1,
        "fp8": 0,
        "tensor": t,
        "pipeline": p,
        "virtual": virtual,
        "causal": 0,
        "sequence_parallel": not full,
        "micro_bytes": 0.0,
        "step_bytes": 4 * local * (data - 1) / data,
        "between_nodes": 1,
        "nodes": devices / PER_NODE,
        "state_share": 0.0,
    }


VOCAB = 51200


def megatron() -> list[tuple[str, Work, float]]:
    """(name, work, seconds of a step) of table 1 of Narayanan et al. 2021: full recomputation. The table does not say
    the micro-batches: 4 without a pipeline, 1 with one, not interleaved."""
    out = []
    for r in _rows("megatron2021_table1.csv"):
        shape = Shape.gpt(int(r["hidden"]), int(r["layers"]), int(r["heads"]), VOCAB)
        h, layers, batch = shape.hidden, shape.layers, int(r["batch"])
        flops = 96 * batch * 2048 * layers * h * h * (1 + 2048 / (6 * h) + VOCAB / (16 * layers * h))
        step_s = flops / int(r["gpus"]) / (float(r["tflops_gpu"]) * 1e12)
        micro = 4 if r["pp"] == "1" else 1
        out.append((f"{r['params_b']}B", Work(**_pipelined(r, shape, micro, 1, full=True)), step_s))
    return out


def korthikanti() -> list[tuple[str, Work, float]]:
    """The same of table 5 of Korthikanti et al. 2022: full, and selective recomputation with sequence parallelism."""
    out = []
    for r in _rows("korthikanti2022_table5.csv"):
        shape = Shape.gpt(int(r["hidden"]), int(r["layers"]), int(r["heads"]), VOCAB)
        for full, column in ((True, "iter_s_full"), (False, "iter_s_selective_sp")):
            work = Work(**_pipelined(r, shape, int(r["micro"]), int(r["interleave"]), full=full))
            out.append((f"{r['model']} {'full' if full else 'selective'}", work, float(r[column])))
    return out


def arrays(rows: list[Row]) -> tuple[Work, npt.NDArray[np.float64]]:
    return stacked([r.work for r in rows]), np.array([r.step_s for r in rows])
