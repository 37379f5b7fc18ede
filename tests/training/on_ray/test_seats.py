"""On which nodes the workers of a matrix go."""

from collections.abc import Iterator
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster
from ray.train.v2.api.config import ScalingConfig
from ray.util.placement_group import placement_group, placement_group_table, remove_placement_group

from raypt.errors import UserError
from raypt.model import ModelConfig
from raypt.parallel.config import ParallelConfig
from raypt.training.config import TrainConfig
from raypt.training.on_ray.scaling import BatchScalingPolicy
from raypt.training.on_ray.seats import Seated, by_node, check_seats, seated, selected
from raypt.training.worker import spanning
from tests.training import tiny_run

MODEL = ModelConfig(hidden_size=64, intermediate_size=128, num_layers=2, num_heads=8, num_kv_heads=4, max_length=64)


def train(tensor: int, workers: int = 4, **parallel: Any) -> TrainConfig:
    return tiny_run.train_config().model_copy(
        update={
            "workers": workers,
            "cpus_per_worker": 1.0,
            "parallel": ParallelConfig(tensor=tensor, **parallel),
        }
    )


def nodes(*cpus: float, **labels: str) -> list[dict[str, Any]]:
    return [
        {"NodeID": f"{i}", "Alive": True, "Resources": {"CPU": n} if n else {}, "Labels": labels}
        for i, n in enumerate(cpus)
    ]


@pytest.mark.parametrize(
    ("slots", "workers", "group", "places"),
    [
        ({"a": 3, "b": 3}, 4, 2, "aabb"),
        ({"a": 3, "b": 5}, 6, 2, "bbbbaa"),
        ({"a": 8, "b": 8}, 8, 8, "aaaaaaaa"),
        ({"a": 3, "b": 3}, 6, 2, None),
        ({"a": 3, "b": 3}, 4, 4, None),
        ({"a": 3, "b": 3}, 6, 1, "aaabbb"),
        ({}, 2, 2, None),
    ],
)
def test_a_node_has_a_multiple_of_those_of_a_matrix(
    slots: dict[str, int], workers: int, group: int, places: str | None
) -> None:
    assert seated(slots, workers, group) == (None if places is None else list(places))


def test_nodes_are_those_that_live_and_have_the_labels() -> None:
    found = nodes(4, 2.5, pool="gpu")
    found[0]["Alive"] = False
    assert by_node(found, {"CPU": 1.0}, {"pool": "gpu"}) == {"1": 2}
    assert by_node(found, {"CPU": 1.0}, {"pool": "cpu"}) == {}
    assert by_node(found, {"CPU": 1.0, "GPU": 1.0}, {}) == {"1": 0}
    assert by_node(found, {"CPU": 1.0}, {}, free={"1": {"CPU": 1.0}}) == {"1": 1}


@pytest.mark.parametrize(
    ("wanted", "fits"),
    [("gpu", True), ("!gpu", False), ("in(cpu, gpu)", True), ("!in(cpu)", True), ("in(cpu)", False)],
)
def test_labels_are_read_as_ray_reads_them(wanted: str, fits: bool) -> None:
    assert selected({"pool": "gpu"}, {"pool": wanted}) == fits


def test_a_matrix_that_no_node_can_hold_is_refused_with_the_sizes_that_one_can() -> None:
    with pytest.raises(UserError) as raised:
        check_seats(train(4), [4], MODEL, nodes(3, 3), autoscaling=False)
    said = str(raised.value)
    assert "train.parallel.tensor=4" in said
    assert "hold 3, 3 workers of 1 CPU each" in said
    assert "lower it to 1 or 2," in said
    assert "tensor_across_nodes=true" in said


def test_so_are_more_workers_than_fit_together() -> None:
    with pytest.raises(UserError) as raised:
        check_seats(train(2, 6), [6], MODEL, nodes(3, 3), autoscaling=False)
    assert "so 4 workers where those of a matrix are on one node; lower it to 1," in str(raised.value)


@pytest.mark.parametrize(
    ("config", "workers", "found", "autoscaling"),
    [
        (train(2), [4], nodes(3, 3), False),
        (train(4), [4], nodes(3, 3), True),
        (train(4, tensor_across_nodes=True), [4], nodes(3, 3), False),
        (train(1), [4], nodes(1, 1), False),
        (train(2), [4, 8], nodes(3, 3), False),
    ],
    ids=["fits", "others may come", "may span", "nothing is cut", "the least of an elastic run fits"],
)
def test_what_fits_or_may_come_is_not_refused(
    config: TrainConfig, workers: list[int], found: list[dict[str, Any]], autoscaling: bool
) -> None:
    check_seats(config, workers, MODEL, found, autoscaling=autoscaling)


def test_an_elastic_run_counts_whole_groups_of_a_node() -> None:
    config = ScalingConfig(num_workers=(2, 8), resources_per_worker={"CPU": 1})
    reserved = {"a": {"CPU": 3.0}, "b": {"CPU": 3.0}}
    assert BatchScalingPolicy(config, [2, 4, 6, 8], 2)._count_possible_workers(reserved) == 4
    assert BatchScalingPolicy(config, [2, 4, 6, 8])._count_possible_workers(reserved) == 6


def test_workers_of_a_matrix_on_several_nodes_are_named() -> None:
    assert spanning(train(2), ["a", "a"]) is None
    said = spanning(train(2), ["b", "a"])
    assert said is not None and "train.parallel.tensor=2: workers of one matrix are on the nodes a, b," in said
    assert spanning(train(2, tensor_across_nodes=True), ["b", "a"]) is None


@pytest.fixture(scope="module")
def three_places_a_node() -> Iterator[None]:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 3, "include_dashboard": False})
    cluster.add_node(num_cpus=3)
    ray.init(address=cluster.address)
    try:
        yield
    finally:
        ray.shutdown()
        cluster.shutdown()


def test_ray_puts_the_bundles_there(three_places_a_node: None) -> None:
    def placed(config: ScalingConfig) -> list[str]:
        group = placement_group(
            [{"CPU": 1}] * 4, strategy="PACK", bundle_label_selector=config._label_selector_per_worker(4)
        )
        assert group.wait(30)
        table = placement_group_table(group)["bundles_to_node_id"]
        remove_placement_group(group)
        return [table[i] for i in range(4)]

    each: dict[str, Any] = {"num_workers": 4, "resources_per_worker": {"CPU": 1}}
    first, second, third, fourth = placed(Seated(**each, group=2))
    assert first == second != third == fourth
    assert sorted(map(placed(ScalingConfig(**each)).count, {first, third})) == [1, 3]
