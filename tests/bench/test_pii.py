"""raypt.bench.pii: the figures of a run over files."""

import gzip
import json
from pathlib import Path

import pytest

from raypt.bench import pii as bench


@pytest.mark.parametrize(("kinds", "changed"), [("all", 2), ("email-ip", 1), ("phone", 1)])
def test_the_last_line_counts_documents_bytes_and_what_was_masked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kinds: str, changed: int
) -> None:
    texts = ["mail ann@example.com", "nothing", "+44 20 7946 0958 é"]
    with gzip.open(tmp_path / "part-0.jsonl.gz", "wt") as f:
        f.writelines(json.dumps({"id": str(i), "text": t}) + "\n" for i, t in enumerate(texts))
    assert bench.main(["--corpus", str(tmp_path), "--kinds", kinds, "--batch", "2"]) == 0
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert line["docs"] == 3 and line["changed"] == changed
    assert line["mb"] == round(sum(len(t.encode()) for t in texts) / 1e6, 3)
    assert line["peer"] == "raypt" and line["peak_rss_mb"] > 0
