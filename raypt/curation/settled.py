"""Metrics that are known only when all documents of a run are measured, beside those of their stage."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from raypt.curation.config import CurationConfig


def with_settled(docs: pa.Table, settled: pa.Table) -> pa.Table:
    """The documents with metrics of stages, `<stage>.<metric>`, that were settled after they were tagged."""
    for name in settled.column_names:
        stage, _, metric = name.partition(".")
        own = docs[stage].combine_chunks()
        own = own if isinstance(own, pa.StructArray) else pa.concat_arrays(own.chunks)
        fields = [*own.type, pa.field(metric, settled.schema.field(name).type)]
        values = [*(own.field(i) for i in range(own.type.num_fields)), settled[name].combine_chunks()]
        whole = pa.StructArray.from_arrays(values, fields=fields, mask=own.is_null())
        docs = docs.set_column(docs.column_names.index(stage), stage, whole)
    return docs


def settled_columns(tagged: pa.Table, config: CurationConfig, settled: Mapping[str, Any]) -> pa.Table:
    """What `settled`, by name of the stage, says of each tagged document: columns `<stage>.<metric>`."""
    columns: dict[str, pa.Array] = {}
    for stage in config.plan():
        columns |= stage.settled_metrics(tagged, settled)
    return pa.table(columns)
