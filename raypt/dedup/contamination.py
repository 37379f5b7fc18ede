"""Documents that contain samples of evaluation sets: found by the share of a sample's n-grams that a document holds."""

import functools
import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from raypt import storage
from raypt.dedup.base import Pass
from raypt.dedup.config import ContaminationConfig, DedupConfig
from raypt.dedup.documents import read_group
from raypt.dedup.plan import Job, file_stamp, fingerprint, load_plan
from raypt.dedup.samples import evaluation_files, read_samples
from raypt.dedup.shingles import shingle
from raypt.dedup.tokenise import tokenise
from raypt.dedup.verdicts import alone, removed_uri
from raypt.kernels import kernel
from raypt.text.hashing import U64

CONTAMINATION = "dedup.contamination"
STAGE = "contamination"
FOUND = pa.schema(
    [
        ("doc_key", pa.int64()),
        ("id", pa.string()),
        ("source", pa.string()),
        ("file", pa.string()),
        ("sample", pa.string()),
        ("coverage", pa.float64()),
        ("ngram", pa.string()),
    ]
)
"""What is logged of a contaminated document: the sample it covers most of, and one of the n-grams they share."""
EXAMPLES = 20
"""Contaminated documents shown in the report, of each evaluation file."""
FILTER_BITS_A_HASH = 16
COLUMNS = ("doc_key", "id", "source", "text")


@dataclass(frozen=True)
class Evaluation:
    """The distinct n-grams of the samples, sorted by hash."""

    samples: pa.Table
    hashes: np.ndarray
    """uint64[n]"""
    owners: np.ndarray
    """int64[n]: the sample of each n-gram; an n-gram of two samples is there twice."""
    sizes: np.ndarray
    """int64[samples]: distinct n-grams of each sample; 0 where the sample is too short to be looked for."""
    filter: np.ndarray
    """uint64[2^k]: a bit a hash, to dismiss nearly all n-grams of documents at the first look."""


def build_evaluation(samples: pa.Table, config: ContaminationConfig) -> Evaluation:
    """The lookup table of samples. Samples shorter than `min_words` or one n-gram are left out: sizes 0."""
    tokens = tokenise(samples["text"])
    hashes, offsets = shingle(tokens, config.ngram)
    owners = np.repeat(np.arange(samples.num_rows), np.diff(offsets))
    long_enough = tokens.counts >= max(config.min_words, config.ngram)
    hashes, owners = hashes[long_enough[owners]], owners[long_enough[owners]]
    order = np.lexsort((owners, hashes))
    hashes, owners = hashes[order], owners[order]
    new = np.append(True, (hashes[1:] != hashes[:-1]) | (owners[1:] != owners[:-1]))[: len(hashes)]
    hashes, owners = hashes[new], owners[new]
    sizes = np.bincount(owners, minlength=samples.num_rows)
    words = 1 << max(6, int(np.ceil(np.log2(max(len(hashes), 1) * FILTER_BITS_A_HASH / 64))))
    bits = np.zeros(words, np.uint64)
    place = hashes % np.uint64(words * 64)
    np.bitwise_or.at(bits, (place >> np.uint64(6)).astype(np.int64), np.uint64(1) << (place & np.uint64(63)))
    return Evaluation(samples, hashes, owners, sizes, bits)


@functools.lru_cache(maxsize=2)
def load_evaluation(samples_uri: str, config: ContaminationConfig) -> Evaluation:
    """The lookup table of the samples stored at `samples_uri`, kept in this process."""
    return build_evaluation(storage.read_parquet(samples_uri), config)


@kernel
def _pass_filter(hashes: Any, bits: Any, out: Any) -> int:
    size = U64(bits.shape[0] * 64)
    n = 0
    for i in range(hashes.shape[0]):
        place = hashes[i] % size
        if (bits[place >> U64(6)] >> (place & U64(63))) & U64(1):
            out[n] = i
            n += 1
    return n


