"""Switches of the engine that must not change what is learned."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raypt.parallel.config import ZeroConfig
from tests.parallel import cases
from tests.parallel.ranks import run_ranks

CASES = "tests.parallel.cases"
COMPILED_STEPS = 3


@pytest.fixture(scope="module")
def reference() -> np.ndarray:
    return np.array(cases.reference())


@pytest.fixture(scope="module")
def grouped(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[list[float]]]:
    return run_ranks(2, CASES, "grouped", tmp_path_factory.mktemp("grouped"))[0]


@pytest.mark.parametrize("stage", range(4))
def test_parameters_have_rates_and_decays_of_their_own_at_every_stage(
    stage: int, grouped: dict[str, list[list[float]]], reference: np.ndarray
) -> None:
    """The bounds of test_zero.py: the same sums in another order."""
    run, expected = np.array(grouped[str(stage)]), np.array(cases.reference(cases.OPTIMIZERS["groups"]))
    np.testing.assert_allclose(run[:, 0], expected[:, 0], rtol=1e-6)
    np.testing.assert_allclose(run[:, 1], expected[:, 1], rtol=1e-5)
    assert abs(expected[-1, 0] / reference[-1, 0] - 1) > 1e-4, "the groups change nothing here"


@pytest.fixture(scope="module")
def offloaded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[list[float]]]:
    return run_ranks(2, CASES, "offloaded", tmp_path_factory.mktemp("offloaded"))[0]


@pytest.mark.parametrize("case", ["optimizer-1", "optimizer-2", "optimizer-3", "params-3"])
def test_offloading_to_the_host_changes_no_loss(
    case: str, offloaded: dict[str, list[list[float]]], reference: np.ndarray
) -> None:
    """The bounds of test_zero.py: the same sums in another order."""
    run = np.array(offloaded[case])
    np.testing.assert_allclose(run[:, 0], reference[:, 0], rtol=1e-6)
    np.testing.assert_allclose(run[:, 1], reference[:, 1], rtol=1e-5)


def test_compiled_blocks_give_the_same_losses(tmp_path: Path, reference: np.ndarray) -> None:
    """Inductor fuses the pointwise work and so rounds it less often; the products are the same. The loss is within the
    bound of the stages, 1e-6, and the norm, which passes through every block twice, within 1e-5.
    """
    out = run_ranks(1, CASES, "compiled", tmp_path, steps=COMPILED_STEPS)[0]
    assert out["frames"] > 0
    run = np.array(out["run"])
    np.testing.assert_allclose(run[:, 0], reference[:COMPILED_STEPS, 0], rtol=1e-6)
    np.testing.assert_allclose(run[:, 1], reference[:COMPILED_STEPS, 1], rtol=1e-5)


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    if not Path("/usr/include/libaio.h").exists():
        pytest.skip("nvme offload is not run: DeepSpeed's asynchronous reads need libaio and its header (libaio-dev)")
    tmp = tmp_path_factory.mktemp("on-disk")
    return dict(run_ranks(2, CASES, "on_disk", tmp, path=str(tmp))[0])


@pytest.mark.parametrize("params", ["None", "nvme"])
def test_state_on_a_disk_changes_no_loss(params: str, on_disk: dict[str, Any]) -> None:
    """The bounds of test_zero.py: the same sums in another order."""
    assert any(on_disk[f"disk-{params}"]["swapped"])
    run, memory = np.array(on_disk[f"disk-{params}"]["run"]), np.array(on_disk["memory"])
    np.testing.assert_allclose(run[:, 0], memory[:, 0], rtol=1e-6)
    np.testing.assert_allclose(run[:, 1], memory[:, 1], rtol=1e-5)


@pytest.mark.parametrize("params", ["None", "nvme"])
def test_a_run_with_its_state_on_a_disk_resumes_bitwise(params: str, on_disk: dict[str, Any]) -> None:
    case = on_disk[f"disk-{params}"]
    assert case["resumed"] == case["run"][4:]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stage": 3, "offload_params": "nvme"}, r"train\.zero\.nvme_path is needed"),
        ({"stage": 2, "offload_params": "cpu"}, r"offload_params needs train\.zero\.stage=3"),
        ({"stage": 1, "offload_optimizer": "nvme", "nvme_path": "/d"}, r"=nvme needs train\.zero\.stage=3"),
        ({"stage": 1, "overlap_comm": True}, r"overlap_comm is for train\.zero\.stage=3"),
        ({"stage": 0, "offload_optimizer": "cpu"}, r"needs train\.zero\.stage 1, 2 or 3"),
    ],
)
def test_offloading_that_the_stage_cannot_do_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ZeroConfig.model_validate(settings)
