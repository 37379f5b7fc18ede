"""Measure a stage on this machine: python jobs/bench.py NAME [options]; NAME --help explains the options.

Every benchmark prints one JSON line last: documents, bytes and tokens per wall second and per CPU second, and the peak
memory of the processes. One process each, no Ray unless it says so.
"""

import importlib
import sys

BENCHES = {
    "read": "raypt.bench.reading",
    "curate": "raypt.bench.curation",
    "pii": "raypt.bench.pii",
    "quality": "raypt.bench.quality",
    "dedup": "raypt.bench.dedup",
    "tokens": "raypt.bench.tokens",
    "train": "raypt.bench.training",
    "checkpoint": "raypt.bench.checkpoint",
}


def main(argv: list[str]) -> int:
    if not argv or argv[0] not in BENCHES:
        print(f"{(__doc__ or '').strip()}\n\nNAME: {', '.join(BENCHES)}")
        return 0 if argv[:1] in (["-h"], ["--help"]) else 2
    return int(importlib.import_module(BENCHES[argv[0]]).main(argv[1:]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
