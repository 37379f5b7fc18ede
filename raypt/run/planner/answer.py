"""From a configuration to the whole answer: machines, ranking, the run's own layout, data side, faults, sense."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import yaml

from raypt.errors import UserError
from raypt.model.config import ModelConfig
from raypt.parallel.config import ZeroConfig
from raypt.parallel.zero.deepspeed_config import bucket_elements
from raypt.run.config import RunConfig
from raypt.run.planner.calibrate import calibrated
from raypt.run.planner.cluster import Machines, live, of_workers, said, sized
from raypt.run.planner.config import ClusterConfig, PlanConfig
from raypt.run.planner.data_side import DataSide, Speeds, data_side
from raypt.run.planner.goodput import StayingUp, staying_up
from raypt.run.planner.search import Job, Plan, holds, judge, search
from raypt.run.planner.sense import Finding, findings
from raypt.run.planner.shape import Layout, Shape
from raypt.training.sizes import check_mesh

DEEPSPEED = {
    "stage3_param_persistence_threshold": "persistent",
    "stage3_max_live_parameters": "live",
    "stage3_prefetch_bucket_size": "prefetched",
    "sub_group_size": "sub_group",
}
"""Names in `train.zero.deepspeed.zero_optimization` that change the memory of a device, and the planner's."""
KEPT_CHECKPOINTS_BESIDE = 1
"""The one that is being written."""


AXES = frozenset({"tensor", "pipeline", "context"})
"""Axes of a mesh, besides data, that `raypt pretrain` may be given."""


def refused_by(config: RunConfig) -> Callable[[Layout], str | None]:
    """Why `raypt pretrain` does not take a layout of this configuration, None if it does: its own check of meshes,
    asked once of each."""
    model, length = model_of(config), config.tokens.packing.sequence_length

    @cache
    def asked(devices: int, tensor: int, pipeline: int, context: int, stage: int, micro: int) -> str | None:
        train = config.train
        parallel = train.parallel.model_copy(
            update={"tensor": tensor, "pipeline": pipeline, "context": context, "sequence_parallel": tensor > 1}
        )
        zero = train.zero.model_copy(update={"stage": stage})
        changed = {"workers": devices, "micro_batch_size": micro, "parallel": parallel, "zero": zero}
        try:
            check_mesh(model, train.model_copy(update=changed), length)
        except UserError as e:
            return str(e)
        return None

    def refused(layout: Layout) -> str | None:
        if layout.tensor == layout.pipeline == layout.context == 1:
            return None
        mesh = layout.devices, layout.tensor, layout.pipeline, layout.context
        return asked(*mesh, layout.zero, layout.micro_batch)

    return refused


@dataclass(frozen=True)
class Answer:
    """What the planner says."""

    config: RunConfig
    job: Job
    machines: Machines
    plans: list[Plan]
    own: Plan | None
    """The layout that the configuration itself names, if the machines are `train.workers`."""
    data: DataSide | None
    up: StayingUp | None
    findings: list[Finding]

    @property
    def best(self) -> Plan | None:
        return next((p for p in self.plans if p.fits and p.runs), None)

    def to_json(self) -> dict[str, Any]:
        shown = self.plans[: self.config.plan.top]
        return {
            "best": self.best.to_json() if self.best else None,
            "configurations": [p.to_json() for p in shown],
            "configured": self.own.to_json() if self.own else None,
            "considered": len(self.plans),
            "fitting": sum(p.fits for p in self.plans),
            "cluster": {
                "accelerator": self.machines.device.name,
                "nodes": self.machines.nodes,
                "per_node": self.machines.per_node,
                "how": self.machines.how,
                "source": self.machines.device.source,
                "constants": self.machines.device.measured,
            },
            "run": {
                "parameters": self.job.shape.parameters,
                "tokens": self.job.tokens,
                "steps": self.job.steps,
                "flops": self.job.tokens * self.job.shape.flops_per_token(self.job.base.length),
            },
            "data": self.data.to_json() if self.data else None,
            "staying_up": self.up.to_json() if self.up else None,
            "sense": [f.to_json() for f in self.findings],
        }


def model_of(config: RunConfig, *, least: bool = False) -> ModelConfig:
    """The model with its vocabulary. `least`: where nothing says it, the smallest there is, for what surely is needed.

    Raises UserError, naming the keys that would say it.
    """
    if config.model.vocab_size is not None:
        return config.model
    tokenizer = config.tokens.tokenizer
    size = config.plan.vocab_size or (tokenizer.vocab_size if tokenizer.path is None else None)
    if size is None and least:
        size = config.model.vocab_multiple
    if size is None:
        raise UserError(
            f"plan.vocab_size: the tokenizer of tokens.tokenizer.path={tokenizer.path} is not read to plan; say how "
            "many tokens it has (or set model.vocab_size)"
        )
    return config.model.for_vocabulary(size)


