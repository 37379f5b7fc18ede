"""Hugging Face checkpoints: `config.json` and safetensors, one file or sharded, in both directions."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from raypt import storage
from raypt.errors import UserError
from raypt.model.config import ModelConfig, RopeScaling
from raypt.model.llama import Llama, parameter_shapes
from raypt.model.weights import WeightFiles, clear_weights, write_weights

CONFIG = "config.json"

ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
"""Model types that are read and written: LLaMA's arithmetic; Qwen 2 is `qkv_bias`, Qwen 3 is `qk_norm`."""

OTHERS = {
    "bloom": "ALiBi instead of rotary positions, LayerNorm",
    "cohere": "parallel blocks, LayerNorm, scaled logits",
    "deepseek_v2": "latent attention, experts",
    "deepseek_v3": "latent attention, experts",
    "falcon": "parallel blocks, LayerNorm",
    "gemma": "norms by 1 + weight, scaled embeddings, GELU",
    "gemma2": "norms by 1 + weight, capped logits, sliding windows, GELU",
    "gemma3": "norms by 1 + weight, sliding windows, GELU",
    "gemma3_text": "norms by 1 + weight, sliding windows, GELU",
    "glm": "partial rotation, fused matrices",
    "gpt2": "learned positions, LayerNorm, GELU",
    "gpt_neox": "parallel blocks, partial rotation, LayerNorm",
    "gpt_oss": "experts, attention sinks",
    "internlm2": "fused matrices of queries, keys and values",
    "llama4": "experts, chunked attention",
    "mixtral": "experts",
    "olmo": "norms without weights",
    "olmo2": "norms after attention and MLP",
    "phi": "parallel blocks, partial rotation, LayerNorm",
    "phi3": "fused matrices of queries, keys and values",
    "qwen2_moe": "experts",
    "qwen3_moe": "experts",
    "smollm3": "layers without positions",
    "stablelm": "LayerNorm, partial rotation",
    "starcoder2": "LayerNorm, biases, GELU",
    "Yi": "other names of tensors; the same weights are published as model_type llama",
}
"""Model types that are often asked for, and what they have that this model has not."""

COMPUTED: dict[str, tuple[tuple[Any, ...], str]] = {
    "hidden_act": ((None, "silu", "swish"), "SwiGLU (silu) alone"),
    "attention_bias": ((None, False), "no biases"),
    "mlp_bias": ((None, False), "no biases"),
    "partial_rotary_factor": ((None, 1.0), "rotation of whole heads alone"),
    "is_causal": ((None, True), "causal attention alone"),
    "use_sliding_window": ((None, False), "attention without sliding windows alone"),
    "quantization_config": ((None, {}), "weights that are not quantised alone"),
}
"""Keys of `config.json` that change the maths: the values that mean what this model computes, and what that is."""


def to_hf_config(
    config: ModelConfig, *, dtype: torch.dtype, bos: int | None = None, eos: int | None = None
) -> dict[str, Any]:
    """The content of `config.json` for transformers' class of the model's family."""
    kind = config.model_type
    scaling, length = config.rope_scaling, config.max_length
    if scaling is not None and scaling.kind == "dynamic":
        length = scaling.original_length  # what transformers takes the declared context for
    full = {"use_sliding_window": False, "layer_types": ["full_attention"] * config.num_layers}
    own: dict[str, dict[str, Any]] = {
        "llama": {"attention_bias": False, "mlp_bias": False},
        "mistral": {"sliding_window": None},
        "qwen2": full,
        "qwen3": {"attention_bias": False, **full},
    }
    return {
        "architectures": [ARCHITECTURES[kind]],
        "model_type": kind,
        "vocab_size": config.vocab,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_width,
        "max_position_embeddings": length,
        "rope_theta": config.rope_theta,
        "rope_scaling": _scaling_to_hf(scaling),
        "rms_norm_eps": config.norm_eps,
        "tie_word_embeddings": config.tie_embeddings,
        "hidden_act": "silu",
        **own[kind],
        "initializer_range": config.init_std,
        "bos_token_id": bos,
        "eos_token_id": eos,
        "torch_dtype": str(dtype).removeprefix("torch."),
    }


