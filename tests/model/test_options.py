"""Options of the model, each against what defines it."""

import pytest
import torch
import transformers
from torch.utils._python_dispatch import TorchDispatchMode

from raypt.model import Llama, ModelConfig, Targets, generate

torch.set_num_threads(1)


def small(**more: object) -> ModelConfig:
    shape = {"vocab_size": 96, "hidden_size": 48, "intermediate_size": 80, "num_layers": 2, "num_heads": 4}
    return ModelConfig.model_validate({**shape, "num_kv_heads": 2, "init_std": 0.1, "max_length": 256, **more})


def tokens(length: int = 40) -> torch.Tensor:
    return torch.randint(0, 96, (2, length), generator=torch.Generator().manual_seed(0))


def test_qk_norm_is_that_of_qwen_3() -> None:
    ours = Llama(small(qk_norm=True, tie_embeddings=False)).initialise(0)
    with torch.no_grad():
        for name, p in ours.named_parameters():
            if "q_norm" in name or "k_norm" in name:
                p.copy_(torch.rand(p.shape, generator=torch.Generator().manual_seed(len(name))) + 0.5)
    config = transformers.Qwen3Config(
        vocab_size=96, hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=12, rms_norm_eps=1e-5, tie_word_embeddings=False, attention_bias=False,
        max_position_embeddings=256, rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        use_sliding_window=False,
    )  # fmt: skip
    theirs = transformers.Qwen3ForCausalLM(config)
    theirs.load_state_dict(ours.state_dict())
    torch.testing.assert_close(ours(tokens()), theirs(tokens()).logits, atol=2e-5, rtol=0)


class Products(TorchDispatchMode):
    """Counts the products of the linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.count += func in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default)
        return func(*args, **(kwargs or {}))


def products(mode: str) -> int:
    model = Llama(small(), mode).initialise(0)
    x = tokens()
    with Products() as counted:
        loss, _ = model(x[:, :-1], targets=Targets(x[:, 1:], torch.ones(2, 39, dtype=torch.bool)))
        loss.backward()
    return counted.count


def test_full_checkpointing_computes_the_linear_layers_again_and_selective_does_not() -> None:
    linear_layers = 7 * 2
    assert products("selective") == products("none")
    # The last layer of a block is not needed again: early stopping may leave it out.
    assert products("none") + linear_layers - 2 <= products("full") <= products("none") + linear_layers


def test_the_z_loss_is_reported_apart_and_pulls_the_partition_to_one() -> None:
    x = tokens()
    valid = torch.ones(2, 39, dtype=torch.bool)
    model = Llama(small(init_std=0.3)).initialise(0)
    plain, z = model(x[:, :-1], targets=Targets(x[:, 1:], valid))
    weighted, z_weighted = model(x[:, :-1], targets=Targets(x[:, 1:], valid, z_loss=0.1))
    assert (plain.item(), z.item()) == (weighted.item(), z_weighted.item())
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    for _ in range(10):
        optimizer.zero_grad()
        loss, after = model(x[:, :-1], targets=Targets(x[:, 1:], valid, z_loss=0.1))
        loss.backward()
        optimizer.step()
    assert after < z


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_nucleus_of_one_token_is_greedy_whatever_the_temperature(seed: int) -> None:
    model = Llama(small()).initialise(0)
    sampled = generate(model, [1, 2, 3], max_new_tokens=12, temperature=2.0, top_p=1e-9, seed=seed)
    assert sampled == generate(model, [1, 2, 3], max_new_tokens=12)


def test_generation_ends_before_the_stop_token() -> None:
    model = Llama(small()).initialise(0)
    whole = generate(model, [1, 2, 3], max_new_tokens=12)
    stop = whole[5]
    assert generate(model, [1, 2, 3], max_new_tokens=12, stop=stop) == whole[: whole.index(stop)]
