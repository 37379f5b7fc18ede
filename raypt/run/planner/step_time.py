"""Seconds of a step: matrix products by their width, attention, memory-bound work, exposed communication, the bubble.

A micro-batch on a pipeline stage takes max(c, comm) + overlap * min(c, comm), where c is computation with what tensor
and context parallelism exchange in between, and comm what sharding exchanges beside it. A step is (micro-batches +
(p - 1) / v) of them, what is exchanged once a step, and a constant. Every operation takes arrays as well as numbers.
"""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from raypt.parallel.traffic import zero_bytes
from raypt.run.planner.memory import cut
from raypt.run.planner.shape import Layout, Shape
from raypt.run.planner.states import stays_whole


@dataclass(frozen=True)
class Constants:
    """What an accelerator and its software do; fitted (`raypt.run.planner.fit`)."""

    efficiency: float = 0.8
    """Of the peak, by infinitely large matrix products."""
    half_width: float = 700.0
    """Width at which products reach half of that."""
    half_tokens: float = 200.0
    """Tokens of a micro-batch at which they do."""
    attention: float = 0.25
    """Of the 16-bit peak, by attention's products."""
    recompute: float = 0.75
    """Cost of running a block's forward pass again, over that of running it."""
    overlap: float = 0.25
    """What communication and computation take from each other, of the shorter one."""
    pressure: float = 0.38
    """Slowing down by states that fill more than half of the memory: of the step, for each share beyond it."""
    intra: float = 1.2e11
    """Bytes a second and device of sharding's collectives inside a node."""
    inter: float = 4e10
    """Between nodes."""
    spread: float = 200.0
    """Nodes at which that is halved."""
    tensor: float = 1.4e11
    """Bytes a second and device of tensor parallelism's collectives, inside a node."""
    fp8: float = 1.3
    """Speed of matrix products in fp8 over those in bf16 (both by what is reached, not by the peak): fitted to
    llm-foundry's runs of H100s in both. torchtitan's whole steps (`compiled`): 1.28 and 1.29."""
    compiled: float = 1.16
    """Speed of computation with blocks by torch.compile over that without: LLaMA 3.1 8B under FSDP2 on H100s, 6,667
    over 5,762 tokens a second on 8 of them, 6,514 over 5,605 on 128 (pytorch/torchtitan,
    benchmarks/llama3_h100_202412_torchtitan.md, tables 1 and 3). Not fitted."""
    traffic: float = 0.0
    """Bytes of memory-bound work a token, layer and unit of width, beyond what `efficiency` accounts for."""
    overhead_s: float = 0.02
    """Of a step: optimizer, clipping, logging."""
    loss: float = 0.0
    """Bytes of memory-bound work a token and word of the vocabulary, beyond `efficiency`'s account."""
    update: float = 0.0
    """Bytes of memory-bound work a step and parameter that a device updates."""
    block_s: float = 0.0
    """Of a block, forward and backward, whatever its size: starting its operations."""


@dataclass(frozen=True)
class Work:
    """A step in numbers, each of them one or an array of many."""

    width: Any
    products: Any
    """Parameters that a token is multiplied with."""
    layers: Any
    attention_width: Any
    length: Any
    micro_tokens: Any
    """A rank's, of a forward pass."""
    micro_batches: Any
    recomputed: Any
    """1: blocks run forward twice; 0: once."""
    attention_recomputed: Any
    fp8: Any
    tensor: Any
    pipeline: Any
    virtual: Any
    causal: Any
    """1: attention computes what it sees; 0: all of the square."""
    sequence_parallel: Any
    micro_bytes: Any
    """Sharding sends and receives these beside each micro-batch."""
    step_bytes: Any
    """Once a step, with nothing beside it."""
    between_nodes: Any
    nodes: Any
    state_share: Any
    """Of the device's memory."""
    compiled: Any = 0
    """1: blocks are compiled."""
    exchanged: Any = 0.0
    """Bytes that a context rank sends to the others around attention, a micro-batch."""
    context_between_nodes: Any = False
    vocabulary: Any = 0.0
    """Words of it on a rank."""
    handed: Any = 0.0
    """Bytes of activations and their gradients that a pipeline stage hands on, a micro-batch."""
    updated: Any = 0.0
    """Parameters whose optimizer state a device has."""


@dataclass(frozen=True)
class Seconds:
    """A step and its parts, each of them one number or an array."""

    step: Any
    products: Any
    attention: Any
    traffic: Any
    tensor: Any
    """What the ranks of one replica wait for inside its layers: tensor and context parallelism."""
    exposed: Any
    """Communication of sharding that computation does not hide, and what is sent once a step."""
    bubble: Any
    overhead: Any


def chosen(condition: Any, yes: Any, no: Any) -> Any:
    """`np.where`, which of one number costs a hundred times what it does."""
    return np.where(condition, yes, no) if isinstance(condition, np.ndarray) else yes if condition else no


