"""What a run tells Ray's metrics, and so Prometheus: every metric that raypt exports, with its labels.

Each has the label `run`, the last part of the run directory. Ray puts `ray_` before a name, and adds labels of its own
(node, worker, session). Counters are set by the processes that count; gauges by the driver, and by rank 0 of training.
Nothing depends on them: without a Ray in this process they go nowhere.
"""

import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

log = logging.getLogger("raypt")


@dataclass(frozen=True)
class Metric:
    """One metric, without Ray's prefix."""

    kind: Literal["gauge", "counter"]
    text: str
    labels: tuple[str, ...] = ()
    """Besides `run`."""


RUN = "run"
METRICS: dict[str, Metric] = {
    "raypt_starts": Metric("gauge", "Starts of a job in this run directory, this one among them"),
    "raypt_stage_running": Metric("gauge", "1 while a stage is under way, 0 after it", ("stage",)),
    "raypt_stage_seconds": Metric("gauge", "Seconds that a stage has taken, once it ended", ("stage",)),
    "raypt_tasks_done": Metric("gauge", "Tasks or shards of a pass that are done", ("task",)),
    "raypt_tasks_planned": Metric(
        "gauge", "Tasks or shards of a pass in all, those done before a restart apart", ("task",)
    ),
    "raypt_queue_bytes": Metric(
        "gauge",
        "Bytes of blocks that wait in a pass of Ray Data (curate, stream), or to be taken",
        ("task",),
    ),
    "raypt_actors": Metric("gauge", "Actors that work on such a pass", ("task",)),
    "raypt_documents_in": Metric("gauge", "Documents that entered a stage of the ledger", ("stage",)),
    "raypt_documents_kept": Metric("gauge", "Documents that it kept", ("stage",)),
    "raypt_bytes_in": Metric("gauge", "Bytes of text that entered a stage of the ledger", ("stage",)),
    "raypt_bytes_kept": Metric("gauge", "Bytes of text that it kept", ("stage",)),
    "raypt_documents_removed": Metric("gauge", "Documents that a rule removed", ("stage", "rule")),
    "raypt_bytes_removed": Metric("gauge", "Bytes of text that went with them", ("stage", "rule")),
    "raypt_read_documents": Metric("counter", "Documents read and tagged"),
    "raypt_read_bytes": Metric("counter", "Bytes of their text"),
    "raypt_read_quarantined": Metric("counter", "Records that could not be read, and were put into quarantine"),
    "raypt_stream_samples": Metric("counter", "Samples handed to the trainers"),
    "raypt_stream_tokens": Metric("counter", "Tokens of those samples, padding included"),
    "raypt_stream_wait_seconds": Metric("counter", "Seconds that fetchers waited for shards not tokenized yet"),
    "raypt_stream_shards_tokenized": Metric("counter", "Shards of the token store that were made"),
    "raypt_stream_tokens_made": Metric("counter", "Tokens packed into them"),
    "raypt_train_loss": Metric("gauge", "Cross-entropy of the last step, nats a token"),
    "raypt_train_grad_norm": Metric("gauge", "Gradient norm before clipping"),
    "raypt_train_lr": Metric("gauge", "Learning rate"),
    "raypt_train_tokens_per_s": Metric("gauge", "Tokens trained a second, all workers"),
    "raypt_train_mfu_stated": Metric("gauge", "Model FLOP/s over the stated peak, where one is: MFU"),
    "raypt_train_matmul_share": Metric(
        "gauge", "Model FLOP/s over those of a matrix product timed at the start: no MFU"
    ),
    "raypt_train_data_wait_fraction": Metric("gauge", "Share of the step spent waiting for samples"),
    "raypt_train_step": Metric("gauge", "Steps done"),
    "raypt_train_tokens": Metric("gauge", "Targets trained on"),
    "raypt_train_skipped_steps": Metric("gauge", "Updates that were skipped"),
    "raypt_train_heldout_loss": Metric("gauge", "Held-out loss, nats a token"),
    "raypt_train_heldout_bits_per_byte": Metric("gauge", "Held-out loss, bits a byte of text"),
    "raypt_train_step_s": Metric("gauge", "Seconds of the last step"),
    "raypt_train_forward_s": Metric("gauge", "Seconds of it forward, on rank 0 as the other parts"),
    "raypt_train_backward_s": Metric("gauge", "Seconds backward"),
    "raypt_train_update_s": Metric("gauge", "Seconds of norm, clipping and the optimizer"),
    "raypt_train_communication_s": Metric("gauge", "Seconds in collectives, waiting for slower ranks included"),
    "raypt_train_pipeline_idle": Metric("gauge", "Share of the last recorded step that a pipeline's workers idled"),
    "raypt_train_activation_mb": Metric("gauge", "Most activations that one of them held at a time in it, MB"),
    "raypt_train_sent_bytes": Metric(
        "gauge", "Bytes of gradients and weights that rank 0 sent, where they are counted"
    ),
    "raypt_train_stale_steps": Metric(
        "gauge", "Most steps that a worker of asynchronous servers was ahead by, of the last updates"
    ),
    "raypt_train_stale_versions": Metric(
        "gauge", "Updates between a gradient's weights and its own update, mean of the last"
    ),
    "raypt_train_rss_mb": Metric("gauge", "Resident memory of rank 0, MB"),
    "raypt_train_device_mb": Metric("gauge", "Most memory of rank 0's GPU so far, MB"),
    "raypt_train_group_starts": Metric("gauge", "Starts of the workers in this job: one more than their restarts"),
    "raypt_train_checkpoint_step": Metric("gauge", "Step of the newest whole checkpoint"),
    "raypt_train_checkpoint_time": Metric("gauge", "When it was whole, seconds since the epoch"),
}

_made: dict[str, Any] = {}
_current: str | None = None


def label_of(run_uri: str) -> str:
    """The value of the label `run`: the last part of the run directory."""
    return run_uri.rstrip("/").rpartition("/")[2]


def set_run(label: str | None) -> None:
    """Whose metrics this process sets from now on, unless it says otherwise."""
    global _current
    _current = label


def current() -> str | None:
    """What `set_run` said last."""
    return _current


def put(name: str, value: float, run: str | None = None, **labels: str) -> None:
    """Set a gauge, or add to a counter. `run`: the label's value; None: that of `set_run`."""
    run = run or _current
    ray = sys.modules.get("ray")
    if run is None or ray is None or not ray.is_initialized():
        return
    metric = METRICS[name]
    assert set(labels) == set(metric.labels), f"{name} has the labels {metric.labels}, not {tuple(labels)}"
    if name not in _made:
        from ray.util.metrics import Counter, Gauge

        kind = Gauge if metric.kind == "gauge" else Counter
        _made[name] = kind(name, description=metric.text, tag_keys=(RUN, *metric.labels))
    tags = {RUN: run, **labels}
    if metric.kind == "gauge":
        _made[name].set(float(value), tags)
    elif value > 0:
        _made[name].inc(float(value), tags)


def put_ledger(stages: Mapping[str, Mapping[str, Any]]) -> None:
    """The account of each stage of a ledger (`Ledger.to_json`)."""
    for stage, account in stages.items():
        for unit in ("documents", "bytes"):
            put(f"raypt_{unit}_in", account["in"][unit], stage=stage)
            put(f"raypt_{unit}_kept", account["kept"][unit], stage=stage)
            for rule, amount in account["removed"].items():
                put(f"raypt_{unit}_removed", amount[unit], stage=stage, rule=rule)
