"""The one configuration of a run, and the frame every job script runs in."""

import logging

from pydantic import Field, field_validator, model_validator

from raypt import storage
from raypt.artefact import Verify
from raypt.corpus.config import CorpusConfig
from raypt.corpus.presets import document_columns
from raypt.curation.config import CurationConfig
from raypt.dedup.config import DedupConfig
from raypt.model.config import ModelConfig
from raypt.notify import NotifyConfig
from raypt.ray_session import RaySection
from raypt.run.planner.config import PlanConfig
from raypt.settings import Settings
from raypt.tokens.config import TokensConfig
from raypt.training.config import EvaluateConfig, ExportConfig, TrainConfig

log = logging.getLogger("raypt")


class RunSection(Settings):
    """What this run is called, where it writes, and its seed."""

    name: str = "default"
    """Name of the run; the default directory is `runs/<name>`. Starting the same name again resumes it."""
    dir: str | None = None
    """Directory or URI everything is written under (default `runs/<run.name>`). On a cluster: one all nodes share."""
    seed: int = Field(0, ge=0)
    """Seed of every random choice: samples, held-out split, shuffles, initial weights."""
    verify: Verify = "sizes"
    """How what an earlier start of the run left is checked before it is used. sizes: every file is there and has its
    size (pages and rows are checked against their checksums as they are read). full: all bytes are read and hashed."""
    record_samples: bool = False
    """Write `samples.parquet`: step, rank, global sample index and a hash of the tokens of every sample trained on."""

    notify: NotifyConfig = NotifyConfig()
    """Who is told when the run ends, fails or stands still."""

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        if not value or not all(c.isalnum() or c in "_-." for c in value) or value.startswith("."):
            raise ValueError("use letters, digits, '_', '-' and '.' (not first)")
        return value


class RunConfig(Settings):
    """Everything a run depends on, by room."""

    run: RunSection = RunSection()
    ray: RaySection = RaySection()
    corpus: CorpusConfig = CorpusConfig()
    curation: CurationConfig = CurationConfig()
    dedup: DedupConfig = DedupConfig()
    tokens: TokensConfig = TokensConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    export: ExportConfig = ExportConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    plan: PlanConfig = PlanConfig()

    @model_validator(mode="after")
    def _check_context(self) -> "RunConfig":
        length, declared = self.tokens.packing.sequence_length, self.model.max_length
        if length > declared and self.train.init is None:  # else the weights declare it
            raise ValueError(
                f"tokens.packing.sequence_length={length} is more than model.max_length={declared}, the context that "
                "the exported model declares; raise model.max_length"
            )
        return self

    @model_validator(mode="after")
    def _check_heldout(self) -> "RunConfig":
        if self.train.checkpoint.keep_best and not self.tokens.heldout.fraction:
            raise ValueError(
                f"train.checkpoint.keep_best={self.train.checkpoint.keep_best} compares checkpoints by held-out loss, "
                "and tokens.heldout.fraction=0 holds nothing out"
            )
        return self

    @model_validator(mode="after")
    def _check_curation(self) -> "RunConfig":
        try:
            self.curation.check_inputs(document_columns(self.corpus.sources))
        except ValueError as e:
            raise ValueError(f"curation.{e}") from None
        return self

    @property
    def run_uri(self) -> str:
        """The run directory, absolute."""
        return storage.absolute(self.run.dir or f"runs/{self.run.name}")
