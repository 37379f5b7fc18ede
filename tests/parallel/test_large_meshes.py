"""Published shapes on the meshes that they are trained on: what each rank would hold, on the meta device."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore

from raypt.model import Llama, ModelConfig
from raypt.model.batch import MicroBatch
from raypt.model.llama import Backbone, parameter_shapes
from raypt.parallel.config import ParallelConfig
from raypt.parallel.mesh import Group, Mesh
from raypt.parallel.pipeline.cut import layers_of_parts
from raypt.parallel.pipeline.stage import take_stages
from raypt.parallel.tensor.cut import cut
from raypt.parallel.tensor.layout import layout
from raypt.parallel.topology import Topology

NOBODY: Any = None
"""In place of a process group: nothing is sent."""


def same_modules(model: Llama) -> Llama:
    """Of which some may be taken out and remain in the model."""
    out, backbone = Llama.__new__(Llama), Backbone.__new__(Backbone)
    backbone.__dict__ = {**model.model.__dict__, "_modules": dict(model.model._modules)}
    out.__dict__ = {**model.__dict__, "_modules": {**model._modules, "model": backbone}}
    return out


def built(model: ModelConfig, parallel: ParallelConfig) -> Iterator[tuple[int, int, Llama, Any]]:
    """(pipeline rank, tensor rank, what it holds, its layout) of each cell of the mesh."""
    layers = layers_of_parts(model, parallel, LENGTH)
    for tensor_rank in range(parallel.tensor):
        parts = layout(model, parallel.tensor, tensor_rank, sequence_parallel=True)
        group = Group(tuple(range(parallel.tensor)), tensor_rank, NOBODY)
        with torch.device("meta"):
            whole = Llama(model)
            cut(whole, parts, group, lambda ranks: Group(tuple(ranks), 0, NOBODY), sequence_parallel=True)
        for pipeline_rank in range(parallel.pipeline):
            held = same_modules(whole)
            take_stages(held, pipeline_rank, parallel.pipeline, layers)
            yield pipeline_rank, tensor_rank, held, parts


LARGE = pytest.mark.parametrize(
    ("preset", "count", "world", "tensor", "pipeline"),
    [
        ("llama-3-70b", 70_553_706_496, 64, 8, 8),
        ("llama-3.1-405b", 405_853_388_800, 16_384, 8, 16),  # Dubey et al. 2024, table 4
    ],
)
LENGTH = 8192


@LARGE
def test_every_rank_of_a_large_mesh_holds_its_share_and_all_between_them_the_model(
    preset: str, count: int, world: int, tensor: int, pipeline: int
) -> None:
    """Of ranks that differ in their data rank alone, which hold the same, one is built."""
    model = ModelConfig.model_validate({"preset": preset})
    parallel = ParallelConfig(tensor=tensor, pipeline=pipeline)
    shapes = parameter_shapes(model)
    assert sum(shape.numel() for shape in shapes.values()) == model.parameters() == count
    written: dict[str, int] = defaultdict(int)
    stages: dict[str, set[int]] = defaultdict(set)
    sizes = []
    for pipeline_rank, tensor_rank, held, parts in built(model, parallel):
        elements = 0
        for name, parameter in held.named_parameters():
            part = parts[name]
            assert parameter.is_meta
            assert tuple(parameter.shape) == part.box.shape, (name, pipeline_rank, tensor_rank)
            assert part.shape == tuple(shapes[name])
            written[name] += part.counted * part.box.numel
            stages[name].add(pipeline_rank)
            elements += part.box.numel
        sizes.append(elements)
    assert len(sizes) == tensor * pipeline
    assert written == {name: shape.numel() for name, shape in shapes.items()}
    assert all(len(ranks) == 1 for ranks in stages.values()), "each layer is on one stage"
    assert max(sizes) < 1.3 * count / (tensor * pipeline), (
        "the first and the last stage have a matrix of the vocabulary"
    )
    places = {tuple(Topology(rank, world // (tensor * pipeline), pipeline, 1, tensor).coordinates.values())
              for rank in range(world)}  # fmt: skip
    assert len(places) == world


@LARGE
def test_the_first_and_the_last_rank_of_a_large_mesh_compute_what_their_neighbours_expect(
    preset: str, count: int, world: int, tensor: int, pipeline: int
) -> None:
    """Forward and backward through their stages on the mesh's real groups, over a backend that sends nothing."""
    model = ModelConfig.model_validate({"preset": preset})
    layers = layers_of_parts(model, ParallelConfig(tensor=tensor, pipeline=pipeline), LENGTH)
    for rank in (0, world - 1):
        dist.init_process_group("fake", rank=rank, world_size=world, store=FakeStore())
        try:
            mesh = Mesh(Topology(rank, world // (tensor * pipeline), pipeline, 1, tensor))
            parts = layout(model, tensor, mesh.tensor.rank, sequence_parallel=True)
            with torch.device("meta"):
                held = Llama(model)
                cut(held, parts, mesh.tensor, mesh.holders, sequence_parallel=True)
                (stage,) = take_stages(held, mesh.pipeline.rank, pipeline, layers)
                tokens_BS = torch.zeros(1, LENGTH, dtype=torch.long)
                micro = MicroBatch(tokens_BS, tokens_BS, tokens_BS > 0, tokens_BS + 1, NOBODY, NOBODY)
                between = (1, LENGTH // tensor, model.hidden_size)
                x_BSE = None if stage.first else torch.zeros(between, requires_grad=True)
                out = stage.hidden(micro, x_BSE)
                assert out.shape == between
                if stage.last:
                    stage.loss(out, micro.targets())[0].backward()
                else:
                    out.backward(torch.zeros(between))
            assert x_BSE is None or (x_BSE.grad is not None and x_BSE.grad.shape == between)
            assert all(p.grad is not None and p.grad.shape == p.shape for p in held.parameters())
        finally:
            dist.destroy_process_group()
