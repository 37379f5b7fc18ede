"""A checkpoint of any number of ranks at any ZeRO stage goes on at any other, with the losses of a run that stayed."""

import numpy as np
import pytest

from tests.parallel.ranks import run_ranks
from tests.training import reshard

# fp32: another partition adds up the same gradients in another order.
TOLERANCE = 1e-5

STAGE_3_AND_BELOW = [(3, 1), (3, 2), (1, 3), (2, 3), (0, 3), (3, 0)]


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, np.ndarray]]:
    """By number of ranks, what `reshard.run` returns: two and four ranks save, and four, two and one resume."""
    root = tmp_path_factory.mktemp("reshard")

    def launch(world: int, pairs: list[tuple[int, int, int]], **what: bool) -> dict[str, np.ndarray]:
        results = run_ranks(world, "tests.training.reshard", "run", root, checkpoints=str(root), pairs=pairs, **what)
        return {name: np.array(losses) for name, losses in results[0].items()}

    from_two = [(2, saved, stage) for saved, stage in STAGE_3_AND_BELOW]
    two = launch(2, from_two, save=True, stay=True)
    four = launch(4, from_two, save=True, stay=False)
    one = launch(1, reshard.all_stages(2, 4), save=False, stay=False)
    return {1: one, 2: two, 4: four}


@pytest.mark.parametrize("world", [1, 2, 4])
def test_the_next_twenty_losses_are_those_of_a_run_that_stayed(
    world: int, resumed: dict[int, dict[str, np.ndarray]]
) -> None:
    expected = resumed[2]["stayed-0"]
    assert expected.shape == (reshard.MORE,)
    for name, losses in resumed[world].items():
        np.testing.assert_allclose(losses, expected, rtol=TOLERANCE, err_msg=f"{name} on {world} ranks")
    assert len(resumed[world]) == {1: 2 * 16, 2: 4 + 6, 4: 6}[world]


def test_training_goes_on(resumed: dict[int, dict[str, np.ndarray]]) -> None:
    """A state that stands still would agree with itself."""
    losses = resumed[2]["stayed-0"]
    assert losses[-5:].mean() < losses[:5].mean() - 0.05
