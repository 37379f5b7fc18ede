"""Where things are in a run directory, and the rule that one directory holds one run."""

from raypt import storage


class RunDir:
    """Names of files under the run directory `uri` (absolute)."""

    def __init__(self, uri: str) -> None:
        self.uri = uri.rstrip("/")
        self.new = False
        """Whether it is on an object store and nothing was there when this start of a job began: what earlier ones have
        left need not be asked for. Known to the job that opened it, and to nobody else."""

    def path(self, *parts: str) -> str:
        return storage.join(self.uri, *parts)

    def relative(self, uri: str) -> str:
        """The path of a file of this run, relative to the run directory."""
        assert uri.startswith(f"{self.uri}/"), uri
        return uri[len(self.uri) + 1 :]

    @property
    def config(self) -> str:
        return self.path("config.yaml")

    @property
    def manifest(self) -> str:
        return self.path("manifest.json")

    @property
    def ledger(self) -> str:
        return self.path("ledger.json")

    @property
    def quality(self) -> str:
        return self.path("quality")

    @property
    def decisions(self) -> str:
        """What decisions looked at: {quality_scores, labels, distributions}."""
        return self.path("work", "decisions.json")

    @property
    def tokenizer(self) -> str:
        return self.path("tokenizer")

    @property
    def token_store(self) -> str:
        return self.path("tokens")

    def tagged(self, shard: int) -> str:
        return self.path("work", "tagged", f"shard-{shard:05d}.parquet")

    def decided(self, shard: int) -> str:
        return self.path("work", "decided", f"shard-{shard:05d}.parquet")

    def curated(self, shard: int) -> str:
        return self.path("curated", f"part-{shard:05d}.parquet")

    @staticmethod
    def shard_of(name: str) -> int:
        """The shard that a file named by these rules is of."""
        return int(name.partition(".")[0].rpartition("-")[2])

    def removed(self, shard: int) -> str:
        return self.path("removed", f"part-{shard:05d}.parquet")

    def quarantine(self, shard: int) -> str:
        return self.path("quarantine", f"part-{shard:05d}.jsonl")
