"""Where a step's figures go besides metrics.jsonl: TensorBoard, Ray's metrics (and so Prometheus), W&B, a trace."""

import contextlib
import logging
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from raypt import metrics, storage
from raypt.errors import UserError
from raypt.training.config import ProfileConfig, TrainConfig

log = logging.getLogger("raypt")

_TRAIN = "raypt_train_"


class Sink(Protocol):
    def write(self, row: Mapping[str, Any]) -> None: ...

    def close(self) -> None: ...


EVENTS_EVERY_S = 60.0
"""Between two files of TensorBoard's on an object store: what a lost machine takes along of them. A request each."""


class TensorBoard:
    """Event files under `<run>/tensorboard`; steps after the one resumed from are hidden, not shown twice.

    On an object store, which takes whole files only, a file is begun every EVENTS_EVERY_S; TensorBoard reads them in
    order as one.
    """

    def __init__(self, run_uri: str, resume_step: int) -> None:
        self.uri = storage.join(run_uri, "tensorboard")
        self._kept: tempfile.TemporaryDirectory[str] | None = None
        self._parts = 0
        if storage.is_local(run_uri):
            self._directory = storage.filesystem(self.uri)[1]
        else:
            self._kept = tempfile.TemporaryDirectory(prefix="raypt-tensorboard-")
            self._directory = self._kept.name
        self._begin(resume_step + 1 if resume_step else None)

    def _begin(self, purge_step: int | None = None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer, self._begun = SummaryWriter(self._directory, purge_step=purge_step), time.monotonic()

    def write(self, row: Mapping[str, Any]) -> None:
        if self._kept is not None and time.monotonic() - self._begun >= EVENTS_EVERY_S:
            self._put()
            self._begin()
        for key, value in numbers(row).items():
            self._writer.add_scalar(key, value, row["step"])

    def _put(self) -> None:
        """Close the file and send it; one that cannot be sent is sent with the next."""
        self._writer.close()
        for path in sorted(Path(self._directory).iterdir(), key=lambda path: path.stat().st_mtime_ns):
            # TensorBoard reads files in the order of their names: `events.out.tfevents.<second begun>.<...>`.
            name = f"{'.'.join(path.name.split('.')[:4])}.{self._parts:06d}"
            try:
                storage.write_bytes(storage.join(self.uri, name), path.read_bytes())
            except OSError as e:
                log.warning("TensorBoard's events are not kept yet: %s", e)
                return
            path.unlink()
            self._parts += 1

    def close(self) -> None:
        if self._kept is None:
            self._writer.close()
        else:
            self._put()
            self._kept.cleanup()


class RayMetrics:
    """The gauges `raypt_train_*` of `raypt.metrics`, one for each key of a metrics line that has one."""

    def __init__(self, run_uri: str) -> None:
        self.run = metrics.label_of(run_uri)

    def write(self, row: Mapping[str, Any]) -> None:
        for key, value in numbers(row).items():
            if _TRAIN + key in metrics.METRICS:
                metrics.put(_TRAIN + key, value, self.run)

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
    sinks: list[Sink] = [RayMetrics(run_uri)] if ray else []
    if train.tensorboard:
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
