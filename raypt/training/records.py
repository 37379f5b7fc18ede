"""What a run leaves behind while it trains: a line a step, and the audit trail of samples.

Both survive restarts without doubles: what lies after the checkpoint that a run resumes from is cut away, since those
steps are done again.
"""

import io
import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import xxhash

from raypt import storage, written
from raypt.parallel.pipeline.record import StepRecord

if TYPE_CHECKING:  # who reads what a run left needs no torch
    from raypt.model.batch import MicroBatch
    from raypt.parallel.engine import Update

METRICS = "metrics.jsonl"
METRIC_PARTS = "metrics"
SAMPLES = "samples.parquet"
PARTS = "samples"
UPDATES = "updates"
PIPELINE = "pipeline.json"
TOGETHER = 16
"""Parts of metrics that become one: a month of checkpoints every half an hour leaves 1,440, in a hundred."""
TAIL_BYTES = 32 << 10
"""Of metrics, what tells the pace: some hundred lines."""


def read_metrics(run_uri: str, there: Collection[str] | None = None) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl`, and of the parts beside it that are not in it yet; a last line cut short by a crash
    is left out. `there`: the names of what the directory has, where they are known.
    """
    if there is not None and not {METRICS, METRIC_PARTS} & set(there):
        return []
    if there is not None and METRIC_PARTS not in there:
        return _read_parts(run_uri, [])[0]
    directory = storage.join(run_uri, METRIC_PARTS)
    rows, whole = _read_parts(run_uri, storage.listdir(directory))
    # Else parts were put together, or into the file, while they were read.
    return rows if whole else _read_parts(run_uri, storage.listdir(directory))[0]


def _read_parts(run_uri: str, parts: Iterable[str], *, begun: bool = True) -> tuple[list[dict[str, Any]], bool]:
    """The lines, and whether all of `parts` were there. `begun`: whether there may be a file before them."""
    uris = [storage.join(run_uri, METRIC_PARTS, name) for name in parts]
    if begun:
        uris.insert(0, storage.join(run_uri, METRICS))
    out: list[dict[str, Any]] = []
    missing = 0
    for number, data in enumerate(storage.in_order(storage.read_if_there, uris)):
        missing += data is None and not (begun and number == 0)
        _add_lines(out, (data or b"").splitlines())
    return out, not missing


def _add_lines(rows: list[dict[str, Any]], lines: Iterable[bytes]) -> None:
    """Those of later steps than there are: others are of a part that was put into the file, and not removed."""
    begun = rows[-1]["step"] if rows else -1
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            break
        if row["step"] > begun:
            rows.append(row)


def read_last_metrics(run_uri: str, most_bytes: int = TAIL_BYTES) -> list[dict[str, Any]]:
    """The last lines that `read_metrics` gives: three requests, of a run of a million steps too. So many bytes at most
    of the file, and of the last part beside it; lines of parts between them are left out.
    """
    directory = storage.join(run_uri, METRIC_PARTS)
    parts = [storage.join(directory, name) for name in sorted(storage.listdir(directory))[-1:]]
    out: list[dict[str, Any]] = []
    for uri in (storage.join(run_uri, METRICS), *parts):
        _add_lines(out, _last_lines(uri, most_bytes))
    return out


def _last_lines(uri: str, most_bytes: int) -> list[bytes]:
    try:
        with storage.open_ranges(uri) as f:
            size = f.seek(0, io.SEEK_END)
            f.seek(max(size - most_bytes, 0))
            return f.read().splitlines()[size > most_bytes :]  # the first may begin before
    except FileNotFoundError:
        return []


def read_pipeline(run_uri: str) -> tuple[int, StepRecord] | None:
    """The newest step of a pipeline that was recorded."""
    path = storage.join(run_uri, PIPELINE)
    if not storage.exists(path):
        return None
    value = storage.read_json(path)
    return value["step"], StepRecord.from_json(value)


class MetricsFile:
    """`metrics.jsonl`. A local file grows by a line a step. On an object store, which cannot append, each `flush`
    writes what is new as a part of its own under `metrics/` (the whole would be 600 MB at each checkpoint after a
    million steps), and of TOGETHER parts makes one; the file itself is written at the end, and where a start goes on,
    with all parts in it.
    """

    def __init__(self, run_uri: str, resume_step: int, there: Collection[str] | None = None) -> None:
        """`there`: the names of what the directory has, where they are known."""
        self.path = storage.join(run_uri, METRICS)
        self.parts = storage.join(run_uri, METRIC_PARTS)
        self.pipeline_path = storage.join(run_uri, PIPELINE)
        self._run_uri = run_uri
        self._new: list[tuple[int, bytes]] = []
        there = storage.listdir(run_uri) if there is None else there
        # On a local disk a look costs nothing, and no listing is believed to say that there is none.
        self._begun = METRICS in there or storage.is_local(run_uri)
        self._parts = storage.listdir(self.parts) if METRIC_PARTS in there else []
        """Names of those that are not in the file."""
        self._joined: list[bool] = []
        """Of each, whether it was put together of others."""
        if self._begun or self._parts:
            self._gather(resume_step)
        local = Path(storage.filesystem(self.path)[1]) if storage.is_local(self.path) else None
        self.file = local.open("ab") if local is not None else None

    def _gather(self, last_step: int | None = None) -> None:
        """Put all into the file, up to a step."""
        parts, self._parts = self._parts, []
        with written.own_writes():  # nobody else writes parts
            rows, _ = _read_parts(self._run_uri, parts, begun=self._begun)
        kept = [_line(row) for row in rows if last_step is None or row["step"] <= last_step]
        storage.write_bytes(self.path, b"".join(kept))
        self._begun = True
        storage.remove_files(self.parts, parts)

    def write(self, row: Mapping[str, Any]) -> None:
        line = _line(row)
        if self.file is not None:
            self.file.write(line)
            self.file.flush()
        else:
            self._new.append((row["step"], line))

    def write_pipeline(self, step: int, record: StepRecord) -> None:
        """`pipeline.json`, in the place of the step that was there."""
        storage.write_json(self.pipeline_path, {"step": step, **record.to_json()})

    def flush(self) -> None:
        if self._new:
            name = f"{self._new[0][0]:09d}-{self._new[-1][0]:09d}.jsonl"
            storage.write_bytes(storage.join(self.parts, name), b"".join(line for _, line in self._new))
            self._new = []
            self._parts.append(name)
            self._joined.append(False)
            last = self._joined[-TOGETHER:]
            if len(last) == TOGETHER and not any(last):
                self._join()

    def _join(self) -> None:
        """Put the last parts into one. They are at hand as they were flushed, some 10 MB: no step waits long for it."""
        parts, self._parts = self._parts[-TOGETHER:], self._parts[:-TOGETHER]
        self._joined = self._joined[:-TOGETHER]
        with written.own_writes():
            data = storage.in_parallel(lambda name: storage.read_bytes(storage.join(self.parts, name)), parts)
        name = f"{parts[0].partition('-')[0]}-{parts[-1].partition('-')[2]}"
        storage.write_bytes(storage.join(self.parts, name), b"".join(data))
        storage.remove_files(self.parts, parts)
        self._parts.append(name)
        self._joined.append(True)

    def close(self) -> None:
        self.flush()
        if self.file is not None:
            self.file.close()
        else:
            self._gather()


def _line(row: Mapping[str, Any]) -> bytes:
    """One JSON line; NaN and infinities, which JSON has not, become null."""
    clean = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
    return (json.dumps(clean) + "\n").encode()


_SCHEMA = pa.schema(
    [("step", pa.int64()), ("rank", pa.int32()), ("sample_index", pa.int64()), ("tokens_xxh3", pa.string())]
)


class _Parts:
    """Rows by step, written as a file each time before a checkpoint, so that what it has trained on is on record."""

    def __init__(self, directory: str, schema: pa.Schema, rank: int) -> None:
        """The first column of `schema` is the step."""
        self.uri, self.schema, self.rank = directory, schema, rank
        self._rows: list[tuple[Any, ...]] = []

    def flush(self) -> None:
        if not self._rows:
            return
        steps = [row[0] for row in self._rows]
        columns = zip(zip(*self._rows, strict=True), self.schema, strict=True)
        table = pa.table([pa.array(column, field.type) for column, field in columns], schema=self.schema)
        storage.write_parquet(
            storage.join(self.uri, f"{min(steps):08d}-{max(steps):08d}-{self.rank:05d}.parquet"), table
        )
        self._rows = []


class SampleRecorder(_Parts):
    """The audit trail of one rank: which samples it trained on at which step, with a hash of their token ids."""

    def __init__(self, run_uri: str, rank: int) -> None:
        super().__init__(storage.join(run_uri, PARTS), _SCHEMA, rank)

    def add(self, step: int, micro_batches: "Sequence[MicroBatch]", worker: int | None = None) -> None:
        """`worker`: who trained on them, where it is not this rank."""
        who = self.rank if worker is None else worker
        for micro in micro_batches:
            for index, row in zip(micro.sample_index_B.tolist(), micro.rows, strict=True):
                digest = xxhash.xxh3_128_hexdigest(np.ascontiguousarray(row, dtype="<i4").tobytes())
                self._rows.append((step, who, index, digest))


_UPDATE_SCHEMA = pa.schema(
    [
        ("step", pa.int64()),
        ("number", pa.int64()),
        ("worker", pa.int32()),
        ("first_sample", pa.int64()),
        ("samples", pa.int32()),
        ("stale_steps", pa.int32()),
        ("stale_versions", pa.int32()),
        ("loss", pa.float64()),
        ("tokens", pa.int64()),
        ("grad_norm", pa.float64()),
        ("lr_scale", pa.float64()),
        ("skipped", pa.bool_()),
        ("time", pa.float64()),
    ]
)


class UpdateRecorder(_Parts):
    """Every update of asynchronous workers (see `Update`), as files in `updates/`, which together are a data set: a run
    of 10^5 steps of 512 workers has 5 x 10^7 of them, some 2 GB.
    """

    def __init__(self, run_uri: str) -> None:
        super().__init__(storage.join(run_uri, UPDATES), _UPDATE_SCHEMA, 0)

    def add(self, u: "Update") -> None:
        loss = u.loss_sum / u.tokens if u.tokens else 0.0
        self._rows.append(
            (u.step, u.number, u.worker, u.first_sample, u.samples, u.stale_steps, u.stale_versions, loss, u.tokens,
             u.norm, u.lr_scale, u.skipped, u.time)
        )  # fmt: skip


def read_updates(run_uri: str) -> pa.Table:
    """All updates on record, in the order of their steps' files."""
    directory = storage.join(run_uri, UPDATES)
    parts = [storage.read_parquet(storage.join(directory, name)) for name in sorted(storage.listdir(directory))]
    return pa.concat_tables(parts) if parts else _UPDATE_SCHEMA.empty_table()


def cut_records(run_uri: str, resume_step: int, there: Collection[str] | None = None) -> None:
    """Forget what was recorded after the checkpoint that the run resumes from; by rank 0, before anyone trains.
    `there`: the names of what the directory has, where they are known.
    """
    for name in {PARTS, UPDATES} & set(storage.listdir(run_uri) if there is None else there):
        _cut(storage.join(run_uri, name), resume_step)


def _cut(directory: str, resume_step: int) -> None:
    steps = {name: tuple(int(x) for x in name.split("-")[:2]) for name in storage.listdir(directory)}
    storage.remove_files(directory, [name for name, (first, _) in steps.items() if first > resume_step])
    for name, (first, last) in steps.items():
        if first <= resume_step < last:
            path = storage.join(directory, name)
            table = storage.read_parquet(path)
            keep = table.filter(pa.compute.field("step") <= resume_step)
            shorter = f"{first:08d}-{resume_step:08d}-{name.split('-')[2]}"
            storage.write_parquet(storage.join(directory, shorter), keep)
            storage.remove_file(path)


def merge_samples(run_uri: str) -> int:
    """Write `samples.parquet` from the parts, in the order of the sample clock; returns the number of samples."""
    directory = storage.join(run_uri, PARTS)
    parts = [storage.read_parquet(storage.join(directory, name)) for name in storage.listdir(directory)]
    table = pa.concat_tables(parts) if parts else _SCHEMA.empty_table()
    table = table.sort_by([("step", "ascending"), ("sample_index", "ascending")])
    storage.write_parquet(storage.join(run_uri, SAMPLES), table)
    return int(table.num_rows)