def base_layout(config: RunConfig, *, gpu: bool) -> Layout:
    """What of a layout the configuration fixes."""
    train = config.train
    flash = train.varlen_attention
    if flash is None:
        flash = train.precision == "bf16" and not train.deterministic
    base = Layout(
        length=config.tokens.packing.sequence_length,
        precision=train.precision,
        compiled=train.compile,
        attention="blocked" if not gpu else "flash" if flash else "masked",
        chunk=train.loss_chunk_tokens,
        fused_norms=gpu,
        communication_bytes=4 if train.zero.communication_dtype == "fp32" else 2,
        optimizer=train.optimizer.kind,
        schedule=train.parallel.schedule,
        virtual=train.parallel.parts,
        exact=train.reduction == "exact",
    )
    return with_zero(base, train.zero, gpu=gpu)


def with_zero(base: Layout, zero: ZeroConfig, *, gpu: bool) -> Layout:
    """A layout with what `train.zero` says of buffers and of memory elsewhere, `train.zero.deepspeed` with it."""
    said = zero.deepspeed.get("zero_optimization", {})
    taken: dict[str, Any] = {name: int(said[key]) for key, name in DEEPSPEED.items() if key in said}
    away = ("cpu", "nvme") if gpu else ("nvme",)  # a CPU's offloaded state is in the memory that it has anyway
    if zero.offload_optimizer is not None:
        taken["offload"] = "other" if zero.offload_optimizer in away else "same"
    return replace(base, bucket=bucket_elements(zero, use_gpu=gpu), offload_params=zero.offload_params in away, **taken)


def own_layout(config: RunConfig, workers: int, *, gpu: bool) -> Layout:
    """The layout that the configuration names, on so many workers.

    Raises UserError if the global batch cannot be dealt out.
    """
    train, length = config.train, config.tokens.packing.sequence_length
    tensor, pipeline = train.parallel.tensor, train.parallel.pipeline
    if workers % train.parallel.replica:
        raise UserError(
            f"train.workers={workers} is not a multiple of the {train.parallel.replica} workers that train.parallel "
            "cuts a model over"
        )
    data = workers // train.parallel.replica
    unit = data * train.micro_batch_size * length
    if train.global_batch_tokens % unit:
        raise UserError(
            f"train.global_batch_tokens={train.global_batch_tokens} is not a multiple of {unit}: sequence length "
            f"{length} x micro_batch_size {train.micro_batch_size} x {data} replicas"
        )
    values: dict[str, Any] = {
        "data": data,
        "tensor": tensor,
        "pipeline": pipeline,
        "context": train.parallel.context,
        "zero": train.zero.stage,
        "micro_batch": train.micro_batch_size,
        "accumulation": train.global_batch_tokens // unit,
        "checkpointing": train.activation_checkpointing,
        "sequence_parallel": tensor > 1 and train.parallel.sequence_parallel,
    }
    return Layout(**{**vars(base_layout(config, gpu=gpu)), **values})


def job_of(config: RunConfig, *, gpu: bool) -> Job:
    train = config.train
    if train.global_batch_tokens % config.tokens.packing.sequence_length:
        raise UserError(
            f"train.global_batch_tokens={train.global_batch_tokens} is not a multiple of "
            f"tokens.packing.sequence_length={config.tokens.packing.sequence_length}"
        )
    shape, plan = Shape.of(model_of(config)), config.plan
    base = base_layout(config, gpu=gpu)
    made = 0.0
    if plan.data_cpus is not None:
        share = min(1.0, (unique_tokens(plan) or math.inf) / (train.global_batch_tokens * train.steps))
        speed = plan.data_cpus * Speeds.of(plan.bench).tokenize
        made = share * train.global_batch_tokens * plan.bytes_per_token / speed
    return Job(shape, base, train.global_batch_tokens, train.steps, plan.price_per_hour, made)


def unique_tokens(plan: PlanConfig) -> float | None:
    """Tokens of the data, once; None where it is not said how much there is."""
    return None if plan.data_bytes is None else plan.data_bytes * plan.kept / plan.bytes_per_token


