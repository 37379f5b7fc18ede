"""Selective activation checkpointing: results of matrix products and attention kernels are kept, the rest of a block is
computed again.

torch's `create_selective_checkpoint_contexts` numbers all operations of a block, and both passes must make the same
ones. Under ZeRO stage 3 they do not: the weights of a block are gathered inside of it, each time those that are not
there yet. Here only the operations whose results are kept are counted, and gathering makes none of those.
"""

from collections import defaultdict, deque
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

_PRODUCTS = {torch.ops.aten.mm.default, torch.ops.aten.addmm.default}


def _kept(op: Any) -> bool:
    return op in _PRODUCTS or "scaled_dot_product" in str(op)


class _Kept:
    """A result without its history, and how often its memory had been written when it was kept."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor.detach()
        self.version = self.tensor._version

    def taken(self) -> Tensor:
        assert self.tensor._version == self.version, "a result that is kept for the backward pass was overwritten"
        return self.tensor


class _Mode(TorchDispatchMode):
    supports_higher_order_operators = True

    def __init__(self, results: dict[Any, deque[Any]]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.results = results
        """Of each operation, in the order in which they came."""

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        """A compiled block (`train.compile`) runs as it is, and is computed again as a whole."""
        return True


class _Keeping(_Mode):
    """The forward pass."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if _kept(func):
            self.results[func].append(tree_map(lambda x: _Kept(x) if isinstance(x, Tensor) else x, out))
        return out


class _Taking(_Mode):
    """The block again, before its backward pass."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not _kept(func):
            return func(*args, **(kwargs or {}))
        assert self.results[func], f"{func} was not computed in the forward pass, or its block is taken back twice"
        return tree_map(lambda x: x.taken() if isinstance(x, _Kept) else x, self.results[func].popleft())


def selective_contexts() -> tuple[_Mode, _Mode]:
    """For `torch.utils.checkpoint.checkpoint(..., context_fn=selective_contexts)`."""
    results: dict[Any, deque[Any]] = defaultdict(deque)
    return _Keeping(results), _Taking(results)
