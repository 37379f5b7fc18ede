"""What reading a shard came to, and when it is too little to go on with."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from raypt.corpus.config import CorpusConfig
from raypt.corpus.manifest import Manifest
from raypt.corpus.reader import ShardBatch
from raypt.corpus.records import BROKEN_FILE
from raypt.errors import UserError
from raypt.outside import shown


@dataclass
class ReadAccount:
    """Records of a shard (or of several) by what became of them."""

    records: int = 0
    """All: documents, unreadable ones, and what is no document by nature."""
    quarantined: Counter[str] = field(default_factory=Counter)
    """Unreadable records, by kind."""
    not_documents: Counter[str] = field(default_factory=Counter)
    """Records that are no documents by nature, by kind."""
    lost_bytes: Counter[str] = field(default_factory=Counter)
    """Stored bytes of both, as far as known; of `broken_file` those that were not read."""
    stored_bytes: int = 0
    """Stored bytes of the shard."""
    unfinished_bytes: int = 0
    """Of them, bytes of files (or pieces of files) that could not be read to their end."""
    absent: Counter[str] = field(default_factory=Counter)
    """Records that lack a field, by the key that asks for it."""
    unconverted: Counter[str] = field(default_factory=Counter)
    """Values that are not of their column's type, by column."""

    def add(self, batch: ShardBatch) -> None:
        for entry in batch.quarantined:
            self.quarantined[entry["kind"]] += entry.get("records", 1)
        self.not_documents += batch.not_documents
        self.lost_bytes += batch.bytes_lost
        self.records += batch.records
        self.stored_bytes += batch.stored_bytes
        self.unfinished_bytes += batch.unfinished_bytes
        self.absent += batch.absent
        self.unconverted += batch.unconverted

    def merge(self, other: "ReadAccount") -> None:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def to_json(self) -> dict[str, Any]:
        return {name: dict(v) if isinstance(v, Counter) else v for name, v in vars(self).items()}

    @staticmethod
    def from_json(value: dict[str, Any]) -> "ReadAccount":
        """Inverse of `to_json`; other keys are let alone."""
        account = ReadAccount()
        for name, empty in vars(account).items():
            setattr(account, name, Counter(value[name]) if isinstance(empty, Counter) else value[name])
        return account


def check_fields_seen(accounts: Sequence[dict[str, Any]], manifest: Manifest) -> list[str]:
    """Warnings about fields that were asked for and that no record of a source has, or that are of another type.

    Raises:
        UserError: `where` asks for such a field.
    """
    warnings = []
    for number, source in enumerate(manifest.sources):
        total = ReadAccount()
        for account in accounts:
            if account["source"] == source.name:
                total.merge(ReadAccount.from_json(account))
        looked_at = total.records - total.quarantined.total()
        for key, count in total.absent.items():
            if not looked_at or count < looked_at:
                continue
            section, _, name = key.partition(".")
            path = source.where_fields[name] if section == "where" else source.columns[name]
            message = (
                f"corpus.sources[{number}].{key}: none of the {looked_at} records of {source.name} has {shown(path)!r}"
            )
            if section == "where":
                raise UserError(f"{message}: nothing can match. Check the name of the field")
            warnings.append(message)
        for name, count in total.unconverted.items():
            kind = source.column_types[name]
            warnings.append(f"source {source.name}: {count} values of column {name} are no {kind} and became null")
    return warnings


@dataclass(frozen=True)
class Loss:
    """What could not be read, of what there was."""

    bad: int
    records: int
    unfinished_bytes: int
    stored_bytes: int
    broken_files: int

    @property
    def share(self) -> float:
        """Of the records, or of the bytes in files that could not be finished, whichever is more."""
        by_records = self.bad / self.records if self.records else 0.0
        by_bytes = self.unfinished_bytes / self.stored_bytes if self.stored_bytes else 0.0
        return max(by_records, by_bytes)


def loss_of(total: ReadAccount, config: CorpusConfig) -> Loss:
    """What counts against `max_quarantined_fraction`: with `broken_files: quarantine` the records alone."""
    broken = total.quarantined[BROKEN_FILE]
    if config.broken_files == "quarantine":
        bad = total.quarantined.total() - broken
        return Loss(bad, total.records - broken, 0, total.stored_bytes, broken)
    return Loss(total.quarantined.total(), total.records, total.unfinished_bytes, total.stored_bytes, broken)
