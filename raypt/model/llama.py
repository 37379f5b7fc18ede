"""LLaMA (Touvron et al. 2023) in plain torch, with the parameter names of Hugging Face's checkpoints.

Nothing here knows of ranks: parallel strategies wrap it from outside. Tensors carry their axes as a suffix:
B batch, S position, T key position, H query heads, K key/value heads, D head width, E residual width, V vocabulary.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint, noop_context_fn

from raypt.model.attention import Documents, attention, documents, long_row, varlen_attention
from raypt.model.config import ModelConfig
from raypt.model.initial import InitialWeights
from raypt.model.loss import cross_entropy_sum
from raypt.model.rope import cos_sin, inverse_frequencies, positions_from_segments, rotate
from raypt.model.selective import selective_contexts


@dataclass(frozen=True)
class Targets:
    """What the loss is taken over, and how."""

    ids_BS: Tensor
    """The next token of each position."""
    valid_BS: Tensor
    """Boolean: positions that count."""
    z_loss: float = 0.0
    """Weight of the squared log-partition in the gradient (PaLM uses 1e-4); it is reported apart."""
    chunk_tokens: int = 2048
    """Logits exist for this many positions at a time."""
    wants_logits: bool = False
    """The logits themselves of the valid positions, (N, V) in float32, row by row, take the place of the first sum."""


@dataclass
class KVCache:
    """Keys and values of the tokens seen so far, each (B, K, T, D), by number of the layer: of some of a model's where
    several processes hold it.
    """

    layers: dict[int, tuple[Tensor, Tensor]]

    @classmethod
    def empty(cls) -> "KVCache":
        return cls({})

    @property
    def length(self) -> int:
        return next((keys.shape[2] for keys, _ in self.layers.values()), 0)

    def append(self, layer: int, k_BKSD: Tensor, v_BKSD: Tensor) -> tuple[Tensor, Tensor]:
        if layer in self.layers:
            keys, values = self.layers[layer]
            k_BKSD, v_BKSD = torch.cat((keys, k_BKSD), dim=2), torch.cat((values, v_BKSD), dim=2)
        self.layers[layer] = k_BKSD, v_BKSD
        return k_BKSD, v_BKSD


@dataclass
class Context:
    """What every block of one forward pass shares."""

    cos: Tensor
    sin: Tensor
    mask: Tensor | None
    """Boolean, True = may attend, broadcast to (B, H, S, T); None = plain causal."""
    cache: KVCache | None = None
    documents: Documents | None = None
    """Where variable-length attention takes the place of the mask."""
    begins_BS: Tensor | None = None
    """Where a mask would be too large: the first token of each token's document."""


class RMSNorm(nn.Module):
    """x / rms(x) * weight (Zhang & Sennrich 2019), the mean square in float32."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), self.weight, self.eps)


class Linear(nn.Linear):
    """Without values of its own: they are drawn or read into it."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool = False) -> None:
        super().__init__(inputs, outputs, bias=bias)

    def reset_parameters(self) -> None:
        """Nothing."""


class Embedding(nn.Embedding):
    """Without values of its own."""

    def reset_parameters(self) -> None:
        """Nothing."""


def attend(q_BSHD: Tensor, k_BSKD: Tensor, v_BSKD: Tensor, context: Context, layer: int) -> Tensor:
    """What the positions' heads take from each other, (B, S, H, D): rotation, then attention, with the keys and values
    of the cache's `layer` before.
    """
    q_BHSD = rotate(q_BSHD.transpose(1, 2), context.cos, context.sin)
    k_BKSD = rotate(k_BSKD.transpose(1, 2), context.cos, context.sin)
    v_BKSD = v_BSKD.transpose(1, 2)
    if context.cache is not None:
        k_BKSD, v_BKSD = context.cache.append(layer, k_BKSD, v_BKSD)
    if context.documents is not None:
        y_BHSD = varlen_attention(q_BHSD, k_BKSD, v_BKSD, context.documents)
    else:
        y_BHSD = attention(q_BHSD, k_BKSD, v_BKSD, context.mask, context.begins_BS)
    return y_BHSD.transpose(1, 2)


Attend = Callable[[Tensor, Tensor, Tensor, Context, int], Tensor]
"""`attend`, or what stands around it where positions are cut over ranks."""


