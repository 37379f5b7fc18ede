"""What a person may choose about training."""

import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, create_model, model_validator

from raypt import plugins
from raypt.corpus.config import SourceConfig
from raypt.parallel.config import LocalSgdConfig, ParallelConfig, ParameterServerConfig, ZeroConfig
from raypt.settings import Settings
from raypt.training.contradictions import contradictions


class GroupConfig(Settings):
    """Parameters with a rate or a decay of their own."""

    match: str
    """Their global names, with * and ? (model.embed_tokens.weight, *.mlp.*, *.bias)."""
    lr_scale: float = Field(default=1.0, ge=0)
    """Factor on `lr`; 0 leaves them as they began."""
    weight_decay: float | None = Field(default=None, ge=0)
    """Decoupled decay; None = that of all matrices, or none of vectors."""


class OptimizerConfig(Settings):
    """How weights are updated."""

    kind: Literal["adamw", "lion", "muon"] = "adamw"
    """adamw (Loshchilov & Hutter 2019); lion (Chen et al. 2023): half the optimizer state, a third of the rate; muon
    (Jordan et al. 2024): orthogonal updates of the blocks' matrices at AdamW's rate, AdamW for all else."""
    lr: float = Field(default=3e-3, gt=0)
    """Peak learning rate."""
    betas: tuple[float, float] = (0.9, 0.95)
    """AdamW: decay rates of the two moments (GPT-3, LLaMA). Lion: interpolation factors (0.9 and 0.99 in its paper)."""
    momentum: float = Field(default=0.95, ge=0, lt=1)
    """Muon: decay rate of the momentum of matrices (Jordan et al. 2024: 0.95)."""
    eps: float = Field(default=1e-8, gt=0)
    """Added to AdamW's denominator."""
    weight_decay: float = Field(default=0.1, ge=0)
    """Decoupled decay of matrices; vectors (norms) are never decayed (LLaMA: 0.1)."""
    groups: tuple[GroupConfig, ...] = ()
    """Parameters with a rate or a decay of their own; the first that matches counts."""
    clip_norm: float | None = Field(default=1.0, gt=0)
    """Largest global gradient norm; None = no clipping (LLaMA: 1.0)."""

    @model_validator(mode="after")
    def _check(self) -> "OptimizerConfig":
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas={list(self.betas)}: each must be at least 0 and less than 1")
        return self


class ScheduleConfig(Settings):
    """The learning rate over updates; a skipped update does not advance it."""

    kind: Literal["cosine", "linear", "wsd", "constant"] = "cosine"
    """After warm-up: cosine or linear to the end, wsd (flat, then down over the last `decay_fraction`), constant."""
    steps: int | None = Field(default=None, gt=0)
    """Updates that warm-up and decay are laid over; None = `train.steps`. More: the run stops on the way down, and goes
    on as one that was never stopped when `train.steps` is raised. Fewer: the rest is trained at `min_ratio`."""
    warmup_steps: int | None = Field(default=None, ge=0)
    """Updates of linear warm-up from 0; None = 20, or half of the run where that is less."""
    min_ratio: float = Field(default=0.1, ge=0, le=1)
    """Where the decay ends, as a fraction of the peak (LLaMA: 0.1)."""
    decay_fraction: float = Field(default=0.2, gt=0, le=1)
    """wsd: the share of all steps spent decaying (Hu et al. 2024: 0.1 to 0.2)."""
    decay: Literal["linear", "1-sqrt"] = "linear"
    """wsd: the way down, over the share x of it that is past: 1 - x, or 1 - sqrt(x), steeper at first (Hägele et al.
    2024, "Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations": the lower loss of the two)."""


class CheckpointConfig(Settings):
    """When to save, and what to keep."""

    every_steps: int | None = Field(default=100, gt=0)
    """Steps between checkpoints; None = only at the end."""
    keep_last: int = Field(default=2, ge=1)
    """The newest k are kept."""
    keep_every: int | None = Field(default=None, gt=0)
    """Multiples of this many steps are kept for ever; None = none."""
    keep_best: int = Field(default=0, ge=0)
    """The k with the lowest held-out loss are kept."""
    background: bool = True
    """Write in a thread while training goes on; only copying the state to host memory interrupts it."""
    cpu_share: float | None = Field(default=0.05, gt=0, le=1)
    """On CPU workers, how much of one core the background writer takes from the matrix products; a save then lasts the
    longer. Nobody waits for a slow writer: the next save, the end of the run and a preemption let it go on at full
    speed. None = full speed from the start, as on GPU workers, whose host has cores to spare."""
    commit_timeout_s: float = Field(default=1800.0, gt=0)
    """How long a checkpoint waits for the slowest rank's file before it is given up."""
    max_failed_saves: int = Field(default=8, ge=0)
    """Saves that may fail one after the other; one more ends the run. Each is tried again after twice as many steps as
    the one before (1, 2, 4, ...): by default an outage may last 255 steps."""


