"""The model against transformers, and what a language model must do: causality, isolation of documents, learning."""

import math
from itertools import product

import pytest
import torch
import transformers
from torch import Tensor

from raypt.model import PRESETS, KVCache, Llama, ModelConfig, RopeScaling, Targets, generate
from raypt.model.hf import to_hf_config
from raypt.model.rope import cos_sin, inverse_frequencies, positions_from_segments

torch.set_num_threads(1)

PUBLISHED = {
    "llama-2-7b": 6_738_415_616,
    "llama-2-13b": 13_015_864_320,
    "llama-2-70b": 68_976_648_192,
    "llama-3-8b": 8_030_261_248,
    "llama-3-70b": 70_553_706_496,
    "llama-3.1-405b": 405_853_388_800,
    "llama-3.2-1b": 1_235_814_400,
    "tinyllama-1.1b": 1_100_048_384,
}
LLAMA3 = RopeScaling(kind="llama3", factor=8.0, original_length=64)


def small(**more: object) -> ModelConfig:
    shape = {"vocab_size": 96, "hidden_size": 48, "intermediate_size": 80, "num_layers": 2, "num_heads": 4}
    return ModelConfig.model_validate({**shape, "num_kv_heads": 2, "init_std": 0.1, "max_length": 256, **more})


def transformers_model(model: Llama) -> transformers.LlamaForCausalLM:
    raw = to_hf_config(model.config, dtype=torch.float32)
    config = transformers.LlamaConfig(**raw, attn_implementation="sdpa")
    theirs = transformers.LlamaForCausalLM(config)
    theirs.load_state_dict(model.state_dict())
    return theirs


def tokens(seed: int = 0, batch: int = 2, length: int = 100) -> Tensor:
    return torch.randint(0, 96, (batch, length), generator=torch.Generator().manual_seed(seed))


SEGMENTS = torch.cat([torch.full((2, n), i + 1) for i, n in enumerate((30, 50, 20))], dim=1)


@pytest.mark.parametrize(
    ("kv_heads", "tied", "scaling", "masked"),
    list(product([4, 2, 1], [True, False], [None, LLAMA3], [True, False])),
)
def test_logits_loss_and_gradients_agree_with_transformers(
    kv_heads: int, tied: bool, scaling: RopeScaling | None, masked: bool
) -> None:
    ours = Llama(small(num_kv_heads=kv_heads, tie_embeddings=tied, rope_scaling=scaling)).initialise(0)
    theirs = transformers_model(ours)
    x, segments = tokens(), SEGMENTS if masked else None
    extra = {}
    if segments is not None:
        mask = (segments[:, None, :, None] == segments[:, None, None, :]).tril()
        extra = {"attention_mask": mask, "position_ids": positions_from_segments(segments)}
    expected = theirs(x, **extra).logits
    torch.testing.assert_close(ours(x, segments), expected, atol=2e-5, rtol=0)
    y, valid = tokens(seed=1), torch.rand(2, 100, generator=torch.Generator().manual_seed(2)) < 0.7
    loss, _ = ours(x, segments, targets=Targets(y, valid, chunk_tokens=32))
    expected_loss = torch.nn.functional.cross_entropy(expected[valid], y[valid], reduction="sum")
    torch.testing.assert_close(loss, expected_loss, rtol=1e-6, atol=1e-4)
    loss.backward()
    expected_loss.backward()
    reference = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, reference[name].grad, atol=2e-4, rtol=1e-4, msg=name)


@pytest.mark.parametrize("kind", ["linear", "dynamic", "llama3"])
def test_rope_scalings_agree_with_transformers(kind: str) -> None:
    config = small(rope_scaling={"kind": kind, "factor": 4.0, "original_length": 32})
    ours = Llama(config).initialise(0)
    x = tokens(length=90)
    torch.testing.assert_close(ours(x), transformers_model(ours)(x).logits, atol=2e-5, rtol=0)


