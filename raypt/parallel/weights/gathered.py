"""Parameters cut evenly over ranks, each layer's whole only while it computes, as ZeRO 3 has them (Rajbhandari et al.
2020): weights alone, so that nothing of the optimizer or of gradients is in memory beside them.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from raypt.model import Llama
from raypt.parallel.comm_clock import CLOCK
from raypt.parallel.mesh import Group


class Gathered:
    """A model of the meta device given memory for this rank's cut of each layer, without values. All ranks of the group
    run each forward pass together.
    """

    def __init__(self, model: Llama, group: Group, dtype: torch.dtype, device: torch.device, kept: torch.device):
        """`kept`: where the cuts lie; layers are put together on `device`."""
        shapes = {name: p.shape for name, p in model.named_parameters()}
        names = dict(zip(map(id, model.parameters()), shapes, strict=True))
        layers: list[nn.Module] = [model.model.embed_tokens, *model.model.layers, model.model.norm, model.lm_head]
        held = [[names[id(p)] for p in layer.parameters()] for layer in layers]
        parameters = _emptied(model, names, dtype, device)
        made: dict[tuple[str, ...], _Layer] = {}  # an embedding that is the output layer too is one
        for layer, own in zip(layers, held, strict=True):
            key = tuple(own)
            if key not in made:
                made[key] = _Layer({name: (parameters[name], shapes[name]) for name in own}, group, kept)
            layer.register_forward_pre_hook(made[key].gather)
            layer.register_forward_hook(made[key].release)
        self.layers = list(made.values())

    def cuts(self) -> Iterator[tuple[str, int, Tensor]]:
        """What this rank keeps: name of the parameter, first element of it, and the elements, a flat view."""
        for layer in self.layers:
            yield from layer.cuts()


def _emptied(model: Llama, names: dict[int, str], dtype: torch.dtype, device: torch.device) -> dict[str, nn.Parameter]:
    """The model's parameters, by name, replaced by some on the device that have no elements until they are gathered."""
    made: dict[str, nn.Parameter] = {}
    for module in model.modules():
        for last, old in list(module.named_parameters(recurse=False)):
            name = names[id(old)]
            if name not in made:
                made[name] = nn.Parameter(torch.empty(0, dtype=dtype, device=device), requires_grad=False)
            setattr(module, last, made[name])
    return made


class _Layer:
    """Parameters that are gathered together, laid end to end and cut into equal runs, the last of them padded."""

    def __init__(
        self, parameters: dict[str, tuple[nn.Parameter, torch.Size]], group: Group, kept: torch.device
    ) -> None:
        self.parameters, self.group = parameters, group
        some = next(p for p, _ in parameters.values())
        self.device = some.device
        numel = sum(shape.numel() for _, shape in parameters.values())
        self.cut = torch.zeros(-(-numel // group.size), dtype=some.dtype, device=kept)

    def cuts(self) -> Iterator[tuple[str, int, Tensor]]:
        """See Gathered."""
        first, at = self.group.rank * self.cut.numel(), 0
        for name, (_, shape) in self.parameters.items():
            low, high = max(at, first), min(at + shape.numel(), first + self.cut.numel())
            if low < high:
                yield name, low - at, self.cut[low - first : high - first]
            at += shape.numel()

    def gather(self, *hook: Any) -> None:
        """Collective: the whole parameters."""
        whole = torch.empty(self.group.size * self.cut.numel(), dtype=self.cut.dtype, device=self.device)
        with CLOCK:
            dist.all_gather_into_tensor(whole, self.cut.to(self.device), group=self.group.handle)
        at = 0
        for parameter, shape in self.parameters.values():
            parameter.data = whole[at : at + shape.numel()].view(shape)
            at += shape.numel()

    def release(self, *hook: Any) -> None:
        """Give the memory back."""
        for parameter, _ in self.parameters.values():
            parameter.data = torch.empty(0, dtype=self.cut.dtype, device=self.device)
