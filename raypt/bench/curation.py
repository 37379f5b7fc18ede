"""Speed of curation on documents in memory.

--workload cascade    Gopher repetition and quality, C4 and FineWeb rules, tagged and decided (default)
--workload language   fastText language identification alone, and fastText's own predict beside it

With --workers N above 1 the documents go through N Ray actors, and through one first, so that the line shows the gain.
--save writes a decision a document; --compare reads another tool's decisions ({"id", "kept", "reason"} a line) and
prints on how many documents labelled English the two agree, and the classes of the disagreements.
"""

import argparse
import gzip
import itertools
import json
import statistics
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from raypt.bench.measure import PeakMemory, Timing, measured, report_line
from raypt.curation.config import CurationConfig
from raypt.curation.decide import decide
from raypt.curation.language import LanguageConfig, identify, load_model
from raypt.curation.tagger import Tagger
from raypt.text.buffers import TextBatch, byte_lengths, slices

CASCADE: tuple[str, ...] = ("gopher_repetition", "gopher_quality", "c4", "fineweb")


def load(corpus: Path, limit: int) -> pa.Table:
    """The documents of `*.jsonl.gz`, in the order of the files."""
    files = sorted(corpus.glob("*.jsonl.gz"))
    if not files:
        raise SystemExit(f"no *.jsonl.gz in {corpus}")
    rows: list[dict[str, Any]] = []
    for file in files:
        with gzip.open(file) as f:
            rows += [json.loads(line) for line in f]
    rows = rows[: limit or None]
    columns = {name: pa.array([row.get(name) for row in rows], pa.string()) for name in ("id", "text", "lang")}
    return pa.table({"doc_key": pa.array(range(len(rows)), pa.int64()), **columns})


def curate(docs: pa.Table, config: CurationConfig) -> pa.Array:
    return decide(Tagger(config).tag(docs), config)


def on_actors(docs: pa.Table, config: CurationConfig, workers: int, repeat: int) -> tuple[pa.Array, Timing]:
    """Decisions by `workers` Ray actors, all documents `repeat` times; start-up and warm-up are not measured."""
    import ray

    class Actor:
        def __init__(self) -> None:
            self.tagger = Tagger(config)

        def curate(self, part: pa.Table) -> pa.Array:
            return decide(self.tagger.tag(part), config)

        def cpu(self) -> float:
            return time.process_time()

    pieces = [docs.slice(row, len(text)) for row, text in slices(docs.column("text"), 2 << 20)]
    remote: Any = ray.remote(num_cpus=1)(Actor)
    actors = [remote.remote() for _ in range(workers)]
    first = ray.put(docs.slice(0, 1).combine_chunks())
    ray.get([actor.curate.remote(first) for actor in actors])
    before = ray.get([actor.cpu.remote() for actor in actors])
    refs = [ray.put(piece) for piece in pieces]
    start = time.perf_counter()
    reasons = through(actors, refs * repeat)
    seconds = time.perf_counter() - start
    cpu = sum(ray.get([actor.cpu.remote() for actor in actors])) - sum(before)
    for actor in actors:
        ray.kill(actor)
    return pa.concat_arrays(reasons[: len(refs)]), Timing(seconds, cpu)


def through(actors: list[Any], refs: list[Any]) -> list[pa.Array]:
    """Decisions on slices, in their order. Each actor has the next slice waiting when it ends one, as Ray Data's do:
    with one in flight it would stand still for the 10 ms that an answer takes while all cores are busy."""
    import ray

    reasons: list[Any] = [None] * len(refs)
    pending: dict[Any, tuple[int, Any]] = {}
    todo = iter(enumerate(refs))
    for actor in actors * 2:
        for i, ref in itertools.islice(todo, 1):
            pending[actor.curate.remote(ref)] = i, actor
    while pending:
        (done,), _ = ray.wait(list(pending), num_returns=1)
        at, actor = pending.pop(done)
        for i, ref in itertools.islice(todo, 1):
            pending[actor.curate.remote(ref)] = i, actor
        reasons[at] = ray.get(done)
    return reasons


