"""Which part of each parameter a tensor rank holds (Shoeybi et al. 2019, section 3)."""

from raypt.model import ModelConfig
from raypt.model.llama import parameter_shapes
from raypt.parallel.layout import Layout, Part
from raypt.parallel.state import Box, Shape
from raypt.parallel.tensor.sizes import valid_sizes

_ROWS = ("gate_proj.weight", "up_proj.weight", "embed_tokens.weight", "lm_head.weight")
_HEAD_ROWS = ("q_proj.weight",)
_KV_ROWS = ("k_proj.weight", "v_proj.weight")
_COLUMNS = ("down_proj.weight",)
_HEAD_COLUMNS = ("o_proj.weight",)
_HEAD_NORMS = ("q_norm.weight", "k_norm.weight")


def share(total: int, size: int, rank: int) -> tuple[int, int]:
    """Where the rank's share of `total` things begins, and how many it is: shares differ by one at most."""
    first = total * rank // size
    return first, total * (rank + 1) // size - first


def kv_heads(model: ModelConfig, size: int, rank: int) -> tuple[int, int]:
    """First key/value head and number of them that the rank's query heads attend with. Where there are fewer than
    ranks, neighbours hold the same one.
    """
    if model.num_kv_heads >= size:
        return share(model.num_kv_heads, size, rank)
    return rank * model.num_kv_heads // size, 1


def layout(model: ModelConfig, size: int, rank: int, *, sequence_parallel: bool) -> Layout:
    """The parts of one of `size` tensor ranks.

    Query, key and value projections are cut by heads, the feed-forward layer by its inner width, the embedding and the
    output layer by the vocabulary; what follows them by columns. Widths that do not divide give shares that differ by
    one. Norms are held by all: with `sequence_parallel` each rank sees a part of the positions, so that its gradient is
    a term; those of single heads see the rank's own heads alone in any case.
    """
    assert size in valid_sizes(model)
    return {
        name: _part(model, name, tuple(shape), size, rank, sequence_parallel)
        for name, shape in parameter_shapes(model).items()
    }


def _part(model: ModelConfig, name: str, shape: Shape, size: int, rank: int, sequence_parallel: bool) -> Part:
    width = model.head_width
    heads = tuple(width * n for n in share(model.num_heads, size, rank))
    if name.endswith(_ROWS):
        return Part(shape, _cut(shape, 0, share(shape[0], size, rank)), (rank,))
    if name.endswith(_HEAD_ROWS):
        return Part(shape, _cut(shape, 0, heads), (rank,))
    if name.endswith(_COLUMNS):
        return Part(shape, _cut(shape, 1, share(shape[1], size, rank)), (rank,))
    if name.endswith(_HEAD_COLUMNS):
        return Part(shape, _cut(shape, 1, heads), (rank,))
    if name.endswith(_KV_ROWS):
        first, count = kv_heads(model, size, rank)
        holders = tuple(r for r in range(size) if kv_heads(model, size, r) == (first, count))
        box = _cut(shape, 0, (width * first, width * count))
        return Part(shape, box, holders, counted=rank == holders[0], partial=len(holders) > 1)
    partial = size > 1 and (sequence_parallel or name.endswith(_HEAD_NORMS))
    return Part(shape, Box.whole(shape), tuple(range(size)), counted=rank == 0, partial=partial)


def _cut(shape: Shape, axis: int, run: tuple[int, ...]) -> Box:
    offset, length = [0] * len(shape), list(shape)
    offset[axis], length[axis] = run
    return Box(tuple(offset), tuple(length))
