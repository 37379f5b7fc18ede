"""Hugging Face checkpoints, in and out."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from pydantic import ValidationError

from raypt.errors import UserError
from raypt.model import Llama, ModelConfig, export_hf, load_hf
from raypt.model.hf import from_hf_config, to_hf_config
from raypt.model.weights import in_blocks

torch.set_num_threads(1)
X = torch.arange(40)[None] % 64


def small(**more: object) -> ModelConfig:
    shape = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_layers": 2, "num_heads": 4}
    return ModelConfig.model_validate({**shape, "num_kv_heads": 2, "init_std": 0.1, "max_length": 64, **more})


def export(model: Llama, directory: Path, **options: object) -> None:
    parameters = dict(model.named_parameters())
    export_hf(model.config, lambda name: in_blocks(parameters[name]), str(directory), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("shard_bytes", [4 << 30, 10_000])
def test_transformers_loads_what_is_exported(tied: bool, shard_bytes: int, tmp_path: Path) -> None:
    model = Llama(small(tie_embeddings=tied)).initialise(0)
    export(model, tmp_path, shard_bytes=shard_bytes)
    sharded = (tmp_path / "model.safetensors.index.json").exists()
    assert sharded == (shard_bytes == 10_000)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    torch.testing.assert_close(model(X), theirs(X).logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("size", ["5GB", "20KB"])
def test_what_transformers_saves_is_loaded(tied: bool, size: str, tmp_path: Path) -> None:
    config = transformers.LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=tied, max_position_embeddings=64,
        rope_parameters={"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
                         "high_freq_factor": 4.0, "original_max_position_embeddings": 32},
    )  # fmt: skip
    theirs = transformers.LlamaForCausalLM(config)
    theirs.save_pretrained(tmp_path, max_shard_size=size)
    ours = load_hf(str(tmp_path))
    assert ours.config.rope_theta == 500000.0
    torch.testing.assert_close(ours(X), theirs(X).logits, atol=1e-5, rtol=0)


def test_bf16_export_has_bf16_tensors(tmp_path: Path) -> None:
    export(Llama(small()).initialise(0), tmp_path, dtype=torch.bfloat16)
    assert transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype="auto").dtype == torch.bfloat16


def test_another_kind_of_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    with pytest.raises(UserError, match="gpt2"):
        load_hf(str(tmp_path))


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    export(Llama(small()).initialise(0), tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"model\.safetensors"):
        load_hf(str(tmp_path))


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    export(Llama(small()).initialise(0), tmp_path, shard_bytes=10_000)
    (tmp_path / "model-00002-of-00004.safetensors").unlink(missing_ok=True)
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    shards[-1].unlink()
    with pytest.raises(UserError, match="no such file"):
        load_hf(str(tmp_path))


@pytest.mark.parametrize("tied", [True, False])
def test_a_model_with_qk_norm_is_exported_as_qwen_3(tied: bool, tmp_path: Path) -> None:
    model = Llama(small(qk_norm=True, tie_embeddings=tied, head_dim=16)).initialise(0)
    norms = [p for name, p in model.named_parameters() if "q_norm" in name or "k_norm" in name]
    for i, norm in enumerate(norms):
        torch.nn.init.uniform_(norm, 0.5, 1.5, generator=torch.Generator().manual_seed(i))
    export(model, tmp_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert isinstance(theirs, transformers.Qwen3ForCausalLM)
    torch.testing.assert_close(model(X), theirs(X).logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize("qk_norm", [True, False])
def test_what_is_exported_is_loaded_unchanged(qk_norm: bool, tmp_path: Path) -> None:
    model = Llama(small(qk_norm=qk_norm)).initialise(0)
    export(model, tmp_path)
    loaded = load_hf(str(tmp_path))
    assert loaded.config == model.config.model_copy(update={"head_dim": 8})
    torch.testing.assert_close(loaded.state_dict(), model.state_dict(), atol=0, rtol=0)


def test_a_qwen_3_that_transformers_saves_is_loaded(tmp_path: Path) -> None:
    config = transformers.Qwen3Config(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, max_position_embeddings=64,
    )  # fmt: skip
    theirs = transformers.Qwen3ForCausalLM(config)
    theirs.save_pretrained(tmp_path)
    torch.testing.assert_close(load_hf(str(tmp_path))(X), theirs(X).logits, atol=1e-5, rtol=0)


SHAPE = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip


@pytest.mark.parametrize(
    "config",
    [transformers.MistralConfig(**SHAPE, sliding_window=None), transformers.Qwen2Config(**SHAPE)],
    ids=["mistral", "qwen2"],
)
def test_a_family_of_llamas_arithmetic_is_loaded_and_exported_as_what_it_was(
    config: transformers.PretrainedConfig, tmp_path: Path
) -> None:
    theirs = transformers.AutoModelForCausalLM.from_config(config)
    for name, parameter in theirs.named_parameters():
        if name.endswith(".bias"):  # zero at first
            torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(len(name)))
    theirs.save_pretrained(tmp_path / "in")
    ours = load_hf(str(tmp_path / "in"))
    torch.testing.assert_close(ours(X), theirs(X).logits, atol=1e-5, rtol=0)
    assert ours.config.parameters() == sum(p.numel() for p in theirs.parameters())
    export(ours, tmp_path / "out")
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert type(again) is type(theirs)
    torch.testing.assert_close(again(X).logits, theirs(X).logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "keys", [{"qk_norm": True, "qkv_bias": True}, {"family": "llama", "qk_norm": True}, {"family": "qwen2"}]
)
def test_a_family_that_computes_otherwise_is_refused(keys: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=r"famil"):
        small(**keys)


def test_dynamic_scaling_beyond_the_original_length_is_that_of_transformers(tmp_path: Path) -> None:
    scaling = {"kind": "dynamic", "factor": 4.0, "original_length": 64}
    model = Llama(small(rope_scaling=scaling, max_length=256)).initialise(0)
    export(model, tmp_path)
    x = torch.arange(200)[None] % 64
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    torch.testing.assert_close(model(x), theirs(x).logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(load_hf(str(tmp_path))(x), model(x), atol=0, rtol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ({"mlp_bias": True}, "mlp_bias"),
        ({"is_causal": False}, "is_causal"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 2.0, "partial_rotary_factor": 0.5}}, "partial_rotary"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, "yarn"),
        ({"rope_scaling": {"full_attention": {"rope_type": "linear", "factor": 2.0}}}, "differ by layer"),
        ({"rope_scaling": {"rope_type": "linear"}}, "'factor' is missing"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"model_type": "mistral"}, "sliding_window is 4096"),
        ({"model_type": "mistral", "sliding_window": 128}, "sliding_window is 128"),
        ({"model_type": "gemma2"}, r"'gemma2' \(norms by 1 \+ weight, capped logits"),
        ({"model_type": "new"}, "'new'; only llama, mistral, qwen2, qwen3 can be read"),
        ({"model_type": "qwen3", "use_sliding_window": True}, "sliding windows"),
        ({"model_type": "qwen3", "layer_types": ["full_attention", "sliding_attention"]}, "layer_types"),
        ({"model_type": "qwen3", "head_dim": None}, "'head_dim' is missing"),
        ({"rms_norm_eps": None}, "'rms_norm_eps' is missing"),
        ({"num_hidden_layers": 0}, "num_layers: Input should be greater than 0"),
    ],
)
def test_a_configuration_that_cannot_be_computed_is_refused_by_file_and_key(
    change: dict[str, object], message: str
) -> None:
    raw = to_hf_config(small(), dtype=torch.float32) | change
    with pytest.raises(UserError, match=rf"dir/config\.json: .*{message}"):
        from_hf_config(raw, "dir/config.json")


def test_swish_is_another_name_of_silu() -> None:
    raw = to_hf_config(small(), dtype=torch.float32)
    assert from_hf_config(raw | {"hidden_act": "swish"}) == from_hf_config(raw)