def agreement(docs: pa.Table, reasons: pa.Array, other: Path) -> dict[str, Any]:
    """Share of documents labelled English on which `other` decides alike: all of them, those that FineWeb calls English
    (lid.176 at 0.65 or more), and those without unspaced scripts."""
    with other.open(encoding="utf-8") as f:
        theirs = {row["id"]: row for row in map(json.loads, f)}
    languages, ids, ours = (column.to_pylist() for column in (docs["lang"], docs["id"], reasons))
    _, score = identify(TextBatch.from_arrow(docs["text"].combine_chunks()), LanguageConfig())
    config = CurationConfig.model_validate({"stages": ("characters",)})
    mixed = Tagger(config).tag(docs).column("characters").to_pylist()
    same: Counter[str] = Counter()
    total: Counter[str] = Counter()
    classes: Counter[str] = Counter()
    for language, sure, doc, reason, characters in zip(languages, score >= 0.65, ids, ours, mixed, strict=True):
        if language != "en" or doc not in theirs:
            continue
        agree = theirs[doc]["kept"] == (reason is None)
        groups = {"all": True, "english": sure, "spaced": characters["unspaced_fraction"] == 0}
        for group in (name for name, member in groups.items() if member):
            total[group] += 1
            same[group] += agree
        if not agree:
            classes[f"theirs {theirs[doc]['reason']}, ours {reason}"] += 1
    for name, count in classes.most_common():
        print(f"{count:6d}  {name}")
    return {f"agreement_{group}": round(same[group] / total[group], 4) for group in total}


def bench_language(docs: pa.Table) -> tuple[Timing, dict[str, Any]]:
    config = LanguageConfig()
    batch = TextBatch.from_arrow(docs.column("text").combine_chunks())
    predict = load_model(config).f.predict
    lines = [text.replace("\n", " ") + "\n" for text in docs.column("text").to_pylist()]
    identify(batch, LanguageConfig(max_bytes=10))
    with measured() as section:
        languages, _ = identify(batch, config)
    with measured() as bare:
        for line in lines:
            predict(line, 1, 0.0, "strict")
    more = {"english": languages.to_pylist().count("en"), "bare_fasttext_cpu_s": round(bare.cpu_s, 3)}
    return section, {**more, "cpu_to_bare_fasttext": round(section.cpu_s / bare.cpu_s, 3)}


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        "bench.py curate", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, required=True, help="directory of *.jsonl.gz with id, text, lang")
    parser.add_argument("--workload", choices=("cascade", "language"), default="cascade")
    parser.add_argument("--stages", default=",".join(CASCADE), help="stages of the cascade, comma-separated")
    parser.add_argument("--workers", type=int, default=1, help="Ray actors; 1: in this process, without Ray")
    parser.add_argument("--repeat", type=int, default=10, help="with several workers: times the documents are curated")
    parser.add_argument("--rounds", type=int, default=1, help="with several workers: rounds of one actor, then all")
    parser.add_argument("--limit", type=int, default=0, help="only the first N documents (0: all)")
    parser.add_argument("--save", type=Path, help="JSONL file for the decisions")
    parser.add_argument("--compare", type=Path, help="JSONL file of another tool's decisions")
    args = parser.parse_args(argv)
    docs = load(args.corpus, args.limit)
    nbytes = int(sum(np.sum(byte_lengths(chunk)) for chunk in docs.column("text").chunks))
    memory = PeakMemory()
    more: dict[str, Any] = {}
    if args.workload == "language":
        section, more = bench_language(docs)
    else:
        config = CurationConfig.model_validate({"stages": args.stages.split(",")})
        if args.workers > 1:
            import ray

            ray.init(address="local", num_cpus=args.workers, include_dashboard=False, log_to_driver=False)
            gains = []
            for _ in range(args.rounds):
                _, one = on_actors(docs, config, 1, args.repeat)
                reasons, section = on_actors(docs, config, args.workers, args.repeat)
                gains.append(round(one.seconds / section.seconds, 3))
            more = {"seconds_of_one_actor": round(one.seconds, 3), "gain": statistics.median(gains), "gains": gains}
            ray.shutdown()
        else:
            with measured() as warm_up:
                curate(docs.slice(0, 1), config)
            more = {"warm_up_cpu_s": round(warm_up.cpu_s, 2)}
            with measured() as section:
                reasons = curate(docs, config)
        more["kept"] = reasons.null_count
        if args.save:
            pairs = zip(docs["id"].to_pylist(), reasons.to_pylist(), strict=True)
            lines = (
                json.dumps({"id": doc, "kept": why is None, "reason": why}, ensure_ascii=False) for doc, why in pairs
            )
            args.save.write_text("\n".join(lines) + "\n", encoding="utf-8")
        if args.compare:
            more |= agreement(docs, reasons, args.compare)
    times = args.repeat if args.workers > 1 and args.workload == "cascade" else 1
    report_line(
        f"curate/{args.workload}", section, docs=len(docs) * times, nbytes=nbytes * times, workers=args.workers,
        peak_rss_mb=round(memory.stop() / 1e6), **more,
    )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