def answer(config: RunConfig) -> Answer:
    """Everything the planner has to say; reads no data and starts nothing.

    Raises UserError for what is missing, impossible, or too small, saying by how much.
    """
    asked, refused = config.plan, refused_by(config)

    def runs(layout: Layout) -> bool:
        return refused(layout) is None

    sizing = asked.cluster is None and (asked.days is not None or asked.budget is not None)
    gpu = config.train.use_gpu or sizing
    if isinstance(asked.cluster, ClusterConfig):
        gpu = said(asked.cluster).device.gpu
    job = job_of(config, gpu=gpu)
    own = None
    if sizing:
        machines, plans = sized(job, asked, AXES, runs)
    else:
        workers = config.train.worker_range[1]
        if isinstance(asked.cluster, ClusterConfig):
            machines = said(asked.cluster)
        elif asked.cluster == "live":
            machines = live(asked, gpu=gpu)
        else:
            machines = of_workers(workers, asked, gpu=gpu)
        machines = replace(machines, device=calibrated(machines.device, asked.bench, config.train.precision))
        if asked.cluster is None:
            layout = own_layout(config, workers, gpu=gpu)
            own = judge(job, layout, machines.device, machines.per_node, runs=runs(layout))
        plans = search(job, machines.devices, machines.device, machines.per_node, axes=AXES, runs=runs)
        if not plans:
            raise UserError(
                f"train.global_batch_tokens={job.batch_tokens}: {job.batch_tokens // job.base.length} sequences cannot "
                f"be dealt out evenly to {machines.devices} devices; make it a multiple of "
                f"{machines.devices * job.base.length}"
            )
    best = next((p for p in plans if p.fits and p.runs), None)
    if best is None and not any(p.runs for p in plans):
        raise UserError(
            f"{machines.devices} x {machines.device.name} ({machines.how}): of the layouts that deal the global batch "
            f"out evenly none can be run; {describe(plans[0].layout)}: {refused(plans[0].layout)}"
        )
    if best is None:
        raise UserError(impossible(job, machines, plans, runs))
    up = staying_up(
        job.shape.parameters,
        machines.devices,
        machines.nodes,
        best.step_s,
        faults_per_device_day=asked.failures_per_device_day,
        restart_s=asked.restart_s,
        node_bandwidth=asked.checkpoint_bandwidth,
        background=config.train.checkpoint.background,
    )
    data = data_side(
        job.tokens,
        job.batch_tokens / best.step_s,
        job.steps * best.step_s,
        machines.nodes,
        job.shape.vocab,
        up.checkpoint_bytes,
        speeds=Speeds.of(asked.bench),
        raw_bytes=asked.data_bytes,
        kept=asked.kept,
        bytes_per_token=asked.bytes_per_token,
        checkpoints=config.train.checkpoint.keep_last + KEPT_CHECKPOINTS_BESIDE,
    )
    inner = job.shape.parameters - job.shape.embedding * (1 if job.shape.tied else 2)
    flops = job.tokens * job.shape.flops_per_token(job.base.length)
    found = findings(inner, job.tokens, unique_tokens(asked), flops, config.train.optimizer.lr, job.batch_tokens)
    return Answer(config, job, machines, plans, own, data, up, found)


def impossible(job: Job, machines: Machines, plans: list[Plan], runs: Callable[[Layout], bool]) -> str:
    """Why nothing fits, and how many of the same machines would do."""
    least = min((p for p in plans if p.runs), key=lambda p: p.memory.total, default=plans[0])
    text = (
        f"{machines.devices} x {machines.device.name} ({machines.how}) cannot hold this run: the smallest layout "
        f"({describe(least.layout)}) needs {least.too_big}"
    )
    nodes = machines.nodes
    for _ in range(10):
        nodes *= 2
        if holds(job, nodes * machines.per_node, machines.device, machines.per_node, axes=AXES, runs=runs):
            return f"{text}. {nodes} nodes of {machines.per_node} would hold it"
    return f"{text}. More of the same do not help: take a device with more memory, or a smaller model or sequence"


def describe(layout: Layout) -> str:
    """A layout in a few words."""
    mesh = " x ".join(
        f"{n} {axis}" for axis in ("data", "tensor", "pipeline", "context") if (n := getattr(layout, axis)) > 1
    )
    return (
        f"{mesh or '1 device'}, ZeRO {layout.zero}, micro-batch {layout.micro_batch} x {layout.accumulation}, "
        f"{layout.checkpointing} checkpointing"
    )


def settings_of(plan: Plan, *, gpu: bool) -> dict[str, Any]:
    """The keys of `train` that make a run of a plan."""
    layout = plan.layout
    train: dict[str, Any] = {
        "workers": layout.devices,
        "use_gpu": gpu,
        "micro_batch_size": layout.micro_batch,
        "activation_checkpointing": layout.checkpointing,
        "zero": {"stage": layout.zero},
    }
    parallel: dict[str, Any] = {"tensor": layout.tensor, "pipeline": layout.pipeline, "context": layout.context}
    if layout.tensor > 1:
        parallel["sequence_parallel"] = layout.sequence_parallel
    return {**train, "parallel": parallel}


def best_yaml(found: Answer) -> str:
    """The best plan's keys as YAML, to lay over the configuration or to give to jobs/pretrain.py as they are."""
    assert found.best is not None
    return yaml.safe_dump({"train": settings_of(found.best, gpu=found.machines.device.gpu)}, sort_keys=False)


def best_config(found: Answer) -> RunConfig:
    """The whole configuration with the best plan in it."""
    assert found.best is not None
    tree = found.config.model_dump(mode="json")
    new = settings_of(found.best, gpu=found.machines.device.gpu)
    for name in ("zero", "parallel"):
        new[name] = tree["train"][name] | new[name]
    if new["zero"]["stage"] != 3:
        new["zero"]["overlap_comm"] = None
    tree["train"] |= new
    return RunConfig.model_validate(tree)
