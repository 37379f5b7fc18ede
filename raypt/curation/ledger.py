"""The ledger: every document and every byte that enters a stage is kept, removed for a reason, or cut for a reason."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raypt.curation.config import CurationConfig
from raypt.curation.rules.base import CUT_PREFIX
from raypt.ledger import Amount, Ledger


def curation_ledger(tagged: pa.Table, reasons: pa.Array, config: CurationConfig) -> Ledger:
    """The ledger of the curation stages for documents tagged and decided under `config`; reads attribute columns only.

    `reasons` is what `decide` says of `tagged`.
    """
    ledger = Ledger()
    size = tagged.column("source_bytes").to_numpy().copy()
    final = tagged.column("text_bytes").to_numpy()
    uncut = size.copy()
    for stage in config.stages:
        for cut in _cuts(tagged, stage).values():
            uncut -= cut
    stage_of = pc.list_element(pc.split_pattern(reasons, ".", max_splits=1), 0)
    alive = np.ones(len(tagged), bool)
    for stage in config.stages:
        entry = ledger.stage(stage)
        entry.entered.add(alive.sum(), size[alive].sum())
        here = pc.fill_null(pc.equal(stage_of, stage), False).to_numpy(zero_copy_only=False)
        for reason in pc.unique(reasons.filter(pa.array(here))).to_pylist():
            gone = pc.fill_null(pc.equal(reasons, reason), False).to_numpy(zero_copy_only=False)
            entry.removed.setdefault(reason, Amount()).add(gone.sum(), size[gone].sum())
        alive &= ~here
        cuts = _cuts(tagged, stage)
        if stage == "pii" and "pii_spans" in tagged.column_names:
            cuts = {"mask": np.where(_masked(tagged), uncut - final, 0)}
        for name, cut in cuts.items():
            edited = alive & (cut != 0)
            if edited.any():
                entry.edited.setdefault(f"{stage}.{name}", Amount()).add(edited.sum(), cut[alive].sum())
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


def _cuts(tagged: pa.Table, stage: str) -> dict[str, np.ndarray]:
    """int64[n] bytes cut from every document, by reason, as the stage's attributes say."""
    if stage not in tagged.column_names or not pa.types.is_struct(tagged.schema.field(stage).type):
        return {}
    names = [f.name for f in tagged.schema.field(stage).type if f.name.startswith(CUT_PREFIX)]
    column = tagged.column(stage)
    return {n.removeprefix(CUT_PREFIX): pc.struct_field(column, n).to_numpy() for n in names}


def _masked(tagged: pa.Table) -> np.ndarray:
    masked: np.ndarray = pc.fill_null(pc.list_value_length(tagged.column("pii_spans")), 0).to_numpy() > 0
    return masked