@pytest.mark.parametrize("name", PUBLISHED)
def test_presets_have_the_published_parameter_counts(name: str) -> None:
    config = ModelConfig(preset=name)
    with torch.device("meta"):
        built = sum(p.numel() for p in Llama(config).parameters())
    assert built == config.parameters() == PUBLISHED[name]


@pytest.mark.parametrize("name", sorted(set(PRESETS) - set(PUBLISHED)))
def test_small_presets_count_their_parameters(name: str) -> None:
    config = ModelConfig(preset=name, vocab_size=8192, qk_norm=True)
    with torch.device("meta"):
        assert sum(p.numel() for p in Llama(config).parameters()) == config.parameters()


def test_a_preset_can_be_overridden() -> None:
    assert ModelConfig(preset="llama-3-8b", num_layers=2).num_layers == 2


def test_an_unknown_preset_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"llama-2-7b"):
        ModelConfig(preset="llama-9")


def test_the_vocabulary_follows_the_tokenizer_in_whole_multiples() -> None:
    assert ModelConfig().for_vocabulary(1000).vocab == 1024
    with pytest.raises(ValueError, match="tokenizer has 1000"):
        ModelConfig(vocab_size=999).for_vocabulary(1000)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(("width", "vocab"), [(48, 512), (4096, 8192)])
