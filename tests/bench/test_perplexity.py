"""raypt.bench.perplexity: the measure is timed with a model of the corpus itself."""

import gzip
import json
import random
from pathlib import Path

import pytest

from raypt.bench import perplexity as bench


def test_the_last_line_has_bytes_tokens_and_ngrams(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = random.Random(0)
    with gzip.open(tmp_path / "part-0.jsonl.gz", "wt") as f:
        for i in range(50):
            text = " ".join(chosen.choices("abcdefgh", k=40))
            f.write(json.dumps({"id": str(i), "text": text}) + "\n")
    assert bench.main(["--corpus", str(tmp_path), "--repeat", "1"]) == 0
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert line["docs"] == 50 and line["tokens_per_cpu_s"] > 0
    assert line["ngrams"] > 8 * 8 and line["mb_per_cpu_s"] > 0 and line["look_up_mb_per_cpu_s"] > 0
