"""Is the run itself sensible: its tokens, repetition, learning rate and batch beside published fits."""

import math
from dataclasses import dataclass
from typing import Any

CHINCHILLA = 20.0
"""Tokens a parameter at the compute optimum (Hoffmann et al. 2022, table 3)."""
REPETITION_HALF = 15.39
"""R*_D of Muennighoff et al. 2023: repetitions at which a repeated token is worth 1 - 1/e less."""


@dataclass(frozen=True)
class Finding:
    """One figure of the run beside what is known of it."""

    name: str
    value: float | None
    low: float
    high: float
    source: str
    uncertainty: str
    remark: str = ""

    @property
    def inside(self) -> bool:
        return self.value is None or self.low <= self.value <= self.high

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name, "value": self.value, "low": self.low, "high": self.high, "inside": self.inside,
            "source": self.source, "uncertainty": self.uncertainty, "remark": self.remark,
        }  # fmt: skip


def loss_of(parameters: float, tokens: float) -> float:
    """Nats a token on web text by Besiroglu et al. 2024 (their replication of Chinchilla's third method)."""
    return 1.8172 + float(482.01 / parameters**0.3478 + 2085.43 / tokens**0.3658)


def worth(unique: float, tokens: float) -> float:
    """Fresh tokens that `tokens`, drawn from `unique`, are worth (Muennighoff et al. 2023, eq. 5)."""
    if tokens <= unique:
        return tokens
    repetitions = tokens / unique - 1
    return unique * (1 + REPETITION_HALF * (1 - math.exp(-repetitions / REPETITION_HALF)))


def findings(
    parameters: int, tokens: float, unique: float | None, flops: float, lr: float, batch_tokens: int
) -> list[Finding]:
    """`parameters` without embeddings; `flops` of the whole run."""
    ratio = tokens / parameters
    out = [
        Finding(
            "tokens a parameter", ratio, CHINCHILLA / 2, 100 * CHINCHILLA,
            "Hoffmann et al. 2022: about 20 at the compute optimum; Besiroglu et al. 2024 replicate it",
            "a factor of 1.5 either way between fits",
            "fewer: a smaller model would be better at the same cost" if ratio < CHINCHILLA / 2 else
            "more than the optimum: a better model to serve than to train" if ratio > 2 * CHINCHILLA else "",
        ),
    ]  # fmt: skip
    if unique is not None:
        epochs = tokens / unique
        value = worth(unique, tokens) / tokens
        out.append(
            Finding(
                "epochs over the data", epochs, 0.0, 4.0,
                "Muennighoff et al. 2023: up to 4 epochs are nearly as good as new data",
                "fitted on English C4 up to 9 B parameters",
                f"the tokens are worth {value:.0%} of as many new ones",
            )
        )  # fmt: skip
    # DeepSeek LLM (2024), eq. 1; C is compute in FLOPs of training.
    rate = 0.3118 * flops**-0.1250
    batch = 0.2920 * flops**0.3271
    step_rate = 1.79 * parameters**-0.713 * tokens**0.307
    step_batch = 0.58 * tokens**0.571
    out += [
        Finding(
            "learning rate", lr, min(rate, step_rate) / 2, max(rate, step_rate) * 2,
            f"DeepSeek LLM 2024: {rate:.2e}; Step Law (Li et al. 2025): {step_rate:.2e}",
            "the loss is flat within a factor of 2 of the best rate",
        ),
        Finding(
            "tokens a batch", float(batch_tokens), min(batch, step_batch) / 3, max(batch, step_batch) * 3,
            f"DeepSeek LLM 2024: {batch:.3g}; Step Law (Li et al. 2025): {step_batch:.3g}",
            "the loss is flat within a factor of 3 of the best batch",
        ),
    ]  # fmt: skip
    return out
