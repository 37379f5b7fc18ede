"""The memory model beside tables in papers, and beside what raypt's engine really allocates."""

import json
from typing import Any

import pytest

from raypt.model.config import PRESETS, ModelConfig
from raypt.run.planner.memory import gpt_activation_bytes, memory, zero_bytes
from raypt.run.planner.shape import Layout, Shape
from raypt.run.planner.states import states
from raypt.run.planner.step_time import traffic
from tests.parallel.ranks import run_ranks
from tests.run.planner import cases, published


@pytest.mark.parametrize(("stage", "gigabytes"), [(0, 120), (1, 31.4), (2, 16.6), (3, 1.9)])
def test_the_zero_papers_figure_1(stage: int, gigabytes: float) -> None:
    """7.5 B parameters on 64 devices, mixed-precision Adam (Rajbhandari et al. 2020); printed to three digits."""
    assert zero_bytes(7.5e9, 64, stage) / 1e9 == pytest.approx(gigabytes, abs=0.05)


@pytest.mark.parametrize(
    ("tensor", "sequence_parallel", "checkpointing", "expected"),
    [
        (1, False, "none", 34 + 80.0),
        (8, False, "none", 10 + 24 / 8 + 80 / 8),
        (8, True, "none", 34 / 8 + 80 / 8),
        (8, False, "selective", 10 + 24 / 8),
        (8, True, "selective", 34 / 8),
        (8, False, "full", 2),
    ],
)
def test_table_2_of_korthikanti(tensor: int, sequence_parallel: bool, checkpointing: str, expected: float) -> None:
    """In units of s b h; 5 a s / h is 80 for GPT-3 175B (a = 96, s = 2048, h = 12288), as the paper says."""
    found = gpt_activation_bytes(
        2048, 1, 12288, 96, tensor, sequence_parallel=sequence_parallel, checkpointing=checkpointing
    )
    assert found / (2048 * 12288) == pytest.approx(expected)


def test_an_exact_sum_holds_whole_gradients_for_each_level_of_its_tree() -> None:
    shape = Shape.of(ModelConfig(vocab_size=1000, hidden_size=256, num_heads=4, num_kv_heads=4))
    for accumulation, copies in ((1, 1), (2, 1), (8, 3), (12, 3)):
        for zero in (0, 1, 2):
            layout = Layout(data=2, zero=zero, accumulation=accumulation, exact=True)
            assert memory(shape, layout).gradients == 4 * shape.parameters * copies


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("qk_norm", [False, True])
def test_parameters_are_those_of_the_model(preset: str, qk_norm: bool) -> None:
    model = ModelConfig.model_validate({"preset": preset, "qk_norm": qk_norm}).for_vocabulary(1000)
    shape = Shape.of(model)
    assert shape.parameters == model.parameters()
    assert shape.flops_per_token(2048) == model.flops_per_token(2048)


def test_every_published_run_fits_its_device() -> None:
    """llm-foundry's runs, in raypt's terms: states cut over all ranks. None ran out of memory, so none may be called
    too big; micro-batches were raised until they did, so some must be close. All of the device's memory counts. Their
    loss (fused_crossentropy, in place) holds 2 bytes of every logit, ours 6 of a chunk's: a chunk of a third is theirs.
    """
    whole = {"h100_80gb": 81_559 << 20, "a100_80gb": 81_920 << 20, "a100_40gb": 40_960 << 20}
    shares = []
    for row in published.foundry():
        layout = Layout(
            data=row.devices,
            zero=3,
            micro_batch=row.micro_batch,
            accumulation=row.accumulation,
            length=row.length,
            checkpointing="full" if row.checkpointed else "none",
            chunk=row.length * row.micro_batch // 3,
            bucket=0,
        )
        shares.append(memory(row.shape, layout).total / whole[row.accelerator])
    assert 0.9 < max(shares) <= 1.0


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[dict[str, Any], int, int, dict[str, Any]]]:
    """(case, ranks, rank, what was measured) of the quick selection; `python -m tests.run.planner.cases` does all."""
    out = []
    for world in (1, 2):
        chosen = cases.quick()
        tmp = tmp_path_factory.mktemp(f"memory-{world}")
        for rank, found in enumerate(run_ranks(world, cases.MODULE, "measure_all", tmp, cases=chosen)):
            out += [(case, world, rank, value) for case, value in zip(chosen, found, strict=True)]
    return out


def test_states_are_those_that_the_engine_allocates_tensor_by_tensor(
    measured: list[tuple[dict[str, Any], int, int, dict[str, Any]]],
) -> None:
    for case, world, _, value in measured:
        shape, layout = cases.terms(case, world)
        assert sorted((s.bytes for s in states(shape, layout)), reverse=True) == value["states"], case


def test_the_peak_of_live_bytes_is_predicted_within_10_percent(
    measured: list[tuple[dict[str, Any], int, int, dict[str, Any]]],
) -> None:
    """Of the rank that holds most."""
    most: dict[tuple[str, int], int] = {}
    for case, world, _, value in measured:
        at = json.dumps(case), world
        most[at] = max(most.get(at, 0), value["peak"])
    for (case, world), peak in most.items():
        told = memory(*cases.terms(json.loads(case), world), gpu=False).total
        assert told == pytest.approx(peak, rel=0.1), case


def test_the_bytes_that_ranks_send_are_those_counted_in_their_collectives(
    measured: list[tuple[dict[str, Any], int, int, dict[str, Any]]],
) -> None:
    """Within what flat buffers and cuts are padded by."""
    for case, world, _, value in measured:
        shape, layout = cases.terms(case, world)
        micro, step = traffic(shape, layout, gpu=False)
        assert value["sent"] == pytest.approx(micro * layout.accumulation + step, rel=1e-3), case