class Attention(nn.Module):
    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.heads, self.kv_heads, self.width = config.num_heads, config.num_kv_heads, config.head_width
        h = config.hidden_size
        self.q_proj = Linear(h, self.heads * self.width, bias=config.qkv_bias)
        self.k_proj = Linear(h, self.kv_heads * self.width, bias=config.qkv_bias)
        self.v_proj = Linear(h, self.kv_heads * self.width, bias=config.qkv_bias)
        self.o_proj = Linear(self.heads * self.width, h)
        if config.qk_norm:
            self.q_norm = RMSNorm(self.width, config.norm_eps)
            self.k_norm = RMSNorm(self.width, config.norm_eps)
        self.qk_norm = config.qk_norm
        self.attend: Attend = attend

    def forward(self, x_BSE: Tensor, context: Context) -> Tensor:
        b, s, _ = x_BSE.shape
        q = self.q_proj(x_BSE).view(b, s, self.heads, self.width)
        k = self.k_proj(x_BSE).view(b, s, self.kv_heads, self.width)
        v = self.v_proj(x_BSE).view(b, s, self.kv_heads, self.width)
        if self.qk_norm:
            q, k = self.q_norm(q), self.k_norm(k)
        y_BSHD = self.attend(q, k, v, context, self.layer)
        out_BSE: Tensor = self.o_proj(y_BSHD.reshape(b, s, self.heads * self.width))
        return out_BSE


class MLP(nn.Module):
    """SwiGLU (Shazeer 2020)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_proj = Linear(config.hidden_size, config.intermediate_size)
        self.up_proj = Linear(config.hidden_size, config.intermediate_size)
        self.down_proj = Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x_BSE: Tensor) -> Tensor:
        out_BSE: Tensor = self.down_proj(F.silu(self.gate_proj(x_BSE)) * self.up_proj(x_BSE))
        return out_BSE


class Block(nn.Module):
    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.self_attn = Attention(config, layer)
        self.mlp = MLP(config)
        self.input_layernorm = RMSNorm(config.hidden_size, config.norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.norm_eps)

    def forward(self, x_BSE: Tensor, context: Context) -> Tensor:
        x_BSE = x_BSE + self.self_attn(self.input_layernorm(x_BSE), context)
        out_BSE: Tensor = x_BSE + self.mlp(self.post_attention_layernorm(x_BSE))
        return out_BSE


class Head(Linear):
    """The output layer: logits, or the loss straight from hidden states so that all logits never exist together."""

    def forward(self, hidden_BSE: Tensor, targets: Targets | None = None) -> Any:
        if targets is None:
            return super().forward(hidden_BSE)
        if targets.wants_logits:
            logits_NV = super().forward(hidden_BSE[targets.valid_BS]).float()
            return logits_NV, logits_NV.new_zeros(())
        return cross_entropy_sum(
            hidden_BSE.flatten(0, 1),
            self.weight,
            targets.ids_BS.flatten(),
            targets.valid_BS.flatten(),
            z_loss=targets.z_loss,
            chunk=targets.chunk_tokens,
        )


class Backbone(nn.Module):
    """Embedding, blocks and the last norm: what Hugging Face calls `model`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embed_tokens = Embedding(config.vocab, config.hidden_size)
        self.layers = nn.ModuleList(Block(config, i) for i in range(config.num_layers))
        self.norm = RMSNorm(config.hidden_size, config.norm_eps)


