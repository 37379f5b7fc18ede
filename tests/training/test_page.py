"""What the report says of training."""

from raypt.training.page import training_section


def row(step: int, **more: float) -> dict[str, float]:
    return {"step": step, "loss": 2.0, "step_s": 0.5, "tokens_per_s": 200.0, **more}


def test_what_a_worker_sent_is_said_by_token() -> None:
    # 400 and 0 bytes in two steps of 100 tokens; a step from before the strategy was changed does not count.
    page = training_section([row(1), row(2, sent_bytes=400), row(3, sent_bytes=0)], None)
    assert "in 2 steps, 2.0 bytes a token" in page


def test_nothing_is_said_of_bytes_that_nobody_counts() -> None:
    assert "bytes a token" not in training_section([row(1)], None)
