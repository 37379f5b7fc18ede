"""text-dedup's Bloom filter (0.4.1, on rbloom) on the documents that `bench dedup --bloom document` takes.

    python3.12 -m venv VENV && VENV/bin/pip install text-dedup==0.4.1
    VENV/bin/python tests/peers/w3_textdedup_bloom.py --corpus DIR [--rate 1e-5]
    python jobs/bench.py dedup --corpus DIR --bloom document [--rate 1e-5]

Its own three steps are timed: documents read from JSON lines, looked up and marked, filtered. Texts are equal or not
as they are; ours begins with documents in Parquet and ends with the list of what goes. It prints one JSON line, with
CPU seconds of the process and its children. Only the standard library and text-dedup are imported.
"""

import argparse
import contextlib
import gzip
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def cpu_seconds() -> float:
    """User and system time of this process and of the children it has waited for."""
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in usage)


def texts_of(corpus: Path) -> list[str]:
    """The texts of DIR/*.jsonl.gz, in order."""
    texts: list[str] = []
    for path in sorted(corpus.glob("*.jsonl.gz")):
        with gzip.open(path) as f:
            texts += [json.loads(line)["text"] for line in f]
    return texts


def settings(work: Path, documents: int, rate: float) -> str:
    """text-dedup's configuration as TOML."""
    sections = {
        "input": {"input_type": "local_files", "file_type": "json"},
        "input.read_arguments": {
            "path": "json",
            "data_files": str(work / "in.jsonl"),
            "split": "train",
            "cache_dir": str(work / "cache"),
        },
        "algorithm": {
            "algorithm_name": "bloom_filter",
            "text_column": "text",
            "max_elements": documents,
            "error_rate": rate,
            "num_proc": 1,
        },
        "output": {"output_dir": str(work / "out")},
        "debug": {"enable_profiling": False},
    }
    lines = [[f"[{name}]", *(f"{k} = {json.dumps(v)}" for k, v in said.items())] for name, said in sections.items()]
    return "\n".join(line for section in lines for line in section) + "\n"


def in_process(method: Callable[..., Any]) -> Callable[..., Any]:
    """The method, with one worker as none: datasets 5 makes a process of one, which cannot take rbloom's filter."""

    def call(self: Any, *args: Any, num_proc: int | None = None, **more: Any) -> Any:
        return method(self, *args, num_proc=None if num_proc == 1 else num_proc, **more)

    return call


def main() -> None:
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--corpus", type=Path, required=True, help="directory of *.jsonl.gz")
    ap.add_argument("--rate", type=float, default=1e-5, help="false-positive rate")
    args = ap.parse_args()
    sys.argv = sys.argv[:1]  # its configuration reads the command line
    texts = texts_of(args.corpus)
    with tempfile.TemporaryDirectory(prefix="w3-bloom-") as name, contextlib.redirect_stdout(sys.stderr):
        work = Path(name)
        (work / "in.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
        (work / "config.toml").write_text(settings(work, len(texts), args.rate), encoding="utf-8")
        import datasets
        from text_dedup import bloom_filter
        from text_dedup.config.base import load_config_from_toml

        datasets.disable_caching()
        datasets.Dataset.map = in_process(datasets.Dataset.map)
        datasets.Dataset.filter = in_process(datasets.Dataset.filter)
        config = load_config_from_toml(work / "config.toml")
        cpu, wall = cpu_seconds(), time.perf_counter()
        found, _ = bloom_filter.load_and_preprocess(config)
        read = cpu_seconds()
        kept = bloom_filter.remove_duplicates(config, bloom_filter.bloom_filter(config, found))
        end, seconds = cpu_seconds(), time.perf_counter() - wall
    mb = sum(len(text.encode()) for text in texts) / 1e6
    line = {
        "workload": "W3",
        "peer": "text-dedup bloom",
        "workers": 1,
        "seconds": round(seconds, 4),
        "cpu_s": round(end - cpu, 4),
        "cpu_s_without_reading": round(end - read, 4),
        "docs": len(texts),
        "mb": round(mb, 3),
        "mb_per_cpu_s": round(mb / (end - cpu), 3),
        "removed": len(texts) - len(kept),
        "load1": round(os.getloadavg()[0], 2),
    }
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
