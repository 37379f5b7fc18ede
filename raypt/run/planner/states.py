"""Tensors that outlive a step, exactly as raypt's engine allocates them, one by one; what ZeRO gathers beside them."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from raypt.run.planner.shape import Layout, Shape

ALIGNMENT = 2
"""DeepSpeed pads flat buffers to a multiple of this and the ranks (nccl_start_alignment_factor)."""


@dataclass(frozen=True)
class State:
    """A tensor that outlives a step."""

    part: str
    """weights, gradients, optimizer or buffers."""
    bytes: int


def _parameters(shape: Shape) -> tuple[list[int], list[int]]:
    """Elements of each matrix and of each vector of the model, in the order of the model."""
    matrices = [shape.embedding, *[*shape.matrices.values()] * shape.layers]
    matrices += [] if shape.tied else [shape.embedding]
    return matrices, [*shape.block_vectors * shape.layers, shape.hidden]


def groups(shape: Shape, layout: Layout) -> list[tuple[list[int], int]]:
    """Parameters that are optimised together, and how many float32 moments each element has."""
    matrices, vectors = _parameters(shape)
    if layout.optimizer == "muon":
        inner = 1 + shape.layers * len(shape.matrices)
        return [(matrices[1:inner], 1), (matrices[:1] + matrices[inner:], 2), (vectors, 2)]
    moments = 2 if layout.optimizer == "adamw" else 1
    return [(matrices, moments), (vectors, moments)]


def sizes(shape: Shape, layout: Layout) -> list[int]:
    """Elements of each parameter."""
    return [n for group, _ in groups(shape, layout) for n in group]


def updated_together(group: Iterable[int], layout: Layout) -> list[int]:
    """Stage 3: elements of a rank's parts of a group's parameters, as DeepSpeed cuts it up to update it."""
    out, filled = [], 0
    for n in group:
        filled += -(-n // layout.gradient_ranks)
        if filled >= layout.sub_group:
            out.append(filled)
            filled = 0
    return [*out, filled] if filled else out


def states(shape: Shape, layout: Layout) -> list[State]:
    """Every tensor that a rank's engine keeps from one step to the next."""
    d, stage = layout.gradient_ranks, layout.zero
    low, mixed = layout.element, layout.precision != "fp32"
    counter = layout.optimizer == "adamw"
    out: list[State] = []
    for group, moments in groups(shape, layout):
        if stage == 0:
            for n in group:
                out.append(State("weights", low * n))
                out += [State("optimizer", 4 * n)] * (moments + mixed)
                out += [State("optimizer", 4)] * counter
            continue
        if stage < 3:
            padded = -(-sum(group) // (ALIGNMENT * d)) * ALIGNMENT * d
            out.append(State("weights", low * padded))
            shares = [padded // d]
        else:
            shares = updated_together(group, layout)
        for share in shares:
            out += [State("optimizer", 4 * share)] * (1 + moments) + [State("optimizer", 4)] * counter
            if layout.offload != "none":
                out.append(State("optimizer", 4 * share))  # of gradients
                out += [State("optimizer", low * share)] * (stage < 3)
    if 0 < stage < 3 and layout.offload != "none":
        largest = low * max(sizes(shape, layout))  # a gradient on its way, at either end
        out += [State("buffers", largest), State("optimizer", largest)]
    if stage == 3:
        every = sizes(shape, layout)
        share = sum(-(-n // d) for n in every)
        out += [State("weights", low * share), State("gradients", 4 * share)]
        flag = 8 if layout.offload == "none" else 4
        out += [State("buffers", 4 * layout.bucket), State("buffers", flag), State("buffers", 1)]
        if d > 1:  # gathered of equal parts
            out += [State("buffers", low * d * -(-n // d)) for n in every if n <= layout.persistent]
    return out


@dataclass(frozen=True)
class Held:
    """What a rank keeps from one step to the next and gathers of ZeRO 3, summed up: bytes."""

    weights: int
    gradients: int
    optimizer: int
    buffers: int
    gathered: tuple[int, int]
    """Of stage 3 (`gathered`)."""
    copied: int
    """Elements, at stage 3: of the largest part of the parameters that is updated at once."""


def held(shape: Shape, layout: Layout) -> Held:
    """Of `states`, `gathered` and `updated_together`. Most layouts of a search differ in nothing that these depend on
    (micro-batch, checkpointing): one reckoning does for all of them."""
    return _held(shape, *(getattr(layout, name) for name in HELD_BY))


HELD_BY = (
    "data", "context", "zero", "precision", "optimizer", "bucket", "persistent", "live", "prefetched", "sub_group",
    "offload",
)  # fmt: skip
"""Fields of a layout that `held` depends on."""


@lru_cache(maxsize=4096)
def _held(shape: Shape, *values: Any) -> Held:
    layout = Layout(**dict(zip(HELD_BY, values, strict=True)))
    part = dict.fromkeys(("weights", "gradients", "optimizer", "buffers"), 0)
    for state in states(shape, layout):
        part[state.part] += state.bytes
    if layout.zero < 3:
        return Held(**part, gathered=(0, 0), copied=0)
    copied = max(n for group, _ in groups(shape, layout) for n in updated_together(group, layout))
    return Held(**part, gathered=gathered(shape, layout), copied=copied)


@lru_cache(maxsize=4096)
def _whole(shape: Shape, persistent: int) -> int:
    return sum(n for group in _parameters(shape) for n in group if n <= persistent)


def stays_whole(shape: Shape, layout: Layout) -> int:
    """Stage 3: elements of parameters that stay whole on every rank."""
    return _whole(shape, layout.persistent)


def gathered(shape: Shape, layout: Layout) -> tuple[int, int]:
    """Stage 3: bytes of parameters that are whole for a while, and of the buffer of the gathering under way, out of
    which several matrices of a block are copied; embedding and output layer come alone, and are not."""
    if layout.gradient_ranks == 1:
        return 0, 0
    n = sum(size for size in sizes(shape, layout) if size > layout.persistent)
    together = shape.layers * sum(size for size in shape.matrices.values() if size > layout.persistent)
    return layout.element * min(n, layout.live), layout.element * min(together, layout.prefetched)


@dataclass(frozen=True)
class Buckets:
    """Elements of the buffers in which gradients travel: those of stage 2 (`raypt.parallel.zero.gradients`)."""

    before: int
    """While the last micro-batch runs forward."""
    most: int
    """At most, in a backward pass."""
    received_before: bool
    """Whether anything has come back by then, so that a rank has its sum."""
    received: bool
    """Whether anything comes back in the last backward pass, or before."""
    sent: tuple[tuple[int, float], ...]
    """Of each bucket that is sent inside a block's backward pass, tensors larger than it aside: what it holds, and the
    share of the block's gradients that are there by then."""
    last: int
    """What the last one holds."""


PASSES = 3
"""Backward passes after which buffers have the size they keep."""


@lru_cache(maxsize=4096)
def buckets(shape: Shape, bucket: int, accumulation: int) -> Buckets:
    """Followed gradient by gradient in the order of a backward pass: a bucket is filled while the one before it is
    under way, in the memory of the one that came back, if that is large enough."""
    block = [*reversed(shape.matrices.values()), *shape.block_vectors]
    order = [*([] if shape.tied else [shape.embedding]), shape.hidden, *block * shape.layers, shape.embedding]
    filled = filling = sent = spare = most = before = 0
    sends: list[tuple[int, float]] = []
    first = 1 if shape.tied else 2
    received = had = False
    for _ in range(min(accumulation, PASSES)):
        before, had = filling + sent + spare, received
        for i, n in enumerate(order):
            if filled and filled + n > bucket:
                received |= sent > 0
                if filled <= bucket and first <= i < len(order) - 1:
                    arrived = block[: (i - first) % len(block) + 1]
                    sends.append((filled, sum(arrived) / sum(block)))
                spare, sent = sent or spare, filling
                filled = filling = 0
            if not filling:
                filling = spare if spare >= max(bucket, n) else max(bucket, n)
                spare = 0
            filled += n
            most = max(most, filling + sent + spare)
    return Buckets(before, most, had, received, tuple(sends), filled)
