"""Export a training checkpoint as a Hugging Face directory: safetensors, config.json and the tokenizer's files.

By default the newest whole checkpoint of the run (`run.dir=...`) goes to its `export/`; see the `export` keys. Needs
neither Ray nor the number of workers that trained it. `export.average=5` takes the mean of five checkpoints' weights
(`raypt average` is the same with a place of its own).
"""

from raypt import storage
from raypt.run.config import RunConfig
from raypt.run_dir import RunDir
from raypt.training.export import choose_before, choose_checkpoint, export_checkpoint
from raypt.training.worker import CHECKPOINTS


def main(config: RunConfig) -> None:
    write_export(config, "export", config.export.average)


def write_export(config: RunConfig, folder: str, average: int) -> None:
    """The mean of the weights of `average` checkpoints, to `export.out` or to a folder of the run."""
    run = RunDir(config.run_uri)
    info = choose_checkpoint(run.path(CHECKPOINTS), config.export.step)
    out = storage.absolute(config.export.out) if config.export.out else run.path(folder)
    before = choose_before(run.path(CHECKPOINTS), info, average - 1)
    export_checkpoint(
        info,
        run.tokenizer,
        out,
        precision=config.export.precision,
        shard_bytes=config.export.shard_bytes,
        mean_with=before,
    )
    what = f"step {info.step}" if not before else f"the mean of steps {sorted(i.step for i in (info, *before))}"
    print(f"{what} of {run.uri} exported to {out}")
