"""Coordinates and groups of a mesh, from ranks' numbers alone."""

import pytest

from raypt.parallel.topology import AXES, Axis, Topology


def test_tensor_ranks_are_neighbours_and_pipeline_ranks_the_furthest_apart() -> None:
    mesh = Topology(0, data_size=2, pipeline_size=2, context_size=2, tensor_size=2)
    assert list(mesh.groups("tensor"))[:2] == [[0, 1], [2, 3]]
    assert next(mesh.groups("context")) == [0, 2]
    assert next(mesh.groups("data")) == [0, 4]
    assert next(mesh.groups("pipeline")) == [0, 8]


@pytest.mark.parametrize("rank", range(24))
def test_coordinates_give_the_rank_back(rank: int) -> None:
    mesh = Topology(rank, data_size=3, pipeline_size=2, context_size=2, tensor_size=2)
    number = 0
    for axis, size in zip(AXES, mesh.shape, strict=True):
        number = number * size + mesh.coordinates[axis]
    assert number == rank
    assert mesh.coordinates["data"] == mesh.data_rank


@pytest.mark.parametrize("axes", [("tensor",), ("data", "context"), ("pipeline", "tensor"), AXES])
def test_groups_share_out_all_ranks(axes: tuple[Axis, ...]) -> None:
    mesh = Topology(5, data_size=3, pipeline_size=2, context_size=2, tensor_size=2)
    assert sorted(rank for group in mesh.groups(*axes) for rank in group) == list(range(24))
    assert 5 in mesh.group(*axes)
    others = [axis for axis in AXES if axis not in axes]
    for group in mesh.groups(*axes):
        assert len({tuple(mesh.of(rank).coordinates[axis] for axis in others) for rank in group}) == 1


def test_one_rank_of_each_replica_leads_it() -> None:
    mesh = Topology(0, data_size=3, pipeline_size=2, context_size=2, tensor_size=2)
    leaders = [rank for rank in range(24) if mesh.of(rank).leads_replica]
    assert [mesh.of(rank).data_rank for rank in leaders] == [0, 1, 2]
