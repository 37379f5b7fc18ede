"""The attention of training against torch's with a mask."""

import pytest
import torch
import torch.nn.functional as F

from raypt.model.attention import BLOCK, KEPT, attention, documents, varlen_attention, varlen_problem
from raypt.model.config import ModelConfig
from raypt.model.llama import Llama
from raypt.model.rope import positions_from_segments

torch.set_num_threads(1)


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.parametrize("length", [BLOCK + 1, 2 * BLOCK, 3 * BLOCK - 5])
@pytest.mark.parametrize("masked", [True, False])
def test_values_and_gradients_equal_those_of_torch(kv_heads: int, length: int, masked: bool) -> None:
    generator = torch.Generator().manual_seed(0)

    def draw(heads: int) -> torch.Tensor:
        return torch.randn(2, heads, length, 16, generator=generator).requires_grad_()

    q, k, v, weight = draw(4), draw(kv_heads), draw(kv_heads), draw(4).detach()
    mask = None
    if masked:
        segments = torch.randint(0, 3, (2, length), generator=generator).sort(dim=1).values
        mask = (segments[:, None, :, None] == segments[:, None, None, :]).tril()
    ours = attention(q, k, v, mask)
    gradients = torch.autograd.grad((ours * weight).sum(), (q, k, v))
    theirs = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=True)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    for mine, other in zip(gradients, torch.autograd.grad((theirs * weight).sum(), (q, k, v)), strict=True):
        torch.testing.assert_close(mine, other, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("kv_heads", [4, 1])
@pytest.mark.parametrize("length", [BLOCK + 1, 3 * BLOCK - 5])
@pytest.mark.parametrize("packed", [True, False])
def test_a_long_row_has_the_values_and_gradients_of_one_with_a_mask(
    kv_heads: int, length: int, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(0)

    def draw(heads: int) -> torch.Tensor:
        return torch.randn(2, heads, length, 16, generator=generator, dtype=torch.float64).requires_grad_()

    q, k, v, weight = draw(4), draw(kv_heads), draw(kv_heads), draw(4).detach()
    segments = torch.randint(0, 9 if packed else 1, (2, length), generator=generator).sort(dim=1).values
    mask = (segments[:, None, :, None] == segments[:, None, None, :]).tril()
    theirs = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
    expected = torch.autograd.grad((theirs * weight).sum(), (q, k, v))
    monkeypatch.setattr("raypt.model.attention.KEPT", BLOCK)
    begins = torch.arange(length) - positions_from_segments(segments) if packed else None
    ours = attention(q, k, v, None, begins)
    gradients = torch.autograd.grad((ours * weight).sum(), (q, k, v))
    # The logarithmic sums are float32: 6e-8, over at most 9 in size.
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)
    for mine, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(mine, other, atol=5e-6, rtol=5e-6)


def test_what_a_row_keeps_grows_with_its_length_and_not_with_the_square() -> None:
    config = ModelConfig(
        vocab_size=32, hidden_size=16, intermediate_size=16, num_layers=1, num_heads=2, max_length=4 * KEPT
    )
    model = Llama(config)
    kept = []
    for length in (KEPT, KEPT + BLOCK, 2 * KEPT + 2 * BLOCK):
        seen: dict[int, int] = {}

        def note(x: torch.Tensor, seen: dict[int, int] = seen) -> torch.Tensor:
            seen[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
            return x

        tokens, segments = torch.zeros(1, length, dtype=torch.long), torch.arange(length)[None] // 300 + 1
        with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
            model.hidden(tokens, segments)
        kept.append(sum(seen.values()))
    masked, first, twice = kept
    assert masked > 4 * KEPT**2  # two heads' probabilities, half of each matrix in float32
    assert twice <= 2 * first
    assert first < masked / 5


def test_the_same_holds_without_gradients_and_in_bf16() -> None:
    q, k, v = (torch.randn(1, 2, 100, 16, generator=torch.Generator().manual_seed(i)) for i in range(3))
    with torch.no_grad():
        expected = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        assert torch.equal(attention(q, k, v, None), expected)
    low = attention(*(x.bfloat16().requires_grad_() for x in (q, k, v)), None)
    torch.testing.assert_close(low.float(), expected, atol=3e-2, rtol=3e-2)


def test_documents_begin_with_a_row_and_where_the_segment_changes() -> None:
    found = documents(torch.tensor([[1, 1, 2, 2, 2], [2, 2, 2, 2, 0]]))
    assert found.starts_N1.tolist() == [0, 2, 5, 9, 10]
    assert found.starts_N1.dtype == torch.int32
    assert found.longest == 4


@pytest.mark.skipif(not torch.cuda.is_available(), reason="variable-length flash attention runs on CUDA alone")
def test_variable_length_attention_equals_masked_attention() -> None:
    generator = torch.Generator().manual_seed(0)
    segments = torch.randint(0, 4, (2, 128), generator=generator).sort(dim=1).values.cuda()
    q, k, v = (
        torch.randn(2, heads, 128, 64, generator=generator).cuda().bfloat16().requires_grad_() for heads in (4, 2, 2)
    )
    mask = (segments[:, None, :, None] == segments[:, None, None, :]).tril()
    ours = varlen_attention(q, k, v, documents(segments))
    theirs = attention(q, k, v, mask)
    torch.testing.assert_close(ours, theirs, atol=2e-2, rtol=2e-2)  # bf16 keeps 8 bits
    for mine, other in zip(
        torch.autograd.grad(ours.float().sum(), (q, k, v)),
        torch.autograd.grad(theirs.float().sum(), (q, k, v)),
        strict=True,
    ):
        torch.testing.assert_close(mine, other, atol=5e-2, rtol=5e-2)


def test_a_device_without_the_variable_length_kernel_says_so() -> None:
    problem = varlen_problem(torch.device("cpu"), 4, 2, 32)
    assert problem is not None
    assert "Error" in problem
