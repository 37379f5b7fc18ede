"""The one configuration of a run, and the frame every job script runs in."""

import logging
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from pydantic import Field, field_validator, model_validator

from raypt import storage
from raypt.config_io import help_text, load
from raypt.corpus.config import CorpusConfig
from raypt.curation.config import CurationConfig
from raypt.dedup.config import DedupConfig
from raypt.errors import UserError
from raypt.model.config import ModelConfig
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
    record_samples: bool = False
    """Write `samples.parquet`: step, rank, global sample index and a hash of the tokens of every sample trained on."""

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        if not value or not all(c.isalnum() or c in "_-." for c in value) or value.startswith("."):
            raise ValueError("use letters, digits, '_', '-' and '.' (not first)")
        return value


class RaySection(Settings):
    """How the job reaches Ray and what the data stages may use."""

    address: str | None = None
    """Cluster to join; null: that of RAY_ADDRESS (`ray job submit` sets it), else a Ray of its own on this machine."""
    num_cpus: int | None = Field(None, ge=1)
    """CPUs of the Ray that the job starts itself (null: all)."""
    dashboard: bool = True
    """Serve the dashboard when the job starts its own Ray."""
    autoscaling: bool = False
    """The cluster grows when asked: do not refuse to start because today's nodes are too few."""
    actor_cpus: float = Field(1.0, gt=0)
    """CPUs each curation actor asks for."""
    min_actors: int = Field(1, ge=1)
    """Curation actors at the start of the stage."""
    max_actors: int | None = Field(None, ge=1)
    """Upper bound of the curation actor pool (null: as many as there are CPUs; the cluster's autoscaler follows it)."""


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

    @model_validator(mode="after")
    def _check_context(self) -> "RunConfig":
        length, declared = self.tokens.packing.sequence_length, self.model.max_length
        if length > declared:
            raise ValueError(
                f"tokens.packing.sequence_length={length} is more than model.max_length={declared}, the context that "
                "the exported model declares; raise model.max_length"
            )
        return self

    @property
    def run_uri(self) -> str:
        """The run directory, absolute."""
        return storage.absolute(self.run.dir or f"runs/{self.run.name}")


def job(main: Callable[[RunConfig], None], doc: str | None, argv: list[str] | None = None) -> None:
    """Run a job script: parse `[--config FILE] [dotted.key=value ...]`, call `main`, exit with 0, 1 or 2.

    Exit status 0: done. 1: failed (with a traceback). 2: a mistake in the configuration or the input, named in the
    message.
    """
    arguments = sys.argv[1:] if argv is None else argv
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname).1s %(message)s", datefmt="%H:%M:%S")
    log.setLevel(os.environ.get("RAYPT_LOG_LEVEL", "INFO"))
    if any(a in ("-h", "--help") for a in arguments):
        script = Path(sys.argv[0]).name
        print(f"{(doc or '').strip()}\n\nusage: python jobs/{script} [--config FILE] [dotted.key=value ...]\n")
        print("Keys, their defaults and what they mean (a list takes [0], [1], ...):")
        print(help_text(RunConfig))
        sys.exit(0)
    try:
        config_uri, overrides = _split(arguments)
        main(load(RunConfig, config_uri, overrides))
    except UserError as e:
        print(f"\n{Path(sys.argv[0]).name}: {e}", file=sys.stderr, flush=True)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; the same command resumes", file=sys.stderr)
        sys.exit(130)
    except Exception:
        traceback.print_exc()
        sys.exit(1)


def _split(arguments: list[str]) -> tuple[str | None, list[str]]:
    config_uri, overrides = None, []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument == "--config":
            if not rest:
                raise UserError("--config needs a file")
            config_uri = rest.pop(0)
        elif argument.startswith("--config="):
            config_uri = argument.removeprefix("--config=")
        elif argument.startswith("-"):
            raise UserError(f"unknown option {argument}: options are --config FILE, --help and dotted.key=value")
        else:
            overrides.append(argument)
    return config_uri, overrides
