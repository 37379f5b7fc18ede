"""Text continuation with a key/value cache."""

from collections.abc import Callable

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
    cache = KVCache.empty()

    def following(new: list[int]) -> Tensor:
        logits_V: Tensor = model(torch.tensor([new], device=device), cache=cache)[0, -1]
        return logits_V.float().cpu()

    return continued(
        following, prompt, max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p, seed=seed, stop=stop
    )


def continued(
    following: Callable[[list[int]], Tensor],
    prompt: list[int],
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    stop: int | None = None,
) -> list[int]:
    """As `generate`, of whatever knows what follows: `following(new)` gives the logits (V, float32, on the CPU) after
    the ids so far, of which `new` came since it was last asked.
    """
    generator = torch.Generator().manual_seed(seed)
    out: list[int] = []
    new = list(prompt)
    for _ in range(max_new_tokens):
        logits_V = following(new)
        token = int(logits_V.argmax()) if temperature <= 0 else _sample(logits_V / temperature, top_p, generator)
        if token == stop:
            break
        out.append(token)
        new = [token]
    return out


def _sample(logits_V: Tensor, top_p: float, generator: torch.Generator) -> int:
    p_V, order_V = logits_V.softmax(0).sort(descending=True)
    outside_V = p_V.cumsum(0) - p_V >= top_p
    p_V = p_V.masked_fill(outside_V, 0.0)
    return int(order_V[torch.multinomial(p_V, 1, generator=generator)])
