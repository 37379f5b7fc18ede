"""Chunked cross-entropy against the plain one."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier

import pytest
import torch
import torch.nn.functional as F

from raypt.model.loss import VocabularyPart, cross_entropy_sum

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


@pytest.mark.parametrize("scales", [(0.5, 0.5, 0.5), (0.5, 0.25, 4.0, 0.0, 0.0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_backward_pass_can_be_walked_again_for_other_inputs_and_by_other_factors(
    scales: tuple[float, ...], dtype: torch.dtype
) -> None:
    """Zero-bubble schedules walk it for hidden states first and for weights later."""
    hidden, weight, targets, valid = case(dtype)
    once = torch.autograd.grad(cross_entropy_sum(hidden, weight, targets, valid)[0], (hidden, weight))
    loss, _ = cross_entropy_sum(hidden, weight, targets, valid)
    for scale in scales:
        factor = torch.tensor(scale)
        (first,) = torch.autograd.grad(loss, hidden, factor, retain_graph=True)
        torch.testing.assert_close(first, once[0] * scale)
        (second,) = torch.autograd.grad(loss, weight, factor, retain_graph=True)
        torch.testing.assert_close(second, once[1] * scale)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("parts", [[50], [25, 25], [17, 17, 16], [1, 49]])
@pytest.mark.parametrize("z_loss", [0.0, 1e-2])
def test_parts_of_the_vocabulary_give_the_sums_of_the_whole_and_terms_of_its_gradients(
    parts: list[int], z_loss: float, dtype: torch.dtype
) -> None:
    """Each part in a thread of its own, as each has a rank of its own."""
    hidden, weight, targets, valid = case(dtype)
    targets[~valid] = 10**6
    loss, z = cross_entropy_sum(hidden, weight, targets, valid, z_loss=z_loss, chunk=8)
    loss.backward()
    meeting = Meeting(len(parts))
    firsts = [sum(parts[:i]) for i in range(len(parts))]

    def one(i: int) -> tuple[torch.Tensor, ...]:
        rows = weight.detach()[firsts[i] : firsts[i] + parts[i]].clone().requires_grad_()
        own = hidden.detach().clone().requires_grad_()
        part = VocabularyPart(firsts[i], partial(meeting, i, torch.amax), partial(meeting, i, torch.sum))
        sums = cross_entropy_sum(own, rows, targets, valid, z_loss=z_loss, chunk=8, part=part)
        sums[0].backward()
        assert own.grad is not None and rows.grad is not None
        return sums[0], sums[1], own.grad, rows.grad

    with ThreadPoolExecutor(len(parts)) as pool:
        found = list(pool.map(one, range(len(parts))))
    # One rounding of a gradient of up to 1: 2^-9 of it in bf16; a float32 sum of 37 terms in another order, some 1e-6.
    near = {"rtol": 2**-6, "atol": 2**-6} if dtype == torch.bfloat16 else {"rtol": 1e-5, "atol": 1e-5}
    for sums in found:
        torch.testing.assert_close(sums[0], loss.detach(), rtol=1e-6, atol=0)
        torch.testing.assert_close(sums[1], z.detach(), rtol=1e-6, atol=0)
    torch.testing.assert_close(sum(f[2] for f in found), hidden.grad, **near)
    torch.testing.assert_close(torch.cat([f[3] for f in found]), weight.grad, **near)


class Meeting:
    """What threads reduce together."""

    def __init__(self, size: int) -> None:
        self.barrier = Barrier(size)
        self.brought: list[torch.Tensor] = [torch.empty(0)] * size

    def __call__(self, i: int, operation: Callable[..., torch.Tensor], x: torch.Tensor) -> None:
        self.brought[i] = x.clone()
        self.barrier.wait(60)
        x.copy_(operation(torch.stack(self.brought), dim=0))
        self.barrier.wait(60)
