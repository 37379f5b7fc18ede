"""The train loop: flat, the same for every parallel strategy, and free of Ray.

Each step: take this rank's micro-batches, agree with the other ranks about them, forward and backward, decide, update,
write down, and now and then save or evaluate. Ray Train, if it is there, is reached through `Hooks`.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import psutil
import torch

from raypt.durations import Pace, clock, duration
from raypt.errors import UserError
from raypt.lines import Lines
from raypt.model import ModelConfig
from raypt.model.batch import MicroBatch
from raypt.parallel import comm
from raypt.parallel.agreement import Offer
from raypt.parallel.engine import Asynchronous, BatchLoss, StepResult, TrainEngine
from raypt.parallel.pulse import PULSE
from raypt.progress import bar
from raypt.tokens.stream.cursor import Cursor
from raypt.tokens.stream.waits import Waits
from raypt.training.batch_plan import BatchPlan
from raypt.training.checkpoint.manifest import CheckpointInfo, Progress
from raypt.training.checkpoint.resume import agree_on_newest, restore
from raypt.training.checkpoint.saving import Saver
from raypt.training.checkpoint.writer import CheckpointWriter
from raypt.training.config import TrainConfig
from raypt.training.data_wait import StepWait, WaitWatch
from raypt.training.heldout import Heldout, HeldoutLoss
from raypt.training.optim.schedule import lr_scale
from raypt.training.records import MetricsFile, SampleRecorder, UpdateRecorder
from raypt.training.sinks import Sink, Tracer
from raypt.training.spike import limit
from raypt.training.tasks import Tasks

log = logging.getLogger("raypt")


@dataclass
class Hooks:
    """What surrounds the loop. Every function is called on every rank unless it says otherwise."""

    committed: Callable[[dict[str, Any], CheckpointInfo | None], None] = lambda metrics, info: None
    """After all ranks know that a checkpoint is whole; `info` on rank 0 only. May be a barrier."""
    preempted: Callable[[], bool] = lambda: False
    """Whether this worker is about to lose its machine: a checkpoint is made at once."""
    stopping: Callable[[], bool] = lambda: False
    """Whether the run has been asked to end: a checkpoint is made at once, and the loop returns."""
    waits: Callable[[], Waits] = Waits
    """How long this rank has waited for blocks of samples so far, and why."""


@dataclass
class LoopState:
    """What changes from step to step, on every rank alike except where said."""

    progress: Progress
    reported_step: int = 0
    """Step of the last checkpoint that `Hooks.committed` heard of."""
    heldout: HeldoutLoss | None = None
    spikes: int = 0
    skipped_in_a_row: int = 0
    preempted: bool = False
    """A checkpoint has been made because a machine is about to go."""
    exhausted: bool = False
    stopping: bool = False
    """Somebody has asked the run to end: it does after this step."""


class TrainLoop:
    """One rank's training from a checkpoint's progress to the last step."""

    def __init__(
        self,
        *,
        engine: TrainEngine,
        model: ModelConfig,
        train: TrainConfig,
        plan: BatchPlan,
        source: Iterator[MicroBatch],
        start: Progress,
        fingerprint: str,
        writer: CheckpointWriter,
        heldout: Heldout,
        tasks: Tasks,
        device: torch.device,
        metrics: MetricsFile | None,
        recorder: SampleRecorder | None,
        updates: UpdateRecorder | None,
        sinks: Sequence[Sink],
        tracer: Tracer,
        hooks: Hooks,
        matmul_flops: float | None = None,
        stated_flops: float | None = None,
    ) -> None:
        self.engine, self.model, self.train, self.plan, self.source = engine, model, train, plan, source
        self.topology = engine.topology
        self.saver = Saver(writer, self.topology.rank, start.step)
        self.writer, self.heldout, self.device, self.rank = writer, heldout, device, self.topology.rank
        self.tasks = tasks
        self.metrics, self.recorder, self.updates, self.hooks = metrics, recorder, updates, hooks
        self.sinks, self.tracer = sinks, tracer
        self.fingerprint, self.matmul_flops, self.stated_flops = fingerprint, matmul_flops, stated_flops
        self.state = LoopState(start, reported_step=start.step)
        self.wait_watch, self.lines, self.pace = WaitWatch(), Lines(), Pace()

    def run(self) -> Progress:
        """Train until the last step, or until the samples end (which is said)."""
        state = self.state
        first = state.progress.step + 1
        while state.progress.step < self.train.steps and not state.exhausted and not state.stopping:
            with self.tracer.step(state.progress.step + 1):
                self._step()
            if state.progress.step == first:
                # Whatever takes its time once, compiling above all, is done.
                comm.set_timeout(self.train.collective_timeout_s)
        self._flush()
        self._settle()
        self.saver.finish(self.engine.shard, state.progress)
        self._report_newest()
        return state.progress

    def _step(self) -> None:
        state, train = self.state, self.train
        started, waits = time.perf_counter(), self.hooks.waits()
        PULSE.at("waiting for samples", state.progress.step + 1)
        micro_batches = self._take()
        PULSE.at("agreeing on the step")
        waited = StepWait(time.perf_counter() - started, self.hooks.waits().since(waits))
        preempted, waited = self._agree(micro_batches, waited)
        if state.exhausted:
            log.warning("the samples end after step %d of %d", state.progress.step, train.steps)
            return
        loss = self.engine.forward_backward(micro_batches)
        scale = lr_scale(train.schedule, state.progress.updates, train.steps)
        event = self._judge(loss)
        if event is None:
            result = self.engine.step(scale, self._limit("grad_norm_sigma", "recent_norms"))
            if result.skipped and result.grad_norm is not None:
                event = self._spike("norm of the gradient", result.grad_norm)
        else:
            result = self.engine.discard()
        if event == "rewind" and not self._rewind():
            event = "spike"
        before = state.progress
        if train.spike is not None and event is None and result.grad_norm is not None:
            last = slice(-train.spike.window, None)
            before = replace(
                before,
                recent_losses=(*before.recent_losses, loss.loss)[last],
                recent_norms=(*before.recent_norms, result.grad_norm)[last],
            )
        state.progress = replace(
            before,
            step=before.step + 1,
            updates=before.updates + (not result.skipped),
            tokens=before.tokens + loss.tokens,
            cursor=Cursor(before.cursor.next_sample + self.plan.samples_per_step, self.fingerprint),
        )
        step = state.progress.step
        seconds = time.perf_counter() - started
        self._count_skipped(not_finite=result.skipped and event not in ("spike", "rewind"))
        if result.skipped and self.rank == 0:
            what = event or "a gradient is not finite"
            log.warning("step %d: %s (loss %.4f): the update is skipped on all ranks", step, what, loss.loss)
        self._record(micro_batches)
        row = self._row(loss, result, scale, seconds, waited) | ({"event": event} if event else {})
        self.wait_watch.add(seconds, self.plan.samples_per_step * self.plan.sequence_length, waited)
        said = self._logs_at(step)
        if said and (reason := self.wait_watch.reason()):
            row["data_wait_reason"] = reason
        if self._evaluates_at(step):
            row |= self._evaluate()
        self._write(row, said=said)
        if state.stopping:
            return  # `run` saves
        if preempted:
            self._save_at_once()
        elif self.saver.due(step):
            self._save()

    def _judge(self, loss: BatchLoss) -> str | None:
        """Why this step must not update the weights, or None. A pure function of global figures: all ranks agree."""
        if not math.isfinite(loss.loss_sum):
            return "loss not finite"
        most = self._limit("sigma", "recent_losses")
        return self._spike("loss", loss.loss) if most is not None and loss.loss > most else None

    def _limit(self, sigma: str, window: str) -> float | None:
        """What the next value of a window of the progress must not exceed, if there is a rule with this sigma."""
        config = self.train.spike
        deviations = None if config is None else getattr(config, sigma)
        if config is None or deviations is None:
            return None
        return limit(deviations, config.window, getattr(self.state.progress, window))

    def _spike(self, what: str, value: float) -> str:
        """Count a jump, and say what follows from it."""
        state, config = self.state, self.train.spike
        assert config is not None
        state.spikes += 1
        if state.spikes > config.max_actions:
            raise UserError(
                f"the {what} jumped to {value:.4f} at step {state.progress.step + 1}, which makes more than "
                f"train.spike.max_actions={config.max_actions} jumps: lower the learning rate or inspect the samples"
            )
        return config.action if config.action == "rewind" else "spike"

    def _count_skipped(self, *, not_finite: bool) -> None:
        state, most = self.state, self.train.max_skipped_in_a_row
        state.skipped_in_a_row = state.skipped_in_a_row + 1 if not_finite else 0
        if state.skipped_in_a_row > most:
            raise UserError(
                f"the loss or a gradient was not finite in the {state.skipped_in_a_row} steps up to "
                f"{state.progress.step}, more than train.max_skipped_in_a_row={most}. Lower train.optimizer.lr, set "
                "train.optimizer.clip_norm, or take train.precision=fp32; the same command resumes from the last "
                "checkpoint"
            )

    def _rewind(self) -> bool:
        """Take the weights and the optimizer back to the last checkpoint, and go on with the samples after this step:
        what came in between is left out. False = there is none yet.
        """
        state = self.state
        PULSE.at("rewinding")
        self.saver.settle()
        comm.set_timeout(self.train.first_step_timeout_s)
        while True:
            info = agree_on_newest(self.writer.uri)
            if info is None or restore(self.engine, info, self.rank) is None:
                break
            self.writer.look_again()
        comm.set_timeout(self.train.collective_timeout_s)
        if info is None:
            return False
        state.progress = replace(
            state.progress,
            updates=info.progress.updates,
            recent_losses=info.progress.recent_losses,
            recent_norms=info.progress.recent_norms,
        )
        if self.rank == 0:
            log.warning("rewound to the weights of step %d; samples up to here are left out", info.step)
        return True

    def _take(self) -> list[MicroBatch]:
        out = []
        for _ in range(self.plan.accumulation):
            micro = next(self.source, None)
            if micro is None or len(micro.sample_index_B) < self.plan.micro_batch_size:
                break
            out.append(micro)
        return out

    def _agree(self, micro_batches: list[MicroBatch], waited: StepWait) -> tuple[bool, StepWait]:
        """Before the step: do all ranks have samples, are they exactly those of this step, is a checkpoint newly whole,
        has a save failed, is anyone about to be preempted, who waited longest for samples. Returns the last two.
        """
        state, plan = self.state, self.plan
        enough = len(micro_batches) == plan.accumulation
        notice = self.hooks.preempted() + 2 * self.hooks.stopping()
        figures = [self.writer.committed_step, self.saver.failed, notice, round(1e6 * waited.seconds)]
        offer = Offer(
            samples=np.concatenate([m.sample_index_B for m in micro_batches]) if enough else None,
            per_rank=plan.accumulation * plan.micro_batch_size,
            first=state.progress.cursor.next_sample,
            words=np.concatenate([np.array(figures, np.int64), waited.waits.to_ints()]),
        )
        agreed = self.engine.agree(offer)
        if agreed.words[:, 1].any():
            self.saver.settle()
        state.stopping = bool((agreed.words[:, 2] & 2).any())
        if not agreed.ready:
            state.exhausted = True
            return False, waited
        newest = int(agreed.words[0, 0])
        if newest > state.reported_step:
            self._report(newest)
        slowest = agreed.words[int(agreed.words[:, 3].argmax())]
        longest = StepWait(float(slowest[3]) / 1e6, Waits.from_ints(slowest[4:]))
        return bool((agreed.words[:, 2] & 1).any()), longest

    def _settle(self) -> None:
        """Wait for the save under way; a checkpoint is reported before another is begun."""
        self.saver.settle()
        self._report_newest()

    def _report_newest(self) -> None:
        newest = comm.broadcast_object(self.writer.committed_step)
        if newest > self.state.reported_step:
            self._report(newest)

    def _report(self, step: int) -> None:
        self.hooks.committed({"step": step}, self.writer.committed)
        self.state.reported_step = step

    def _logs_at(self, step: int) -> bool:
        if step == self.train.steps:
            return True
        return self.lines.due() if self.train.log_every is None else step % self.train.log_every == 0

    def _evaluates_at(self, step: int) -> bool:
        config = self.train.evaluation
        due = config.every_steps is not None and step % config.every_steps == 0
        return due or (config.at_end and step == self.train.steps)

    def _save_at_once(self) -> None:
        """A machine is about to go: the first checkpoint is waited for, since the next step may be one too many; those
        after it, while the machine is still there, are made as fast as they can be written.
        """
        state = self.state
        if not state.preempted:
            self._save()
            self._settle()
            state.preempted = True
        elif state.reported_step == self.saver.last_step or self.saver.due(state.progress.step):
            self._save()

    def _save(self) -> None:
        PULSE.at("saving")
        self._flush()
        self._settle()
        self.saver.save(self.engine.shard, self.state.progress)

    def _flush(self) -> None:
        """What is recorded of the steps before a checkpoint must be there when it is."""
        if isinstance(self.engine, Asynchronous):
            self.engine.drain()
            self._record([])
        for file in (self.recorder, self.updates, self.metrics):
            if file is not None:
                file.flush()

    def _record(self, micro_batches: list[MicroBatch]) -> None:
        """What has been trained on: the samples of the step, or, of asynchronous workers, those of their updates."""
        if not isinstance(self.engine, Asynchronous):
            if self.recorder is not None:
                self.recorder.add(self.state.progress.step, micro_batches)
            return
        for applied in self.engine.take_updates():
            if self.recorder is not None:
                self.recorder.add(applied.update.step, applied.micro_batches, applied.update.worker)
            if self.updates is not None:
                self.updates.add(applied.update)

    def _evaluate(self) -> dict[str, Any]:
        """Held-out loss and tasks; what a metrics line says of them."""
        state = self.state
        row: dict[str, Any] = {}
        PULSE.at("evaluating")
        state.heldout = self.heldout.evaluate(self.engine, self.device)
        if state.heldout is not None:
            state.progress = replace(state.progress, heldout_loss=state.heldout.loss)
            if self.rank == 0:
                log.info("step %d: held-out loss %.4f", state.progress.step, state.heldout.loss)
            row = heldout_row(state.heldout)
        if tasks := self.tasks.evaluate(self.engine, self.device):
            row["tasks"] = tasks
            if self.rank == 0:
                said = ", ".join(f"{name} {figures['accuracy']:.3f}" for name, figures in tasks.items())
                log.info("step %d: accuracy %s", state.progress.step, said)
        return row

    def _row(
        self, loss: BatchLoss, result: StepResult, scale: float, seconds: float, waited: StepWait
    ) -> dict[str, Any]:
        progress, timing = self.state.progress, self.engine.timing
        positions = self.plan.samples_per_step * self.plan.sequence_length
        workers = timing.workers or self.topology.world_size
        row: dict[str, Any] = {
            "step": progress.step,
            "time": time.time(),
            "samples": progress.cursor.next_sample,
            "tokens": progress.tokens,
            "loss": loss.loss,
            "grad_norm": result.grad_norm,
            "lr": scale * self.train.optimizer.lr,
            "skipped": result.skipped,
            "skipped_steps": progress.step - progress.updates,
            "tokens_per_s": positions / seconds,
            "step_s": seconds,
            "data_wait_fraction": waited.seconds / seconds,
            "data_wait_s": waited.by_cause(),
            "forward_s": timing.forward,
            "backward_s": timing.backward,
            "update_s": timing.step,
            "communication_s": timing.communication,
            "rss_mb": psutil.Process().memory_info().rss / 1e6,
            "workers": workers,
        }
        if (pipeline := timing.pipeline) is not None:
            row["pipeline_idle"], row["pipeline_idle_formula"] = pipeline.idle_share, pipeline.idle_formula
            row["activation_mb"] = max(pipeline.peak_bytes) / 1e6
        if timing.sent_bytes is not None:
            row["sent_bytes"] = timing.sent_bytes
        if updates := timing.updates:
            versions = [u.stale_versions for u in updates]
            row["updates"] = len(updates)
            row["stale_steps"] = max(u.stale_steps for u in updates)
            row["stale_versions"], row["stale_versions_max"] = sum(versions) / len(versions), max(versions)
        if self.train.z_loss:
            row["z"] = loss.z_sum / max(loss.tokens, 1)
        flops = self.model.flops_per_token(self.plan.sequence_length) * row["tokens_per_s"]
        for key, peak in (("matmul_share", self.matmul_flops), ("mfu_stated", self.stated_flops)):
            if peak:
                row[key] = flops / (peak * workers)
        if self.device.type == "cuda":
            row["device_mb"] = torch.cuda.max_memory_allocated() / 1e6
        return row

    def _write(self, row: dict[str, Any], *, said: bool) -> None:
        if self.metrics is None:
            return
        self.metrics.write(row)
        if (pipeline := self.engine.timing.pipeline) is not None:
            self.metrics.write_pipeline(row["step"], pipeline)
        for sink in self.sinks:
            sink.write(row)
        step = row["step"]
        self.pace.add(row["step_s"])
        if said:
            left = self.pace.left(self.train.steps - step)
            log.info(
                "step %d/%d %s loss %.4f grad norm %s lr %.2e, %.0f tokens/s, data wait %.1f %%, about %s left, to %s",
                step,
                self.train.steps,
                bar(step, self.train.steps),
                row["loss"],
                "-" if row["grad_norm"] is None else f"{row['grad_norm']:.3f}",
                row["lr"],
                row["tokens_per_s"],
                100 * row["data_wait_fraction"],
                duration(left),
                clock(left),
            )
            if "data_wait_reason" in row:
                log.warning("step %d: %s", step, row["data_wait_reason"])


def heldout_row(heldout: HeldoutLoss) -> dict[str, Any]:
    """The held-out figures as keys of a metrics line."""
    row: dict[str, Any] = {
        "heldout_loss": heldout.loss,
        "heldout_tokens": heldout.tokens,
        "heldout_s": heldout.seconds,
        "heldout": heldout.by_group,
    }
    if heldout.bits_per_byte is not None:
        row["heldout_bits_per_byte"] = heldout.bits_per_byte
    return row