def _scaling_to_hf(scaling: RopeScaling | None) -> dict[str, Any] | None:
    if scaling is None:
        return None
    out: dict[str, Any] = {"rope_type": scaling.kind, "factor": scaling.factor}
    if scaling.kind == "llama3":
        out |= {
            "low_freq_factor": scaling.low_freq_factor,
            "high_freq_factor": scaling.high_freq_factor,
            "original_max_position_embeddings": scaling.original_length,
        }
    return out


def from_hf_config(raw: Mapping[str, Any], where: str = "config.json") -> ModelConfig:
    """Read transformers' configuration of one of `ARCHITECTURES`, of version 4 (`rope_theta`) or 5 (`rope_parameters`).

    Raises:
        UserError: another model, a key that is missing, or one that asks for what this model does not compute.
    """
    kind = raw.get("model_type")
    if kind not in ARCHITECTURES:
        differs = f" ({OTHERS[kind]})" if kind in OTHERS else ""
        raise UserError(f"{where}: model_type is {kind!r}{differs}; only {', '.join(ARCHITECTURES)} can be read")
    rope = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
    _refuse_other_maths(raw, rope, where)

    def need(key: str, section: Mapping[str, Any] = raw) -> Any:
        if section.get(key) is None:
            raise UserError(f"{where}: the key {key!r} is missing; take the file that was published with the weights")
        return section[key]

    # Left out, key and value heads are all heads in LLaMA, but 8 or 32 elsewhere; head_dim is 128 in Qwen 3.
    every = kind == "llama" and raw.get("num_key_value_heads") is None
    kv_heads = "num_attention_heads" if every else "num_key_value_heads"
    head_dim = need("head_dim") if kind == "qwen3" else raw.get("head_dim")
    if kind == "mistral" and raw.get("sliding_window", 4096) is not None:  # 4096 is what transformers takes
        raise UserError(
            f"{where}: sliding_window is {raw.get('sliding_window', 4096)}; raypt computes attention without sliding "
            "windows alone; take a version without (Mistral 7B from v0.2 on)"
        )
    try:
        return ModelConfig(
            vocab_size=need("vocab_size"),
            hidden_size=need("hidden_size"),
            intermediate_size=need("intermediate_size"),
            num_layers=need("num_hidden_layers"),
            num_heads=need("num_attention_heads"),
            num_kv_heads=need(kv_heads),
            head_dim=head_dim,
            max_length=need("max_position_embeddings"),
            rope_theta=rope.get("rope_theta") or raw.get("rope_theta") or 10000.0,
            rope_scaling=_scaling_from_hf(rope, need, where),
            norm_eps=need("rms_norm_eps"),
            tie_embeddings=raw.get("tie_word_embeddings", False),
            qk_norm=kind == "qwen3",
            qkv_bias=kind == "qwen2",
            family="mistral" if kind == "mistral" else None,
            init_std=raw.get("initializer_range") or 0.02,
        )
    except ValidationError as e:
        problems = "; ".join(f"{'.'.join(map(str, p['loc'])) or 'shape'}: {p['msg']}" for p in e.errors())
        raise UserError(f"{where}: {problems}; take the file that was published with the weights") from None


def _refuse_other_maths(raw: Mapping[str, Any], rope: Mapping[str, Any], where: str) -> None:
    for key, (same, computed) in COMPUTED.items():
        for section in (raw, rope):
            if section.get(key) not in same:
                raise UserError(f"{where}: {key} is {section[key]!r}; raypt computes {computed}; take another model")
    if set(raw.get("layer_types") or ()) - {"full_attention"}:
        raise UserError(f"{where}: layer_types has other layers than 'full_attention'; take a checkpoint without them")
    if any(isinstance(value, Mapping) for value in rope.values()):
        raise UserError(f"{where}: rotary positions differ by layer; take a checkpoint where all layers share them")