class TaskConfig(Settings):
    """Questions with choices, or minimal pairs, that are asked while training."""

    name: str = Field(pattern=r"^[A-Za-z0-9._-]+$")
    """Under which the metrics have it."""
    path: str
    """JSON Lines: `prompt`, `choices`, `answer` (index), or `good` and `bad`; `phenomenon` groups them. BLiMP's files
    work as they are. A path or URI that the first worker reaches, or `builtin:pairs/en`, `builtin:pairs/zh` (minimal
    pairs of agreement, order and negation), `builtin:facts/en`, `builtin:facts/zh` (facts to complete)."""
    max_questions: int | None = Field(default=500, gt=0)
    """Asked each time, spread evenly over the file; None = all."""
    choose_by: Literal["sum", "byte"] = "sum"
    """What the chosen one has most of: log-probability, or log-probability a byte (lm-evaluation-harness' `acc` and
    `acc_norm`). Choices of unequal length want the latter."""


class EvaluationConfig(Settings):
    """Held-out loss, and tasks, while training."""

    every_steps: int | None = Field(default=100, gt=0)
    """Steps between evaluations; None = only at the end."""
    max_samples: int | None = Field(default=256, gt=0)
    """Packed samples evaluated each time; None = all."""
    at_end: bool = True
    """Evaluate after the last step too."""
    tasks: tuple[TaskConfig, ...] = ()
    """Questions asked at each evaluation, on the workers."""

    @model_validator(mode="after")
    def _check_tasks(self) -> "EvaluationConfig":
        names = [task.name for task in self.tasks]
        if len(set(names)) < len(names):
            raise ValueError(f"tasks: {names} has a name twice")
        return self


class SpikeConfig(Settings):
    """What to do when the loss, or the norm of its gradient, jumps."""

    sigma: float = Field(default=6.0, gt=0)
    """A loss more than this many standard deviations above the mean of the window is a spike."""
    grad_norm_sigma: float | None = Field(default=None, gt=0)
    """A gradient norm, before clipping, this many deviations above the mean of its window is a spike too (OLMo-core
    takes 6 for both); null = norms are not looked at."""
    window: int = Field(default=64, ge=8)
    """Steps the mean and deviation are taken over; the rule is silent until they are there."""
    action: Literal["skip", "rewind"] = "skip"
    """skip: drop this step's update. rewind: go back to the last checkpoint and leave out the samples in between
    (PaLM, section 5.1); before the first checkpoint the step is skipped."""
    max_actions: int = Field(default=20, ge=1)
    """More than this many in one start of the workers is a failure: something else is wrong."""


class ProfileConfig(Settings):
    """Which steps to trace with torch.profiler."""

    first_step: int = Field(ge=1)
    """First traced step."""
    steps: int = Field(default=2, ge=1)
    """How many."""

    @property
    def last_step(self) -> int:
        return self.first_step + self.steps - 1


def _strategy(name: str) -> str:
    if plugins.is_plugin(name):
        plugins.split(name)
    elif name not in STRATEGIES:
        raise ValueError(f"{name!r} is neither {' nor '.join(STRATEGIES)} nor package.module:name")
    return name


STRATEGIES = ("collective", "parameter_server", "local_sgd")
"""raypt's own values of `train.strategy`."""


_FROM = Field(
    description="A Hugging Face directory (safetensors; LLaMA, Mistral without sliding windows, Qwen 2 or 3), a run "
    "directory (its newest checkpoint) or the directory of one checkpoint: a path or URI that every worker reaches. "
    "Each reads its own part. It must be there whenever the run is started."
)
_NAMES: dict[str, Any] = {"from": (str, _FROM)}
"""`from` is no name that a class can spell out."""
_From = create_model("_From", __base__=Settings, **_NAMES)


class InitConfig(_From):
    """Continued pretraining: weights of another model to begin from, under a schedule that begins anew. Its shape and
    tokenizer are taken; keys of `model` may change `max_length` and the rotary positions alone."""

    tokenizer: str | None = None
    """A tokenizer that has more tokens behind those the model knows, as `tokens.tokenizer.path` names one; the rows of
    new tokens begin as the mean of the known ones. None = the model's own."""
    optimizer: bool = False
    """Take the optimizer's state too, from a checkpoint of the same kind of optimizer."""

    @property
    def source(self) -> str:
        """`from`."""
        uri: str = getattr(self, "from")
        return uri


