"""What a person may choose about parallelism."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from raypt.settings import Settings


class ParallelConfig(Settings):
    """How one model is cut over several workers. What is left of `train.workers` are replicas of it, each of which
    takes its share of the global batch."""

    tensor: int = Field(default=1, ge=1)
    """Workers that each matrix is cut over (Shoeybi et al. 2019): attention by heads, the feed-forward layer by its
    width, the embedding and the output layer by the vocabulary. They exchange activations twice a layer and pass, so
    they belong on one node."""
    sequence_parallel: bool = True
    """Where tensor > 1: between the cut layers, each of those workers holds a share of the positions (Korthikanti et
    al. 2022), which divides the memory of norms and residuals; the bytes exchanged are the same."""
    pipeline: int = Field(default=1, ge=1)
    """Workers that the layers are cut over. They exchange one activation a micro-batch and boundary, so they may lie on
    different nodes. With ZeRO 0 and 1, and untied embeddings."""
    stages: tuple[int, ...] | None = None
    """Layers of each part of a pipeline, first to last, `pipeline` x `virtual_stages` numbers, where worker k of p has
    the parts k, p + k, ...; None = as even as it can be in FLOPs, the output layer counted. The last may be 0: the
    output layer alone. Checkpoints do not depend on it."""
    schedule: Literal["gpipe", "1f1b", "interleaved_1f1b", "zero_bubble"] = "1f1b"
    """Where pipeline > 1. gpipe (Huang et al. 2019): all forward passes, then all backward. 1f1b (Narayanan et al.
    2019): backward as early as it can be, so that a worker holds the activations of at most `pipeline` micro-batches.
    interleaved_1f1b (Narayanan et al. 2021): the same with several parts of the model a worker. zero_bubble (ZB-H1 of
    Qi et al. 2023): gradients of weights apart from those of inputs, where a worker would wait. Of m micro-batches a
    replica and step, p workers idle b / (1 + b) of the time, b = (p - 1) / m, divided by `virtual_stages` and, for
    zero_bubble, by 3."""
    virtual_stages: int | None = Field(default=None, ge=1)
    """Parts of the model that each worker of a pipeline has, for interleaved_1f1b and zero_bubble; None = 2 for
    interleaved_1f1b, else 1. More idle less and send more: each boundary is crossed by each micro-batch. With more than
    1, the micro-batches of a replica and step are a multiple of `pipeline`."""
    record_every: int = Field(default=100, ge=0)
    """Where pipeline > 1: every so many steps, and in the second one, note when each worker of the first pipeline began
    and ended what, and the activations it held; 0 = never. Costs that step some percent."""
    context: int = Field(default=1, ge=1)
    """Workers that each sequence is cut over (Ulysses, Jacobs et al. 2023): each computes its run of positions, and
    around attention they exchange heads for positions, so that attention sees whole sequences of some of the heads.
    Divides the memory of activations where sequences are long; ZeRO partitions over these workers too."""
    tensor_across_nodes: bool = False
    """Let the workers of one matrix lie on several nodes; otherwise each node gets a multiple of `tensor` workers, and
    a cluster that has no room for them so is refused."""

    @field_validator("schedule", mode="before")
    @classmethod
    def _renamed(cls, value: Any) -> Any:
        """What a run's config.yaml has from before the schedule got its full name."""
        return "interleaved_1f1b" if value == "interleaved" else value

    @model_validator(mode="after")
    def _check(self) -> "ParallelConfig":
        virtual, at = self.virtual_stages, f"train.parallel.virtual_stages={self.virtual_stages}"
        if virtual is not None and virtual > 1 and self.schedule in ("gpipe", "1f1b"):
            raise ValueError(
                f"{at} is for train.parallel.schedule=interleaved_1f1b or zero_bubble, not {self.schedule}"
            )
        if virtual == 1 and self.schedule == "interleaved_1f1b":
            raise ValueError(f"{at}: with one part a worker, interleaved_1f1b is 1f1b; take 2 or more")
        return self

    @property
    def replica(self) -> int:
        """Workers that hold one model between them."""
        return self.tensor * self.pipeline * self.context

    @property
    def parts(self) -> int:
        """Of the model that a worker of a pipeline has."""
        return self.virtual_stages or (2 if self.schedule == "interleaved_1f1b" else 1)


class ZeroConfig(Settings):
    """DeepSpeed ZeRO (Rajbhandari et al. 2020): what is partitioned over the workers."""

    stage: Literal[0, 1, 2, 3] = 1
    """0 nothing, 1 optimizer state, 2 also gradients, 3 also parameters."""
    offload_optimizer: Literal["cpu", "nvme"] | None = None
    """Where the optimizer state lives when not on the device (stages 1-3; nvme: stage 3)."""
    offload_params: Literal["cpu", "nvme"] | None = None
    """Where partitioned parameters live when not in use (stage 3)."""
    nvme_path: str | None = None
    """Local directory for nvme offload."""
    communication_dtype: Literal["fp32", "bf16"] = "fp32"
    """Type in which gradients travel between workers. They are added up in fp32 over the micro-batches in any case, and
    with fp32 here over the workers too. bf16 halves the bytes and rounds each worker's sum: beside the 0.63 % by which
    computing in bf16 moves a gradient, 0.18 % with 2 workers and 0.28 % with 4 (tests/parallel/zero/precision.py)."""
    overlap_comm: bool | None = None
    """Stage 3: overlap gradient reduction with the backward pass; None = DeepSpeed's default. Stage 2 always does."""
    reduce_bucket_elements: int | None = Field(default=None, gt=0)
    """Gradient elements reduced at once; None = 50 million on GPUs, 8 million on CPUs, where a bucket gains nothing by
    its size and takes its memory."""
    deepspeed: dict[str, Any] = Field(default_factory=dict)
    """Any further DeepSpeed configuration, merged over the generated one; keys that raypt sets are refused."""

    @model_validator(mode="after")
    def _check(self) -> "ZeroConfig":
        if self.overlap_comm is not None and self.stage != 3:
            raise ValueError("train.zero.overlap_comm is for train.zero.stage=3; leave it unset")
        if self.offload_params and self.stage != 3:
            raise ValueError("train.zero.offload_params needs train.zero.stage=3")
        if self.offload_optimizer == "nvme" and self.stage != 3:
            raise ValueError("train.zero.offload_optimizer=nvme needs train.zero.stage=3")
        if self.offload_optimizer and self.stage == 0:
            raise ValueError("train.zero.offload_optimizer needs train.zero.stage 1, 2 or 3")
        if "nvme" in (self.offload_optimizer, self.offload_params) and self.nvme_path is None:
            raise ValueError("train.zero.nvme_path is needed for nvme offload")
        return self


