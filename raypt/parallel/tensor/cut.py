"""A model cut over tensor ranks, from outside: smaller parameters under the same names, and the crossings around them.

The model must not hold values yet. What follows the cut, by layer: attention and feed-forward are entered once for all
of their first matrices, and left after their last; the embedding looks up the rank's own ids and adds up; the output
layer's loss is taken over the vocabulary's parts.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from raypt.model import Llama
from raypt.model.llama import Attention, Block, RMSNorm, Targets
from raypt.model.loss import VocabularyPart, cross_entropy_sum
from raypt.parallel.comm_clock import CLOCK
from raypt.parallel.layout import Layout, Part
from raypt.parallel.mesh import Group
from raypt.parallel.tensor.layout import kv_heads
from raypt.parallel.tensor.regions import Region, summed_gradient


class VocabularyEmbedding(nn.Module):
    """The rows of some ids; the others' are zero here, and come from the ranks that hold them."""

    def __init__(self, weight: Tensor, part: Part, region: Region) -> None:
        super().__init__()
        self.weight = _parameter(weight)
        self.first, self.region = part.box.offset[0], region

    def forward(self, ids_BS: Tensor) -> Tensor:
        local_BS = ids_BS - self.first
        elsewhere_BS = (local_BS < 0) | (local_BS >= self.weight.shape[0])
        x_BSE = F.embedding(local_BS.masked_fill(elsewhere_BS, 0), self.weight)
        return self.region.leave(x_BSE.masked_fill(elsewhere_BS[..., None], 0.0))


class VocabularyHead(nn.Module):
    """The output layer over some ids: the loss, for which nobody needs all logits, or the logits of a few positions."""

    def __init__(self, weight: Tensor, part: Part, region: Region) -> None:
        super().__init__()
        self.weight = _parameter(weight)
        self.region, self.size = region, part.shape[0]
        self.vocabulary = VocabularyPart(part.box.offset[0], self._highest, self._total)

    def _highest(self, x: Tensor) -> None:
        with CLOCK:
            dist.all_reduce(x, op=dist.ReduceOp.MAX, group=self.region.group.handle)

    def _total(self, x: Tensor) -> None:
        with CLOCK:
            dist.all_reduce(x, group=self.region.group.handle)

    def forward(self, hidden_BSE: Tensor, targets: Targets | None = None) -> Any:
        if targets is None:
            raise ValueError("a model cut over its vocabulary gives losses, or logits of a few positions: give targets")
        hidden_BSE = self.region.enter(hidden_BSE)
        if targets.wants_logits:
            logits_NV = self._logits(hidden_BSE[targets.valid_BS])
            return logits_NV, logits_NV.new_zeros(())
        return cross_entropy_sum(
            hidden_BSE.flatten(0, 1),
            self.weight,
            targets.ids_BS.flatten(),
            targets.valid_BS.flatten(),
            z_loss=targets.z_loss,
            chunk=targets.chunk_tokens,
            part=self.vocabulary,
        )

    def _logits(self, hidden_NE: Tensor) -> Tensor:
        """Of the whole vocabulary, on every rank; for as few positions as that is no burden."""
        logits_NV = hidden_NE.new_zeros(hidden_NE.shape[0], self.size, dtype=torch.float32)
        first = self.vocabulary.first
        logits_NV[:, first : first + self.weight.shape[0]] = F.linear(hidden_NE, self.weight)
        self._total(logits_NV)
        return logits_NV


class SummedNorm(RMSNorm):
    """A norm of which each rank sees some of the positions or heads."""

    def __init__(self, norm: RMSNorm, group: Group) -> None:
        nn.Module.__init__(self)
        self.weight, self.eps, self.group = _parameter(norm.weight), norm.eps, group

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), summed_gradient(self.weight, self.group), self.eps)


class SummedLinear(nn.Module):
    """A projection that several ranks hold alike, each using its result for other heads."""

    def __init__(self, weight: Tensor, group: Group) -> None:
        super().__init__()
        self.weight, self.group = _parameter(weight), group

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, summed_gradient(self.weight, self.group))


def cut(
    model: Llama,
    layout: Layout,
    group: Group,
    holders: Callable[[Sequence[int]], Group],
    *,
    sequence_parallel: bool,
) -> None:
    """Leave to the model what `layout` says, in place; its parameters become new ones, without values.

    `group`: the tensor ranks; `holders` makes a group of some of them.
    """
    region = Region(group, sequence_parallel=sequence_parallel)
    for name, parameter in list(model.named_parameters()):
        module, _, last = name.rpartition(".")
        box = layout[name].box
        smaller = nn.Parameter(torch.empty(box.shape, dtype=parameter.dtype, device=parameter.device))
        setattr(model.get_submodule(module), last, smaller)
    if model.config.tie_embeddings:
        model.lm_head.weight = model.model.embed_tokens.weight
    backbone = model.model
    embedding = layout["model.embed_tokens.weight"]
    output = embedding if model.config.tie_embeddings else layout["lm_head.weight"]
    replaced: dict[str, nn.Module] = {
        "model.embed_tokens": VocabularyEmbedding(backbone.embed_tokens.weight, embedding, region),
        "lm_head": VocabularyHead(model.lm_head.weight, output, region),
    }
    for name, module in model.named_modules():
        weight = layout.get(f"{name}.weight")
        if weight is not None and weight.partial:
            terms = holders(weight.holders)
            if isinstance(module, RMSNorm):
                replaced[name] = SummedNorm(module, terms)
            else:
                assert isinstance(module, nn.Linear)
                replaced[name] = SummedLinear(module.weight, terms)
        if isinstance(module, Attention):
            module.heads //= group.size
            module.kv_heads = kv_heads(model.config, group.size, group.rank)[1]
    for name, new in replaced.items():
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, new)
    for block in backbone.layers:
        assert isinstance(block, Block)
        for layer, end in ((block.self_attn, block.self_attn.o_proj), (block.mlp, block.mlp.down_proj)):
            layer.register_forward_pre_hook(lambda _, args: (region.enter(args[0]), *args[1:]))
            end.register_forward_hook(lambda _, args, out: region.leave(out))


def _parameter(weight: Tensor) -> nn.Parameter:
    assert isinstance(weight, nn.Parameter)
    return weight
