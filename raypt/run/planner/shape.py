"""A model and the way it is laid out over devices, in the numbers that memory and time depend on."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from raypt.model.config import ModelConfig

Checkpointing = Literal["none", "selective", "full"]
Precision = Literal["fp32", "bf16", "fp8"]
Attention = Literal["blocked", "flash", "masked", "scores"]
"""blocked: raypt's own on CPUs, which keeps the probabilities under the diagonal of rows that are not too long. flash:
nothing beside its output. masked: flash with a dense mask of document boundaries. scores: no fused kernel, all
probabilities are kept (GPT of 2022)."""


@dataclass(frozen=True)
class Shape:
    """A decoder-only transformer."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_width: int
    vocab: int
    tied: bool
    qk_norm: bool = False
    gated: bool = True
    """Three matrices in the feed-forward layer (SwiGLU), not two."""

    @classmethod
    def of(cls, model: ModelConfig) -> "Shape":
        """Of a configuration whose vocabulary is known."""
        return cls(
            model.hidden_size,
            model.intermediate_size,
            model.num_layers,
            model.num_heads,
            model.num_kv_heads,
            model.head_width,
            model.vocab,
            model.tie_embeddings,
            model.qk_norm,
        )

    @classmethod
    def gpt(cls, hidden: int, layers: int, heads: int, vocab: int, *, tied: bool = True) -> "Shape":
        """GPT-2's and GPT-3's proportions: a feed-forward layer of two matrices, four times as wide."""
        return cls(hidden, 4 * hidden, layers, heads, heads, hidden // heads, vocab, tied, gated=False)

    @property
    def attention_width(self) -> int:
        return self.heads * self.head_width

    @property
    def kv_width(self) -> int:
        return self.kv_heads * self.head_width

    @property
    def matrices(self) -> dict[str, int]:
        """Elements of each matrix of a block."""
        h = self.hidden
        feed_forward = {"up_proj": h * self.intermediate, "down_proj": h * self.intermediate}
        if self.gated:
            feed_forward["gate_proj"] = h * self.intermediate
        attention = {"q_proj": self.attention_width, "k_proj": self.kv_width, "v_proj": self.kv_width}
        return {name: h * width for name, width in (*attention.items(), ("o_proj", self.attention_width))} | (
            feed_forward
        )

    @cached_property
    def block_matrices(self) -> int:
        return sum(self.matrices.values())

    @property
    def block_vectors(self) -> list[int]:
        """Widths of the norms of a block."""
        return [*([self.head_width] * 2 if self.qk_norm else []), self.hidden, self.hidden]

    @property
    def block_parameters(self) -> int:
        return self.block_matrices + sum(self.block_vectors)

    @property
    def embedding(self) -> int:
        return self.vocab * self.hidden

    @property
    def parameters(self) -> int:
        return self.layers * self.block_parameters + self.hidden + self.embedding * (1 if self.tied else 2)

    @property
    def matmul_parameters(self) -> int:
        """Parameters that a token is multiplied with: blocks and the output layer."""
        return self.layers * self.block_matrices + self.embedding

    def flops_per_token(self, length: int) -> float:
        """Of a training step, without recomputation: 6 a matrix parameter and 12 * layers * width * length (PaLM,
        appendix B); attention is not halved for being causal."""
        return 6.0 * self.matmul_parameters + 12.0 * self.layers * self.attention_width * length


@dataclass(frozen=True)
class Layout:
    """How a model is trained on a number of devices."""

    data: int = 1
    tensor: int = 1
    pipeline: int = 1
    context: int = 1
    virtual: int = 1
    """Pieces of the layers a pipeline rank has (interleaved schedule)."""
    schedule: Literal["gpipe", "1f1b", "interleaved_1f1b", "zero_bubble"] = "1f1b"
    """Of a pipeline (`train.parallel.schedule`)."""
    zero: int = 1
    micro_batch: int = 1
    """Sequences of one forward pass."""
    accumulation: int = 1
    """Micro-batches a replica and step."""
    length: int = 2048
    """Tokens of a sequence."""
    checkpointing: Checkpointing = "none"
    sequence_parallel: bool = False
    """Norms and residuals are cut over the tensor ranks too (Korthikanti et al. 2022)."""
    precision: Precision = "bf16"
    compiled: bool = False
    """Blocks by torch.compile."""
    attention: Attention = "flash"
    chunk: int = 512
    """Positions whose logits exist at one time."""
    fused_norms: bool = True
    """One kernel that keeps its input and a number a row (CUDA); else the intermediate results are kept too."""
    communication_bytes: int = 4
    """Of a gradient element that travels."""
    optimizer: Literal["adamw", "lion", "muon"] = "adamw"
    bucket: int = 50_000_000
    """Gradient elements that are sent at once."""
    persistent: int = 100_000
    """ZeRO 3: elements up to which a parameter stays whole on every rank (stage3_param_persistence_threshold)."""
    live: int = 1_000_000_000
    """ZeRO 3: elements of other parameters that may be whole at a time (stage3_max_live_parameters)."""
    prefetched: int = 50_000_000
    """ZeRO 3: elements that are gathered at a time, ahead (stage3_prefetch_bucket_size)."""
    sub_group: int = 1_000_000_000
    """ZeRO 3: elements of a rank updated at once (sub_group_size)."""
    offload: Literal["none", "same", "other"] = "none"
    """Whether DeepSpeed offloads optimizer state and the gradients that it takes: into the memory that the device has
    anyway (a CPU's), or out of it."""
    offload_params: bool = False
    """ZeRO 3: nor are the rank's parts of the parameters."""
    exact: bool = False
    """Gradients are added up in one tree (`train.reduction`), so that a rank keeps whole ones, of several levels."""

    @property
    def devices(self) -> int:
        return self.data * self.tensor * self.pipeline * self.context

    @property
    def gradient_ranks(self) -> int:
        """Ranks that ZeRO partitions over."""
        return self.data * self.context

    @property
    def element(self) -> int:
        """Bytes of an activation."""
        return 4 if self.precision == "fp32" else 2

    @property
    def micro_tokens(self) -> int:
        """Tokens of a forward pass on one rank."""
        return self.micro_batch * self.length // self.context

    @property
    def batch_tokens(self) -> int:
        """Tokens of a step, over all devices."""
        return self.data * self.accumulation * self.micro_batch * self.length
