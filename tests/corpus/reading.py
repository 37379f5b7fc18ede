"""Reading inputs as a run does, without Ray: manifest, shards, accounts, and the check at the end."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raypt import storage
from raypt.corpus.account import ReadAccount
from raypt.corpus.config import CorpusConfig
from raypt.corpus.manifest import Manifest, build_manifest
from raypt.corpus.reader import read_shard
from raypt.curation.reading import check_reading, reading_account
from raypt.errors import UserError
from raypt.ledger import StageAccount
from raypt.run_dir import RunDir


@dataclass
class Outcome:
    """What reading came to."""

    manifest: Manifest
    rows: list[dict[str, Any]] = field(default_factory=list)
    quarantined: list[dict[str, Any]] = field(default_factory=list)
    account: ReadAccount = field(default_factory=ReadAccount)
    ledger: StageAccount = field(default_factory=StageAccount)
    error: str | None = None
    """The message with which the run ends after reading; None: it goes on."""

    @property
    def texts(self) -> list[str]:
        return [row["text"] for row in self.rows]

    @property
    def kinds(self) -> list[str]:
        return [entry["kind"] for entry in self.quarantined]


def read_all(run: Path, *sources: dict[str, Any], **corpus: Any) -> Outcome:
    """Documents of `sources` with the settings `corpus`; mistakes found before reading are raised."""
    config = CorpusConfig.model_validate({"sources": sources, **corpus})
    place = RunDir(str(run / "run"))
    manifest = build_manifest(config, place.uri)
    out = Outcome(manifest)
    accounts = []
    for shard in range(len(manifest.shards)):
        account, entries = ReadAccount(), []
        documents = nbytes = 0
        for batch in read_shard(manifest, shard, config, place.uri):
            account.add(batch)
            entries += batch.quarantined
            rows = batch.documents.to_pylist()
            documents += len(rows)
            nbytes += sum(len(row["text"].encode()) for row in rows)
            out.rows += rows
        if entries:
            lines = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries)
            storage.write_bytes(place.quarantine(shard), lines.encode())
        out.quarantined += entries
        source = manifest.shards[shard].source
        accounts.append(
            {"shard": shard, "source": source, "documents": documents, "bytes": nbytes, **account.to_json()}
        )
        out.account.merge(account)
    out.ledger = reading_account(accounts)
    try:
        check_reading(accounts, manifest, place, config)
    except UserError as e:
        out.error = str(e)
    return out


def write_lines(path: Path, rows: list[dict[str, Any]]) -> str:
    """JSON Lines at `path`, which is returned."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return str(path)


def documents(n: int, first: int = 0) -> list[dict[str, Any]]:
    return [{"id": f"d{i}", "text": f"Document {i}: the river rose {i + 2} times this year."} for i in range(first, n)]
