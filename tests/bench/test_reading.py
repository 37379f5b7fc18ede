"""The benchmark of reading prints a line a file, with the child's time in it."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raypt.bench.reading import main


def test_a_line_a_file_with_its_documents_and_rates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": f"text {i}"}) + "\n" for i in range(50)))
    pq.write_table(pa.table({"text": [f"text {i}" for i in range(70)]}), tmp_path / "b.parquet")
    assert main([str(tmp_path / "a.jsonl"), str(tmp_path / "b.parquet"), "--repeat", "2"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["file"], line["docs"]) for line in lines] == [("a.jsonl", 50), ("b.parquet", 70)]
    assert all(line["mb_per_s"] > 0 and line["mb_per_cpu_s"] > 0 for line in lines)
