"""Hugging Face checkpoints: `config.json` and safetensors, one file or sharded, in both directions."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import safetensors.torch
import torch
from pydantic import ValidationError
from torch import Tensor

from raypt import storage
from raypt.errors import UserError
from raypt.model.config import ModelConfig, RopeScaling
from raypt.model.llama import Llama, parameter_shapes

INDEX = "model.safetensors.index.json"

ARCHITECTURES = {"llama": "LlamaForCausalLM", "qwen3": "Qwen3ForCausalLM"}
"""Model types that are read and written; Qwen 3 (dense) is LLaMA with `qk_norm`."""

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
    """The content of `config.json` for transformers' LlamaForCausalLM, or with `qk_norm` its Qwen3ForCausalLM."""
    kind = "qwen3" if config.qk_norm else "llama"
    scaling, length = config.rope_scaling, config.max_length
    if scaling is not None and scaling.kind == "dynamic":
        length = scaling.original_length  # what transformers takes the declared context for
    own: dict[str, Any] = {"mlp_bias": False}
    if config.qk_norm:
        own = {"use_sliding_window": False, "layer_types": ["full_attention"] * config.num_layers}
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
        "attention_bias": False,
        **own,
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
    """Read transformers' configuration of a LLaMA or Qwen 3, of version 4 (`rope_theta`) or 5 (`rope_parameters`).

    Raises:
        UserError: another model, a key that is missing, or one that asks for what this model does not compute.
    """
    kind = raw.get("model_type")
    if kind not in ARCHITECTURES:
        raise UserError(f"{where}: model_type is {kind!r}; only {', '.join(ARCHITECTURES)} can be read")
    rope = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
    _refuse_other_maths(raw, rope, where)

    def need(key: str, section: Mapping[str, Any] = raw) -> Any:
        if section.get(key) is None:
            raise UserError(f"{where}: the key {key!r} is missing; take the file that was published with the weights")
        return section[key]

    qwen3 = kind == "qwen3"
    # Left out, they are all heads and hidden_size / heads in LLaMA, but 32 and 128 in Qwen 3.
    kv_heads = "num_key_value_heads" if qwen3 or raw.get("num_key_value_heads") is not None else "num_attention_heads"
    head_dim = need("head_dim") if qwen3 else raw.get("head_dim")
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
            qk_norm=qwen3,
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
    """A model from the directory `uri` of a Hugging Face checkpoint, LLaMA or Qwen 3."""
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