class TrainConfig(Settings):
    """Training."""

    steps: int = Field(default=180, gt=0)
    """Optimizer steps of the whole run."""
    strategy: Annotated[str, AfterValidator(_strategy)] = "collective"
    """How workers train together. collective: they step as one, by collective communication under DeepSpeed ZeRO
    (section `zero`). parameter_server: through servers that hold the weights, in step or each at its own pace (section
    `parameter_server`). local_sgd: each makes its own updates, and they meet now and then (section `local_sgd`).
    `package.module:name`: an engine of your own (docs/training.md)."""
    workers: int | tuple[int, int] = 2
    """Training processes, a multiple of those that one model is cut over (`parallel`); a pair (min, max) lets the run
    shrink and grow with the cluster."""
    use_gpu: bool = False
    """One GPU a worker; otherwise CPU."""
    backend: Literal["nccl", "gloo", "mpi"] | None = None
    """What workers communicate over; None = nccl on GPUs, gloo on CPUs. mpi: of CPU workers that `mpirun` started, over
    a token store, without Ray (docs/training.md)."""
    cpus_per_worker: float = Field(default=0.5, gt=0)
    """CPUs each worker reserves; what it leaves must be enough for the stream's own processes."""
    threads_per_worker: int | None = Field(default=1, ge=1)
    """Threads of a CPU worker's matrix products; None = what it reserves, rounded up."""
    global_batch_tokens: int = Field(default=4096, gt=0)
    """Tokens of one step over all workers: a multiple of sequence length x micro_batch_size x replicas of the model."""
    micro_batch_size: int = Field(default=8, gt=0)
    """Sequences of one forward pass on one worker; the rest of the global batch is gradient accumulation."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16: weights and activations in bf16, master weights and optimizer state in fp32."""
    activation_checkpointing: Literal["none", "full", "selective"] = "none"
    """Recompute activations in the backward pass to save memory."""
    compile: bool = False
    """torch.compile each block."""
    deterministic: bool = False
    """On GPUs, only kernels whose sums have one order, at some cost in speed: the same run twice is the same bit for
    bit. CPU workers are so anyway."""
    varlen_attention: bool | None = None
    """Variable-length flash attention over packed documents, whose memory grows with their length and not with its
    square, instead of a dense mask. null = on GPUs in bf16, where a trial at the start agrees with the mask."""
    z_loss: float = Field(default=0.0, ge=0)
    """Weight of the squared log-partition (PaLM: 1e-4); reported apart from the loss."""
    loss_chunk_tokens: int = Field(default=512, gt=0)
    """Positions whose logits exist at one time."""
    cross_document_targets: bool = False
    """Also learn to predict a document's first token from the document before it."""
    init: InitConfig | None = None
    """Weights to begin from; None = drawn ones."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """How weights are updated."""
    schedule: ScheduleConfig = ScheduleConfig()
    """The learning rate over updates."""
    parallel: ParallelConfig = ParallelConfig()
    """How one model is cut over several workers."""
    zero: ZeroConfig = ZeroConfig()
    """What is partitioned over the workers."""
    reduction: Literal["fast", "exact"] = "fast"
    """exact: gradients are summed over the micro-batches of a step in one order and norms in none, so that the weights
    are the same to the bit on any number of workers and at any ZeRO stage, and an elastic run's are those of one that
    kept its workers (one kind of machine, `threads_per_worker`, `micro_batch_size`). Each worker holds whole gradients,
    one more copy for each doubling of its micro-batches beyond 2; docs/training.md has the cost. Numbers of workers
    are products of the first prime factors of the micro-batches of a step."""
    parameter_server: ParameterServerConfig = ParameterServerConfig()
    """Where weights and optimizer states lie with that strategy."""
    local_sgd: LocalSgdConfig = LocalSgdConfig()
    """When and how workers meet with that strategy."""
    checkpoint: CheckpointConfig = CheckpointConfig()
    """When to save, and what to keep."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """Held-out loss while training."""
    spike: SpikeConfig | None = None
    """What to do when the loss jumps; None = nothing."""
    max_skipped_in_a_row: int = Field(default=50, ge=1)
    """Updates skipped one after the other because a loss or gradient is not finite; one more is a failure."""
    profile: ProfileConfig | None = None
    """Which steps to trace; None = none."""
    log_every: int | None = Field(default=None, gt=0)
    """Steps between progress lines; metrics.jsonl has every step. None: the first step, then a line every 10 s at first
    and every minute later."""
    tensorboard: bool = True
    """Write TensorBoard event files; on an object store one a minute."""
    wandb_project: str | None = None
    """Weights & Biases project to log to (extra `wandb`); None = none."""
    peak_tflops: float | None = Field(default=None, gt=0)
    """Peak TFLOP/s of one worker, as its maker states it: `mfu_stated` in the metrics is a share of it. None = that of
    the GPU in bf16 where it is known, else no MFU is told: only `matmul_share`, of a matrix product timed at the
    start."""
    max_failures: int = Field(default=3, ge=-1)
    """Restarts of the worker group in a row, without a newer checkpoint in between, before the run fails; -1 = 20. What
    a person has to mend ends the run at once."""
    collective_timeout_s: float = Field(default=600.0, gt=0)
    """How long a rank waits for the others in a collective before the group is restarted. A rank that hangs is named
    long before (`stall_warning_s`)."""
    first_step_timeout_s: float = Field(default=1800.0, gt=0)
    """The same until the first step after a start is done, and while a checkpoint is read."""
    stall_warning_s: float = Field(default=60.0, gt=0)
    """Seconds without a step after which the log says which rank was last seen where; more where steps are longer
    (three times the longest so far, but half of `collective_timeout_s` at most)."""
    stop_timeout_s: float = Field(default=120.0, gt=0)
    """After SIGTERM, how long the job waits for a last checkpoint before it ends (exit 143). Let whoever sends the
    signal wait longer before it kills (Slurm: --signal=B:TERM@180; Kubernetes: terminationGracePeriodSeconds; Ray jobs:
    RAY_JOB_STOP_WAIT_TIME_S, 3 seconds by default)."""
    start_timeout_s: float = Field(default=600.0, gt=0)
    """How long to wait for all workers' resources (Ray Train's own default, 60 s, is short of a node's start)."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Ray node labels (label selector) of the nodes that training workers run on, e.g. {"raypt/pool": "gpu"}."""
    resize_check_s: float = Field(default=60.0, gt=0)
    """Where `workers` is a pair: seconds between looks at how many fit. The run is resized at its next checkpoint."""

    @model_validator(mode="after")
    def _check(self) -> "TrainConfig":
        if problems := list(contradictions(self)):
            raise ValueError("\n".join(problems))
        return self

    @property
    def threads(self) -> int:
        """Threads of a CPU worker's matrix products."""
        return self.threads_per_worker or math.ceil(self.cpus_per_worker)

    @property
    def asynchronous(self) -> bool:
        """Whether one rank leads workers that do not step together."""
        return self.strategy == "parameter_server" and self.parameter_server.staleness != 0

    @property
    def worker_range(self) -> tuple[int, int]:
        return (self.workers, self.workers) if isinstance(self.workers, int) else self.workers


