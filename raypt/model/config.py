"""The shape of a LLaMA, and the published shapes by name."""

from typing import Any, Literal

from pydantic import Field, model_validator

from raypt.settings import Settings


class RopeScaling(Settings):
    """How rotary frequencies are stretched for contexts longer than those first trained on."""

    kind: Literal["linear", "dynamic", "llama3"]
    """linear: positions divided by `factor` (Chen et al. 2023). dynamic: NTK-aware base, grown with the length beyond
    `original_length`. llama3: low frequencies divided by `factor`, high ones kept, a ramp between (Llama 3.1)."""
    factor: float = Field(default=8.0, ge=1)
    """The stretch; 8 is Llama 3.1's, 32 is Llama 3.2's."""
    low_freq_factor: float = Field(default=1.0, gt=0)
    """llama3: wavelengths longer than original_length / this are divided by `factor`."""
    high_freq_factor: float = Field(default=4.0, gt=0)
    """llama3: wavelengths shorter than original_length / this are kept."""
    original_length: int = Field(default=8192, gt=0)
    """llama3 and dynamic: the context length before stretching, in tokens."""

    @model_validator(mode="after")
    def _check_ramp(self) -> "RopeScaling":
        if self.kind == "llama3" and self.high_freq_factor <= self.low_freq_factor:
            raise ValueError(
                f"high_freq_factor ({self.high_freq_factor}) must be more than low_freq_factor ({self.low_freq_factor})"
            )
        return self


