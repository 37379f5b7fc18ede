"""Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon): momentum whose matrices are made orthogonal."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from raypt.parallel.zero.matrices import Matrices

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic x -> a x + b x^3 + c x^5 (Jordan's): steepest at 0, and close to 1 rather than at it."""
ITERATIONS = 5


def orthogonalise(matrix: Tensor) -> Tensor:
    """The matrix with its singular values moved near 1 by Newton-Schulz iterations, in float32 on a CPU and bfloat16
    on an accelerator, where the products are many times faster and the published recipe uses it. A zero matrix stays
    zero.
    """
    a, b, c = COEFFICIENTS
    x = matrix.to(torch.float32 if matrix.device.type == "cpu" else torch.bfloat16)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / (x.norm() + 1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    out: Tensor = (x.T if tall else x).to(matrix.dtype)
    return out


def scaled_update(matrix: Tensor) -> Tensor:
    """The orthogonal update scaled by 0.2 sqrt(max(rows, columns)): its root mean square is then about the 0.2 of
    AdamW's, so that AdamW's rate and decay carry over (Moonlight, Liu et al. 2025, section 2.2).
    """
    return orthogonalise(matrix) * (0.2 * math.sqrt(max(matrix.shape)))


class Muon(torch.optim.Optimizer):
    """Muon for the groups with `muon: True`, AdamW for the others: embeddings, the output layer and vectors.

    Nesterov momentum is element by element, so its state (`momentum`) lies in ZeRO's cuts and is saved and resharded
    like any other. Whole matrices (stage 0) are updated where they are; for cuts of them `bind` must have been called.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, {**defaults, "muon": False})
        self._make: Callable[[], Matrices] | None = None
        self._matrices: Matrices | None = None

    def bind(self, matrices: Callable[[], Matrices]) -> None:
        """See raypt.parallel.zero.matrices.WantsMatrices."""
        self._make, self._matrices = matrices, None

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    (self._step_muon if group["muon"] else self._step_adamw)(p, group)

    def _step_muon(self, p: Tensor, group: dict[str, Any]) -> None:
        assert p.grad is not None
        state = self.state[p]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(p)
        momentum = state["momentum"].lerp_(p.grad, 1 - group["momentum"])
        direction = p.grad.lerp(momentum, group["momentum"])  # Nesterov's look-ahead
        if self._make is None and p.dim() == 2:
            update = scaled_update(direction)
        else:
            update = self._whole().map(p, direction.reshape(-1), scaled_update).view_as(p)
        p.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-group["lr"])

    def _step_adamw(self, p: Tensor, group: dict[str, Any]) -> None:
        assert p.grad is not None
        state = self.state[p]
        if "exp_avg" not in state:
            state["step"] = torch.zeros(())
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(p), torch.zeros_like(p)
        beta1, beta2 = group["betas"]
        adamw(
            [p], [p.grad], [state["exp_avg"]], [state["exp_avg_sq"]], [], [state["step"]], foreach=False,
            amsgrad=False, beta1=beta1, beta2=beta2, lr=group["lr"], weight_decay=group["weight_decay"],
            eps=group["eps"], maximize=False,
        )  # fmt: skip

    def _whole(self) -> Matrices:
        if self._matrices is None:
            assert self._make is not None, "cuts of matrices, and no way to put them together: bind() first"
            self._matrices = self._make()
        return self._matrices