def _scaling_from_hf(rope: Mapping[str, Any], need: Callable[..., Any], where: str) -> RopeScaling | None:
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind == "default":
        return None
    if kind not in ("linear", "dynamic", "llama3"):
        raise UserError(f"{where}: rope type {kind!r} is not supported (linear, dynamic, llama3)")
    own: dict[str, Any] = {}
    if kind == "llama3":
        own = {key: need(key, rope) for key in ("low_freq_factor", "high_freq_factor")}
    original = rope.get("original_max_position_embeddings")
    if kind == "dynamic" or original is None:  # transformers' dynamic scaling reads the declared context alone
        original = need("max_position_embeddings")
    return RopeScaling(kind=kind, factor=need("factor", rope), original_length=original, **own)


def export_hf(
    config: ModelConfig,
    tensors: Callable[[str], Iterator[Tensor]],
    uri: str,
    *,
    dtype: torch.dtype = torch.float32,
    bos: int | None = None,
    eos: int | None = None,
    shard_bytes: int = 4 << 30,
    cleared: bool = False,
) -> None:
    """Write safetensors and `config.json` to the directory `uri`, which then holds no weights of an earlier export
    (`cleared`: nor did it before).

    `tensors(name)` gives a parameter's elements, flattened, in pieces of any type: what is in memory is one of them.
    `config.json` is deleted first and written last: an export that was interrupted is none.
    """
    config_uri = storage.join(uri, CONFIG)
    if not cleared:
        storage.remove_file(config_uri)
        clear_weights(uri)
    write_weights(uri, parameter_shapes(config), tensors, dtype=dtype, shard_bytes=shard_bytes)
    storage.write_json(config_uri, to_hf_config(config, dtype=dtype, bos=bos, eos=eos))


def read_config(uri: str) -> tuple[ModelConfig, dict[str, Any]]:
    """The model of a Hugging Face directory, and its `config.json` as it stands."""
    config_uri = storage.join(uri, CONFIG)
    if not storage.exists(config_uri):
        raise UserError(f"{config_uri}: no such file; give the directory of a Hugging Face checkpoint")
    raw = storage.read_json(config_uri)
    if not isinstance(raw, dict):
        raise UserError(f"{config_uri}: not a JSON object; take the file that was published with the weights")
    return from_hf_config(raw, config_uri), raw


def stored_bytes(uri: str, dtype: torch.dtype | None = None) -> int:
    """Bytes of the weights of a Hugging Face directory, in a type or as they are stored; reads headers alone."""
    read_config(uri)  # without one it is no model
    entries = WeightFiles(uri).entries.values()
    return sum(entry.numel * (dtype or entry.dtype).itemsize for entry in entries)


def load_hf(uri: str, dtype: torch.dtype | None = torch.float32, device: torch.device | str = "cpu") -> Llama:
    """A model from the directory `uri` of a Hugging Face checkpoint, read straight into its own type and place. `dtype`
    None: the type that the first of its weights is stored in.
    """
    config, _ = read_config(uri)
    files = check_weights(WeightFiles(uri), config)
    dtype = dtype or next(iter(files.entries.values())).dtype
    with torch.device("meta"):
        model = Llama(config)
    model.allocated(device, dtype)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            files.read_into(name, parameter)
    return model


def check_weights(files: WeightFiles, config: ModelConfig) -> WeightFiles:
    """The files, if they hold every parameter of the model in its shape and nothing that it does not know.

    Raises:
        UserError: what is missing, unknown, or of another shape.
    """
    shapes = parameter_shapes(config)
    for name, entry in files.entries.items():
        if name not in shapes:
            if name == "lm_head.weight" or name.endswith("rotary_emb.inv_freq"):
                continue  # a copy of the tied embedding, and a buffer old checkpoints kept
            raise UserError(f"{files.uri}: unknown tensor {name!r}")
        if entry.shape != shapes[name]:
            raise UserError(f"{files.uri}: {name} has shape {entry.shape}, not {tuple(shapes[name])}")
    if missing := shapes.keys() - files.entries.keys():
        raise UserError(f"{files.uri}: {len(missing)} tensors are missing, first {sorted(missing)[0]!r}")
    return files
