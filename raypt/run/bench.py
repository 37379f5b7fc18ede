"""Measure a stage on this machine: `raypt bench NAME [options]`; `raypt bench NAME --help` explains the options.

Every benchmark prints one JSON line last: documents, bytes and tokens per wall second and per CPU second, and the peak
memory of the processes. One process each, no Ray unless it says so.
"""

import difflib
import importlib
import sys

BENCHES = {
    "read": "raypt.bench.reading",
    "curate": "raypt.bench.curation",
    "pii": "raypt.bench.pii",
    "quality": "raypt.bench.quality",
    "perplexity": "raypt.bench.perplexity",
    "dedup": "raypt.bench.dedup",
    "tokenizer": "raypt.bench.tokenizer",
    "tokens": "raypt.bench.tokens",
    "train": "raypt.bench.training",
    "checkpoint": "raypt.bench.checkpoint",
    "gpu": "raypt.bench.gpu",
    "collectives": "raypt.bench.collectives",
    "strategies": "raypt.bench.strategies",
    "start": "raypt.run.start_times",
    "scale": "raypt.run.scale",
    "plan": "raypt.run.planner.calibrate",
}


def main(argv: list[str]) -> int:
    """Run the benchmark that the first argument names, with the others; its exit status."""
    if argv[:1] in ([], ["-h"], ["--help"]):
        print(f"{(__doc__ or '').strip()}\n\nNAME: {', '.join(BENCHES)}")
        return 0 if argv else 2
    if argv[0] not in BENCHES:
        near = difflib.get_close_matches(argv[0], BENCHES, 1, 0.4)
        hint = f"; did you mean {near[0]}?" if near else "."
        print(f"raypt bench: there is no benchmark {argv[0]!r}{hint} There are {', '.join(BENCHES)}", file=sys.stderr)
        return 2
    return int(importlib.import_module(BENCHES[argv[0]]).main(argv[1:]))
