"""Over how many ranks a sequence can be cut, and which of its positions a rank has."""

from raypt.model import ModelConfig


def valid_sizes(model: ModelConfig, tensor: int = 1) -> list[int]:
    """Numbers of ranks that the heads of one of `tensor` ranks can be exchanged between: whole query heads a rank, and
    whole key/value heads a rank or equally many ranks a key/value head.
    """
    heads, kv = model.num_heads // tensor, max(1, model.num_kv_heads // tensor)
    return [c for c in range(1, heads + 1) if heads % c == 0 and (kv % c == 0 or c % kv == 0)]


def positions(length: int, size: int, rank: int) -> slice:
    """The run of positions of one of `size` ranks: neighbours in the sequence, equally many each. What they compute is
    the same work, since attention is shared out by heads and not by positions.
    """
    assert length % size == 0, f"{length} positions over {size} ranks"
    each = length // size
    return slice(rank * each, (rank + 1) * each)
