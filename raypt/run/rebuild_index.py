"""Deduplicate all documents of an index together, from its stored hashes, without their text.

`dedup.index` names the index. What earlier runs kept one after the other is compared as one batch:
`dedup/clusters.parquet` and `dedup/report.json` in the run directory say what it would keep, `dedup/shards.json` what
generation and shard a doc_key stands for by its shard (doc_key >> 32). The index itself stays as it is.
"""

from raypt.dedup.rebuild import generations_of, rebuild_index
from raypt.ray_session import session
from raypt.run.config import RunConfig
from raypt.run.open import open_run


def main(config: RunConfig) -> None:
    generations_of(config.dedup)  # a mistake is told before a directory is claimed
    priority = {source.name: source.priority for source in config.corpus.sources if source.name}
    with open_run(config, "rebuild-index") as run, session(config.ray):
        result = rebuild_index(config.dedup, run.path("work", "rebuild"), run.path("dedup"), source_priority=priority)
    kept = result.account.kept.documents
    print(f"{kept} of {result.documents} documents kept, clusters in {run.path('dedup')}/clusters.parquet")
