"""What a rank of a pipeline holds of a model, under the whole model's names."""

from torch import Tensor, nn

from raypt.model import Llama
from raypt.model.batch import MicroBatch
from raypt.model.llama import Targets
from raypt.parallel.tensor.layout import share


class Stage:
    """Consecutive layers of a model, the embedding before the first and the output layer after the last.

    Taken out of the model in place, before it holds values; stages differ by one layer at most. An embedding that is
    the output layer too would be on two ranks: such models have no stages.
    """

    def __init__(self, model: Llama, rank: int, size: int) -> None:
        assert not model.config.tie_embeddings
        self.model, self.first, self.last = model, rank == 0, rank == size - 1
        at, count = share(model.config.num_layers, size, rank)
        layers = list(model.model.layers)
        self.blocks = layers[at : at + count]
        kept = nn.ModuleDict({str(at + i): block for i, block in enumerate(self.blocks)})
        model.model.layers = kept  # type: ignore[assignment]  # the same names, some of them
        if not self.first:
            del model.model.embed_tokens
        if not self.last:
            del model.model.norm, model.lm_head

    def hidden(self, micro: MicroBatch, x_BSE: Tensor | None) -> Tensor:
        """What the next stage goes on with; `x_BSE` is what the one before gave, None at the first."""
        if x_BSE is None:
            x_BSE = self.model.model.embed_tokens(micro.tokens_BS)
        return self.model.blocks(self.blocks, x_BSE, self.model.context(micro.tokens_BS, micro.segments_BS))

    def loss(self, hidden_BSE: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
        """Of the last stage's hidden states: sums of cross entropy and of the squared log-partition."""
        loss, z = self.model.lm_head(self.model.model.norm(hidden_BSE), targets)
        return loss, z
