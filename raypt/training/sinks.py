"""Where a step's figures go besides metrics.jsonl: TensorBoard, Ray's metrics (and so Prometheus), W&B, a trace."""

import contextlib
import logging
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from raypt import storage
from raypt.errors import UserError
from raypt.training.config import ProfileConfig, TrainConfig

log = logging.getLogger("raypt")

RAY_METRICS = {
    "loss": "Cross-entropy of the last step, nats a token",
    "grad_norm": "Gradient norm before clipping",
    "lr": "Learning rate",
    "tokens_per_s": "Tokens trained a second, all workers",
    "mfu": "Model FLOP/s over the peak",
    "data_wait_fraction": "Share of the step spent waiting for samples",
    "step": "Steps done",
    "tokens": "Targets trained on",
    "skipped_steps": "Updates that were skipped",
    "heldout_loss": "Held-out loss, nats a token",
    "heldout_bits_per_byte": "Held-out loss, bits a byte of text",
    "step_s": "Seconds of the last step",
    "forward_s": "Seconds of it forward, on rank 0 as the other parts",
    "backward_s": "Seconds backward",
    "update_s": "Seconds of norm, clipping and the optimizer",
    "communication_s": "Seconds in collectives, waiting for slower ranks included",
    "pipeline_idle": "Share of the last recorded step that a pipeline's workers idled",
    "activation_mb": "Most activations that one of them held at a time in it, MB",
    "sent_bytes": "Bytes of gradients and weights that rank 0 sent, where the strategy counts them",
    "stale_steps": "Most steps that a worker of asynchronous servers was ahead by, of the last updates",
    "stale_versions": "Updates between a gradient's weights and its own update, mean of the last",
    "rss_mb": "Resident memory of rank 0, MB",
    "device_mb": "Most memory of rank 0's GPU so far, MB",
}
"""Key of a metrics line -> what the gauge `raypt_train_<key>` shows."""


class Sink(Protocol):
    def write(self, row: Mapping[str, Any]) -> None: ...

    def close(self) -> None: ...


class TensorBoard:
    """Event files under `<run>/tensorboard`; steps after the one resumed from are hidden, not shown twice."""

    def __init__(self, run_uri: str, resume_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        directory = storage.join(storage.filesystem(run_uri)[1], "tensorboard")
        self.writer = SummaryWriter(directory, purge_step=resume_step + 1 if resume_step else None)

    def write(self, row: Mapping[str, Any]) -> None:
        for key, value in numbers(row).items():
            self.writer.add_scalar(key, value, row["step"])

    def close(self) -> None:
        self.writer.close()


class RayMetrics:
    """Gauges `raypt_train_*`, which Ray exports as `ray_raypt_train_*`."""

    def __init__(self) -> None:
        from ray.util.metrics import Gauge

        self.gauges = {key: Gauge(f"raypt_train_{key}", description=text) for key, text in RAY_METRICS.items()}

    def write(self, row: Mapping[str, Any]) -> None:
        for key, value in numbers(row).items():
            if key in self.gauges:
                self.gauges[key].set(value)

    def close(self) -> None:
        pass


class WeightsAndBiases:
    """One W&B run a raypt run; the same id after a restart."""

    def __init__(self, project: str, run_uri: str) -> None:
        try:
            import wandb
        except ImportError as e:
            raise UserError("train.wandb_project needs the package `wandb`: pip install 'raypt[wandb]'") from e
        name = run_uri.rstrip("/").rsplit("/", 1)[-1]
        self.run = wandb.init(project=project, name=name, id=name, resume="allow")

    def write(self, row: Mapping[str, Any]) -> None:
        self.run.log(numbers(row), step=row["step"], commit=True)  # else a step shows when the next one comes

    def close(self) -> None:
        self.run.finish()


def numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """The numeric entries of a metrics line; those of an entry that is a mapping are `entry/key`."""
    out: dict[str, float] = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            out |= {f"{name}/{key}": inner for key, inner in numbers(value).items()}
        elif isinstance(value, int | float):
            out[name] = float(value)
    return out


def build_sinks(train: TrainConfig, run_uri: str, resume_step: int, *, ray: bool) -> list[Sink]:
    """The sinks that the configuration asks for; on rank 0."""
    sinks: list[Sink] = [RayMetrics()] if ray else []
    if train.tensorboard and storage.is_local(run_uri):
        sinks.append(TensorBoard(run_uri, resume_step))
    if train.wandb_project is not None:
        sinks.append(WeightsAndBiases(train.wandb_project, run_uri))
    return sinks


class Tracer:
    """Writes a chrome trace of the configured steps of rank 0 to `<run>/profile/`."""

    def __init__(self, config: ProfileConfig | None, run_uri: str) -> None:
        self.config, self.run_uri = config, run_uri
        self.profiler: torch.profiler.profile | None = None
        self.first = 0

    @contextlib.contextmanager
    def step(self, step: int) -> Iterator[None]:
        """Around 1-based `step`."""
        config = self.config
        if config is not None and self.profiler is None and config.first_step <= step <= config.last_step:
            self.first = step  # later than the configured one where the run was resumed in between
            activities = [torch.profiler.ProfilerActivity.CPU]
            if torch.cuda.is_available():
                activities.append(torch.profiler.ProfilerActivity.CUDA)
            self.profiler = torch.profiler.profile(activities=activities, record_shapes=True)
            self.profiler.start()
        yield
        if config is not None and self.profiler is not None and step == config.last_step:
            self.profiler.stop()
            self._export(f"steps-{self.first}-{step}.json")
            self.profiler = None

    def _export(self, name: str) -> None:
        assert self.profiler is not None
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / name
            self.profiler.export_chrome_trace(str(path))
            uri = storage.join(self.run_uri, "profile", name)
            storage.write_bytes(uri, path.read_bytes())
        log.info("wrote a trace of the profiled steps to %s (open it in chrome://tracing or Perfetto)", uri)
