"""raypt.bench.tokenizer: the kernels and `tokenizers` learn from the same text."""

import gzip
import json
import random
from pathlib import Path

import pytest

from raypt.bench import tokenizer as bench


def test_the_last_line_has_both_times(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = random.Random(0)
    with gzip.open(tmp_path / "part-0.jsonl.gz", "wt") as f:
        for i in range(50):
            text = " ".join(chosen.choices(("river", "bridge", "garden", "winter"), k=40))
            f.write(json.dumps({"id": str(i), "text": text}) + "\n")
    assert bench.main(["--corpus", str(tmp_path), "--repeat", "1", "--vocab-size", "300"]) == 0
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (
        line["docs"] == 50 and line["vocabulary"] == 279
    )  # 2 special tokens, 256 bytes, and 21 merges that make four words
    assert line["cpu_ratio"] > 0 and line["tokenizers_seconds"] >= 0
