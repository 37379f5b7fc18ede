"""What became of the records that were read: the ledger's first stage, and the limit on what could not be read."""

import json
import logging
from collections import Counter
from typing import Any

from raypt import storage
from raypt.errors import UserError
from raypt.ledger import Amount, StageAccount
from raypt.run_dir import RunDir

log = logging.getLogger("raypt")


def reading_account(accounts: list[dict[str, Any]]) -> StageAccount:
    """The ledger's first stage: records that became documents, and by kind those that did not."""
    stage = StageAccount()
    for shard in accounts:
        stage.kept.add(shard["documents"], shard["bytes"])
        for kind, count in {**shard["not_documents"], **shard["quarantined"]}.items():
            stage.removed.setdefault(f"read.{kind}", Amount()).add(count, shard["lost_bytes"].get(kind, 0))
    stage.entered.add(stage.kept.documents, stage.kept.bytes)
    for amount in stage.removed.values():
        stage.entered.add(amount.documents, amount.bytes)
    return stage


def check_quarantine(accounts: list[dict[str, Any]], run: RunDir, limit: float) -> None:
    """Warn about unreadable records; raise UserError when they are more than the share `limit` of all."""
    bad: Counter[str] = sum((Counter(a["quarantined"]) for a in accounts), start=Counter())
    total = sum(a["documents"] + sum(a["not_documents"].values()) for a in accounts) + bad.total()
    if not bad:
        return
    first = next(a["shard"] for a in accounts if a["quarantined"])
    example = json.loads(storage.read_bytes(run.quarantine(first)).splitlines()[0])
    where = f"{example['file']}, " + (
        f"record {example['row']}" if example["row"] is not None else f"byte {example['byte_offset']}"
    )
    kinds = ", ".join(f"{kind} {count}" for kind, count in bad.most_common())
    message = (
        f"{bad.total()} of {total} records could not be read ({kinds}); they are in {run.path('quarantine')}. "
        f"The first: {where}: {example['error']}"
    )
    if bad.total() > limit * total:
        raise UserError(
            f"{message}\nThat is more than corpus.max_quarantined_fraction={limit:g}: mend the input, or raise the "
            "limit if this much loss is expected"
        )
    log.warning(message)