class ExportConfig(Settings):
    """`jobs/export.py`: a checkpoint as a Hugging Face directory."""

    step: int | None = Field(default=None, gt=0)
    """Step of the checkpoint; None = the newest whole one."""
    average: int = Field(default=1, ge=1)
    """`raypt export`: the mean of the weights of that many checkpoints, this one and those before it (Izmailov et
    al. 2018); keep as many with `train.checkpoint.keep_last`. At a constant rate it stands in for a decay."""
    out: str | None = None
    """Directory or URI; None = `export/` in the run directory."""
    precision: Literal["fp32", "bf16"] | None = None
    """Type of the exported weights; None = that the run computed in (`train.precision`)."""
    shard_bytes: int = Field(default=4 << 30, gt=0)
    """Largest safetensors file; more than that is written as several with an index."""


class EvaluateConfig(Settings):
    """`jobs/evaluate.py`: a finished model on files and tasks."""

    model: str | None = None
    """Directory or URI of a Hugging Face LLaMA; None = `export/` in the run directory. On a mesh (`train.parallel` over
    more than one worker, or `train.zero.stage: 3`) also of a checkpoint or a run; None = `export/`, else the run's
    newest checkpoint."""
    sources: tuple[SourceConfig, ...] = ()
    """Files to measure perplexity and bits per byte on, as in `corpus.sources`."""
    max_documents: int | None = Field(default=1000, gt=0)
    """Documents read of each source; None = all."""
    stride: int | None = Field(default=None, gt=0)
    """Tokens between the starts of windows over a long text; smaller gives a token more context. None = no overlap."""
    tasks: tuple[str, ...] = ()
    """Tasks of lm-evaluation-harness by name (extra `lm-eval`)."""
    limit: int | None = Field(default=None, gt=0)
    """Examples of each task; None = all."""
    num_fewshot: int | None = Field(default=None, ge=0)
    """Examples shown before each question; None = the task's own number."""
    max_length: int | None = Field(default=None, gt=1)
    """Context length used; None = the model's own."""
    batch_size: int = Field(default=8, gt=0)
    """Sequences a forward pass, of one process or one replica of the mesh."""
    precision: Literal["fp32", "bf16"] | None = None
    """Type that the model computes in; None = that its weights are stored in."""
    out: str | None = None
    """Where to write the results; None = `evaluation.json` in the run directory."""
