"""Numbers of tensor ranks that a model can be cut over; without torch, for what only plans."""

from raypt.model.config import ModelConfig


def valid_sizes(model: ModelConfig) -> list[int]:
    """Numbers of ranks that the heads can be cut over: whole query heads a rank, and whole key/value heads a rank or
    equally many ranks a key/value head.
    """
    heads, kv = model.num_heads, model.num_kv_heads
    return [t for t in range(1, heads + 1) if heads % t == 0 and (kv % t == 0 or t % kv == 0)]
