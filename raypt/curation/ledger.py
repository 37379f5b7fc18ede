"""The ledger: every document and every byte that enters a stage is kept, removed for a reason, or cut for a reason."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raypt.curation.config import CurationConfig
from raypt.ledger import Amount, Ledger


def curation_ledger(tagged: pa.Table, reasons: pa.Array, config: CurationConfig) -> Ledger:
    """The ledger of the curation stages for documents tagged and decided under `config`; reads attribute columns only.

    `reasons` is what `decide` says of `tagged`.
    """
    ledger = Ledger()
    size = tagged.column("source_bytes").to_numpy().copy()
    final = tagged.column("text_bytes").to_numpy()
    stage_of = pc.list_element(pc.split_pattern(reasons, ".", max_splits=1), 0)
    alive = np.ones(len(tagged), bool)
    for stage in config.plan():
        entry = ledger.stage(stage.name)
        entry.entered.add(alive.sum(), size[alive].sum())
        here = pc.fill_null(pc.equal(stage_of, stage.name), False).to_numpy(zero_copy_only=False)
        for reason in pc.unique(reasons.filter(pa.array(here))).to_pylist():
            gone = pc.fill_null(pc.equal(reasons, reason), False).to_numpy(zero_copy_only=False)
            entry.removed.setdefault(reason, Amount()).add(gone.sum(), size[gone].sum())
        alive &= ~here
        for reason, cut, changed in stage.cuts(tagged):
            edited = alive & changed
            if edited.any():
                entry.edited.setdefault(reason, Amount()).add(edited.sum(), cut[alive].sum())
            size -= cut
        entry.kept.add(alive.sum(), size[alive].sum())
    ledger.check()
    assert int(final[alive].sum()) == int(size[alive].sum()), "text changed without an account of it"
    return ledger


def curation_ledger_by(tagged: pa.Table, reasons: pa.Array, config: CurationConfig, column: str) -> dict[str, Ledger]:
    """A ledger for each value of a string column (`source`, `lang`, a data set's subset); null counts as ""."""
    keys = pc.fill_null(tagged.column(column).combine_chunks().cast(pa.string()), "")
    out = {}
    for key in sorted(pc.unique(keys).to_pylist()):
        mask = pc.equal(keys, key)
        out[key] = curation_ledger(tagged.filter(mask), reasons.filter(mask), config)
    return out
