"""Saves that fail and checkpoints that are damaged, on two ranks that train."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raypt.training.records import read_metrics
from tests.parallel.ranks import run_ranks
from tests.training import tiny_run


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    root = tmp_path_factory.mktemp("troubles")
    data = root / "data"
    tiny_run.prepare(data)
    return root, run_ranks(2, "tests.training.checkpoint.troubles", "everything", root, data=str(data), root=str(root))


Ran = tuple[Path, list[dict[str, Any]]]


def test_a_save_that_fails_on_one_rank_is_known_within_a_step_with_path_and_remedy(ran: Ran) -> None:
    root, (first, _) = ran
    (steps, text) = first["once_heard"][0]
    assert steps == 6, "before step 7 is on record"
    assert f"{root}/once/checkpoints/step-00000006-" in text and "rank 1 on" in text
    assert "No space left on device (free space there" in text


def test_a_failed_save_is_made_good_at_the_next_step_and_leaves_nothing(ran: Ran) -> None:
    _, (first, _) = ran
    assert first["once_steps"] == [7, 12]
    assert len(first["once_there"]) == 2


def test_the_last_state_of_a_run_is_saved_at_the_second_attempt(ran: Ran) -> None:
    assert ran[1][0]["end_steps"] == [6]


def test_saves_that_keep_failing_end_the_run_on_all_ranks_with_the_reason(ran: Ran) -> None:
    _, results = ran
    for rank in results:
        kind, text = rank["always"]
        assert kind == "UserError"
        assert "max_failed_saves=2" in text and "free space there" in text
    # Tried at steps 6, 7 and 9; the third failure is known before step 10 is on record.
    assert results[0]["always_steps"] == 9


def test_a_piece_that_one_rank_finds_damaged_makes_all_go_back(ran: Ran) -> None:
    root, results = ran
    for rank in results:
        assert rank["back"][0] == "GoneBack"
        assert "rank-00001.safetensors" in rank["back"][1]
        assert rank["back_sample"] == 6 * tiny_run.BATCH
    # Steps 7 to 12 are done again from the checkpoint before: as the run that was not disturbed did them.
    losses, undisturbed = ([row["loss"] for row in read_metrics(str(root / run))] for run in ("damaged", "once"))
    np.testing.assert_array_equal(losses, undisturbed)


def test_when_all_are_damaged_the_run_is_refused_and_nothing_of_it_is_touched(ran: Ran) -> None:
    for rank in ran[1]:
        # Three were there: the one rejected before, that of step 12 done again, that of step 6.
        assert [kind for kind, _ in rank["none"]] == ["GoneBack", "GoneBack", "UserError"]
        assert "none that is whole" in rank["none"][2][1]
        assert rank["none_changed"] == [] and rank["none_gone"] == []


def test_a_rewind_passes_over_a_damaged_checkpoint(ran: Ran) -> None:
    root, (first, _) = ran
    assert "rewound to the weights of step 6; samples up to here are left out" in first["rewound"]
    assert read_metrics(str(root / "rewound"))[13]["event"] == "rewind"
