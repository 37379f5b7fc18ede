"""Speed of perplexity on documents in memory: the whole measure (cut, normalised, looked up), and the look-up alone.

--model names an ARPA file or a binary file of KenLM; without it a model is trained first, of every other document. Runs
alternate; the least time of each counts.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa

from raypt.bench.curation import load
from raypt.bench.measure import PeakMemory, Timing, measured, report_line
from raypt.curation.perplexity import arpa
from raypt.curation.perplexity.config import Perplexity
from raypt.curation.perplexity.files import load as load_model
from raypt.curation.perplexity.sentences import sentences
from raypt.curation.perplexity.train import train
from raypt.text.buffers import byte_lengths


def _trained(text: pa.Array, settings: Perplexity, where: Path) -> tuple[str, Timing]:
    """An ARPA file of every other document, and what training took."""
    cut = sentences(text.take(pa.array(range(0, len(text), 2))), settings.normalisation, 1 << 24)
    path = where / "model.arpa"
    with measured() as section, path.open("wb") as f:
        arpa.write(f, train(cut, settings.order, settings.min_count, settings.max_tokens))
    return str(path), section


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="bench.py perplexity", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, required=True, help="directory of *.jsonl.gz with id and text")
    parser.add_argument("--model", help="ARPA file, or KenLM's binary file")
    parser.add_argument("--limit", type=int, default=0, help="only the first N documents (0: all)")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each, of which the fastest counts")
    args = parser.parse_args(argv)
    settings = Perplexity()
    text = load(args.corpus, args.limit).column("text").combine_chunks()
    more: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        uri = args.model
        if uri is None:
            uri, section = _trained(text, settings, Path(scratch))
            more["training_cpu_s"] = round(section.cpu_s, 2)
        with measured() as section:
            model = load_model(uri, "--model")
        more["load_cpu_s"] = round(section.cpu_s, 2)
    ngrams = getattr(model, "entries", None)
    model.score(sentences(text[:1], settings.normalisation, settings.max_bytes), 1)  # compiles
    whole, look_up = Timing(float("inf"), float("inf")), Timing(float("inf"), float("inf"))
    memory = PeakMemory()
    for _ in range(args.repeat):
        with measured() as section:
            cut = sentences(text, settings.normalisation, settings.max_bytes)
            model.score(cut, len(text))
        whole = min(whole, section, key=lambda s: s.cpu_s)
        with measured() as section:
            scores = model.score(cut, len(text))
        look_up = min(look_up, section, key=lambda s: s.cpu_s)
    nbytes = int(byte_lengths(text).clip(max=settings.max_bytes).sum())
    report_line(
        "perplexity",
        whole,
        docs=len(text),
        nbytes=nbytes,
        tokens=int(scores.tokens.sum()),
        ngrams=ngrams,
        look_up_mb_per_cpu_s=round(nbytes / 1e6 / look_up.cpu_s, 1),
        peak_rss_mb=round(memory.stop() / 1e6),
        **more,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
