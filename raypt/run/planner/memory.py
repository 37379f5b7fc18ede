"""Bytes on a device: model states, exactly as raypt's engine allocates them, activations, logits, buffers.

States are listed tensor by tensor (`states`), for the ZeRO stages over data and context ranks; `zero_bytes` is the
closed form of the ZeRO paper (Rajbhandari et al. 2020, figure 1). Activations of the LLaMA block are counted by what
autograd keeps of each operation; `gpt_activation_bytes` is table 2 of Korthikanti et al. 2022 (arXiv 2205.05198).
"""

from dataclasses import asdict, dataclass
from typing import Any

from raypt.parallel.zero.exact.tree import levels
from raypt.run.planner.shape import Layout, Shape

BLOCK = 64
"""Queries of a block of raypt's attention on CPUs."""
ALIGNMENT = 2
"""DeepSpeed pads flat buffers to a multiple of this and the ranks (nccl_start_alignment_factor)."""
PERSISTENT = 100_000
"""Stage 3: smaller parameters stay whole on every rank (DeepSpeed's stage3_param_persistence_threshold)."""
LIVE = 1_000_000_000
PREFETCHED = 50_000_000
"""Stage 3: elements that may be whole at a time, and that are fetched ahead (stage3_max_live_parameters and
stage3_prefetch_bucket_size)."""
SUB_GROUP = 1_000_000_000
"""Stage 3: elements updated at once (sub_group_size)."""
MARGIN_SHARE, CONTEXT_BYTES = 0.04, 1 << 30
"""On GPUs: what the caching allocator loses to fragments, of what is allocated, and CUDA's context with NCCL's buffers.
Chosen so that the 216 published llm-foundry runs fit their devices (tests/run/planner)."""


