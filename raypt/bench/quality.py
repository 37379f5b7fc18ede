"""Speed of quality scoring on documents in memory, and fastText's own predict on the same normalised text beside it.

--model names an artefact or a fastText .bin or .ftz; without it a model is trained first, of long documents against
short ones, which is as good as any for timing. Runs alternate; the least time of each counts.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raypt.bench.curation import load
from raypt.bench.measure import PeakMemory, Timing, measured, report_line
from raypt.curation.quality.config import QualityConfig
from raypt.curation.quality.model import QualityModel
from raypt.curation.quality.normalise import normalise
from raypt.curation.quality.train import train_quality


def _throwaway_model(docs: pa.Table, where: str) -> QualityModel:
    length = pc.binary_length(docs["text"]).to_numpy()
    long = length > np.median(length)
    config = QualityConfig(epochs=1, max_documents=2000)
    return train_quality(docs.filter(pa.array(long)), docs.filter(pa.array(~long)), config, where, 0)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="bench.py quality", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, required=True, help="directory of *.jsonl.gz with id and text")
    parser.add_argument("--model", help="artefact directory, or a fastText .bin or .ftz")
    parser.add_argument("--label", default="ref", help="label of a bare fastText file whose probability is the score")
    parser.add_argument("--limit", type=int, default=0, help="only the first N documents (0: all)")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each, of which the fastest counts")
    args = parser.parse_args(argv)
    docs = load(args.corpus, args.limit)
    text = docs.column("text").combine_chunks()
    with tempfile.TemporaryDirectory() as scratch:
        model = (
            QualityModel.load(args.model, QualityConfig(label=args.label))
            if args.model
            else _throwaway_model(docs.select(["text"]), scratch)
        )
    lines = normalise(text, model.card.normalisation, model.card.max_bytes).to_pylist()
    predict = model.fasttext.f.predict
    ours, bare = Timing(float("inf"), float("inf")), Timing(float("inf"), float("inf"))
    memory = PeakMemory()
    for _ in range(args.repeat):
        with measured() as section:
            model.score(text)
        ours = min(ours, section, key=lambda s: s.cpu_s)
        with measured() as section:
            for line in lines:
                predict(line + "\n", -1, 0.0, "strict")
        bare = min(bare, section, key=lambda s: s.cpu_s)
    report_line(
        "quality score",
        ours,
        docs=len(text),
        nbytes=sum(len(line.encode()) for line in lines),
        fasttext_predict_cpu_s=round(bare.cpu_s, 4),
        over_fasttext=round(ours.cpu_s / bare.cpu_s, 3),
        peak_rss_mb=round(memory.stop() / 1e6),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
