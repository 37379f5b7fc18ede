"""How likely a model finds given text: sums of log-probabilities of chosen tokens, in batches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from raypt.model.llama import Llama


@dataclass(frozen=True)
class Scored:
    """Of one continuation."""

    log_probability: float
    """Sum over its tokens, nats."""
    is_greedy: bool
    """Each of its tokens is the most likely one."""


Pair = tuple[Sequence[int], Sequence[int]]
"""Ids of a context, and of the continuation that is scored after it."""


def check_pairs(pairs: Sequence[Pair], max_length: int) -> None:
    """Raises ValueError for an empty context (there is nothing to predict the first token from), and for a continuation
    longer than `max_length`.
    """
    for context, continuation in pairs:
        if not context:
            raise ValueError("a continuation needs at least one token before it, e.g. BOS or EOS")
        if len(continuation) > max_length:
            raise ValueError(f"a continuation of {len(continuation)} tokens does not fit max_length={max_length}")


def longest_first(pairs: Sequence[Pair]) -> list[int]:
    """Indices of the pairs in the order in which they are scored: those of one batch are about as long."""
    return sorted(range(len(pairs)), key=lambda i: -(len(pairs[i][0]) + len(pairs[i][1])))


@torch.no_grad()
def score(model: Llama, pairs: Sequence[Pair], *, max_length: int, batch_size: int = 8) -> list[Scored]:
    """Score each pair. A context is cut from the left to fit `max_length` inputs. Raises as `check_pairs` does."""
    check_pairs(pairs, max_length)
    device = next(model.parameters()).device
    out: list[Scored] = [Scored(0.0, True)] * len(pairs)
    order = longest_first(pairs)
    for at in range(0, len(order), batch_size):
        members = [i for i in order[at : at + batch_size] if pairs[i][1]]
        if not members:
            continue
        sequences = [[*pairs[i][0], *pairs[i][1]][-(max_length + 1) :] for i in members]
        longest = max(map(len, sequences)) - 1
        tokens_BS = torch.zeros(len(members), longest, dtype=torch.int64)
        for b, sequence in enumerate(sequences):
            tokens_BS[b, : len(sequence) - 1] = torch.tensor(sequence[:-1])
        hidden_BSE = model.hidden(tokens_BS.to(device))
        for b, (i, sequence) in enumerate(zip(members, sequences, strict=True)):
            n, end = len(pairs[i][1]), len(sequence) - 1
            logits_NV = model.lm_head(hidden_BSE[b, end - n : end]).float()
            out[i] = scored(logits_NV, torch.tensor(sequence[-n:], device=device))
    return out


def scored(logits_NV: Tensor, targets_N: Tensor) -> Scored:
    """Of a continuation, from the logits of the positions before its tokens, float32."""
    picked = logits_NV.log_softmax(1).gather(1, targets_N[:, None])
    return Scored(float(picked.double().sum()), bool((logits_NV.argmax(1) == targets_N).all()))


def windows(
    ids: Sequence[int], first_context: int | None, max_length: int, stride: int
) -> Iterator[tuple[list[int], list[int]]]:
    """Cut a text so that each token is scored once: (context, continuation) pairs of at most `max_length` inputs, a new
    pair every `stride` tokens. `first_context` stands before the first token; None = the first token is no more than
    the context of the second.
    """
    if not 0 < stride <= max_length:
        raise ValueError(f"stride must be between 1 and max_length={max_length}, not {stride}")
    text = list(ids) if first_context is None else [first_context, *ids]
    scored = len(text) - 1
    for start in range(0, scored, stride):
        end = min(start + stride, scored)
        low = max(0, end - max_length)
        yield text[low : start + 1], text[start + 1 : end + 1]