@dataclass(frozen=True)
class Memory:
    """Bytes a device needs at most at one moment, by what they are for."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    buffers: int
    """Of communication, and gathered parameters."""
    margin: int = 0

    @property
    def total(self) -> int:
        return sum(asdict(self).values())

    def to_json(self) -> dict[str, int]:
        return {**asdict(self), "total": self.total}

    @property
    def largest(self) -> str:
        """The part that needs most."""
        parts: dict[str, Any] = asdict(self)
        return max(parts, key=lambda name: parts[name])


def zero_bytes(
    parameters: float, ranks: int, stage: int, *, weight: int = 2, gradient: int = 2, state: int = 12
) -> float:
    """Bytes of model states a rank, by the ZeRO paper: mixed-precision Adam keeps 2 + 2 + 12 bytes a parameter."""
    cut = [1 / ranks if stage >= at else 1.0 for at in (3, 2, 1)]
    return parameters * sum(n * share for n, share in zip((weight, gradient, state), cut, strict=True))


@dataclass(frozen=True)
class State:
    """A tensor that outlives a step."""

    part: str
    """weights, gradients, optimizer or buffers."""
    bytes: int


def _parameters(shape: Shape) -> tuple[list[int], list[int]]:
    """Elements of each matrix and of each vector of the model."""
    matrices = [n for _ in range(shape.layers) for n in shape.matrices.values()]
    matrices += [shape.embedding] * (1 if shape.tied else 2)
    vectors = [n for _ in range(shape.layers) for n in shape.block_vectors] + [shape.hidden]
    return matrices, vectors


def _groups(shape: Shape, layout: Layout) -> list[tuple[list[int], int]]:
    """Parameters that are optimised together, and how many float32 moments each element has."""
    matrices, vectors = _parameters(shape)
    if layout.optimizer == "muon":
        inner = shape.layers * len(shape.matrices)
        return [(matrices[:inner], 1), (matrices[inner:], 2), (vectors, 2)]
    moments = 2 if layout.optimizer == "adamw" else 1
    return [(matrices, moments), (vectors, moments)]


def states(shape: Shape, layout: Layout) -> list[State]:
    """Every tensor that a rank's engine keeps from one step to the next (AdamW, Lion)."""
    d, stage = layout.gradient_ranks, layout.zero
    low, mixed = layout.element, layout.precision != "fp32"
    counter = layout.optimizer == "adamw"
    out: list[State] = []
    for sizes, moments in _groups(shape, layout):
        if stage == 0:
            for n in sizes:
                out.append(State("weights", low * n))
                out += [State("optimizer", 4 * n)] * (moments + mixed)
                out += [State("optimizer", 4)] * counter
            continue
        total = sum(sizes)
        if stage < 3:
            padded = -(-total // (ALIGNMENT * d)) * ALIGNMENT * d
            out.append(State("weights", low * padded))
            share = padded // d
        else:
            share = sum(-(-n // d) for n in sizes)
        out += [State("optimizer", 4 * share)] * (1 + moments) + [State("optimizer", 4)] * counter
    if stage == 3:
        every = _sizes(shape, layout)
        share = sum(-(-n // d) for n in every)
        out += [State("weights", low * share), State("gradients", 4 * share)]
        out += [State("buffers", 4 * layout.bucket), State("buffers", 8), State("buffers", 1)]  # two flags
        if d > 1:
            out += [State("buffers", low * n) for n in every if n < PERSISTENT]
    return out


@dataclass(frozen=True)
class Kept:
    """Bytes that autograd keeps of a block, a token."""

    outside: float
    """Of norms and residuals: cut over the tensor ranks by sequence parallelism alone."""
    inside: float
    """Of the matrices' inputs and outputs inside attention and feed-forward: cut over the tensor ranks."""
    core: float
    """Of attention's scores."""

    def on(self, layout: Layout) -> float:
        """On one rank."""
        return self.outside / (layout.tensor if layout.sequence_parallel else 1) + (self.inside + self.core) / (
            layout.tensor
        )


def _norm(shape: Shape, layout: Layout) -> float:
    """What a norm keeps, without its output."""
    if layout.fused_norms:
        return layout.element * shape.hidden + 4
    return 8.0 * shape.hidden + 4  # the input and the scaled input in float32


def _core(shape: Shape, layout: Layout) -> float:
    """What attention's core keeps, beside queries, keys, values and output."""
    match layout.attention:
        case "blocked":
            if layout.length <= BLOCK:
                return layout.element * shape.heads * layout.length
            blocks = -(-layout.length // BLOCK)
            elements = sum(
                min(BLOCK, layout.length - BLOCK * i) * min(BLOCK * (i + 1), layout.length) for i in range(blocks)
            )
            return layout.element * shape.heads * elements / layout.length
        case "scores":
            return (2.0 * layout.element + 1) * shape.heads * layout.length
        case _:
            return 4.0 * shape.heads


def kept(shape: Shape, layout: Layout) -> Kept:
    """All of a LLaMA block, nothing recomputed."""
    e, h = layout.element, shape.hidden
    outside = 2 * (_norm(shape, layout) + e * h)
    queries = e * (shape.attention_width + 2 * shape.kv_width)
    feed_forward = e * shape.intermediate * (4 if shape.gated else 2)
    return Kept(outside, queries + e * shape.attention_width + feed_forward, _core(shape, layout))


def _saved(shape: Shape, layout: Layout) -> float:
    """Bytes a token and block that are kept through the forward pass."""
    e, h, t = layout.element, shape.hidden, layout.tensor
    outside = e * h / (t if layout.sequence_parallel else 1)
    if layout.checkpointing == "none":
        return kept(shape, layout).on(layout)
    if layout.checkpointing == "full":
        return outside
    products = shape.attention_width + 2 * shape.kv_width + shape.intermediate * (2 if shape.gated else 1)
    core = 0.0 if layout.attention in ("blocked", "scores") else e * shape.attention_width + _core(shape, layout)
    return 3 * outside + (e * products + core) / t


def activations(shape: Shape, layout: Layout) -> tuple[float, float]:
    """(bytes kept through the forward pass, bytes of working a block backward)."""
    stage = layout.pipeline
    blocks = shape.layers / stage
    # 1F1B: the first stage holds as many micro-batches as there are stages; interleaving adds (p - 1) / (p v).
    under_way = min(stage, layout.accumulation) * (
        1 + ((stage - 1) / (stage * layout.virtual) if layout.virtual > 1 else 0)
    )
    m, e, t = layout.micro_tokens, layout.element, layout.tensor
    saved = m * blocks * under_way * _saved(shape, layout)
    # Under checkpointing a block's activations come back one block at a time; on top, gradients of its widest part.
    again = 0.0
    if layout.checkpointing != "none":
        again = m * kept(shape, layout).on(layout)
    if layout.checkpointing == "selective":
        again -= m * (_saved(shape, layout) - 2 * e * shape.hidden)
    working = m * e * (3 * shape.intermediate / t + shape.hidden)
    if layout.attention == "masked":
        saved += layout.micro_batch * layout.length**2
    return saved, max(again, 0.0) + working


def _sizes(shape: Shape, layout: Layout) -> list[int]:
    return [n for sizes, _ in _groups(shape, layout) for n in sizes]


def persistent(shape: Shape, layout: Layout) -> int:
    """Stage 3: elements of parameters that stay whole on every rank."""
    return sum(n for n in _sizes(shape, layout) if n < PERSISTENT)


def _gathered(shape: Shape, layout: Layout) -> int:
    """Stage 3: bytes of parameters that are whole for a while, with the buffer of the gathering under way, out of which
    several matrices of a block are copied; embedding and output layer come alone, and are not."""
    if layout.gradient_ranks == 1:
        return 0
    n = sum(size for size in _sizes(shape, layout) if size >= PERSISTENT)
    together = shape.layers * sum(size for size in shape.matrices.values() if size >= PERSISTENT)
    return layout.element * (min(n, LIVE) + min(together, PREFETCHED))


def memory(shape: Shape, layout: Layout, *, gpu: bool = True) -> Memory:
    """What the device with the most needs, of a mesh of devices."""
    t, e = layout.tensor, layout.element
    local = cut(shape, layout)
    found = states(local, layout)
    part = {
        name: sum(s.bytes for s in found if s.part == name) for name in ("weights", "gradients", "optimizer", "buffers")
    }
    every = local.parameters
    gathered = 0
    if layout.exact:
        part["gradients"] += 4 * every * max(1, len(levels(layout.accumulation)))
    elif layout.zero < 2:
        part["gradients"] += 4 * every
    elif layout.zero == 2:
        part["gradients"] += 4 * -(-every // layout.gradient_ranks)
        # One bucket is filled while another is under way; a larger tensor has one of its size.
        bucket = max(layout.bucket, *_sizes(local, layout))
        filled = layout.accumulation * every
        buckets = 0 if layout.gradient_ranks == 1 else 2 if filled > layout.bucket else 1
        if buckets and filled <= 2 * layout.bucket:  # nothing comes back before the last backward pass is done
            part["gradients"] = 0
        part["buffers"] += layout.communication_bytes * bucket * buckets
    if layout.zero == 3:
        gathered = _gathered(local, layout)
    if layout.offload_optimizer:
        part["optimizer"] = 0
        part["gradients"] = 0 if layout.zero >= 2 else part["gradients"]
    m = layout.micro_tokens
    saved, working = activations(shape, layout)
    last = m * (e * shape.hidden + _norm(shape, layout) + e * shape.hidden)  # the last norm, and the gradient of hidden
    rows = min(layout.chunk, m)
    matrix = shape.embedding // t
    # The gradient of the output layer's matrix is summed in float32, in chunks whose product is as large again.
    chunk = rows * shape.vocab // t * (4 if gpu else e) + matrix * (4 if e == 4 else 4 + e)
    summed = part["gradients"]
    moments = [
        # (beside states: gradients, activations, logits, gathered parameters):
        # the loss, where gradients are those of earlier micro-batches,
        (summed if layout.accumulation > 1 or layout.zero == 3 else 0, saved + last, chunk, gathered),
        # the output layer's backward,
        (summed, saved + last, matrix * e, gathered),
        # a block's.
        (summed, saved + m * e * shape.hidden + working, 0, gathered),
    ]
    if layout.zero == 3 and not layout.offload_optimizer:
        # DeepSpeed's update: a flat copy of a group's gradients; then the parameters that stay whole, gathered anew.
        ranks = layout.gradient_ranks
        copied = max(sum(-(-n // ranks) for n in sizes) for sizes, _ in _groups(local, layout))
        moments.append((summed + 4 * min(copied, SUB_GROUP), 0, 0, 0))
        if ranks > 1:
            moments.append((summed, 0, 0, gathered + e * persistent(local, layout)))
    part["gradients"], activations_bytes, logits, gathered = max(moments, key=sum)
    part["buffers"] += gathered
    total = sum(part.values()) + activations_bytes + logits
    margin = MARGIN_SHARE * total + CONTEXT_BYTES if gpu else 0
    return Memory(
        int(part["weights"]),
        int(part["gradients"]),
        int(part["optimizer"]),
        int(activations_bytes),
        int(logits),
        int(part["buffers"]),
        int(margin),
    )


def cut(shape: Shape, layout: Layout) -> Shape:
    """What a tensor rank of the first pipeline stage holds, as a shape: its share of matrices, whole norms."""
    t, p = layout.tensor, layout.pipeline
    if t == p == 1:
        return shape
    return Shape(
        shape.hidden,
        shape.intermediate // t,
        -(-shape.layers // p),
        max(1, shape.heads // t),
        max(1, shape.kv_heads // t),
        shape.head_width,
        -(-shape.vocab // t),
        shape.tied or p > 1,  # embedding and output layer are on different stages
        shape.qk_norm,
        shape.gated,
    )


def gpt_activation_bytes(
    sequence: int, batch: int, hidden: int, heads: int, tensor: int = 1, *, sequence_parallel: bool, checkpointing: str
) -> float:
    """Bytes of a layer's activations in 16 bits without fused attention: table 2 of Korthikanti et al. 2022."""
    sbh = float(sequence * batch * hidden)
    if checkpointing == "full":
        return 2 * sbh
    outside = 10.0 / (tensor if sequence_parallel else 1)
    core = 5.0 * heads * sequence / (hidden * tensor) if checkpointing == "none" else 0.0
    return sbh * (outside + 24.0 / tensor + core)
