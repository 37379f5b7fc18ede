"""Benchmark: near-duplicate removal, text to keep-list, and what 10^9 documents would need at the measured costs.

python jobs/bench.py dedup --corpus DIR [--workers N] [--scales 1,2,4,8] [--exact] [--documents 1e9,1e10 --cores 256]
python jobs/bench.py dedup --corpus DIR --substring token|byte
python jobs/bench.py dedup --corpus DIR --bloom document|paragraph|band [--rate 1e-5]

With `--substring token|byte` it measures the removal of repeated passages instead (50 tokens, 200 bytes), with
`--bloom` the Bloom filters, and beside them what the exact pass of the same unit finds.

DIR holds *.jsonl.gz with a "text" a row. The timed section begins with Parquet shards of documents and ends with the
written lists of removed documents (112 permutations as 14 x 8, 5 words). Before it the kernels are compiled.
"""

import argparse
import gzip
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import orjson
import psutil
import pyarrow as pa
import ray

from raypt import storage
from raypt.bench.measure import PeakMemory, Timing, report_line
from raypt.dedup.clusters import BAND_ROW_BYTES, SORT_FACTOR
from raypt.dedup.components import star_edges
from raypt.dedup.config import BloomConfig, DedupConfig, ExactConfig, FuzzyConfig, SentenceConfig, SubstringConfig
from raypt.dedup.pipeline import DedupResult, deduplicate
from raypt.dedup.plan import DedupShard
from raypt.dedup.scale import Costs, needs, table
from raypt.dedup.stars import both_ways, large_star, small_star
from raypt.ledger import Amount
from raypt.tasks import run_tasks

SHARDS = 4
SUBSTRING_LENGTH = {"token": 50, "byte": 200}
"""Units of a passage: tokens as Lee et al. (2022), and about as much text in bytes."""


def load(corpus: Path, limit: int) -> list[str]:
    """The texts of all *.jsonl.gz, at most `limit` (0: all)."""
    texts: list[str] = []
    for path in sorted(corpus.glob("*.jsonl.gz")):
        with gzip.open(path) as f:
            texts += [orjson.loads(line)["text"] for line in f]
    if not texts:
        raise SystemExit(f"no documents in {corpus}/*.jsonl.gz")
    return texts[:limit] if limit else texts


def other_words(texts: Sequence[str], copy: int) -> list[str]:
    """The same texts with every Latin letter moved on by `copy`: as many words and duplicates, but other ones."""
    lower, upper = "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    moved = str.maketrans(lower + upper, lower[copy:] + lower[:copy] + upper[copy:] + upper[:copy])
    return [text.translate(moved) for text in texts]


def write_shards(texts: Sequence[str], directory: Path, first: int = 0) -> list[DedupShard]:
    """Document shards as Parquet, SHARDS of them."""
    shards = []
    for i, rows in enumerate(np.array_split(np.arange(len(texts)), SHARDS), start=first):
        part = [texts[row] for row in rows.tolist()]
        keys = np.arange(len(part), dtype=np.int64) + (i << 32)
        docs = pa.table({"doc_key": keys, "source": pa.array(["bench"] * len(part)), "text": pa.array(part)})
        shards.append(DedupShard(i, str(directory / f"shard-{i:05d}.parquet")))
        storage.write_parquet(shards[-1].docs_uri, docs)
    return shards


def family_cpu_seconds() -> float:
    """User and system seconds of this process and all its descendants that are alive."""
    children = [process.cpu_times() for process in psutil.Process().children(recursive=True)]
    return time.process_time() + float(sum(t.user + t.system for t in children))


