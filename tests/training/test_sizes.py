"""Numbers of workers and cuts of a model, before any data is read."""

import pytest

from raypt.errors import UserError
from raypt.model import ModelConfig
from raypt.parallel.config import ParallelConfig, ZeroConfig
from raypt.training.config import OptimizerConfig
from raypt.training.sizes import check_mesh, check_workers, readers
from tests.training import tiny_run

TRAIN = tiny_run.train_config().model_copy(update={"workers": (1, 7)})
"""A global batch of eight micro-batches: 1, 2, 4 or 8 replicas share it evenly."""
MODEL = ModelConfig(vocab_size=64, hidden_size=96, num_heads=12, num_kv_heads=4)


def cut(**parallel: int | bool | str | list[int] | None) -> dict[str, ParallelConfig]:
    return {"parallel": ParallelConfig.model_validate(parallel)}


def test_the_sizes_of_an_elastic_run_are_those_in_its_range_that_divide_the_batch() -> None:
    assert check_workers(TRAIN, tiny_run.LENGTH) == [1, 2, 4]


def test_a_run_grows_and_shrinks_by_whole_replicas() -> None:
    wide = TRAIN.model_copy(update={"workers": (1, 30), **cut(tensor=3)})
    assert check_workers(wide, tiny_run.LENGTH) == [3, 6, 12, 24]


def test_an_impossible_number_of_workers_is_refused_with_the_possible_ones() -> None:
    with pytest.raises(UserError, match="1, 2, 4, 8 workers share evenly"):
        check_workers(TRAIN.model_copy(update={"workers": 3}), tiny_run.LENGTH)
    with pytest.raises(UserError, match="cuts a model over 3 workers, which only 3, 6, 12, 24 workers share evenly"):
        check_workers(TRAIN.model_copy(update={"workers": 4, **cut(tensor=3)}), tiny_run.LENGTH)


def test_an_exact_run_has_numbers_of_workers_that_add_up_in_one_tree() -> None:
    twelve = {"global_batch_tokens": 12 * 2 * tiny_run.LENGTH, "reduction": "exact"}
    assert check_workers(TRAIN.model_copy(update={**twelve, "workers": (1, 12)}), tiny_run.LENGTH) == [1, 2, 4, 12]
    with pytest.raises(UserError, match="1, 2, 4, 12 workers share evenly and add up in one order"):
        check_workers(TRAIN.model_copy(update={**twelve, "workers": 3}), tiny_run.LENGTH)


def test_a_global_batch_that_is_no_multiple_is_refused_with_the_nearest_ones() -> None:
    with pytest.raises(UserError, match="128 and 256"):
        check_workers(TRAIN.model_copy(update={"global_batch_tokens": 250}), tiny_run.LENGTH)


def test_a_cut_that_the_heads_do_not_allow_is_refused_with_those_that_they_do() -> None:
    for tensor in (1, 2, 4, 12):
        check_mesh(MODEL, TRAIN.model_copy(update=cut(tensor=tensor)), 24)
    for tensor in (3, 5, 6, 24):
        with pytest.raises(UserError, match="can be cut over 1, 2, 4, 12 workers"):
            check_mesh(MODEL, TRAIN.model_copy(update=cut(tensor=tensor)), 24)


def test_a_length_that_does_not_divide_is_refused_where_positions_are_cut() -> None:
    train = TRAIN.model_copy(update=cut(tensor=4))
    with pytest.raises(UserError, match="tensor may be 1, 2, or set sequence_parallel=false"):
        check_mesh(MODEL, train, 30)
    check_mesh(MODEL, TRAIN.model_copy(update=cut(tensor=4, sequence_parallel=False)), 30)


def test_a_cut_of_sequences_that_the_heads_or_the_length_do_not_allow_is_refused_with_those_that_they_do() -> None:
    for context, tensor in ((2, 1), (4, 1), (12, 1), (2, 2), (6, 2)):
        check_mesh(MODEL, TRAIN.model_copy(update=cut(context=context, tensor=tensor)), 24)
    with pytest.raises(UserError, match="12 query heads and 4 key/value heads can be exchanged between 1, 2, 4, 12 w"):
        check_mesh(MODEL, TRAIN.model_copy(update=cut(context=3)), 24)
    with pytest.raises(UserError, match=r"train\.parallel\.tensor=2 has its share, can be exchanged between 1, 2, 6 w"):
        check_mesh(MODEL, TRAIN.model_copy(update=cut(context=4, tensor=2)), 24)
    with pytest.raises(UserError, match="sequence_length=30 is not a multiple of it; context may be 1, 2"):
        check_mesh(MODEL, TRAIN.model_copy(update=cut(context=4)), 30)
    with pytest.raises(UserError, match="is not a multiple of context x tensor = 4; context may be 1"):
        check_mesh(MODEL, TRAIN.model_copy(update=cut(context=2, tensor=2)), 30)
    check_mesh(MODEL, TRAIN.model_copy(update=cut(context=2, tensor=2, sequence_parallel=False)), 30)


def test_a_run_with_cut_sequences_has_replicas_of_so_many_workers() -> None:
    assert check_workers(TRAIN.model_copy(update={"workers": (1, 30), **cut(context=2, tensor=3)}), 64) == [6, 12, 24]


