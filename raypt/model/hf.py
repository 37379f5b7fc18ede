"""Hugging Face checkpoints: `config.json` and safetensors, one file or sharded, in both directions."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from raypt import storage
from raypt.errors import UserError
from raypt.model.config import ModelConfig, RopeScaling
from raypt.model.llama import Llama, parameter_shapes

INDEX = "model.safetensors.index.json"


def to_hf_config(
    config: ModelConfig, *, dtype: torch.dtype, bos: int | None = None, eos: int | None = None
) -> dict[str, Any]:
    """The content of `config.json` for transformers' LlamaForCausalLM."""
    if config.qk_norm:
        raise UserError("model.qk_norm has no counterpart in transformers' LLaMA; train without it to export")
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": config.vocab,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_width,
        "max_position_embeddings": config.max_length,
        "rope_theta": config.rope_theta,
        "rope_scaling": _scaling_to_hf(config.rope_scaling),
        "rms_norm_eps": config.norm_eps,
        "tie_word_embeddings": config.tie_embeddings,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
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
        out |= {"low_freq_factor": scaling.low_freq_factor, "high_freq_factor": scaling.high_freq_factor}
    if scaling.kind != "linear":
        out["original_max_position_embeddings"] = scaling.original_length
    return out


def from_hf_config(raw: Mapping[str, Any], where: str = "config.json") -> ModelConfig:
    """Read transformers' LLaMA configuration, of version 4 (`rope_theta`) or 5 (`rope_parameters`)."""
    if raw.get("model_type") != "llama":
        raise UserError(f"{where}: model_type is {raw.get('model_type')!r}; only 'llama' can be read")
    for key in ("attention_bias", "mlp_bias"):
        if raw.get(key):
            raise UserError(f"{where}: {key} is set; this LLaMA has no biases")
    rope = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in ("default", "linear", "dynamic", "llama3"):
        raise UserError(f"{where}: rope type {kind!r} is not supported (linear, dynamic, llama3)")
    scaling = None
    if kind != "default":
        scaling = RopeScaling(
            kind=kind,
            factor=rope["factor"],
            low_freq_factor=rope.get("low_freq_factor", 1.0),
            high_freq_factor=rope.get("high_freq_factor", 4.0),
            original_length=rope.get("original_max_position_embeddings", raw["max_position_embeddings"]),
        )
    return ModelConfig(
        vocab_size=raw["vocab_size"],
        hidden_size=raw["hidden_size"],
        intermediate_size=raw["intermediate_size"],
        num_layers=raw["num_hidden_layers"],
        num_heads=raw["num_attention_heads"],
        num_kv_heads=raw.get("num_key_value_heads") or raw["num_attention_heads"],
        head_dim=raw.get("head_dim"),
        max_length=raw["max_position_embeddings"],
        rope_theta=rope.get("rope_theta") or raw.get("rope_theta") or 10000.0,
        rope_scaling=scaling,
        norm_eps=raw["rms_norm_eps"],
        tie_embeddings=raw.get("tie_word_embeddings", False),
        init_std=raw.get("initializer_range", 0.02),
    )


def export_hf(
    config: ModelConfig,
    tensors: Callable[[str], Tensor],
    uri: str,
    *,
    dtype: torch.dtype = torch.float32,
    bos: int | None = None,
    eos: int | None = None,
    shard_bytes: int = 4 << 30,
) -> None:
    """Write safetensors and `config.json` to the directory `uri`. `tensors(name)` gives a parameter in any precision;
    it is asked for one at a time, so at most one shard of `shard_bytes` is in memory. `config.json` is written last.
    """
    raw = to_hf_config(config, dtype=dtype, bos=bos, eos=eos)
    names = parameter_shapes(config)
    shards: list[list[str]] = [[]]
    filled = 0
    for name, shape in names.items():
        nbytes = shape.numel() * dtype.itemsize
        if shards[-1] and filled + nbytes > shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += nbytes
    files = (
        ["model.safetensors"]
        if len(shards) == 1
        else [f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors" for i in range(len(shards))]
    )
    for file, shard in zip(files, shards, strict=True):
        content = {name: tensors(name).detach().to("cpu", dtype).contiguous() for name in shard}
        assert all(content[name].shape == names[name] for name in shard)
        storage.write_bytes(storage.join(uri, file), safetensors.torch.save(content, metadata={"format": "pt"}))
    if len(shards) > 1:
        total = sum(shape.numel() for shape in names.values()) * dtype.itemsize
        where = {name: file for file, shard in zip(files, shards, strict=True) for name in shard}
        storage.write_json(storage.join(uri, INDEX), {"metadata": {"total_size": total}, "weight_map": where})
    storage.write_json(storage.join(uri, "config.json"), raw)


def load_hf(uri: str, dtype: torch.dtype = torch.float32) -> Llama:
    """A model from the directory `uri` of a Hugging Face LLaMA checkpoint."""
    config_uri = storage.join(uri, "config.json")
    if not storage.exists(config_uri):
        raise UserError(f"{config_uri}: no such file; give the directory of a Hugging Face checkpoint")
    config = from_hf_config(json.loads(storage.read_bytes(config_uri)), config_uri)
    with torch.device("meta"):
        model = Llama(config)
    model = model.to_empty(device="cpu").to(dtype)
    if config.tie_embeddings:  # to_empty gives each name storage of its own
        model.lm_head.weight = model.model.embed_tokens.weight
    missing = set(dict(model.named_parameters()))
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, tensor in _read_tensors(uri):
            if name not in parameters:
                if name == "lm_head.weight" or name.endswith("rotary_emb.inv_freq"):
                    continue  # a copy of the tied embedding, and a buffer old checkpoints kept
                raise UserError(f"{uri}: unknown tensor {name!r}")
            if parameters[name].shape != tensor.shape:
                raise UserError(f"{uri}: {name} has shape {tuple(tensor.shape)}, not {tuple(parameters[name].shape)}")
            parameters[name].copy_(tensor)
            missing.discard(name)
    if missing:
        raise UserError(f"{uri}: {len(missing)} tensors are missing, first {sorted(missing)[0]!r}")
    return model


def _read_tensors(uri: str) -> Iterator[tuple[str, Tensor]]:
    index = storage.join(uri, INDEX)
    files = (
        sorted(set(storage.read_json(index)["weight_map"].values())) if storage.exists(index) else ["model.safetensors"]
    )
    for file in files:
        path = storage.join(uri, file)
        if not storage.exists(path):
            raise UserError(f"{path}: no such file")
        try:
            yield from safetensors.torch.load(storage.read_bytes(path)).items()
        except safetensors.SafetensorError as e:
            raise UserError(f"{path}: not a readable safetensors file ({e}); fetch it again") from e