class PassClock:
    """A task runner that notes the CPU seconds of each pass."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def __call__(self, function: Callable[[Any], Any], items: Sequence[Any], *, name: str) -> list[Any]:
        before = family_cpu_seconds()
        results = run_tasks(function, items, name=name)
        self.seconds[name.removeprefix("dedup: ")] = family_cpu_seconds() - before
        return results


def measure(
    shards: Sequence[DedupShard], config: DedupConfig, directory: Path
) -> tuple[Timing, DedupResult, dict[str, float], int]:
    """(time, result, CPU seconds by pass, peak bytes of this process and its descendants) of one deduplication."""
    memory, clock, section = PeakMemory(), PassClock(), Timing()
    cpu, wall = family_cpu_seconds(), time.perf_counter()
    result = deduplicate(shards, config, str(directory / "work"), str(directory / "out"), runner=clock)
    section.seconds, section.cpu_s = time.perf_counter() - wall, family_cpu_seconds() - cpu
    return section, result, clock.seconds, memory.stop()


def row_cost(rows: int) -> float:
    """CPU seconds a band row to sort a partition of so many and tie what is equal, a third of it duplicates."""
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**64, rows, dtype=np.uint64)
    hashes[: rows // 3] = hashes[rows // 2 : rows // 2 + rows // 3]
    start = time.process_time()
    star_edges((hashes,), rng.permutation(rows))
    return (time.process_time() - start) / rows


def star_cost(edges: int) -> float:
    """CPU seconds an edge of a round of star passes: a large-star and a small-star step."""
    pairs = np.random.default_rng(0).integers(0, edges, (edges, 2))
    start = time.process_time()
    tied, _ = large_star(*both_ways(pairs).T)
    small_star(*tied.T)
    return (time.process_time() - start) / edges


def intermediate_bytes(work: Path) -> dict[str, int]:
    """Bytes of the files of each kind that the passes left."""
    sizes: dict[str, int] = {}
    for path in work.glob("passes-*/*/*"):
        sizes[path.parent.name] = sizes.get(path.parent.name, 0) + path.stat().st_size
    return sizes


def substring_line(texts: list[str], unit: Literal["token", "byte"], memory_mb: int, workers: int) -> None:
    """Measure the pass of repeated passages alone; print its line."""
    config = DedupConfig(
        exact=ExactConfig(enabled=False),
        fuzzy=FuzzyConfig(enabled=False),
        substring=SubstringConfig(enabled=True, unit=unit, length=SUBSTRING_LENGTH[unit]),
        memory_mb=memory_mb,
        max_removed_fraction=None,
    )
    with tempfile.TemporaryDirectory(prefix="raypt-bench-") as name:
        root = Path(name)
        warm = write_shards(texts[:50] * SHARDS, root / "warm-docs")
        deduplicate(warm, config, str(root / "warm" / "work"), str(root / "warm" / "out"))
        section, result, passes, peak = measure(write_shards(texts, root / "docs"), config, root / "measured")
    cut = result.account.edited.get("dedup.substring", Amount())
    more = {"cut_documents": cut.documents, "cut_bytes": cut.bytes, "peak_rss_mb": round(peak / 1e6)}
    nbytes = sum(len(text.encode()) for text in texts)
    stages = {k: round(v, 4) for k, v in passes.items()}
    report_line(
        f"dedup/substring/{unit}", section, docs=len(texts), nbytes=nbytes, workers=workers, stages=stages, **more
    )


BloomUnit = Literal["document", "paragraph", "band"]
EXACT_PASS: dict[BloomUnit, dict[str, Any]] = {
    "document": {"exact": ExactConfig()},
    "paragraph": {"sentences": SentenceConfig(enabled=True, unit="paragraph", length=1)},
    "band": {"fuzzy": FuzzyConfig()},
}
"""The pass that compares what the filters only remember, by their unit."""


def bloom_line(texts: list[str], unit: BloomUnit, rate: float, memory_mb: int, workers: int) -> None:
    """Measure the Bloom filters, and the exact pass of the same unit beside them; print the line."""
    chosen = BloomConfig(enabled=True, unit=unit, false_positive_rate=rate)
    found: dict[str, tuple[Timing, DedupResult, dict[str, float], int]] = {}
    for name, passes in (("bloom", {"bloom": chosen}), ("exact", EXACT_PASS[unit])):
        off = {"exact": ExactConfig(enabled=False), "fuzzy": FuzzyConfig(enabled=False), "measure_s_curve": False}
        config = DedupConfig(**(off | {"memory_mb": memory_mb, "max_removed_fraction": None} | passes))
        with tempfile.TemporaryDirectory(prefix="raypt-bench-") as directory:
            root = Path(directory)
            warm = write_shards(texts[:50] * SHARDS, root / "warm-docs")
            deduplicate(warm, config, str(root / "warm" / "work"), str(root / "warm" / "out"))
            found[name] = measure(write_shards(texts, root / "docs"), config, root / "measured")
    section, result, stages, peak = found["bloom"]
    gone, wanted = (_bytes(r.account.edited) + _bytes(r.account.removed) for r in (result, found["exact"][1]))
    nbytes = sum(len(text.encode()) for text in texts)
    removed, removed_exact = (sum(r.removed.values()) for r in (result, found["exact"][1]))
    more = {
        "removed": removed,
        "removed_exact": removed_exact,
        "bytes_gone": gone,
        "bytes_gone_exact": wanted,
        "exact_cpu_s": round(found["exact"][0].cpu_s, 2),
        "filter_mb": round(result.report["bloom"]["filter_bytes"] / 1e6, 6),
        "expected_false": result.report["bloom"]["expected_false"],
        "peak_rss_mb": round(peak / 1e6),
    }
    rounded = {k: round(v, 4) for k, v in stages.items()}
    report_line(f"dedup/bloom/{unit}", section, docs=len(texts), nbytes=nbytes, workers=workers, stages=rounded, **more)


def _bytes(amounts: dict[str, Amount]) -> int:
    return sum(amount.bytes for amount in amounts.values())


def parser() -> argparse.ArgumentParser:
    ap = argparse.ArgumentParser(prog="bench dedup", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    ap.add_argument("--corpus", type=Path, required=True, help="directory of *.jsonl.gz")
    ap.add_argument("--workers", type=int, default=1, help="1: in this process; more: as many Ray workers")
    ap.add_argument("--limit", type=int, default=0, help="only the first N documents (0: all)")
    ap.add_argument("--exact", action="store_true", help="also find exact duplicates first")
    ap.add_argument("--substring", choices=list(SUBSTRING_LENGTH), help="measure the removal of repeated passages")
    ap.add_argument("--bloom", choices=list(EXACT_PASS), help="measure Bloom filters of this unit")
    ap.add_argument("--rate", type=float, default=1e-5, help="their false-positive rate")
    ap.add_argument("--memory-mb", type=int, default=1024, help="memory budget of a task")
    ap.add_argument("--scales", default="1", help="multiples of the corpus to measure, such as 1,2,4,8")
    ap.add_argument("--documents", default="1e9,1e10", help="numbers of documents to work out the needs for")
    ap.add_argument("--cores", type=int, default=256, help="CPU cores of the cluster to work them out for")
    return ap


def main(argv: list[str]) -> int:
    """Print the growth with size, the needs at scale, and as last line the figures of the corpus itself."""
    args = parser().parse_args(argv)
    texts = load(args.corpus, args.limit)
    if args.workers > 1:
        ray.init(address="local", num_cpus=args.workers, include_dashboard=False)
    if args.substring:
        substring_line(texts, args.substring, args.memory_mb, args.workers)
        return 0
    if args.bloom:
        bloom_line(texts, args.bloom, args.rate, args.memory_mb, args.workers)
        return 0
    config = DedupConfig(
        exact=ExactConfig(enabled=args.exact),
        fuzzy=FuzzyConfig(bands=14, rows=8, num_perm=112, ngram=5),
        memory_mb=args.memory_mb,
        keep_intermediate=True,
        max_removed_fraction=None,
        measure_s_curve=False,
    )
    line: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="raypt-bench-") as name:
        root = Path(name)
        warm = write_shards(texts[:50] * SHARDS, root / "warm-docs")
        deduplicate(warm, config, str(root / "warm" / "work"), str(root / "warm" / "out"))
        shards: list[DedupShard] = []
        nbytes = sum(len(text.encode()) for text in texts)
        print(f"{'scale':>5} {'documents':>10} {'MB':>8} {'seconds':>8} {'CPU s':>8} {'MB/CPU s':>9} {'peak MB':>8}")
        for scale in sorted({int(s) for s in args.scales.split(",")} | {1}):
            while len(shards) < scale * SHARDS:
                copy = len(shards) // SHARDS
                shards += write_shards(other_words(texts, copy), root / "docs", len(shards))
            directory = root / f"scale-{scale}"
            section, result, passes, peak = measure(shards, config, directory)
            mb = scale * nbytes / 1e6
            print(
                f"{scale:5d} {scale * len(texts):10,} {mb:8.1f} {section.seconds:8.2f} {section.cpu_s:8.2f} "
                f"{mb / section.cpu_s:9.1f} {peak / 1e6:8.0f}"
            )
            files = intermediate_bytes(directory / "work")
            if scale == 1:
                kept = result.account.kept.documents
                first = {"clusters": result.report["clusters"], "kept": kept, "peak_rss_mb": round(peak / 1e6)}
                line = {"section": section, "stages": {k: round(v, 4) for k, v in passes.items()}, **first}
        rows = (args.memory_mb << 20) // (BAND_ROW_BYTES * SORT_FACTOR)
        row, star = row_cost(rows), star_cost(min(rows, 2_000_000))
        print(
            f"\n{1 / row:,.0f} band rows a CPU second in partitions of {rows:,}, {1 / star:,.0f} edges a round of stars"
        )
        costs = Costs.measured(result, passes, files, scale * nbytes, row_cpu_s=row, star_cpu_s=star)
        print(f"at these costs, on {args.cores} cores with {args.memory_mb} MB a task:")
        documents = [int(float(n)) for n in args.documents.split(",")]
        print(table([needs(costs, config, n, args.cores) for n in documents]), flush=True)
    if args.workers > 1:
        ray.shutdown()
    section = line.pop("section")
    report_line("W3", section, docs=len(texts), nbytes=nbytes, workers=args.workers, **line)
    return 0
