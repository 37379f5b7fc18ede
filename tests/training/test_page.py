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


def test_all_of_training_is_drawn_over_tokens_where_they_are_known() -> None:
    asked = {"tasks": {"blimp": {"accuracy": 0.6, "chance": 0.5}}, "pipeline_idle": 0.1, "pipeline_idle_formula": 0.1}
    more = {"lr": 0.1, "grad_norm": 1.0, "data_wait_fraction": 0.0, "mfu_stated": 0.4, "stale_versions": 1.0, **asked}
    rows = [row(step, tokens=1000 * step, **more) for step in (1, 2, 3)]  # type: ignore[arg-type]
    page = training_section(rows, None)
    assert ">tokens</text>" in page and ">step</text>" not in page
    for one in rows:
        del one["tokens"]
    page = training_section(rows, None)
    assert ">tokens</text>" not in page and ">step</text>" in page


def test_the_mean_of_the_loss_stands_before_the_losses_once_there_are_enough() -> None:
    few, many = (training_section([row(step) for step in range(1, n)], None) for n in (10, 40))
    assert "mean of about 20 steps" in many and "stroke-opacity='.4'" in many
    assert "mean of" not in few and "stroke-opacity" not in few
