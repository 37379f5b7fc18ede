"""How many bytes of activations a backward pass keeps alive, while they live."""

import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class _Saved:
    """A tensor that autograd keeps; what it keeps alive is counted as long as this is."""

    def __init__(self, tensor: Tensor, meter: "ActivationMeter") -> None:
        self.tensor, self.meter, self.address = tensor, meter, meter.hold(tensor)

    def __del__(self) -> None:
        self.meter.release(self.address)


class ActivationMeter:
    """Counts the memory of what autograd saves (each storage once, parameters not) and of what is held beside it: a
    checkpointed block's input, a stage's, and what weights' gradients wait for. Not what a checkpointed block has while
    it is computed again.
    """

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        self.bytes = self.peak = 0
        self._parameters = {_address(p) for p in parameters}
        self._held: dict[int, list[int]] = {}
        """By address of a storage: how many hold it, and its bytes."""

    @contextmanager
    def watching(self, blocks: Iterable[nn.Module]) -> Iterator[None]:
        """Count what is saved inside; `blocks`: modules whose inputs may be all that is kept of them."""
        hooks = [block.register_forward_pre_hook(lambda _, args: self.watch(args[0])) for block in blocks]
        with torch.autograd.graph.saved_tensors_hooks(self._pack, lambda saved: saved.tensor):
            yield
        for hook in hooks:
            hook.remove()

    def watch(self, tensor: Tensor) -> None:
        """Count a tensor as long as somebody has it."""
        weakref.finalize(tensor, self.release, self.hold(tensor)).atexit = False

    def hold(self, tensor: Tensor) -> int:
        """Count a tensor's memory until `release` is called with what this returns."""
        address = _address(tensor)
        if address in self._parameters:
            return 0
        held = self._held.setdefault(address, [0, tensor.untyped_storage().nbytes()])
        if held[0] == 0:
            self.bytes += held[1]
            self.peak = max(self.peak, self.bytes)
        held[0] += 1
        return address

    def release(self, address: int) -> None:
        """See `hold`."""
        if not address:
            return
        held = self._held[address]
        held[0] -= 1
        if held[0] == 0:
            self.bytes -= held[1]
            del self._held[address]

    def _pack(self, tensor: Tensor) -> _Saved:
        return _Saved(tensor, self)


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