def find_contaminated(docs: pa.Table, evaluation: Evaluation, config: ContaminationConfig) -> pa.Table:
    """FOUND: a row for each document (doc_key, id, source, text) that holds enough of a sample. Pure."""
    hashes, offsets = shingle(tokenise(docs["text"]), config.ngram)
    places = np.empty(len(hashes), np.int64)
    places = places[: _pass_filter(hashes, evaluation.filter, places)]
    first = np.searchsorted(evaluation.hashes, hashes[places], "left")
    last = np.searchsorted(evaluation.hashes, hashes[places], "right")
    count = last - first
    rows = np.repeat(np.searchsorted(offsets, places, "right") - 1, count)
    entries = np.repeat(first - np.cumsum(count) + count, count) + np.arange(count.sum())
    hits = np.unique(np.column_stack([rows, evaluation.owners[entries], entries]), axis=0)
    if not len(hits):
        return FOUND.empty_table()
    pairs, starts, sizes = np.unique(hits[:, :2], axis=0, return_index=True, return_counts=True)
    coverage = sizes / evaluation.sizes[pairs[:, 1]]
    order = np.lexsort((pairs[:, 1], -coverage, pairs[:, 0]))
    order = order[np.append(True, np.diff(pairs[order, 0]) > 0)]
    order = order[coverage[order] >= config.min_coverage]
    found = docs.select(["doc_key", "id", "source"]).take(pa.array(pairs[order, 0]))
    samples = evaluation.samples.take(pa.array(pairs[order, 1]))
    shared = evaluation.hashes[hits[starts[order], 2]]
    texts = [ngram_text(t, h, config.ngram) for t, h in zip(samples["text"].to_pylist(), shared, strict=True)]
    columns = {"file": samples["file"], "sample": samples["sample"], "coverage": pa.array(coverage[order])}
    for name, values in {**columns, "ngram": pa.array(texts, pa.string())}.items():
        found = found.append_column(name, values)
    return found.cast(FOUND)


def ngram_text(text: str, hashed: int, ngram: int) -> str:
    """The words of `text` whose n-gram has this hash."""
    tokens = tokenise(pa.array([text], pa.large_string()), stops=True)
    at = int(np.flatnonzero(shingle(tokens, ngram)[0] == hashed)[0])
    start = int(tokens.stops[at - 1]) if at else 0
    return text.encode()[start : int(tokens.stops[at + ngram - 1])].decode().strip()


def contamination_report(samples: pa.Table, found: pa.Table, config: ContaminationConfig) -> list[dict[str, Any]]:
    """By evaluation file: samples, those too short to be looked for, those found, documents removed."""
    sizes = build_evaluation(samples, config).sizes
    files = np.array(samples["file"].to_pylist(), object)
    report = []
    for file, _ in itertools.groupby(files.tolist()):
        mine, here = files == file, [row for row in found.to_pylist() if row["file"] == file]
        report.append(
            {
                "file": file,
                "samples": int(mine.sum()),
                "too_short": int((sizes[mine] == 0).sum()),
                "found": len({row["sample"] for row in here}),
                "documents_removed": len(here),
                "examples": [
                    {k: row[k] for k in ("doc_key", "sample", "coverage", "ngram")} for row in here[:EXAMPLES]
                ],
            }
        )
    return report


def decontaminate_group(item: tuple[str, int]) -> int:
    """Write which documents of a group are contaminated; their number. Item: (plan URI, group)."""
    plan, group = load_plan(item[0]), item[1]
    config = plan.config.contamination
    evaluation = load_evaluation(plan.samples_uri, config)
    parts = [find_contaminated(docs, evaluation, config) for docs in read_group(plan, group, COLUMNS, STAGE)]
    found = pa.concat_tables([FOUND.empty_table(), *parts])
    storage.write_parquet(plan.file("contaminated", group, "parquet"), found)
    storage.write_parquet(removed_uri(plan, STAGE, group), alone(found["doc_key"], CONTAMINATION))
    return int(found.num_rows)


class Contamination(Pass):
    """Documents that hold enough of a sample of an evaluation set are removed before anything else: they keep nobody
    out."""

    stage = STAGE
    sections = (STAGE,)
    reasons = (CONTAMINATION,)

    def enabled(self, config: DedupConfig) -> bool:
        return bool(config.contamination.paths)

    def identity(self, config: DedupConfig) -> dict[str, Any]:
        stamps = [file_stamp(uri) for uri in evaluation_files(config.contamination)]
        return {STAGE: [config.contamination.model_dump(mode="json"), fingerprint(stamps)]}

    def reduce_bytes(self, config: DedupConfig, rows: int, text_bytes: int) -> int:
        return 0

    def run(self, job: Job) -> dict[str, Any]:
        plan = job.plan
        if not storage.is_file(plan.samples_uri):
            storage.write_parquet(plan.samples_uri, read_samples(plan.config.contamination))
        job.groups(decontaminate_group, "decontaminate", f"{STAGE}-removed")
        files = [plan.file("contaminated", group, "parquet") for group in range(plan.groups)]
        found = pa.concat_tables(storage.in_order(storage.read_parquet, files))
        samples = storage.read_parquet(plan.samples_uri)
        return {"contamination": contamination_report(samples, found, plan.config.contamination)}