def seconds(work: Work, k: Constants, peak: Any, bandwidth: Any) -> Seconds:
    """`peak`: FLOP/s of dense products in 16 bits; `bandwidth`: bytes a second of the device's memory."""
    t, p, m, w = work.tensor, work.pipeline, work.micro_tokens, work.width
    passes = 3 + k.recompute * work.recomputed
    attention_passes = 3 + k.recompute * work.attention_recomputed
    reached = peak * chosen(work.fp8, k.fp8, 1.0) * k.efficiency * w / (w + k.half_width) * m / (m + k.half_tokens)
    products = passes * 2 * work.products / (t * p) * m / reached
    square = chosen(work.causal, 2.0, 4.0) * work.attention_width * work.length * m
    attention = attention_passes * square * work.layers / (p * t) / (peak * k.attention)
    local = 0.5 / t + 0.5 * chosen(work.sequence_parallel, 1 / t, 1.0)
    blocks = passes / 3 * work.layers / p
    traffic = blocks * (m * w * k.traffic * local / bandwidth + k.block_s) + m * work.vocabulary * k.loss / bandwidth
    # Two all-reduces of the residual stream a block and pass, in 16 bits; each moves 2 (t - 1) / t of it.
    reductions = 4 + 2 * work.recomputed
    tensor = reductions * work.layers / p * 4 * m * w * (t - 1) / t / k.tensor
    far = k.inter / (1 + work.nodes / k.spread)
    link = chosen(work.between_nodes, far, k.intra)
    tensor = tensor + work.exchanged / chosen(work.context_between_nodes, far, k.intra)
    faster = chosen(work.compiled, k.compiled, 1.0)
    products, attention, traffic = products / faster, attention / faster, traffic / faster
    compute = products + attention + traffic + tensor
    beside = (work.micro_bytes + work.handed) / link
    micro = np.maximum(compute, beside) + k.overlap * np.minimum(compute, beside)
    pressed = 1 + k.pressure * np.maximum(0.0, work.state_share - 0.5)
    n = work.micro_batches
    idle = micro * pressed * (p - 1) / work.virtual
    once = work.step_bytes / link
    overhead = k.overhead_s + work.updated * k.update / bandwidth
    step = micro * pressed * n + idle + once + overhead
    exposed = (micro - compute) * n + once
    return Seconds(step, products * n, attention * n, traffic * n, tensor * n, exposed, idle, overhead)


def traffic(shape: Shape, layout: Layout, *, gpu: bool = True) -> tuple[float, float]:
    """(bytes a micro-batch, bytes a step) that a rank of a layout sends for sharding (`raypt.parallel.traffic`)."""
    local = cut(shape, layout)
    return zero_bytes(
        local.parameters,
        layout.gradient_ranks,
        layout.zero,
        weight=layout.element,
        gradient=layout.communication_bytes,
        whole=stays_whole(local, layout) if layout.zero == 3 else 0.0,
        live=layout.live,
        scatters=gpu and layout.communication_bytes == 4,
    )


def work_of(
    shape: Shape, layout: Layout, *, per_node: int, memory_bytes: float, state_bytes: float, gpu: bool = True
) -> Work:
    """What a layout makes of a model."""
    t, p, c = layout.tensor, layout.pipeline, layout.context
    micro, step = traffic(shape, layout, gpu=gpu)
    # The slowest stage has the most layers; ZB-H1 leaves a third of 1F1B's bubble (Qi et al. 2023).
    layers = -(-shape.layers // p) * p
    cut_parts = layout.virtual * (3 if layout.schedule == "zero_bubble" else 1)
    residual = layout.element * layout.micro_tokens * shape.hidden / (t if layout.sequence_parallel else 1)
    # Queries, keys and values there and results back, forward, backward and where a block is computed again.
    heads = (2 * shape.attention_width + 2 * shape.kv_width) / t * layout.element * layout.micro_tokens
    exchanged = (3 if layout.checkpointing != "none" else 2) * heads * (c - 1) / c * shape.layers / p
    return Work(
        width=shape.hidden,
        products=layers * shape.block_matrices + shape.embedding,
        layers=layers,
        attention_width=shape.attention_width,
        length=layout.length,
        micro_tokens=layout.micro_tokens,
        micro_batches=layout.accumulation,
        recomputed=layout.checkpointing == "full",
        attention_recomputed=layout.checkpointing == "full",
        fp8=layout.precision == "fp8",
        compiled=layout.compiled,
        tensor=t,
        pipeline=p,
        virtual=cut_parts,
        causal=layout.attention != "scores",
        sequence_parallel=layout.sequence_parallel,
        micro_bytes=micro,
        step_bytes=step,
        between_nodes=layout.devices > per_node,
        nodes=layout.devices / per_node,
        state_share=state_bytes / memory_bytes,
        exchanged=exchanged,
        handed=2 * residual * layout.virtual if p > 1 else 0.0,
        context_between_nodes=t * c > per_node,
        vocabulary=shape.vocab / t,
        updated=cut(shape, layout).parameters / (layout.gradient_ranks if layout.zero else 1),
    )


def stacked(works: list[Work]) -> Work:
    """Many as one, of arrays."""
    return Work(**{f.name: np.array([getattr(w, f.name) for w in works], np.float64) for f in fields(Work)})
