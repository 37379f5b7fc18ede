"""AdamW in blocks: torch's own arithmetic, whatever the cut."""

import itertools
import math

import pytest
import torch

from raypt.parallel.zero.update import BLOCK, Cut, adamw, adamw_state, divisor, square_sum

N = 2 * BLOCK + 17
"""Two whole blocks and a piece."""
SCALES = (1.0, 1.7, 5.0)
"""Another one at each step: Adam does not see a constant factor."""


def blocked(
    weight: torch.Tensor, grads: list[torch.Tensor], bounds: tuple[int, ...] = (0, 5, BLOCK + 3, N), alike: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """(master, bf16 weights) after a step for each gradient, cut in pieces."""
    master = torch.nn.Parameter(weight.clone())
    low = weight.bfloat16()
    optimizer = torch.optim.AdamW([master], lr=1e-2, weight_decay=0.1)
    for grad, scale in zip(grads, SCALES, strict=True):
        state = adamw_state(optimizer, master)
        step = state["step"].add_(1)
        parts = [slice(a, b) for a, b in itertools.pairwise(bounds)]
        cuts = [Cut(master.detach()[p], grad[p], low[p], state["exp_avg"][p], state["exp_avg_sq"][p]) for p in parts]
        adamw(optimizer.param_groups[0], step, cuts, scale, alike=alike)
    return master.detach(), low


def test_blocks_of_bf16_gradients_are_updated_as_torch_updates_their_float32_whole() -> None:
    random = torch.Generator().manual_seed(0)
    weight = torch.randn(N, generator=random)
    grads = [torch.randn(N, generator=random).bfloat16() for _ in range(3)]
    master, low = blocked(weight, grads)
    expected = torch.nn.Parameter(weight.clone())
    optimizer = torch.optim.AdamW([expected], lr=1e-2, weight_decay=0.1, fused=True)
    for grad, scale in zip(grads, SCALES, strict=True):
        expected.grad = grad.float() / scale
        optimizer.step()
    # The last bit may differ where a block's length is no multiple of the vector's and torch takes its scalar path.
    torch.testing.assert_close(master, expected.detach(), rtol=1e-6, atol=1e-8)
    assert torch.equal(low, master.bfloat16())


def test_the_update_of_an_element_does_not_depend_on_where_its_cut_ends_if_that_is_wanted() -> None:
    random = torch.Generator().manual_seed(0)
    weight = torch.randn(N, generator=random)
    grads = [torch.randn(N, generator=random) for _ in range(3)]
    ways = [blocked(weight, grads, bounds, alike=True)[0] for bounds in ((0, N), (0, 1, 8, 77, N - 1, N))]
    assert torch.equal(*ways)


def test_the_norm_of_bf16_gradients_is_taken_in_float32() -> None:
    grads = [torch.randn(N, generator=torch.Generator().manual_seed(i)).bfloat16() for i in range(2)]
    expected = sum(float(g.double().square().sum()) for g in grads)
    assert square_sum(grads) == pytest.approx(expected, rel=1e-6)  # float32, added up pairwise: some 1e-7


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("at", [0, N - 1])
def test_one_gradient_that_is_not_finite_shows_in_the_norm(bad: float, at: int) -> None:
    grad = torch.zeros(N)
    grad[at] = bad
    assert not math.isfinite(square_sum([grad]))


@pytest.mark.parametrize(("norm", "limit", "expected"), [(0.5, 1.0, 1.0), (4.0, 2.0, 2.0), (4.0, None, 1.0)])
def test_gradients_are_divided_only_where_their_norm_exceeds_the_limit(
    norm: float, limit: float | None, expected: float
) -> None:
    assert divisor(norm, limit) == pytest.approx(expected, rel=1e-6)  # DeepSpeed and torch add 1e-6 to the norm
