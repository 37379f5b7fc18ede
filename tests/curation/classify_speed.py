"""`python -m tests.curation.classify_speed DIR`: MB of text a CPU second of the classify stage, in one process, on the
files under DIR whose names end in .py; models of several kinds, trained on part of them with labels in turn."""

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from raypt.curation.classify.config import Classify
from raypt.curation.quality.fit import fit
from raypt.curation.view import View
from raypt.text.buffers import TextBatch

KINDS: dict[str, dict[str, Any]] = {
    "2 labels, 64 numbers a word, 2-grams": {"labels": 2, "dim": 64, "wordNgrams": 2},
    "24 labels, 64 numbers a word, 2-grams": {"labels": 24, "dim": 64, "wordNgrams": 2},
    "24 labels, 16 numbers a word, 2-grams": {"labels": 24, "dim": 16, "wordNgrams": 2},
    "24 labels, 16 numbers a word, subwords of 2 to 4": {"labels": 24, "dim": 16, "minn": 2, "maxn": 4},
}
DOCUMENT, ENOUGH, BUCKETS = 8000, 30_000_000, 1_000_000


def main(directory: str) -> None:
    texts, size = [], 0
    for path in sorted(Path(directory).rglob("*.py")):
        text = path.read_text("utf-8", "ignore")[:DOCUMENT]
        if text and size < ENOUGH:
            texts.append(text)
            size += len(text.encode())
    view = View(TextBatch.from_arrow(pa.array(texts)), {})
    with tempfile.TemporaryDirectory() as scratch:
        train, model = Path(scratch, "train.txt"), Path(scratch, "model.bin")
        for name, kind in KINDS.items():
            options = dict(kind)
            labels = options.pop("labels")
            lines = [f"__label__l{i % labels} {' '.join(t[:1500].split())}\n" for i, t in enumerate(texts[:600])]
            train.write_text("".join(lines))
            fit(str(train), str(model), epoch=1, minCount=2, bucket=BUCKETS, **options)
            stage = Classify.model_validate({"models": {"topic": {"model": str(model)}}})
            models = stage.load(None)
            stage.measure(view.rows(np.arange(10)), models)  # compiles
            start = time.process_time()
            stage.measure(view, models)
            seconds = time.process_time() - start
            print(f"{name}: {size / 1e6:.1f} MB, {len(texts)} documents, {size / 1e6 / seconds:.0f} MB a CPU second")


if __name__ == "__main__":
    main(sys.argv[1])
