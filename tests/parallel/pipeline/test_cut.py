"""How many layers the parts of a pipeline get."""

from itertools import product

import pytest

from raypt.bench.training import LENGTH, SHAPE
from raypt.model import ModelConfig
from raypt.parallel.config import ParallelConfig
from raypt.parallel.pipeline.cut import balanced, layers_of_parts, output_cost
from raypt.parallel.pipeline.schedule import Action, schedule_of, simulate

MODEL = ModelConfig.model_validate(SHAPE)


@pytest.mark.parametrize(("devices", "virtual"), [(2, 1), (3, 1), (4, 1), (2, 2), (3, 2)])
@pytest.mark.parametrize("output", [0.0, 0.3, 1.0, 4.7, 20.0])
def test_no_cut_has_less_for_the_device_that_has_most(devices: int, virtual: int, output: float) -> None:
    parts = devices * virtual

    def most(counts: tuple[int, ...]) -> float:
        loads = [float(sum(counts[d::devices])) for d in range(devices)]
        loads[-1] += output
        return max(loads)

    for layers in range(parts, 10):
        found = balanced(layers, devices, virtual, output)
        assert sum(found) == layers and min(found[:-1]) >= 1 and found[-1] >= 0
        every = [c for c in product(range(1, layers + 1), repeat=parts - 1) if sum(c) <= layers]
        assert most(found) == min(most((*c, layers - sum(c))) for c in every)


def test_the_output_layer_costs_what_its_matrix_does_beside_those_of_a_layer() -> None:
    """Forward and backward of the loss took 4.9 times a layer's, on one thread of a CPU."""
    matrices = 512 * 64 * (2 * 8 + 2 * 4) + 3 * 512 * 1408
    attention = 2 * 8 * 64 * LENGTH  # for each position's scores and sums, in products of a matrix's element
    assert output_cost(MODEL, LENGTH) == pytest.approx(512 * 32000 / (matrices + attention))


@pytest.mark.parametrize(
    ("schedule", "virtual"), [("gpipe", 1), ("1f1b", 1), ("interleaved_1f1b", 2), ("zero_bubble", 2)]
)
def test_a_large_output_layer_costs_a_balanced_pipeline_less_than_an_even_one(schedule: str, virtual: int) -> None:
    parallel = ParallelConfig.model_validate({"pipeline": 2, "schedule": schedule, "virtual_stages": virtual})
    output = output_cost(MODEL, LENGTH)

    def idle(layers: tuple[int, ...]) -> float:
        costs = [*layers[:-1], layers[-1] + output]
        share = {"forward": 1, "backward": 2, "weight": 1}
        if schedule == "zero_bubble":
            share["backward"] = 1

        def cost(action: Action) -> float:
            return costs[action.part] * share[action.kind]

        return simulate(schedule_of(parallel.schedule, 2, 8, virtual), cost).idle_share

    assert idle(layers_of_parts(MODEL, parallel, LENGTH)) < idle((8 // (2 * virtual),) * 2 * virtual) - 0.08


def test_a_cut_that_is_given_is_taken() -> None:
    parallel = ParallelConfig.model_validate({"pipeline": 2, "stages": [7, 1]})
    assert layers_of_parts(MODEL, parallel, LENGTH) == (7, 1)
    assert layers_of_parts(MODEL, ParallelConfig(pipeline=2), LENGTH) == (6, 2)
    assert layers_of_parts(MODEL, ParallelConfig(schedule="interleaved_1f1b"), LENGTH) == (8,)
