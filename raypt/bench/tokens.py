"""Benchmark: tokenizing and packing, and feeding samples from the store.

python jobs/bench.py tokens --corpus DIR --tokenizer DIR [--stage store|encode|tokenizers|feed|stream] [--workers N]

DIR holds *.jsonl.gz with a "text" a row. What is timed:
    store       curated Parquet parts -> ids -> packed, checksummed store shards, in N processes (the default)
    encode      text in memory -> ids
    tokenizers  the same by `tokenizers.encode_batch_fast`, for comparison; the ids must be equal
    feed        samples of the finished store, by the clock, to N readers (no Ray), as int32 tokens and segments
    stream      the same through Ray: fetchers, streaming_split, N consumer actors, micro-batches of 4 samples;
                timed from the moment when all consumers have their first
Before it, the tokenizer and the kernels are loaded (a second or two a process, whatever the corpus).
"""

import argparse
import concurrent.futures
import functools
import gzip
import json
import multiprocessing
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import ray
from ray.data import DataIterator

from raypt import storage
from raypt.bench.measure import PeakMemory, Timing, measured, report_line
from raypt.tokens.config import TokensConfig
from raypt.tokens.store.shards import TokenAccount, tokenize_shard
from raypt.tokens.stream.dataset import Batches, StreamDataConfig, make_train_dataset
from raypt.tokens.stream.producer import tokenize_parts
from raypt.tokens.stream.reader import SampleReader
from raypt.tokens.stream.spec import StreamSpec, plan_stream, prepare_store
from raypt.tokens.tokenizer.tokenizer import Tokenizer, load_tokenizer
from raypt.tokens.tokenizer.trainer import prepare_tokenizer

_BATCH = 1024
_MICRO_BATCH = 4
_WARM_UP = "Warm up: the kernels are compiled here, not in what is timed. 预热 1234 don't "


def load_texts(corpus: Path, limit: int) -> list[list[str]]:
    """The texts of each *.jsonl.gz, at most `limit` of them in all (0: all)."""
    files = sorted(corpus.glob("*.jsonl.gz"))
    if not files:
        raise SystemExit(f"no *.jsonl.gz in {corpus}")
    out: list[list[str]] = []
    for path in files:
        with gzip.open(path, "rt", encoding="utf-8") as f:
            texts = [json.loads(line)["text"] for line in f]
        left = limit - sum(map(len, out)) if limit else len(texts)
        out.append(texts[:left])
    return [texts for texts in out if texts]


def _write_parts(texts: Sequence[Sequence[str]], directory: Path) -> list[str]:
    uris = []
    for part, documents in enumerate(texts):
        keys = pa.array([(part << 32) + i for i in range(len(documents))], pa.int64())
        table = pa.table({"doc_key": keys, "source": pa.array(["bench"] * len(documents)), "text": pa.array(documents)})
        uris.append(str(directory / f"part-{part:05d}.parquet"))
        storage.write_parquet(uris[-1], table)
    return uris


def _tokenize(job: tuple[int, str], tokenizer_uri: str, config: TokensConfig, store_uri: str) -> TokenAccount:
    shard, uri = job
    return tokenize_shard(uri, shard, load_tokenizer(tokenizer_uri), config, store_uri)


def _warm_up(tokenizer_uri: str, config: TokensConfig) -> None:
    """Load the tokenizer and all kernels."""
    load_tokenizer(tokenizer_uri).encode_batch([_WARM_UP * 2000])
    with tempfile.TemporaryDirectory() as scratch:
        (part,) = _write_parts([[_WARM_UP]], Path(scratch))
        _tokenize((0, part), tokenizer_uri, config, scratch)


def _feed(rank: int, spec: StreamSpec, ranks: int, steps: int) -> int:
    """Read what one of `ranks` readers gets in `steps` global batches; the tokens."""
    reader, tokens = SampleReader(spec), 0
    blocks = steps * spec.global_batch // spec.blocks.layout(ranks).turn
    for block, _ in zip(reader.rank_blocks(rank, ranks), range(blocks), strict=False):
        ids, segments = block["tokens"].astype(np.int32), block["segments"].astype(np.int32)
        tokens += ids.size - ids.shape[0]
        assert segments.shape == ids.shape
    return tokens


class _Consumer:
    """An actor that takes micro-batches as a trainer does."""

    def __init__(self, split: DataIterator, rank: int, ranks: int) -> None:
        self._batches = Batches(split, _MICRO_BATCH, rank=rank, world_size=ranks)

    def first(self) -> None:
        next(self._batches)

    def rest(self) -> int:
        """The tokens of all that is left."""
        return sum(batch["tokens"].size - len(batch["tokens"]) for batch in self._batches)


def _bench_stream(spec: StreamSpec, ranks: int) -> tuple[Timing, int]:
    with tempfile.TemporaryDirectory(prefix="raypt-ray-") as directory:
        ray.init(address="local", num_cpus=2 + ranks, include_dashboard=False, log_to_driver=False, _temp_dir=directory)
        try:
            dataset = make_train_dataset(spec, lambda: None)()
            splits = StreamDataConfig(spec).configure({"train": dataset}, ranks)
            actor: Any = ray.remote(num_cpus=1)(_Consumer)
            consumers: list[Any] = [actor.remote(split["train"], rank, ranks) for rank, split in enumerate(splits)]
            ray.get([consumer.first.remote() for consumer in consumers])
            before = _cpu_of_children()
            with measured() as section:
                tokens = sum(ray.get([consumer.rest.remote() for consumer in consumers]))
            section.cpu_s += _cpu_of_children() - before
        finally:
            ray.shutdown()
    return section, tokens


