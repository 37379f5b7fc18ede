"""A model as those see it who judge it: how likely it finds a text, and what it writes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from raypt.model import Llama
from raypt.model.generation import generate
from raypt.model.scoring import Pair, Scored, score


class Judged(Protocol):
    """In one process (`WholeModel`), or on a mesh of ranks (`raypt.training.judged_on_mesh`)."""

    @property
    def max_length(self) -> int:
        """Inputs of a forward pass at most; contexts are cut from the left."""

    def log_probability(self, pairs: Sequence[Pair]) -> float:
        """The sum over all tokens of all continuations, nats. Raises as `check_pairs` does."""

    def score(self, pairs: Sequence[Pair]) -> list[Scored]:
        """Of each continuation. Raises as `check_pairs` does."""

    def generate(
        self,
        prompt: list[int],
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        stop: int | None = None,
    ) -> list[int]:
        """See `raypt.model.generation.generate`."""


@dataclass(frozen=True)
class WholeModel:
    """A model that one process holds."""

    model: Llama
    max_length: int
    batch_size: int
    """Sequences a forward pass."""

    def log_probability(self, pairs: Sequence[Pair]) -> float:
        """See Judged."""
        return sum(s.log_probability for s in self.score(pairs))

    def score(self, pairs: Sequence[Pair]) -> list[Scored]:
        """See Judged."""
        return score(self.model, pairs, max_length=self.max_length, batch_size=self.batch_size)

    def generate(
        self,
        prompt: list[int],
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        stop: int | None = None,
    ) -> list[int]:
        """See Judged."""
        return generate(
            self.model,
            prompt,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            stop=stop,
        )