class ParameterServerConfig(Settings):
    """With `train.strategy: parameter_server` (Li et al. 2014): weights and optimizer states lie on servers, processes
    on CPU nodes; workers take the weights from them and bring them gradients."""

    servers: int = Field(default=1, ge=1)
    """Processes that weights and optimizer states are cut over, evenly, each for a run of the flattened parameters. A
    server receives workers x parameters / servers gradients a step, so as many as there are nodes of workers keep a
    network of one speed busy on both sides."""
    cpus_per_server: float = Field(default=0.25, gt=0)
    """CPUs each server reserves, beside those of the workers; rounded up, its threads."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Ray node labels (label selector) that servers must run on, e.g. {"raypt/pool": "cpu"}."""
    gradient_dtype: Literal["fp32", "bf16"] = "fp32"
    """Type in which gradients travel; they are added up in fp32. Weights travel in the type that the model computes
    in."""
    staleness: int | None = Field(default=0, ge=0)
    """0: all workers step together, as ZeRO 0 does. k: servers apply each worker's gradient when it comes, and the
    fastest worker is at most k steps ahead of the slowest (stale synchronous parallel, Ho et al. 2013); null: as far as
    it gets. A step is then one update of each worker's share of the batch; a worker that dies holds nobody up."""
    staleness_rate: bool = False
    """Where staleness is not 0: divide an update's rate by the number of updates made since its weights were taken
    (Zhang et al. 2016, staleness-aware asynchronous SGD)."""

    overlap_pull: bool = False
    """Where staleness is not 0: a worker fetches the weights of its next gradient while it computes this one, where the
    bound allows the step by which they are older. For networks over which weights travel long beside a gradient."""

    @model_validator(mode="after")
    def _check(self) -> "ParameterServerConfig":
        for key in ("staleness_rate", "overlap_pull"):
            if getattr(self, key) and self.staleness == 0:
                raise ValueError(
                    f"train.parameter_server.{key}: with train.parameter_server.staleness=0 no gradient is stale; "
                    "leave it unset"
                )
        return self


class LocalSgdConfig(Settings):
    """With `train.strategy: local_sgd` (DiLoCo, Douillard et al. 2023): each worker makes its own updates, and every so
    many steps all move to where they stand on average, by an outer optimizer."""

    every_steps: int = Field(default=50, ge=1)
    """Steps of each worker between two outer steps (Douillard et al. 2023: 500 on a warm start, and 50 to 1000 tried).
    Communication falls by this factor."""
    outer_lr: float = Field(default=1.0, gt=0)
    """Rate of the outer Nesterov step; with momentum 0, 1 is plain averaging. The published 0.7 with momentum 0.9 wants
    many outer steps: from scratch with few, averaging has the lower loss."""
    outer_momentum: float = Field(default=0.0, ge=0, lt=1)
    """Its momentum (published: 0.9)."""
    fragments: int = Field(default=1, ge=1)
    """Parts of the weights that are exchanged one after the other, each once in `every_steps`, evenly apart (streaming
    DiLoCo, Douillard et al. 2025): the peak of communication is divided by it."""

    outer_bits: Literal[4, 32] = 32
    """In which differences of weights travel between workers: 4 = a sign and an exponent beside a scale a block, added
    up in fp32 (Douillard et al. 2025), an eighth of the bytes. Of CPU workers."""
    delay_steps: int = Field(default=0, ge=0)
    """Steps that each worker goes on training while a difference is on its way (streaming DiLoCo: 5); 0 = it waits."""
    delay_mix: float = Field(default=0.5, ge=0, lt=1)
    """Share of its own weights that a worker keeps when the outer step comes after a delay (Douillard et al. 2025: a
    half); 0 = it begins again where all do, and what it trained meanwhile is lost."""

    @model_validator(mode="after")
    def _check(self) -> "LocalSgdConfig":
        if self.delay_steps >= self.every_steps:
            raise ValueError(
                f"train.local_sgd.delay_steps={self.delay_steps} is not less than train.local_sgd.every_steps="
                f"{self.every_steps}: a fragment would be sent again before it has come back; lower it"
            )
        if self.fragments > self.every_steps:
            raise ValueError(
                f"train.local_sgd.fragments={self.fragments} is more than train.local_sgd.every_steps="
                f"{self.every_steps}: several would be exchanged in one step; lower it"
            )
        return self
