"""raypt.bench.quality: scoring is timed beside fastText's own predict on the same text."""

import gzip
import json
from pathlib import Path

import pytest

from raypt.bench import quality as bench


def test_the_last_line_has_both_times_and_their_ratio(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with gzip.open(tmp_path / "part-0.jsonl.gz", "wt") as f:
        for i in range(200):
            text = f"word{i} " * (3 if i % 2 else 60)
            f.write(json.dumps({"id": str(i), "text": text}) + "\n")
    assert bench.main(["--corpus", str(tmp_path), "--repeat", "1"]) == 0
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert line["docs"] == 200 and line["fasttext_predict_cpu_s"] > 0 and line["over_fasttext"] > 0
