"""Bytes on a device: model states (`raypt.run.planner.states`), activations, logits, buffers.

`zero_bytes` is the closed form of the ZeRO paper (Rajbhandari et al. 2020, figure 1). Activations of the LLaMA block
are counted by what autograd keeps of each operation; `gpt_activation_bytes` is table 2 of Korthikanti et al. 2022
(arXiv 2205.05198).
"""

from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

from raypt.parallel.zero.exact.tree import levels
from raypt.run.planner.shape import Layout, Shape
from raypt.run.planner.states import buckets, held

CACHED_BYTES = 4 << 20
"""Of float32 logits that a CPU passes over at a time."""
BLOCK = 64
"""Queries of a block of raypt's attention on CPUs."""
KEPT = 2048
"""Tokens of the longest row of which it keeps the probabilities."""
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
        held = self.weights + self.gradients + self.optimizer + self.activations + self.logits + self.buffers
        return held + self.margin

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


def _norm(width: int, layout: Layout, rows: int = 1) -> float:
    """What a norm keeps of `width` elements in `rows`, without its output."""
    if layout.fused_norms:
        return layout.element * width + 4.0 * rows
    return 8.0 * width + 4 * rows  # the input and the scaled input in float32


def _core(shape: Shape, layout: Layout) -> float:
    """What attention's core keeps, beside queries, keys, values and output."""
    match layout.attention:
        case "blocked":
            if layout.length > KEPT:
                return 4.0 * shape.heads + layout.element * shape.attention_width
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
    outside = 2 * (_norm(h, layout) + e * h)
    queries: float = e * (shape.attention_width + 2 * shape.kv_width)
    if shape.qk_norm:
        queries += _norm(shape.attention_width + shape.kv_width, layout, shape.heads + shape.kv_heads)
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


def activations(shape: Shape, layout: Layout) -> tuple[float, float, float]:
    """(bytes kept through the forward pass, bytes of a block that come back for its backward pass, of working it)."""
    stage = layout.pipeline
    blocks = -(-shape.layers // stage)
    # 1F1B: the first stage holds as many micro-batches as there are stages; interleaving adds (p - 1) / (p v).
    under_way = min(stage, layout.accumulation) * (
        1 + ((stage - 1) / (stage * layout.virtual) if layout.virtual > 1 else 0)
    )
    if stage > 1 and layout.schedule == "gpipe":
        under_way = layout.accumulation
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
    return saved, max(again, 0.0), working


def _logits(layout: Layout, words: int, matrix: int, *, gpu: bool) -> int:
    """Bytes of working of the loss (`raypt.model.loss`): a chunk's logits, and the gradient of the output layer's
    matrix, which is summed in float32. In 16 bits the chunk's softmax is in float32, on a CPU some rows at a time; each
    chunk's product is added to the sum, on a CPU by way of a copy in float32."""
    rows = min(layout.chunk, layout.micro_tokens)
    held = layout.element * rows * words + 4 * matrix
    if layout.element == 4:
        return held
    at_once = rows if gpu else min(rows, max(1, CACHED_BYTES // (4 * words)))
    copied = 4 * matrix if not gpu and layout.micro_tokens > rows else 0
    return held + max(4 * at_once * words, layout.element * matrix + copied)


def memory(shape: Shape, layout: Layout, *, gpu: bool = True) -> Memory:
    """What the device with the most needs, of a mesh of devices."""
    t, e = layout.tensor, layout.element
    local = cut(shape, layout)
    kept_on = held(local, layout)
    part = {name: getattr(kept_on, name) for name in ("weights", "gradients", "optimizer", "buffers")}
    # Of stage 3, gathered parameters; of stage 2, whether sums are there before and in the last backward pass, and
    # buckets.
    whole, kept_whole, there, beside = 0, 0, (True, True), (0, 0)
    if layout.exact:
        part["gradients"] += 4 * local.parameters * max(1, len(levels(layout.accumulation)))
    elif layout.zero < 2:
        part["gradients"] += 4 * local.parameters
    elif layout.zero == 2:
        part["gradients"] += 4 * -(-local.parameters // layout.gradient_ranks)
        if layout.gradient_ranks > 1:
            travel = buckets(local, layout.bucket, layout.accumulation)
            there = travel.received_before, travel.received
            beside = (layout.communication_bytes * travel.before, layout.communication_bytes * travel.most)
    if layout.zero == 3:
        kept_whole, arriving = kept_on.gathered
        whole = kept_whole + arriving
    if layout.offload_params:
        part["weights"] = 0
    if layout.offload == "other":
        part["optimizer"] = 0
        part["gradients"] = 0 if layout.zero >= 2 else part["gradients"]
    m = layout.micro_tokens
    saved, again, working = activations(shape, layout)
    last = m * (2 * e * shape.hidden + _norm(shape.hidden, layout))  # the last norm, and the gradient of hidden
    matrix = shape.embedding // t
    chunk = _logits(layout, shape.vocab // t, matrix, gpu=gpu)
    summed = part["gradients"]
    earlier = summed if layout.zero == 3 or (layout.accumulation > 1 and there[0]) else 0
    later = summed if there[1] else 0
    shared = matrix * e if local.tied and layout.pipeline == 1 else 0  # waits for the embedding's own gradient
    moments = [
        # (beside states: gradients, activations, logits, gathered parameters and buckets):
        # the loss, where gradients are those of earlier micro-batches,
        (earlier, saved + last, chunk, whole + beside[0]),
        # the output layer's backward,
        (later, saved + last, matrix * e, whole + beside[1]),
        # a block's,
        (later, saved + m * e * shape.hidden + again + working, shared, whole + beside[1]),
        # the end of the step.
        (summed, 0, 0, beside[1]),
    ]
    if layout.zero == 3 and layout.offload != "other":
        # DeepSpeed's update: a flat copy of what is updated at once of the gradients. Parameters that stay whole are
        # let go of before they are gathered anew.
        moments.append((summed + 4 * kept_on.copied, 0, 0, 0))
    if layout.zero == 3 and layout.gradient_ranks > 1:
        # DeepSpeed sends a bucket, or a larger tensor, from a copy cut up by ranks, of which gloo makes another.
        copy = layout.communication_bytes * (1 if gpu else 2)
        # No gathering is under way then, unless not all of the parameters may be whole at a time.
        there_then = kept_whole + (arriving if kept_whole == e * layout.live else 0)
        travel = buckets(local, layout.bucket, 1)
        for filled, share in travel.sent:  # activations go as gradients come
            left = saved + m * e * shape.hidden + again * (1 - share)
            moments.append((summed, left, shared, there_then + copy * filled))
        moments.append((summed, m * e * shape.hidden, matrix * e + shared, there_then + copy * travel.last))
        if matrix > layout.bucket:
            moments.append((summed, saved + last, matrix * e, there_then + copy * matrix))
    part["gradients"], activations_bytes, logits, travelling = max(moments, key=sum)
    part["buffers"] += travelling
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
    return _cut(shape, layout.tensor, layout.pipeline)


@lru_cache(maxsize=4096)
def _cut(shape: Shape, t: int, p: int) -> Shape:
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
