"""What a rank of a pipeline holds of a model, under the whole model's names."""

from collections.abc import Sequence

from torch import Tensor, nn

from raypt.model import Llama
from raypt.model.batch import MicroBatch
from raypt.model.llama import Block, KVCache, Targets


class Stage:
    """Consecutive layers of a model, the embedding before the first and the output layer after the last."""

    def __init__(self, model: Llama, part: int, parts: int, blocks: list[Block]) -> None:
        self.model, self.blocks = model, blocks
        self.first, self.last = part == 0, part == parts - 1

    def hidden(self, micro: MicroBatch, x_BSE: Tensor | None, cache: KVCache | None = None) -> Tensor:
        """What the next stage goes on with; `x_BSE` is what the one before gave, None at the first. `cache`: the
        stage's own, which the tokens continue.
        """
        if x_BSE is None:
            x_BSE = self.model.model.embed_tokens(micro.tokens_BS)
        return self.model.blocks(self.blocks, x_BSE, self.model.context(micro.tokens_BS, micro.segments_BS, cache))

    def loss(self, hidden_BSE: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
        """Of the last stage's hidden states: sums of cross entropy and of the squared log-partition."""
        loss, z = self.model.lm_head(self.model.model.norm(hidden_BSE), targets)
        return loss, z


def take_stages(model: Llama, rank: int, size: int, layers: Sequence[int]) -> list[Stage]:
    """The parts `rank`, `rank + size`, ... of those that a model is cut into; `layers`: of each part.

    Taken out of the model in place, before it holds values. An embedding that is the output layer too would be on two
    ranks: such models have no stages.
    """
    assert not model.config.tie_embeddings
    parts = len(layers)
    every: list[Block] = list(model.model.layers)  # type: ignore[arg-type]
    assert parts % size == 0 and sum(layers) == len(every)
    kept, stages = nn.ModuleDict(), []
    for part in range(rank, parts, size):
        at, count = sum(layers[:part]), layers[part]
        kept.update({str(at + i): block for i, block in enumerate(every[at : at + count])})
        stages.append(Stage(model, part, parts, every[at : at + count]))
    model.model.layers = kept  # type: ignore[assignment]  # the same names, some of them
    if not stages[0].first:
        del model.model.embed_tokens
    if not stages[-1].last:
        del model.model.norm, model.lm_head
    return stages
