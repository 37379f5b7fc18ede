"""What became of the records that were read: the ledger's first stage, and the limit on what could not be read."""

import json
import logging
from typing import Any

from raypt import storage
from raypt.corpus.account import ReadAccount, check_fields_seen, loss_of
from raypt.corpus.config import CorpusConfig
from raypt.corpus.manifest import Manifest
from raypt.corpus.records import BROKEN_FILE
from raypt.errors import UserError
from raypt.ledger import Amount, StageAccount
from raypt.outside import shown
from raypt.run_dir import RunDir

log = logging.getLogger("raypt")


def reading_account(accounts: list[dict[str, Any]]) -> StageAccount:
    """The ledger's first stage: records that became documents, and by kind those that did not; of `read.broken_file`
    the files, and the stored bytes of them that were not read."""
    stage = StageAccount()
    for shard in accounts:
        stage.kept.add(shard["documents"], shard["bytes"])
        for kind, count in {**shard["not_documents"], **shard["quarantined"]}.items():
            stage.removed.setdefault(f"read.{kind}", Amount()).add(count, shard["lost_bytes"].get(kind, 0))
    stage.entered.add(stage.kept.documents, stage.kept.bytes)
    for amount in stage.removed.values():
        stage.entered.add(amount.documents, amount.bytes)
    return stage


def _first_entry(accounts: list[dict[str, Any]], run: RunDir, kind: str | None) -> str:
    """Where and why the first record in quarantine (of a kind) could not be read."""
    for account in accounts:
        if account["quarantined"] if kind is None else account["quarantined"].get(kind):
            for line in storage.read_bytes(run.quarantine(account["shard"])).splitlines():
                entry = json.loads(line)
                if kind in (None, entry["kind"]):
                    place = f"record {entry['row']}" if entry["row"] is not None else f"byte {entry['byte_offset']}"
                    return f"{shown(entry['file'], 1000)}, {place}: {entry['error']}"
    raise AssertionError("the account counts a record that is not in quarantine")


def check_reading(accounts: list[dict[str, Any]], manifest: Manifest, run: RunDir, config: CorpusConfig) -> None:
    """Warn about records and files that could not be read, and about fields that no record has.

    Raises:
        UserError: more than `config.max_quarantined_fraction` of the records, or of the bytes in files that could not
            be finished; one such file with `broken_files: fail`; `where` asks for a field that no record has.
    """
    total = ReadAccount()
    for account in accounts:
        total.merge(ReadAccount.from_json(account))
    for warning in check_fields_seen(accounts, manifest):
        log.warning(warning)
    bad = total.quarantined.total()
    if not bad:
        return
    loss = loss_of(total, config)
    kinds = ", ".join(f"{kind} {count}" for kind, count in total.quarantined.most_common())
    message = (
        f"{bad} of {total.records} records could not be read ({kinds}); they are in {run.path('quarantine')}. "
        f"The first: {_first_entry(accounts, run, None)}"
    )
    if loss.broken_files:
        message += (
            f"\n{loss.broken_files} files could not be read to their end: they have {total.unfinished_bytes} of the "
            f"{total.stored_bytes} bytes, of which {total.lost_bytes[BROKEN_FILE]} were not read, and what was cut off "
            f"is not known. The first: {_first_entry(accounts, run, BROKEN_FILE)}"
        )
        if config.broken_files == "fail":
            raise UserError(
                f"{message}\ncorpus.broken_files=fail: mend the files, or leave them out; with corpus.broken_files="
                "quarantine what stands before the break is taken"
            )
    if loss.share > config.max_quarantined_fraction:
        other = ", or set corpus.broken_files=quarantine" if loss.broken_files else ""
        raise UserError(
            f"{message}\nThat is more than corpus.max_quarantined_fraction={config.max_quarantined_fraction:g}: mend "
            f"the input, or raise the limit if this much loss is expected{other}"
        )
    log.warning(message)
