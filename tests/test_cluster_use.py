"""Device hours: what was there and what was reserved, by stage, whatever the looks fell on."""

from typing import Any

import pytest

from raypt.cluster_use import BEFORE, ClusterUse, Machine

GPUS = {"CPU": 8.0, "GPU": 4.0, "accelerator_type:H100": 1.0, "memory": 64 * 2.0**30}
HEAD = {"CPU": 2.0, "memory": 8 * 2.0**30}


class Clock:
    at = 0.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def use() -> Any:
    use = ClusterUse(Clock())

    def at(seconds: float) -> ClusterUse:
        use._clock.at = seconds  # type: ignore[attr-defined]
        return use

    return at


def test_hours_are_of_the_stage_that_they_went_by_in(use: Any) -> None:
    use(0).look([(HEAD, {}), (GPUS, {"CPU": 1.0})])
    use(3).stage("train")
    use(5).look([(HEAD, {}), (GPUS, {"CPU": 4.0, "GPU": 3.0})])
    use(15).end()
    stages = use(100).to_json()["stages"]
    assert stages[BEFORE] == {"seconds": 3.0, "cpu_s": 3.0, "cpu_there_s": 30.0, "gpu_s": 0.0, "gpu_there_s": 12.0}
    assert stages["train"] == {"seconds": 12.0, "cpu_s": 42.0, "cpu_there_s": 120.0, "gpu_s": 30.0, "gpu_there_s": 48.0}


def test_the_cluster_is_told_at_its_largest_gpus_first(use: Any) -> None:
    for gpus in (1, 3, 0):
        use(gpus).look([(HEAD, {})] + gpus * [(GPUS, {})])
    assert use(9).to_json()["machines"] == [["8 CPUs, 4 H100, 64 GiB", 3], ["2 CPUs, 8 GiB", 1]]


def test_a_gpu_of_unknown_kind_is_one_all_the_same() -> None:
    assert str(Machine.of({"CPU": 4.0, "GPU": 1.0})) == "4 CPUs, 1 GPU, 0 GiB"


def test_without_a_cluster_there_is_nothing_to_tell(use: Any) -> None:
    use(0).stage("curate")
    assert use(9).to_json() is None
    use(9).look([(HEAD, {})])
    use(10).clear()
    assert use(11).to_json() is None
