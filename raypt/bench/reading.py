"""Speed of reading: the documents of files as shards are read in a run, without curation.

Prints a line a file: documents and MB of text a wall second and a CPU second (that of the child process that decodes
Parquet and Arrow included), the fastest of --repeat readings. Compare two versions of raypt in turn, on one machine.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil

from raypt.bench.measure import PeakMemory, Timing, measured, report_line
from raypt.corpus.config import CorpusConfig, SourceConfig
from raypt.corpus.manifest import Manifest, build_manifest
from raypt.corpus.reader import read_shard


def _children_cpu() -> float:
    """CPU seconds of the child processes that live."""
    children = psutil.Process().children(recursive=True)
    return float(sum(t.user + t.system for t in (child.cpu_times() for child in children)))


def read_once(manifest: Manifest, config: CorpusConfig, run_uri: str) -> tuple[int, int, Timing]:
    """(documents, bytes of their text, time) of reading all shards once."""
    documents = nbytes = 0
    before = _children_cpu()
    with measured() as section:
        for shard in range(len(manifest.shards)):
            for batch in read_shard(manifest, shard, config, run_uri):
                documents += batch.documents.num_rows
                nbytes += batch.documents["text"].nbytes
    section.cpu_s += _children_cpu() - before
    return documents, nbytes, section


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        "bench.py read", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("files", nargs="+", help="files, directories or globs; each is measured by itself")
    parser.add_argument("--format", default="auto")
    parser.add_argument("--text-field", default="text")
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args(argv)
    for path in args.files:
        source = SourceConfig(name="s", paths=(path,), format=args.format, text_field=args.text_field)
        config = CorpusConfig(sources=(source,))
        with tempfile.TemporaryDirectory() as run:
            manifest = build_manifest(config, run)
            memory = PeakMemory()
            read_once(manifest, config, run)  # children start, caches fill
            timings = [read_once(manifest, config, run) for _ in range(args.repeat)]
            documents, nbytes, best = min(timings, key=lambda t: t[2].seconds)
            stored = sum(f.size for f in manifest.files)
            peak = memory.stop()
        more: dict[str, Any] = {
            "stored_mb": round(stored / 1e6, 3),
            "peak_mb": round(peak / 1e6),
            "file": Path(path).name,
        }
        report_line("read", best, docs=documents, nbytes=nbytes, **more)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
