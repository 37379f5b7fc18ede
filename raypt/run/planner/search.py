"""Every mesh and micro-batch of a number of devices: what it needs, how long it takes, and which is best."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from raypt.run.planner.catalogue import Accelerator
from raypt.run.planner.memory import Memory, memory
from raypt.run.planner.shape import Layout, Shape
from raypt.run.planner.step_time import Seconds, seconds, work_of

CHECKPOINTING: tuple[Literal["none", "selective", "full"], ...] = ("none", "selective", "full")
DAY = 86400.0


@dataclass(frozen=True)
class Job:
    """What is to be trained, whatever on."""

    shape: Shape
    base: Layout
    """Settings that no search changes: length, precision, chunk, attention, optimizer."""
    batch_tokens: int
    steps: int
    price_per_hour: float | None = None
    data_s: float = 0.0
    """In which the CPUs make the tokens of a step, on average over the run."""

    @property
    def tokens(self) -> int:
        return self.batch_tokens * self.steps


@dataclass(frozen=True)
class Plan:
    """One layout, judged."""

    layout: Layout
    memory: Memory
    capacity: int
    seconds: Seconds
    job: Job
    flops: float
    """Peak of a device."""
    runs: bool
    """Whether jobs/pretrain.py can train it."""

    @property
    def fits(self) -> bool:
        return not self.capacity or self.memory.total <= self.capacity

    @property
    def data_wait_s(self) -> float:
        """Of a step: its tokens are made while the one before trains."""
        return max(0.0, self.job.data_s - float(self.seconds.step))

    @property
    def step_s(self) -> float:
        return float(self.seconds.step) + self.data_wait_s

    @property
    def tokens_per_s_per_device(self) -> float:
        return self.job.batch_tokens / self.step_s / self.layout.devices

    @property
    def mfu(self) -> float:
        return self.tokens_per_s_per_device * self.job.shape.flops_per_token(self.layout.length) / self.flops

    @property
    def bubble(self) -> float:
        """Share of a step that a pipeline idles."""
        return float(self.seconds.bubble) / self.step_s

    @property
    def days(self) -> float:
        return self.job.steps * self.step_s / DAY

    @property
    def cost(self) -> float | None:
        price = self.job.price_per_hour
        return None if price is None else self.days * 24 * self.layout.devices * price

    @property
    def too_big(self) -> str:
        """What does not fit, in words."""
        over = self.memory.total - self.capacity
        return (
            f"{self.memory.total / 1e9:.1f} GB of {self.capacity / 1e9:.1f} ({over / 1e9:.1f} GB too much), most of it "
            f"{self.memory.largest} ({self.memory.to_json()[self.memory.largest] / 1e9:.1f} GB)"
        )

    def to_json(self) -> dict[str, Any]:
        layout = self.layout
        return {
            "mesh": {a: getattr(layout, a) for a in ("data", "tensor", "pipeline", "context")},
            "zero": layout.zero,
            "micro_batch": layout.micro_batch,
            "accumulation": layout.accumulation,
            "checkpointing": layout.checkpointing,
            "fits": self.fits,
            "runs": self.runs,
            "memory_bytes": self.memory.to_json(),
            "step_s": self.step_s,
            "data_wait_s": self.data_wait_s,
            "tokens_per_s_per_device": self.tokens_per_s_per_device,
            "mfu": self.mfu,
            "bubble": self.bubble,
            "days": self.days,
            "cost": self.cost,
        }


def divisors(n: int) -> list[int]:
    return [i for i in range(1, n + 1) if n % i == 0]


def stages_of(shape: Shape, devices: int) -> list[int]:
    """Numbers of pipeline stages: the layers need not be a multiple, but the slowest stage has the most of them."""
    return [p for p in divisors(devices) if p <= shape.layers]


def exchanges(shape: Shape, tensor: int, context: int) -> bool:
    """Whether a tensor rank's heads can be exchanged between so many context ranks (`raypt.parallel.context`)."""
    heads, kv = shape.heads // tensor, max(1, shape.kv_heads // tensor)
    return heads % context == 0 and (kv % context == 0 or context % kv == 0)