@torch.no_grad()
def test_the_initial_loss_is_that_of_a_uniform_guess_at_every_width(width: int, vocab: int, tied: bool) -> None:
    shape = {"hidden_size": width, "intermediate_size": width // 2, "num_layers": 1, "head_dim": 16}
    model = Llama(small(**shape, vocab_size=vocab, init_std=0.02, tie_embeddings=tied)).initialise(0)
    x = torch.randint(0, vocab, (4, 64), generator=torch.Generator().manual_seed(0))
    y = torch.randint(0, vocab, (4, 64), generator=torch.Generator().manual_seed(1))
    loss, _ = model(x, targets=Targets(y, torch.ones_like(y, dtype=torch.bool)))
    assert abs(loss.item() / y.numel() - math.log(vocab)) < 0.02 * math.log(vocab)


def test_one_batch_can_be_learned_by_heart() -> None:
    model = Llama(small()).initialise(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    x = tokens(batch=4, length=33)
    targets = Targets(x[:, 1:], torch.ones(4, 32, dtype=torch.bool))
    for _ in range(120):
        loss, _ = model(x[:, :-1], targets=targets)
        (loss / 128).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss.item() / 128 < 0.05


def test_a_token_does_not_see_what_comes_after_it() -> None:
    model = Llama(small(qk_norm=True)).initialise(0)
    x = tokens()
    changed = x.clone()
    changed[:, 60:] = (changed[:, 60:] + 1) % 96
    torch.testing.assert_close(model(x)[:, :60], model(changed)[:, :60], atol=0, rtol=0)


def test_a_packed_document_gives_the_logits_it_gives_alone() -> None:
    model = Llama(small()).initialise(0)
    x = tokens()
    packed = model(x, SEGMENTS)
    torch.testing.assert_close(packed[:, 30:80], model(x[:, 30:80]), atol=1e-5, rtol=0)


def test_positions_restart_with_each_document() -> None:
    segments = torch.tensor([[1, 1, 2, 2, 2, 0, 0], [1, 1, 1, 1, 2, 3, 3]])
    expected = [[0, 1, 0, 1, 2, 0, 1], [0, 1, 2, 3, 0, 0, 1]]
    assert positions_from_segments(segments).tolist() == expected


@pytest.mark.parametrize("mode", ["full", "selective"])
def test_activation_checkpointing_changes_no_gradient(mode: str) -> None:
    x, y = tokens(), tokens(seed=1)
    gradients = []
    for activation_checkpointing in ("none", mode):
        model = Llama(small(), activation_checkpointing).initialise(0)
        loss, _ = model(x, SEGMENTS, targets=Targets(y, torch.ones_like(y, dtype=torch.bool)))
        loss.backward()
        gradients.append([p.grad for p in model.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed, atol=0, rtol=0)


@pytest.mark.parametrize("scaling", [None, LLAMA3])
def test_the_cache_gives_the_logits_of_the_whole_text(scaling: RopeScaling | None) -> None:
    model = Llama(small(rope_scaling=scaling)).initialise(0)
    x = tokens(length=40)
    cache = KVCache.empty()
    pieces = [model(x[:, a:b], cache=cache) for a, b in ((0, 20), (20, 21), (21, 30), (30, 40))]
    torch.testing.assert_close(torch.cat(pieces, dim=1), model(x), atol=1e-5, rtol=0)


def test_greedy_generation_equals_that_of_transformers() -> None:
    ours = Llama(small()).initialise(3)
    prompt = tokens(batch=1, length=10)
    expected = transformers_model(ours).generate(prompt, max_new_tokens=20, do_sample=False, eos_token_id=None)
    assert generate(ours, prompt[0].tolist(), max_new_tokens=20) == expected[0, 10:].tolist()


def test_sampling_depends_on_the_seed_alone() -> None:
    model = Llama(small()).initialise(0)

    def sample(seed: int) -> list[int]:
        return generate(model, [1, 2, 3], max_new_tokens=20, temperature=1.5, top_p=0.9, seed=seed)

    assert sample(1) == sample(1)
    assert sample(1) != sample(2)


def test_residual_projections_start_smaller_with_depth() -> None:
    model = Llama(small(num_layers=8, hidden_size=128, num_heads=4)).initialise(0)
    layer = model.model.layers[0]
    ratio = layer.self_attn.q_proj.weight.std() / layer.self_attn.o_proj.weight.std()
    assert abs(ratio.item() - 4.0) < 0.2


def test_dynamic_scaling_keeps_the_frequencies_within_the_original_length() -> None:
    config = small(rope_scaling={"kind": "dynamic", "factor": 4.0, "original_length": 64})
    torch.testing.assert_close(inverse_frequencies(config, 64), inverse_frequencies(small(), 64))
    assert (inverse_frequencies(config, 128)[1:] < inverse_frequencies(small(), 128)[1:]).all()


def test_a_rotation_has_one_angle_for_two_dimensions() -> None:
    cos, sin = cos_sin(torch.arange(5), inverse_frequencies(small()))
    assert cos.shape == sin.shape == (5, 48 // 4 // 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_heads": 4, "num_kv_heads": 3}, "multiple of num_kv_heads"),
        ({"hidden_size": 50}, "multiple of num_heads"),
        ({"head_dim": 5}, "even width"),
    ],
)
def test_an_impossible_shape_is_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**change)


@pytest.mark.parametrize(
    "change",
    [
        {"vocab_size": 0},
        {"vocab_multiple": 0},
        {"hidden_size": -4},
        {"intermediate_size": 0},
        {"num_layers": 0},
        {"num_heads": 0},
        {"num_kv_heads": 0},
        {"head_dim": 0},
        {"max_length": 0},
        {"rope_theta": 0.0},
        {"norm_eps": -1.0},
        {"init_std": 0.0},
        {"rope_scaling.factor": 0.0},
        {"rope_scaling.low_freq_factor": 0.0},
        {"rope_scaling.high_freq_factor": 0.0},
        {"rope_scaling.original_length": 0},
    ],
)
def test_a_size_out_of_bounds_is_refused_by_its_key(change: dict[str, float]) -> None:
    [(key, value)] = change.items()
    section, _, name = key.rpartition(".")
    with pytest.raises(ValueError, match=rf"{key}\n.*greater than"):
        small(**({section: {"kind": "llama3", name: value}} if section else change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rope_scaling": {"kind": "llama3", "low_freq_factor": 4.0}}, "high_freq_factor"),
        ({"rope_scaling": {"kind": "dynamic"}, "head_dim": 2}, "wider than 2"),
    ],
)
def test_a_stretching_that_divides_by_zero_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**change)
