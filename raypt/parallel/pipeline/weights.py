"""The gradients of weights, apart from those of inputs: what zero-bubble schedules put off (Qi et al. 2023).

A linear layer's backward pass is two products that need nothing of each other. Here it makes the one that the stage
before waits for, and notes what the other needs: the layer's input and the gradient of its output, which stay in memory
until then. Norms, the embedding and the output layer, whose gradients of weights are small or come with the loss, are
not split.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raypt.model.llama import Linear

Work = Callable[[], None]


class PutOff:
    """Work that a backward pass leaves for later, in its order."""

    def __init__(self) -> None:
        self._work: list[Work] = []
        self.watch: Callable[[Tensor], None] = lambda tensor: None
        """Told of tensors that are kept for the work."""

    def add(self, work: Work) -> None:
        self._work.append(work)

    def taken(self) -> list[Work]:
        """What has been added since the last call."""
        work, self._work = self._work, []
        return work


def split(modules: Iterable[nn.Module], put_off: PutOff) -> None:
    """Let the linear layers in some modules put off the gradients of their weights, from now on."""
    for module in modules:
        for layer in module.modules():
            if isinstance(layer, Linear):
                layer.forward = partial(_linear, layer, put_off)  # type: ignore[method-assign]


def _linear(layer: Linear, put_off: PutOff, x: Tensor) -> Tensor:
    if not torch.is_grad_enabled():
        return F.linear(x, layer.weight, layer.bias)
    apply: Callable[..., Tensor] = _InputGradient.apply
    return apply(x, layer.weight.detach(), layer.bias, layer, put_off)  # autograd does not see the parameter


class _InputGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, layer: Linear, put_off: PutOff) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.layer, ctx.put_off = layer, put_off
        return F.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        x, weight = ctx.saved_tensors
        ctx.put_off.add(partial(_accumulate, ctx.layer.weight, x, grad))
        ctx.put_off.watch(x)
        ctx.put_off.watch(grad)
        bias = grad.flatten(0, -2).sum(0) if ctx.needs_input_grad[2] else None
        return grad @ weight, None, bias, None, None


def _accumulate(parameter: Tensor, x: Tensor, grad: Tensor) -> None:
    """The product that was put off, handed to autograd, whose hooks take it as any other gradient."""
    weight = grad.flatten(0, -2).T @ x.flatten(0, -2)
    torch.autograd.backward([parameter], [weight])
