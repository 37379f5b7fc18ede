"""Chunked cross-entropy against the plain one."""

import pytest
import torch
import torch.nn.functional as F

from raypt.model.loss import cross_entropy_sum

torch.set_num_threads(1)


def case(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(37, 16, generator=generator, dtype=dtype, requires_grad=True)
    weight = torch.randn(50, 16, generator=generator, dtype=dtype, requires_grad=True)
    targets = torch.randint(0, 50, (37,), generator=generator)
    valid = torch.rand(37, generator=generator) < 0.6
    return hidden, weight, targets, valid


@pytest.mark.parametrize("chunk", [1, 8, 37, 1000])
@pytest.mark.parametrize("z_loss", [0.0, 1e-2])
def test_sums_and_gradients_equal_the_plain_ones(chunk: int, z_loss: float) -> None:
    hidden, weight, targets, valid = case(torch.float32)
    loss, z = cross_entropy_sum(hidden, weight, targets, valid, z_loss=z_loss, chunk=chunk)
    (loss * 0.5).backward()
    got = hidden.grad, weight.grad
    hidden.grad = weight.grad = None
    logits = (hidden @ weight.T)[valid]
    plain = F.cross_entropy(logits, targets[valid], reduction="sum")
    plain_z = logits.logsumexp(1).square().sum()
    ((plain + z_loss * plain_z) * 0.5).backward()
    torch.testing.assert_close(loss, plain)
    torch.testing.assert_close(z, plain_z)
    torch.testing.assert_close(got[0], hidden.grad, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(got[1], weight.grad, atol=1e-5, rtol=1e-5)


def test_an_id_outside_the_vocabulary_does_no_harm_where_it_is_not_valid() -> None:
    hidden, weight, targets, valid = case(torch.float32)
    expected, _ = cross_entropy_sum(hidden, weight, targets, valid)
    targets[~valid] = 10**6
    loss, _ = cross_entropy_sum(hidden, weight, targets, valid)
    assert loss == expected


def test_all_logits_never_exist_together() -> None:
    hidden, weight, targets, valid = case(torch.float32)
    shapes: list[torch.Size] = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                shapes.append(out.shape)
            return out

    with Watch():
        cross_entropy_sum(hidden, weight, targets, valid, chunk=8)[0].backward()
    assert max(s.numel() for s in shapes) <= max(8 * 50, weight.numel())


def test_bf16_gradients_are_close_to_those_of_fp32() -> None:
    hidden, weight, targets, valid = case(torch.float32)
    cross_entropy_sum(hidden, weight, targets, valid, chunk=8)[0].backward()
    low_hidden = hidden.detach().bfloat16().requires_grad_()
    low_weight = weight.detach().bfloat16().requires_grad_()
    cross_entropy_sum(low_hidden, low_weight, targets, valid, chunk=8)[0].backward()
    assert low_weight.grad is not None and weight.grad is not None
    assert low_weight.grad.dtype == torch.bfloat16
    torch.testing.assert_close(low_weight.grad.float(), weight.grad, atol=0.1, rtol=0.05)


def test_a_second_backward_pass_is_refused() -> None:
    hidden, weight, targets, valid = case(torch.float32)
    loss, _ = cross_entropy_sum(hidden, weight, targets, valid)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="one backward pass"):
        loss.backward()