class Llama(nn.Module):
    """The model with its output layer.

    `forward(tokens, segments)` gives logits; with `targets` it gives sums over them without ever holding all logits.
    `activation_checkpointing`: "none", "full" (a block's input is kept, all else recomputed), or "selective" (results
    of the linear layers and of torch's attention kernels are kept, norms and pointwise work recomputed). `varlen`:
    packed documents go through torch's variable-length flash attention (CUDA, half precision). A new model holds no
    values: `initialise` it, or read them into it.
    """

    def __init__(self, config: ModelConfig, activation_checkpointing: str = "none", *, varlen: bool = False) -> None:
        super().__init__()
        self.config = config
        self.varlen = varlen
        self.activation_checkpointing = activation_checkpointing
        self.model = Backbone(config)
        self.lm_head = Head(config.hidden_size, config.vocab)
        if config.tie_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

    @torch.no_grad()
    def initialise(self, seed: int) -> "Llama":
        """Draw the first weights (`raypt.model.initial`), normal matrices and ones for norms; returns self."""
        weights = InitialWeights(self.config, parameter_shapes(self.config), seed)
        for name, parameter in self.named_parameters():
            parameter.copy_(weights.run(name, 0, parameter.numel()).view_as(parameter))
        return self

    def allocated(self, device: torch.device | str, dtype: torch.dtype) -> "Llama":
        """A model of the meta device given memory in a type and on a device, without values; returns self."""
        self.to(dtype).to_empty(device=device)
        if self.config.tie_embeddings:  # to_empty gives each name storage of its own
            self.lm_head.weight = self.model.embed_tokens.weight
        return self

    def hidden(self, tokens_BS: Tensor, segments_BS: Tensor | None = None, cache: KVCache | None = None) -> Tensor:
        """Normalised last hidden states, (B, S, E).

        `segments_BS`: document ordinal of each token, 0 = padding; attention stays inside a document and positions
        restart with it. None = one document a row. `cache`: tokens continue those in the cache (no segments then).
        """
        x_BSE = self.model.embed_tokens(tokens_BS)
        x_BSE = self.blocks(self.model.layers, x_BSE, self.context(tokens_BS, segments_BS, cache))
        normed_BSE: Tensor = self.model.norm(x_BSE)
        return normed_BSE

    def forward(
        self,
        tokens_BS: Tensor,
        segments_BS: Tensor | None = None,
        *,
        targets: Targets | None = None,
        cache: KVCache | None = None,
    ) -> Any:
        """Logits (B, S, V) in the dtype of the weights; given `targets`, two float32 scalars summed over valid targets
        instead: (cross-entropy in nats, squared log-partition). Divide them once, by the tokens of the global batch.
        """
        return self.lm_head(self.hidden(tokens_BS, segments_BS, cache), targets)

    def blocks(self, layers: Iterable[Callable[..., Tensor]], x_BSE: Tensor, context: Context) -> Tensor:
        """What some of the blocks make of hidden states, one after the other."""
        for layer in layers:
            x_BSE = self._block(layer, x_BSE, context)
        return x_BSE

    def context(self, tokens_BS: Tensor, segments_BS: Tensor | None, cache: KVCache | None = None) -> Context:
        """What every block needs to know of the tokens."""
        s = tokens_BS.shape[1]
        past = cache.length if cache is not None else 0
        inverse = inverse_frequencies(self.config, past + s)
        if segments_BS is None:
            positions = torch.arange(past, past + s, device=tokens_BS.device)
            cos, sin = cos_sin(positions, inverse)
            mask = None
            if past and s > 1:  # a prompt continued by more than one token: causal relative to the cache's end
                mask = torch.ones(s, past + s, dtype=torch.bool, device=tokens_BS.device).tril(past)
            return Context(cos, sin, mask, cache)
        assert cache is None, "a cache holds one document a row"
        positions_BS = positions_from_segments(segments_BS)
        cos, sin = cos_sin(positions_BS, inverse)
        if self.varlen:
            return Context(cos[:, None], sin[:, None], None, documents=documents(segments_BS))
        if long_row(s, segments_BS.device):
            begins_BS = torch.arange(s, device=segments_BS.device) - positions_BS
            return Context(cos[:, None], sin[:, None], None, begins_BS=begins_BS)
        same_B1SS = (segments_BS[:, None, :, None] == segments_BS[:, None, None, :]).tril()
        return Context(cos[:, None], sin[:, None], same_B1SS)

    def _block(self, layer: Callable[..., Tensor], x_BSE: Tensor, context: Context) -> Tensor:
        if self.activation_checkpointing == "none" or not torch.is_grad_enabled():
            return layer(x_BSE, context)
        context_fn: Callable[[], Any] = noop_context_fn
        if self.activation_checkpointing == "selective":
            context_fn = selective_contexts
        out_BSE: Tensor = checkpoint(layer, x_BSE, context, use_reentrant=False, context_fn=context_fn)
        return out_BSE


def parameter_shapes(config: ModelConfig) -> dict[str, torch.Size]:
    """Global name and shape of each distinct parameter, in registration order; nothing is allocated."""
    with torch.device("meta"):
        model = Llama(config)
    return {name: parameter.shape for name, parameter in model.named_parameters()}