class ModelConfig(Settings):
    """A decoder-only transformer of the LLaMA family."""

    preset: str | None = None
    """A published shape by name (see `raypt.model.config.PRESETS`); keys given beside it override it."""
    vocab_size: int | None = Field(default=None, gt=0)
    """Rows of the embedding; None = the tokenizer's size, rounded up to `vocab_multiple`."""
    vocab_multiple: int = Field(default=64, gt=0)
    """The vocabulary is padded to a multiple of this when it is taken from the tokenizer (whole tiles in matmuls)."""
    hidden_size: int = Field(default=192, gt=0)
    """Width of the residual stream."""
    intermediate_size: int = Field(default=512, gt=0)
    """Width of the SwiGLU feed-forward layer."""
    num_layers: int = Field(default=4, gt=0)
    """Number of blocks."""
    num_heads: int = Field(default=4, gt=0)
    """Query heads."""
    num_kv_heads: int = Field(default=2, gt=0)
    """Key/value heads; equal to num_heads is MHA, 1 is MQA, between is GQA (Ainslie et al. 2023)."""
    head_dim: int | None = Field(default=None, gt=0)
    """Width of a head; None = hidden_size / num_heads."""
    max_length: int = Field(default=2048, gt=0)
    """Longest context the exported configuration declares, in tokens; under dynamic scaling transformers takes what is
    declared for the length before stretching, so that `original_length` is declared instead."""
    rope_theta: float = Field(default=10000.0, gt=0)
    """Base of the rotary frequencies (RoFormer's 10000; Llama 3 uses 500000)."""
    rope_scaling: RopeScaling | None = None
    """Long-context stretching; None = off."""
    norm_eps: float = Field(default=1e-5, gt=0)
    """Added to the mean square inside RMSNorm."""
    tie_embeddings: bool = True
    """Share one matrix between the embedding and the output layer."""
    qk_norm: bool = False
    """RMSNorm on each query and key head before the rotation; it bounds attention logits. Exported as Qwen 3."""
    qkv_bias: bool = False
    """Biases on queries, keys and values. Exported as Qwen 2."""
    family: Literal["llama", "mistral", "qwen2", "qwen3"] | None = None
    """Which of the families that compute alike an exported model says it is of (`model_type`); None = qwen3 with
    `qk_norm`, qwen2 with `qkv_bias`, else llama."""
    init_std: float = Field(default=0.02, gt=0)
    """Standard deviation of the normal initialisation (GPT-2, LLaMA). That of the output layer's matrix is at most
    0.5 / sqrt(hidden_size): logits then start with a deviation of at most 0.5 and the first loss at most about 0.125
    nats above that of a uniform guess, however wide the model (0.02 alone would exceed it by 0.82 nats at 4096)."""
    depth_scaled_init: bool = True
    """Divide the standard deviation of what writes to the residual stream by sqrt(2 * num_layers) (GPT-2)."""

    @model_validator(mode="before")
    @classmethod
    def _expand_preset(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("preset") is not None:
            name = values["preset"]
            if name not in PRESETS:
                raise ValueError(f"model.preset: unknown {name!r}; known: {', '.join(PRESETS)}")
            return PRESETS[name] | values
        return values

    @model_validator(mode="after")
    def _check_shape(self) -> "ModelConfig":
        if self.num_heads % self.num_kv_heads:
            raise ValueError(f"num_heads ({self.num_heads}) must be a multiple of num_kv_heads ({self.num_kv_heads})")
        if self.hidden_size % self.num_heads and (self.head_dim is None or not self.qk_norm):
            raise ValueError(
                f"hidden_size ({self.hidden_size}) must be a multiple of num_heads ({self.num_heads}): transformers' "
                "LLaMA wants it even with a head_dim of its own"
            )
        if self.head_width % 2:
            raise ValueError(f"a head must have an even width for rotary positions, not {self.head_width}")
        if self.head_width == 2 and self.rope_scaling is not None and self.rope_scaling.kind == "dynamic":
            raise ValueError("dynamic rope_scaling needs a head wider than 2: raise head_dim, or take another kind")
        return self

    @model_validator(mode="after")
    def _check_family(self) -> "ModelConfig":
        if self.qk_norm and self.qkv_bias:
            raise ValueError("qk_norm and qkv_bias are of two families, Qwen 3 and Qwen 2: take one of them")
        computes = "qwen3" if self.qk_norm else "qwen2" if self.qkv_bias else "llama"
        if self.family not in (None, computes) and (self.family, computes) != ("mistral", "llama"):
            raise ValueError(
                f"family={self.family} computes otherwise; with these qk_norm and qkv_bias it is {computes}"
            )
        return self

    @property
    def model_type(self) -> str:
        """The family, as transformers names it."""
        return self.family or ("qwen3" if self.qk_norm else "qwen2" if self.qkv_bias else "llama")

    @property
    def head_width(self) -> int:
        return self.head_dim or self.hidden_size // self.num_heads

    @property
    def vocab(self) -> int:
        """The vocabulary size once it is known."""
        assert self.vocab_size is not None, "the vocabulary size is not resolved: call for_vocabulary first"
        return self.vocab_size

    def for_vocabulary(self, size: int) -> "ModelConfig":
        """This shape with the vocabulary of a tokenizer of `size` ids; a configured size must hold them all."""
        if self.vocab_size is None:
            padded = -(-size // self.vocab_multiple) * self.vocab_multiple
            return self.model_copy(update={"vocab_size": padded})
        if self.vocab_size < size:
            raise ValueError(
                f"model.vocab_size is {self.vocab_size} but the tokenizer has {size} ids; raise it, or leave it unset"
            )
        return self

    def parameters(self) -> int:
        """Number of trained parameters."""
        h, d = self.hidden_size, self.head_width
        attention = h * d * (2 * self.num_heads + 2 * self.num_kv_heads) + (2 * d if self.qk_norm else 0)
        attention += d * (self.num_heads + 2 * self.num_kv_heads) if self.qkv_bias else 0
        block = attention + 3 * h * self.intermediate_size + 2 * h
        return self.num_layers * block + h + self.vocab * h * (1 if self.tie_embeddings else 2)

    def flops_per_token(self, length: int) -> float:
        """Training FLOPs a token: 6 a matrix parameter, 12 * layers * width * length for attention (PaLM, app. B)."""
        h, d = self.hidden_size, self.head_width
        block = h * d * (2 * self.num_heads + 2 * self.num_kv_heads) + 3 * h * self.intermediate_size
        return 6.0 * (self.num_layers * block + self.vocab * h) + 12.0 * self.num_layers * self.num_heads * d * length


def _llama(hidden: int, ffn: int, layers: int, heads: int, kv: int, vocab: int, **more: Any) -> dict[str, Any]:
    return {
        "hidden_size": hidden, "intermediate_size": ffn, "num_layers": layers, "num_heads": heads, "num_kv_heads": kv,
        "vocab_size": vocab, "depth_scaled_init": False, "tie_embeddings": False, **more,
    }  # fmt: skip


_LLAMA2: dict[str, Any] = {"max_length": 4096}
_LLAMA3: dict[str, Any] = {"max_length": 8192, "rope_theta": 500000.0}
_LLAMA31: dict[str, Any] = {
    "max_length": 131072, "rope_theta": 500000.0, "rope_scaling": {"kind": "llama3", "factor": 8.0}
}  # fmt: skip
_LLAMA32: dict[str, Any] = {
    "max_length": 131072, "rope_theta": 500000.0, "tie_embeddings": True,
    "rope_scaling": {"kind": "llama3", "factor": 32.0},
}  # fmt: skip

PRESETS: dict[str, dict[str, Any]] = {
    "5m": {"hidden_size": 192, "intermediate_size": 512, "num_layers": 6, "num_heads": 6, "num_kv_heads": 3},
    "30m": {"hidden_size": 384, "intermediate_size": 1024, "num_layers": 8, "num_heads": 6, "num_kv_heads": 6},
    "125m": {"hidden_size": 768, "intermediate_size": 2048, "num_layers": 12, "num_heads": 12, "num_kv_heads": 12},
    "350m": {"hidden_size": 1024, "intermediate_size": 2816, "num_layers": 24, "num_heads": 16, "num_kv_heads": 16},
    "tinyllama-1.1b": _llama(2048, 5632, 22, 32, 4, 32000, max_length=2048),
    "llama-2-7b": _llama(4096, 11008, 32, 32, 32, 32000, **_LLAMA2),
    "llama-2-13b": _llama(5120, 13824, 40, 40, 40, 32000, **_LLAMA2),
    "llama-2-70b": _llama(8192, 28672, 80, 64, 8, 32000, **_LLAMA2),
    "llama-3-8b": _llama(4096, 14336, 32, 32, 8, 128256, **_LLAMA3),
    "llama-3-70b": _llama(8192, 28672, 80, 64, 8, 128256, **_LLAMA3),
    "llama-3.1-405b": _llama(16384, 53248, 126, 128, 8, 128256, **_LLAMA31),
    "llama-3.2-1b": _llama(2048, 8192, 16, 32, 8, 128256, **_LLAMA32),
}
"""Published shapes (parameter counts as published, tested) and small ones without a vocabulary of their own."""