def test_a_pipeline_that_cannot_be_is_refused_with_the_reason() -> None:
    untied = MODEL.model_copy(update={"tie_embeddings": False, "num_layers": 4})
    train = TRAIN.model_copy(update=cut(pipeline=4))
    check_mesh(untied, train.model_copy(update={"zero": ZeroConfig(stage=1)}), 24)
    three = r"the model has 3 layers, .*; train\.parallel\.pipeline may be 1, 2, 3$"
    with pytest.raises(UserError, match=three):
        check_mesh(untied.model_copy(update={"num_layers": 3}), train, tiny_run.LENGTH)
    with pytest.raises(UserError, match=r"set model\.tie_embeddings=false"):
        check_mesh(untied.model_copy(update={"tie_embeddings": True}), train, 24)
    for stage in (2, 3):
        with pytest.raises(UserError, match=r"take train\.zero\.stage 0 or 1"):
            check_mesh(untied, train.model_copy(update={"zero": ZeroConfig(stage=stage)}), 24)
    with pytest.raises(UserError, match="take adamw or lion"):
        check_mesh(untied, train.model_copy(update={"optimizer": OptimizerConfig(kind="muon")}), 24)


def test_several_parts_a_worker_need_as_many_layers_and_whole_groups_of_micro_batches() -> None:
    untied = MODEL.model_copy(update={"tie_embeddings": False, "num_layers": 8})
    train = tiny_run.train_config().model_copy(update={"workers": 4})
    interleaved = train.model_copy(update=cut(pipeline=4, schedule="interleaved_1f1b"))
    check_mesh(untied, interleaved, tiny_run.LENGTH)
    seven = (
        r"the model has 7 layers, .*; train\.parallel\.pipeline may be 1, 2, or .*virtual_stages at most 1, with 1f1b"
    )
    with pytest.raises(UserError, match=seven):
        check_mesh(untied.model_copy(update={"num_layers": 7}), interleaved, tiny_run.LENGTH)
    replicas = interleaved.model_copy(update={"workers": 16})
    few = r"step is 2 micro-batches, .* of .*pipeline=4; train\.workers may be 4, 8, or .*_tokens the nearest 2048;"
    with pytest.raises(UserError, match=few):
        check_mesh(untied, replicas, tiny_run.LENGTH)
    for fitting in ({"workers": 8}, {"global_batch_tokens": 2048}):
        check_mesh(untied, replicas.model_copy(update=fitting), tiny_run.LENGTH)
    for schedule in ("1f1b", "zero_bubble"):
        check_mesh(untied, replicas.model_copy(update=cut(pipeline=4, schedule=schedule)), tiny_run.LENGTH)
    for schedule, parts in (("1f1b", 2), ("gpipe", 2), ("interleaved_1f1b", 1)):
        with pytest.raises(ValueError, match=f"virtual_stages={parts}"):
            cut(schedule=schedule, virtual_stages=parts)


def test_the_name_that_the_interleaved_schedule_had_is_read_from_the_settings_of_older_runs() -> None:
    assert ParallelConfig.model_validate({"schedule": "interleaved"}) == ParallelConfig(schedule="interleaved_1f1b")


def test_a_cut_into_stages_that_does_not_fit_the_model_is_refused() -> None:
    untied = MODEL.model_copy(update={"tie_embeddings": False, "num_layers": 4})
    for stages in ([1, 3], [4, 0], None):
        check_mesh(untied, TRAIN.model_copy(update=cut(pipeline=2, stages=stages)), 24)
    for stages, message in (
        ([4], "2 workers with 1 each have 2 parts"),
        ([1, 2, 1], "2 workers with 1 each have 2 parts"),
        ([2, 3], "is 5 layers, and the model has 4"),
        ([0, 4], "every part needs a layer"),
        ([5, -1], "every part needs a layer"),
    ):
        with pytest.raises(UserError, match=message):
            check_mesh(untied, TRAIN.model_copy(update=cut(pipeline=2, stages=stages)), 24)
    with pytest.raises(UserError, match="leave it out"):
        check_mesh(untied, TRAIN.model_copy(update=cut(stages=[4])), 24)


def test_of_meshes_those_of_tensor_cuts_alone_are_compiled() -> None:
    check_mesh(MODEL, TRAIN.model_copy(update={**cut(tensor=2), "compile": True}), 24)
    for axis in ("pipeline", "context"):
        with pytest.raises(UserError, match=r"leave it false, or cut by train\.parallel\.tensor alone"):
            check_mesh(MODEL, TRAIN.model_copy(update={**cut(**{axis: 2}), "compile": True}), 24)


def test_one_rank_of_a_replica_reads_its_samples() -> None:
    assert readers(TRAIN, 4) == [0, 1, 2, 3]
    assert readers(TRAIN.model_copy(update=cut(tensor=2)), 6) == [0, None, 1, None, 2, None]
    assert readers(TRAIN.model_copy(update=cut(context=2)), 4) == [0, None, 1, None]
    assert readers(TRAIN.model_copy(update=cut(tensor=2, pipeline=2)), 8) == [0, None, 1, None, None, None, None, None]