def judge(job: Job, layout: Layout, device: Accelerator, per_node: int, *, runs: bool = True) -> Plan:
    need = memory(job.shape, layout, gpu=device.gpu)
    held = need.weights + need.gradients + need.optimizer
    room = device.memory_bytes or 1e15
    work = work_of(job.shape, layout, per_node=per_node, memory_bytes=room, state_bytes=held, gpu=device.gpu)
    took = seconds(work, device.constants, device.flops, device.bandwidth)
    flops = device.flops_fp8 if layout.precision == "fp8" and device.flops_fp8 else device.flops
    return Plan(layout, need, device.memory_bytes, took, job, flops, runs)


def layouts(job: Job, devices: int, per_node: int, axes: frozenset[str], stages: tuple[int, ...]) -> Iterator[Layout]:
    """All that divide the global batch evenly. `axes`: those of tensor, pipeline and context that may be used."""
    shape, base = job.shape, job.base
    sequences = job.batch_tokens // base.length
    heads, kv = shape.heads, shape.kv_heads
    tensors = [t for t in divisors(min(per_node, devices)) if heads % t == 0 and (kv % t == 0 or t % kv == 0)]
    for t in tensors if "tensor" in axes else [1]:
        for p in stages_of(shape, devices) if "pipeline" in axes else [1]:
            for c in (1, 2, 4, 8) if "context" in axes else [1]:
                if devices % (t * p * c) or base.length % (t * c) or not exchanges(shape, t, c):
                    continue
                data = devices // (t * p * c)
                if sequences % data:
                    continue
                each = sequences // data
                for micro in divisors(each):
                    if p > 1 and (each // micro < p or p * base.virtual > shape.layers):
                        continue
                    for stage in stages if p == 1 else (s for s in stages if s < 2):
                        for kind in CHECKPOINTING:
                            yield replace(
                                base,
                                data=data,
                                tensor=t,
                                pipeline=p,
                                virtual=base.virtual if p > 1 else 1,
                                context=c,
                                zero=stage,
                                micro_batch=micro,
                                accumulation=each // micro,
                                checkpointing=kind,
                                sequence_parallel=t > 1,
                            )


def anything(_: Layout) -> bool:
    return True


def holds(
    job: Job,
    devices: int,
    device: Accelerator,
    per_node: int,
    *,
    axes: frozenset[str] = frozenset(),
    runs: Callable[[Layout], bool] = anything,
    stages: tuple[int, ...] = (0, 1, 2, 3),
) -> bool:
    """Whether any layout of a `search` fits and can be run. Those of few sequences at a time and with everything
    recomputed, which need least, are asked first: a yes is soon found."""
    room = device.memory_bytes
    by_need = sorted(layouts(job, devices, per_node, axes, stages), key=lambda x: (x.micro_batch, x.checkpointing))
    return any(
        runs(layout) and (memory(job.shape, layout, gpu=device.gpu).total <= room or not room) for layout in by_need
    )


def search(
    job: Job,
    devices: int,
    device: Accelerator,
    per_node: int,
    *,
    axes: frozenset[str] = frozenset(),
    runs: Callable[[Layout], bool] = anything,
    stages: tuple[int, ...] = (0, 1, 2, 3),
) -> list[Plan]:
    """All layouts, of which `raypt pretrain` takes those that `runs` says, the best first: those that fit before
    others, those that can be run before those that cannot, then by the seconds of a step, then by memory. Of those that
    do not fit, the smallest first."""
    found = [
        judge(job, layout, device, per_node, runs=runs(layout))
        for layout in layouts(job, devices, per_node, axes, stages)
    ]
    return sorted(found, key=lambda p: (not p.fits, not p.runs, p.step_s if p.fits else p.memory.total, p.memory.total))
