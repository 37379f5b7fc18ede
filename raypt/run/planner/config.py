"""What a person may say to the planner."""

from typing import Literal

from pydantic import Field, model_validator

from raypt.settings import Settings


class ClusterConfig(Settings):
    """The machines that a plan is for."""

    accelerator: str
    """Name in the planner's catalogue: a100-40, a100-80, h100, h200, b200, l40s, a10g, rtx-4090, cpu."""
    nodes: int = Field(default=1, gt=0)
    """Machines."""
    per_node: int = Field(default=8, gt=0)
    """Accelerators a machine (DGX: 8)."""

    @property
    def devices(self) -> int:
        return self.nodes * self.per_node


class PlanConfig(Settings):
    """`jobs/plan.py`: what the planner is asked."""

    cluster: ClusterConfig | Literal["live"] | None = None
    """Machines to plan for; live = the Ray cluster it is run on; None = size one for `days` or `budget` (of
    `accelerator`), or take `train.workers`."""
    accelerator: str = "h100"
    """Kind of accelerator to size a cluster of, and that of a live cluster that does not say it."""
    days: float | None = Field(default=None, gt=0)
    """Size a cluster that is done in this many days."""
    budget: float | None = Field(default=None, gt=0)
    """Size the fastest cluster that costs no more, in the currency of `price_per_hour`."""
    price_per_hour: float | None = Field(default=None, gt=0)
    """Of one accelerator; None = no cost is told. The report tells with it what a run has cost (of a CPU where
    there is no GPU)."""
    vocab_size: int | None = Field(default=None, gt=0)
    """Tokens of the vocabulary where neither `model.vocab_size` nor the tokenizer to be trained says it."""
    data_bytes: float | None = Field(default=None, gt=0)
    """UTF-8 bytes of the raw text; None = what the tokens of the run need once, by `kept` and `bytes_per_token`."""
    kept: float = Field(default=0.3, gt=0, le=1)
    """Share of the bytes that curation and deduplication keep (FineWeb, Penedo et al. 2024: 15 of 36 trillion tokens
    are left after its base filters, which drop more than half themselves)."""
    bytes_per_token: float = Field(default=4.2, gt=0)
    """UTF-8 bytes a token (English 4 to 5, Chinese 3.5 to 4, by vocabulary)."""
    bench: str | None = None
    """File of the lines that `raypt bench curate`, `dedup` and `tokens --stage store` printed on the machines in
    question: their speeds replace the shipped ones. Of `raypt bench plan`: the speed of its CPUs in training."""
    data_cpus: float | None = Field(default=None, gt=0)
    """CPU cores that tokenize while training reads the store for the first time; None = as many as it takes, so that no
    step waits for data."""
    failures_per_device_day: float = Field(default=4.7e-4, ge=0)
    """Faults that end a run (Llama 3, 2024, table 5: 419 in 54 days on 16,384 GPUs)."""
    restart_s: float = Field(default=600.0, ge=0)
    """From a fault to the first new step."""
    checkpoint_bandwidth: float = Field(default=1e9, gt=0)
    """Bytes a second that a node writes to the storage of checkpoints."""
    top: int = Field(default=12, gt=0)
    """Configurations shown, the best first."""
    json_only: bool = False
    """Print JSON and nothing else (the option --json)."""
    page: str | None = None
    """Write the plan as a page with pictures to this file."""
    yaml: str | None = None
    """Write the best configuration to this file, for jobs/pretrain.py --config."""

    @model_validator(mode="after")
    def _check(self) -> "PlanConfig":
        if self.budget is not None and self.price_per_hour is None:
            raise ValueError("plan.budget needs plan.price_per_hour")
        if self.cluster is not None and (self.days or self.budget):
            raise ValueError(
                "plan.cluster is given: plan.days and plan.budget are for sizing one; leave one of them out"
            )
        return self
