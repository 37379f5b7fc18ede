"""Whole runs of the loop on several ranks, without Ray."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raypt import storage
from raypt.model import Llama, ModelConfig, load_hf
from raypt.model.batch import micro_batch
from raypt.model.llama import parameter_shapes
from raypt.model.scoring import score
from raypt.run.report import build_report
from raypt.run_dir import RunDir
from raypt.tokens.tokenizer.tokenizer import Tokenizer
from raypt.training.checkpoint.directory import latest_checkpoint
from raypt.training.checkpoint.reader import CheckpointReader
from raypt.training.questions import read_questions
from raypt.training.records import merge_samples, read_metrics, read_pipeline
from tests.parallel.ranks import run_ranks
from tests.training import scenarios, tiny_run

SCENARIOS = "tests.training.scenarios"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("data")
    tiny_run.prepare(data)
    return data


@pytest.fixture(scope="module")
def two(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    root = tmp_path_factory.mktemp("two")
    return root, run_ranks(2, SCENARIOS, "everything", root, data=str(data), root=str(root))[0]


@pytest.fixture(scope="module")
def one(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One rank's run, and one that goes on on two ranks half-way."""
    root = tmp_path_factory.mktemp("one")
    run_ranks(1, SCENARIOS, "other_world", root, data=str(data), root=str(root))
    run_ranks(2, SCENARIOS, "move_back", root, data=str(data), root=str(root))
    return root


def losses(run: Path) -> np.ndarray:
    return np.array([row["loss"] for row in read_metrics(str(run))])


def test_every_commit_is_reported_once_in_order(two: tuple[Path, dict[str, Any]]) -> None:
    assert two[1]["reported"] == [6, 12, 18, 24]


def test_mfu_is_told_of_the_peak_that_was_stated_and_of_no_other(one: Path) -> None:
    rows = read_metrics(str(one / "whole-1"))
    assert all(row["mfu_stated"] > 0 for row in rows)  # tiny_run states train.peak_tflops
    assert not any({"mfu", "matmul_share"} & set(row) for row in rows)


def test_another_number_of_workers_gives_the_same_losses(two: tuple[Path, Any], one: Path) -> None:
    np.testing.assert_allclose(losses(one / "whole-1"), losses(two[0] / "whole"), rtol=1e-5)


def test_a_change_of_workers_half_way_gives_the_same_losses_and_samples(two: tuple[Path, Any], one: Path) -> None:
    np.testing.assert_allclose(losses(one / "moved"), losses(two[0] / "whole"), rtol=1e-5)
    assert {row["workers"] for row in read_metrics(str(one / "moved"))} == {1, 2}
    assert merge_samples(str(one / "moved")) == tiny_run.STEPS * tiny_run.BATCH
    table = storage.read_parquet(str(one / "moved" / "samples.parquet"))
    assert table.column("sample_index").to_pylist() == list(range(tiny_run.STEPS * tiny_run.BATCH))


def test_a_run_begins_from_exported_weights_and_from_a_checkpoint_alike_at_every_stage(
    two: tuple[Path, dict[str, Any]], data: Path
) -> None:
    root = two[0]
    begun = {p.name.removeprefix("begin-"): losses(p) for p in root.glob("begin-*")}
    assert len(begun) == 7
    model = load_hf(str(root / "export"))
    batches = [micro_batch(rows) for rows in scenarios.rows(data, 0, 1, 0, tiny_run.BATCH)]
    with torch.no_grad():
        nats = sum(float(model(m.tokens_BS, m.segments_BS, targets=m.targets())[0]) for m in batches)
    first = nats / sum(m.tokens for m in batches)
    assert first < losses(root / "whole")[0] - 1, "these weights have learnt something"
    for name, found in begun.items():
        assert found[0] == pytest.approx(first, rel=1e-5), name
    for name in ("export-1", "export-3", "checkpoint-1", "checkpoint-3"):
        np.testing.assert_allclose(begun[name], begun["export-0"], rtol=1e-5, err_msg=name)
    # With the optimizer's state the same gradient makes another step.
    np.testing.assert_allclose(begun["all-3"], begun["all-1"], rtol=1e-5)
    assert abs(begun["all-1"][1] - begun["checkpoint-1"][1]) > 1e-3


def test_every_operation_of_a_step_has_a_kernel_of_one_order(two: tuple[Path, dict[str, Any]]) -> None:
    """torch raises for one that has none. On a CPU the losses are those of any run."""
    root = two[0]
    np.testing.assert_array_equal(losses(root / "fixed-order"), losses(root / "whole")[:2])


