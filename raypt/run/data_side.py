"""The data side alone: raw text in, curated Parquet out.

Reads the sources, scores, filters, masks and deduplicates them, and leaves `curated/*.parquet` in the run directory for
any tool that reads Parquet, with `removed/`, `quarantine/` and `ledger.json` to account for the rest.
"""

from raypt.ray_session import check_capacity, session
from raypt.run.check import check
from raypt.run.config import RunConfig
from raypt.run.curate import curate, resolve_builtin
from raypt.run.nodes import check_nodes
from raypt.run.open import open_run
from raypt.run.rehearsal import rehearsed


def main(config: RunConfig) -> None:
    config = resolve_builtin(config)
    check(config)
    with open_run(config, "curate") as run, rehearsed("curate", config), session(config.ray):
        check_capacity({"curation actor": config.ray.actor_cpus}, 0, autoscaling=config.ray.autoscaling)
        check_nodes(config, run)
        curated = curate(config, run)
    print(f"{curated.documents} documents, {curated.bytes / 1e6:.1f} MB in {run.path('curated')}")