def _bench_encode(texts: list[str], tokenizer: Tokenizer, *, by_tokenizers: bool) -> tuple[Timing, int]:
    batches = [texts[i : i + _BATCH] for i in range(0, len(texts), _BATCH)]
    arrays = [pa.array(batch) for batch in batches]
    _ = tokenizer.encode_batch([_WARM_UP * 2000])
    total = 0
    if by_tokenizers:
        with measured() as section:
            for batch in batches:
                total += sum(len(e.ids) for e in tokenizer.backend.encode_batch_fast(batch, add_special_tokens=False))
        ours = sum(tokenizer.encode_batch(array)[0].size for array in arrays)
        assert ours == total, (ours, total)
    else:
        with measured() as section:
            for array in arrays:
                total += tokenizer.encode_batch(array)[0].size
    return section, total


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True, help="directory of *.jsonl.gz")
    parser.add_argument("--tokenizer", required=True, help="tokenizer.json, or a directory with the files of one")
    parser.add_argument("--stage", choices=["store", "encode", "tokenizers", "feed", "stream"], default="store")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--limit", type=int, default=0, help="only the first N documents (0: all)")
    parser.add_argument("--sequence-length", type=int, default=2048)
    parser.add_argument("--strategy", choices=["best_fit", "greedy"], default="best_fit")
    a = parser.parse_args(argv)
    os.environ["RAYON_NUM_THREADS"] = str(a.workers)
    os.environ["TOKENIZERS_PARALLELISM"] = "true" if a.workers > 1 else "false"
    texts = load_texts(a.corpus, a.limit)
    flat = [t for part in texts for t in part]
    nbytes = sum(len(t.encode()) for t in flat)
    config = TokensConfig.model_validate(
        {
            "tokenizer": {"path": str(a.tokenizer)},
            "packing": {"sequence_length": a.sequence_length, "strategy": a.strategy},
            "heldout": {"fraction": 0.0},
        }
    )
    memory = PeakMemory()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="raypt-bench-") as scratch:
        directory = Path(scratch)
        tokenizer_uri, store_uri = str(directory / "tokenizer"), str(directory / "store")
        tokenizer = prepare_tokenizer([], config.tokenizer, tokenizer_uri, 0)
        more: dict[str, object] = {"encoder": "tokenizers" if tokenizer.slow_because else "fast"}
        if a.stage in ("encode", "tokenizers"):
            section, tokens = _bench_encode(flat, tokenizer, by_tokenizers=a.stage == "tokenizers")
        elif a.stage == "store":
            parts = _write_parts(texts, directory)
            task = functools.partial(_tokenize, tokenizer_uri=tokenizer_uri, config=config, store_uri=store_uri)
            with concurrent.futures.ProcessPoolExecutor(a.workers, context) as pool:
                list(pool.map(functools.partial(_warm_up, config=config), [tokenizer_uri] * 4 * a.workers))
                before = _cpu_of_children()
                with measured() as section:
                    ledgers = list(pool.map(task, enumerate(parts)))
                section.cpu_s += _cpu_of_children() - before
            tokens = sum(ledger.packed_tokens for ledger in ledgers)
            slots = tokens + sum(ledger.padding for ledger in ledgers)
            split = sum(ledger.split_documents for ledger in ledgers)
            more |= {"padding_share": round(1 - tokens / slots, 5), "split_share": round(split / len(flat), 4)}
        else:
            parts = _write_parts(texts, directory)
            plan = prepare_store(parts, tokenizer, config, store_uri, 0)
            ledgers = tokenize_parts(plan, config, tokenizer_uri)
            batch = 64 * a.workers
            spec = plan_stream(plan, config, samples=10**9, global_batch=batch, ranks=(a.workers,))
            steps = max(1, 200_000_000 // (batch * a.sequence_length))
            more |= {"store_samples": sum(ledger.samples for ledger in ledgers)}
        if a.stage == "stream":
            total = 5 * steps * batch
            spec = plan_stream(
                plan, config, samples=total, global_batch=batch, ranks=(a.workers,), micro_batch=_MICRO_BATCH
            )
            section, tokens = _bench_stream(spec, a.workers)
        elif a.stage == "feed":
            with concurrent.futures.ProcessPoolExecutor(a.workers, context) as pool:
                list(pool.map(functools.partial(_feed, spec=spec, ranks=a.workers, steps=2), range(a.workers)))
                before = _cpu_of_children()
                with measured() as section:
                    read = functools.partial(_feed, spec=spec, ranks=a.workers, steps=steps)
                    tokens = sum(pool.map(read, range(a.workers)))
                section.cpu_s += _cpu_of_children() - before
        report_line(
            f"tokens/{a.stage}",
            section,
            docs=len(flat) if a.stage not in ("feed", "stream") else 0,
            nbytes=nbytes if a.stage not in ("feed", "stream") else 0,
            tokens=tokens,
            workers=a.workers,
            peak_rss_mb=round(memory.stop() / 1e6),
            **more,
        )
    return 0


def _cpu_of_children() -> float:
    """User and system seconds of the living descendants of this process."""
    return float(sum(sum(c.cpu_times()[:2]) for c in psutil.Process().children(recursive=True)))
