"""Text continuation with a key/value cache."""

import torch
from torch import Tensor

from raypt.model.llama import KVCache, Llama


@torch.no_grad()
def generate(
    model: Llama,
    prompt: list[int],
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    stop: int | None = None,
) -> list[int]:
    """Ids that continue `prompt` (not included), at most `max_new_tokens`, ending before the id `stop`.

    `temperature` 0 is greedy. `top_p` keeps the smallest set of ids whose probability reaches it (nucleus sampling,
    Holtzman et al. 2020).
    """
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    cache = KVCache.empty()
    step = torch.tensor([prompt], device=device)
    out: list[int] = []
    for _ in range(max_new_tokens):
        logits_V = model(step, cache=cache)[0, -1].float().cpu()
        token = int(logits_V.argmax()) if temperature <= 0 else _sample(logits_V / temperature, top_p, generator)
        if token == stop:
            break
        out.append(token)
        step = torch.tensor([[token]], device=device)
    return out


def _sample(logits_V: Tensor, top_p: float, generator: torch.Generator) -> int:
    p_V, order_V = logits_V.softmax(0).sort(descending=True)
    outside_V = p_V.cumsum(0) - p_V >= top_p
    p_V = p_V.masked_fill(outside_V, 0.0)
    return int(order_V[torch.multinomial(p_V, 1, generator=generator)])
