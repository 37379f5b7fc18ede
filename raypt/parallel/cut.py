"""A rank's part of a model on a mesh, and what the ranks find with theirs together: what an engine that trains and one
that holds weights alone have in common.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from raypt.model import Llama
from raypt.model.batch import MicroBatch
from raypt.model.llama import KVCache, Targets
from raypt.parallel import comm
from raypt.parallel.context.cut import cut_positions
from raypt.parallel.context.layout import positions
from raypt.parallel.layout import Layout
from raypt.parallel.mesh import Mesh
from raypt.parallel.pipeline.runner import Runner
from raypt.parallel.pipeline.stage import Stage, take_stages
from raypt.parallel.tensor.cut import cut
from raypt.parallel.tensor.layout import layout


class Cut(NamedTuple):
    """What a mesh leaves to a rank, before ZeRO cuts it further."""

    model: Llama
    """On the meta device, without values."""
    layout: Layout
    stages: list[Stage]
    """Of a pipeline; none where there is no pipeline."""


def cut_to_mesh(build: Callable[[], Llama], mesh: Mesh, *, sequence_parallel: bool, layers: Sequence[int]) -> Cut:
    """This rank's part of the model that `build` makes. `layers`: of each part of a pipeline."""
    with torch.device("meta"):
        model = build()
    tensor = mesh.tensor
    parts = layout(model.config, tensor.size, tensor.rank, sequence_parallel=sequence_parallel)
    if tensor.size > 1:
        cut(model, parts, tensor, mesh.holders, sequence_parallel=sequence_parallel)
    if mesh.context.size > 1:
        cut_positions(model, mesh.context)
    stages = []
    if mesh.pipeline.size > 1:
        stages = take_stages(model, mesh.pipeline.rank, mesh.pipeline.size, layers)
    return Cut(model, parts, stages)


class Forward:
    """Passes without gradients. Every method is collective over the ranks of a replica, and over all ranks where ZeRO 3
    cuts the weights.
    """

    def __init__(self, model: Callable[..., Any], runner: Runner | None, mesh: Mesh, device: torch.device) -> None:
        """`model`: called where there is no pipeline, and so no `runner`."""
        self.model, self.runner, self.context, self.device = model, runner, mesh.context, device

    @torch.no_grad()
    def losses(self, micro_batches: Sequence[MicroBatch], chunk_tokens: int) -> list[float]:
        """The sum of the cross-entropy over each micro-batch of this replica, nats."""
        here = [micro.to(self.device) for micro in micro_batches]

        def loss(head: Callable[[Targets], Tensor], micro: MicroBatch) -> Tensor:
            return head(micro.targets(chunk_tokens=chunk_tokens))

        losses = torch.stack(self._outputs(here, loss, [()] * len(here), None))
        if self.context.size > 1:
            comm.all_reduce(losses, self.context)
        return losses.tolist()

    @torch.no_grad()
    def logits(
        self, micro_batches: Sequence[MicroBatch], vocabulary: int, cache: KVCache | None = None
    ) -> list[Tensor]:
        """Of the valid positions of each micro-batch of this replica, row by row, (N, V) in float32, on each of its
        ranks: for a few positions at a time. `cache`: a single micro-batch continues it.
        """
        here, context = [micro.to(self.device) for micro in micro_batches], self.context

        def logits(head: Callable[[Targets], Tensor], micro: MicroBatch) -> Tensor:
            found_NV = head(replace(micro.targets(), wants_logits=True))
            if context.size == 1:
                return found_NV
            places_N = micro.valid_BS.nonzero()[:, 1]
            own = positions(micro.tokens_BS.shape[1], context.size, context.rank)
            out_NV = found_NV.new_zeros(micro.tokens, vocabulary)
            out_NV[(places_N >= own.start) & (places_N < own.stop)] = found_NV
            return out_NV

        out = self._outputs(here, logits, [(micro.tokens, vocabulary) for micro in here], cache)
        for x_NV in out if context.size > 1 else ():
            comm.all_reduce(x_NV, context)
        return out

    def _outputs(
        self,
        micro_batches: Sequence[MicroBatch],
        output: Callable[[Callable[[Targets], Tensor], MicroBatch], Tensor],
        shapes: Sequence[tuple[int, ...]],
        cache: KVCache | None,
    ) -> list[Tensor]:
        """What `output` makes of each micro-batch, given the first that the output layer gives for some targets: with a
        context cut, of this rank's positions.
        """
        if self.runner is not None:
            return self.runner.outputs(micro_batches, output, shapes, cache)
        return [output(partial(self._first, micro, cache), micro) for micro in micro_batches]

    def _first(self, micro: MicroBatch, cache: KVCache | None, targets: Targets) -> Tensor:
        cached = {} if cache is None else {"cache": cache}
        found: Tensor = self.model(micro.tokens_BS, micro.segments_BS, targets=targets, **cached)[0]
        return found
