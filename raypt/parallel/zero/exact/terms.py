"""Sums inside of the backward pass, in one order."""

from typing import Any

from torch import Tensor

from raypt.model import Llama
from raypt.model.llama import RMSNorm


def group_terms(model: Llama) -> None:
    """Add up a norm's own terms of the gradient of its input before those of others, at every stage.

    What a norm is made from uses its input twice, and the residual beside it once more. Autograd adds the three up as
    they come, unless there is a node between: stage 3 of ZeRO puts one there, which watches each module's backward
    pass, and other stages do not.
    """
    for module in model.modules():
        if isinstance(module, RMSNorm):
            module.register_forward_pre_hook(_apart)


def _apart(module: Any, args: tuple[Tensor]) -> tuple[Tensor]:
    return (args[0].view_as(args[0]),)
