"""Speed of learning a BPE tokenizer from text in memory: by the kernels, and by `tokenizers`, whose result it must be.

The kernels run on one core (a run counts words on as many as it has tasks), `tokenizers` on all. Runs alternate; the
least time of each counts.
"""

import argparse
import sys
from pathlib import Path

from raypt.bench.curation import load
from raypt.bench.measure import PeakMemory, Timing, measured, report_line
from raypt.tokens.config import TokenizerConfig
from raypt.tokens.tokenizer.trainer import bpe_by_tokenizers, splitting, train


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="bench.py tokenizer", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, required=True, help="directory of *.jsonl.gz with id and text")
    parser.add_argument("--vocab-size", type=int, default=32_000)
    parser.add_argument("--split", choices=["gpt2", "llama3", "cl100k", "o200k"], default="llama3")
    parser.add_argument("--limit", type=int, default=0, help="only the first N documents (0: all)")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each, of which the fastest counts")
    args = parser.parse_args(argv)
    config = TokenizerConfig(vocab_size=args.vocab_size, split=args.split)
    assert splitting(config) is not None
    texts = load(args.corpus, args.limit).column("text").to_pylist()
    train(texts[:1], config)  # compiles
    ours, theirs = Timing(float("inf"), float("inf")), Timing(float("inf"), float("inf"))
    memory = PeakMemory()
    for _ in range(args.repeat):
        with measured() as section:
            found = train(texts, config)
        ours = min(ours, section, key=lambda s: s.cpu_s)
        with measured() as section:
            expected = bpe_by_tokenizers(texts, config)
        theirs = min(theirs, section, key=lambda s: s.cpu_s)
        if found.backend.to_str() != expected.backend.to_str():
            print("the kernels learned another tokenizer than `tokenizers`", file=sys.stderr)
            return 1
    report_line(
        "tokenizer", ours, docs=len(texts), nbytes=sum(len(t.encode()) for t in texts), vocabulary=found.vocab_size,
        tokenizers_seconds=round(theirs.seconds, 2), tokenizers_cpu_s=round(theirs.cpu_s, 2),
        cpu_ratio=round(theirs.cpu_s / ours.cpu_s, 2), wall_ratio=round(theirs.seconds / ours.seconds, 2),
        peak_rss_mb=round(memory.stop() / 1e6),
    )  # fmt: skip
    return 0
