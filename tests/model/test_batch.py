"""Targets of packed samples."""

import numpy as np

from raypt.model.batch import micro_batch

TOKENS = np.array([[5, 6, 7, 8, 9, 0]])
SEGMENTS = np.array([[1, 1, 2, 2, 2, 0]])


def rows(segments: np.ndarray = SEGMENTS) -> dict[str, np.ndarray]:
    return {"tokens": TOKENS, "segments": segments, "sample_index": np.array([11])}


def test_inputs_and_targets_are_one_apart() -> None:
    batch = micro_batch(rows())
    assert batch.tokens_BS.tolist() == [[5, 6, 7, 8, 9]]
    assert batch.targets_BS.tolist() == [[6, 7, 8, 9, 0]]


def test_a_target_is_valid_inside_a_document_alone() -> None:
    assert micro_batch(rows()).valid_BS.tolist() == [[True, False, True, True, False]]


def test_cross_document_targets_leave_out_only_padding() -> None:
    assert micro_batch(rows(), cross_document_targets=True).valid_BS.tolist() == [[True, True, True, True, False]]


def test_padding_is_never_a_target() -> None:
    assert micro_batch(rows(np.zeros_like(SEGMENTS))).tokens == 0


def test_rows_of_one_document_need_no_mask() -> None:
    assert micro_batch(rows(np.array([[1, 1, 1, 1, 1, 2]]))).segments_BS is None
    assert micro_batch(rows()).segments_BS is not None