@pytest.fixture(scope="module")
def mesh(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    root = tmp_path_factory.mktemp("mesh")
    return root, run_ranks(2, SCENARIOS, "on_a_mesh", root, data=str(data), root=str(root))


def test_tasks_are_scored_on_a_mesh_as_by_the_whole_model(data: Path, mesh: tuple[Path, Any]) -> None:
    asked = {
        name: read_metrics(str(mesh[0] / name))[-1]["tasks"]["pairs"]
        for name in ("whole", "tensor", "context", "stages")
    }
    info = latest_checkpoint(str(mesh[0] / "whole" / "checkpoints"))
    assert info is not None
    tokenizer = Tokenizer.load(str(data / "tokenizer"))
    config = ModelConfig.model_validate(info.meta["model"])
    model, reader = Llama(config), CheckpointReader(info)
    model.load_state_dict({n: reader.full(n, shape) for n, shape in parameter_shapes(config).items()}, strict=False)
    right = []
    for q in read_questions(str(mesh[0] / "questions.jsonl"), None, "questions"):
        pairs = []
        for text in q.choices:
            ids = tokenizer.encode(text)
            pairs.append((ids[:1], ids[1:]))
        scored = score(model, pairs, max_length=tiny_run.LENGTH)
        good, bad = (s.log_probability / len(text.encode()) for s, text in zip(scored, q.choices, strict=True))
        right.append(good > bad)
    assert asked["whole"]["accuracy"] == np.mean(right)
    assert asked["whole"]["questions"] == 30 and asked["whole"]["chance"] == 0.5
    assert set(asked["whole"]["by_group"]) == {"words", "order"}
    assert asked["tensor"]["accuracy"] == asked["context"]["accuracy"] == asked["whole"]["accuracy"] > 0.8
    assert asked["stages"]["accuracy"] > 0.8


@pytest.mark.parametrize(
    ("run", "like"),
    [("tensor", "whole"), ("context", "whole"), ("to-tensor", "whole"), ("from-tensor", "whole"), ("stages", "untied")],
)
def test_a_run_on_a_mesh_and_one_moved_to_or_from_it_half_way_are_the_run_of_replicas(
    run: str, like: str, mesh: tuple[Path, Any]
) -> None:
    """float32 sums in another order, over 24 steps: as between one worker and two."""
    got, whole = (read_metrics(str(path)) for path in (mesh[0] / run, mesh[0] / like))
    for key in ("loss", "grad_norm", "heldout_loss"):
        want = [row[key] for row in whole if key in row]
        np.testing.assert_allclose([row[key] for row in got if key in row], want, rtol=1e-5)
    assert [row["tokens"] for row in got] == [row["tokens"] for row in whole]
    assert merge_samples(str(mesh[0] / run)) == tiny_run.STEPS * tiny_run.BATCH
    table = storage.read_parquet(str(mesh[0] / run / "samples.parquet"))
    assert table.column("sample_index").to_pylist() == list(range(tiny_run.STEPS * tiny_run.BATCH))


def test_a_pipeline_writes_down_when_its_workers_did_what_and_what_they_held(mesh: tuple[Path, Any]) -> None:
    run = str(mesh[0] / "stages")
    rows = [row for row in read_metrics(run) if "pipeline_idle" in row]
    assert [row["step"] for row in rows] == [2, 14], "the second step of each process"
    found = read_pipeline(run)
    assert found is not None
    step, record = found
    assert step == 14
    micro_batches = record.micro_batches
    for device in record.devices:
        assert [taken.action.kind for taken in device].count("forward") == micro_batches
        ends = [taken.end for taken in device]
        assert all(end <= taken.begin for end, taken in zip(ends, device[1:], strict=False))
    assert rows[-1]["pipeline_idle"] == pytest.approx(record.idle_share, abs=1e-3), "times are in microseconds"
    assert rows[-1]["pipeline_idle_formula"] == pytest.approx(1 / (micro_batches + 1))
    assert 0 < rows[-1]["pipeline_idle"] < 1
    assert rows[-1]["activation_mb"] == pytest.approx(max(record.peak_bytes) / 1e6)
    page = build_report(RunDir(run), "run")
    assert "The pipeline in step 14" in page
    assert "Share of the step that workers idle" in page


def test_all_ranks_of_a_replica_end_when_its_samples_cannot_be_read(mesh: tuple[Path, Any]) -> None:
    assert mesh[1][0]["torn"] == "OSError: the disk is gone"
    assert mesh[1][1]["torn"] == ("RuntimeError: rank 0, which reads the samples, failed: OSError: the disk is gone")


def test_a_run_whose_samples_end_stops_there_and_goes_on_when_there_are_more(two: tuple[Path, Any]) -> None:
    root, out = two
    assert out["short_ended_at"] == 10
    assert losses(root / "short").tolist() == losses(root / "whole").tolist()


def test_a_stream_that_is_not_at_the_cursor_is_refused(two: tuple[Path, dict[str, Any]]) -> None:
    assert "must train on samples 160 to 175" in two[1]["wrong_cursor"]


def test_another_kind_of_optimizer_is_refused_on_resume(two: tuple[Path, dict[str, Any]]) -> None:
    assert "was written with train.optimizer.kind=adamw, from which lion cannot go on" in two[1]["other_optimizer"]


def test_another_global_batch_is_refused_on_resume(two: tuple[Path, dict[str, Any]]) -> None:
    """Step s would no longer be the samples from s times the global batch on."""
    assert "was written with train.global_batch_tokens=1024, from which 2048 cannot go on" in two[1]["other_batch"]


def test_a_preemption_notice_saves_at_once(two: tuple[Path, Any]) -> None:
    whole = two[1]["whole_when_asked"]
    assert whole[3] == []
    assert whole[4] == [4], "step 5 began before the checkpoint was whole"


def test_a_run_whose_figures_stay_not_finite_ends_with_a_message(two: tuple[Path, Any]) -> None:
    assert "more than train.max_skipped_in_a_row=3" in two[1]["diverged"]
    assert [row["skipped"] for row in read_metrics(str(two[0] / "diverged"))][-3:] == [True] * 3


def test_a_spike_before_the_first_checkpoint_is_skipped_instead_of_rewound(two: tuple[Path, Any]) -> None:
    rows = read_metrics(str(two[0] / "spike-early"))
    assert rows[13]["event"] == "spike"
    assert [row["step"] for row in rows if row["skipped"]] == [14]
    assert len(rows) == tiny_run.STEPS


def test_a_spike_is_skipped_and_training_goes_on(two: tuple[Path, Any]) -> None:
    rows = read_metrics(str(two[0] / "spike-skip"))
    assert [row["step"] for row in rows if row["skipped"]] == [14]
    assert rows[13]["event"] == "spike"
    assert rows[14]["loss"] < rows[13]["loss"] - 0.5
    newest = latest_checkpoint(str(two[0] / "spike-skip" / "checkpoints"))
    assert newest is not None
    assert (newest.progress.step, newest.progress.updates) == (tiny_run.STEPS, tiny_run.STEPS - 1)


def test_a_jump_of_the_gradients_norm_is_a_spike_too(two: tuple[Path, Any]) -> None:
    rows = read_metrics(str(two[0] / "spike-norm"))
    assert [row["step"] for row in rows if row["skipped"]] == [14]
    assert rows[13]["event"] == "spike"
    assert rows[13]["grad_norm"] > max(row["grad_norm"] for row in rows[5:13])
    assert len(rows) == tiny_run.STEPS


def test_a_spike_can_rewind_to_the_last_checkpoint_and_leave_its_samples_out(two: tuple[Path, Any]) -> None:
    rows = read_metrics(str(two[0] / "spike-rewind"))
    whole = losses(two[0] / "whole")
    assert rows[13]["event"] == "rewind"
    assert [row["loss"] for row in rows[:13]] == whole[:13].tolist()
    # Back at the weights of step 12, so one update (of step 13) and the spike's are missing from then on.
    newest = latest_checkpoint(str(two[0] / "spike-rewind" / "checkpoints"))
    assert newest is not None
    assert newest.progress.updates == tiny_run.STEPS - 2
    assert newest.cursor.next_sample == tiny_run.STEPS * tiny_run.BATCH


def test_held_out_loss_has_bits_per_byte_by_source_and_language(two: tuple[Path, Any]) -> None:
    last = read_metrics(str(two[0] / "whole"))[-1]
    assert set(last["heldout"]) == {"words/en"}
    figures = last["heldout"]["words/en"]
    assert 0 < figures["bits_per_byte"] < 8
    assert figures["bits_per_byte"] == pytest.approx(last["heldout_bits_per_byte"])
    assert last["heldout_loss"] == pytest.approx(figures["loss"])


def test_the_profiler_writes_a_trace_of_the_chosen_steps(two: tuple[Path, Any]) -> None:
    trace = json.loads((two[0] / "traced" / "profile" / "steps-2-3.json").read_text())
    assert any("addmm" in e.get("name", "") or "::mm" in e.get("name", "") for e in trace["traceEvents"])


def test_tensorboard_gets_the_losses(two: tuple[Path, Any]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(two[0] / "traced" / "tensorboard"))
    events.Reload()
    np.testing.assert_allclose([e.value for e in events.Scalars("loss")], losses(two[0] / "traced"), rtol=1e-6)
