"""Accuracy of a classifier that is trained on the sources of real text (shared/corpora): the figures of docs/data.md.

python -m tests.curation.classify_figures
"""

import json
import time
from collections import Counter

import pyarrow as pa

from raypt.curation.classify.config import Classifier
from raypt.curation.classify.train import labelled, train
from tests.curation.text_sets import rows

LEAST = 200
"""Texts of a source that becomes a label."""


def main() -> None:
    found = rows("quality/ref_vs_web.dev.jsonl.zst", 10**9)
    count = Counter(row["source"] for row in found)
    chosen = [row for row in found if count[row["source"]] >= LEAST]
    table = pa.table({"text": [row["text"] for row in chosen], "source": [row["source"] for row in chosen]})
    classifier = Classifier.model_validate({"train": {"sources": [{"paths": "-"}]}}).at("-")
    training = classifier.train
    assert training is not None
    start = time.perf_counter()
    data, measured = train(labelled(table, classifier, training, 1), classifier, training, 1, "classifier")
    print(json.dumps(measured, indent=1, ensure_ascii=False))
    print(f"{len(chosen)} texts, {len(data) / 1e6:.0f} MB, {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
