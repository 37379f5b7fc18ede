"""Optimizers over the parameters of a model.

AdamW and Lion update each element on its own, so they give the same result on whole parameters and on the flat cuts
that ZeRO hands them; Muon (`raypt.training.optim.muon`) has the cuts of its matrices put together.
"""

import difflib
import fnmatch
from collections.abc import Callable, Iterable
from typing import Any

import torch

from raypt.errors import UserError
from raypt.model import Llama
from raypt.training.config import OptimizerConfig
from raypt.training.optim.muon import Muon


class Lion(torch.optim.Optimizer):
    """Lion (Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms"): the sign of an interpolated momentum,
    decoupled decay. One state an element instead of AdamW's two; its rate is usually 3 to 10 times lower.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if "exp_avg" not in state:
                    state["exp_avg"] = torch.zeros_like(p)
                momentum = state["exp_avg"]
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(torch.lerp(p.grad, momentum, beta1).sign_(), alpha=-group["lr"])
                momentum.lerp_(p.grad, 1 - beta2)


def build_optimizer(model: Llama, config: OptimizerConfig) -> torch.optim.Optimizer:
    """The configured optimizer at its peak rate, matrices decayed and vectors not.

    Raises:
        UserError: an entry of `groups` that no parameter matches.
    """
    named = list(model.named_parameters())
    matrices = [(name, p) for name, p in named if _dimensions(p) >= 2]
    vectors = [(name, p) for name, p in named if _dimensions(p) < 2]
    kinds: list[tuple[list[tuple[str, torch.nn.Parameter]], dict[str, Any]]] = [
        (matrices, {"weight_decay": config.weight_decay}),
        (vectors, {"weight_decay": 0.0}),
    ]
    if config.kind == "muon":
        outer = {id(model.model.embed_tokens.weight), id(model.lm_head.weight)}
        kinds[0] = ([(name, p) for name, p in matrices if id(p) in outer], kinds[0][1])
        inner = [(name, p) for name, p in matrices if id(p) not in outer]
        kinds.insert(0, (inner, {"weight_decay": config.weight_decay, "muon": True}))
    for i, own in enumerate(config.groups):
        if not any(fnmatch.fnmatchcase(name, own.match) for name, _ in named):
            near = difflib.get_close_matches(own.match, [name for name, _ in named], 1, 0)
            raise UserError(
                f"train.optimizer.groups[{i}].match={own.match}: no parameter has such a name; one is {near[0]}"
            )
    groups = [group for of, settings in kinds for group in _split(of, settings, config)]
    if config.kind == "muon":
        return Muon(groups, lr=config.lr, momentum=config.momentum, betas=config.betas, eps=config.eps)
    if config.kind == "lion":
        return Lion(groups, lr=config.lr, betas=config.betas)
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=True)


def _split(
    named: list[tuple[str, torch.nn.Parameter]], settings: dict[str, Any], config: OptimizerConfig
) -> list[dict[str, Any]]:
    """Those with settings of their own apart, none empty; all others together, first."""
    parts: dict[int, list[torch.nn.Parameter]] = {}
    for name, p in named:
        own = next((i for i, group in enumerate(config.groups) if fnmatch.fnmatchcase(name, group.match)), -1)
        parts.setdefault(own, []).append(p)
    out = []
    for own, params in sorted(parts.items()):
        group = {"params": params, **settings}
        if own >= 0:
            said = config.groups[own]
            group["lr"] = config.lr * said.lr_scale
            if said.weight_decay is not None:
                group["weight_decay"] = said.weight_decay
        out.append(group)
    return out


def _dimensions(parameter: torch.nn.Parameter) -> int:
    """Of the whole parameter: ZeRO 3 leaves an empty placeholder in its place."""
    return len(getattr(parameter, "ds_shape", parameter.shape))
