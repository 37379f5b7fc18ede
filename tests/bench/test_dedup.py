import gzip
import json
from pathlib import Path

import pyarrow as pa
import pytest

from raypt.bench.dedup import main, other_words
from raypt.dedup.shingles import shingle
from raypt.dedup.tokenise import tokenise
from tests.dedup.test_pipeline import mutated_corpus


def test_the_last_line_has_the_figures_of_the_corpus(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = mutated_corpus(120)
    with gzip.open(tmp_path / "part-000.jsonl.gz", "wt") as f:
        f.writelines(json.dumps({"id": str(i), "text": text}) + "\n" for i, text in enumerate(texts))
    assert main(["--corpus", str(tmp_path), "--scales", "1,2", "--memory-mb", "16"]) == 0
    lines = capsys.readouterr().out.splitlines()
    last = json.loads(lines[-1])
    assert (last["workload"], last["peer"], last["workers"], last["docs"]) == ("W3", "raypt", 1, 120)
    assert last["mb"] == pytest.approx(sum(len(t.encode()) for t in texts) / 1e6, abs=1e-3)
    assert last["mb_per_cpu_s"] == pytest.approx(last["mb"] / last["cpu_s"], rel=0.05)
    assert last["kept"] < 120
    assert [line.split()[1] for line in lines[1:3]] == ["120", "240"]


def test_passages_are_measured_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = mutated_corpus(120)
    with gzip.open(tmp_path / "part-000.jsonl.gz", "wt") as f:
        f.writelines(json.dumps({"id": str(i), "text": text}) + "\n" for i, text in enumerate(texts))
    assert main(["--corpus", str(tmp_path), "--substring", "token"]) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (last["workload"], last["docs"]) == ("dedup/substring/token", 120)
    assert 0 < last["cut_bytes"] < last["mb"] * 1e6
    assert "compare" in last["stages"]


def test_bloom_filters_are_measured_beside_the_exact_pass(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = [t for i, t in enumerate(mutated_corpus(60)) for _ in range(1 + i % 2)]
    with gzip.open(tmp_path / "part-000.jsonl.gz", "wt") as f:
        f.writelines(json.dumps({"id": str(i), "text": text}) + "\n" for i, text in enumerate(texts))
    assert main(["--corpus", str(tmp_path), "--bloom", "document"]) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (last["workload"], last["docs"]) == ("dedup/bloom/document", 90)
    assert last["removed"] == last["removed_exact"] > 0
    assert last["bytes_gone"] > 0 < last["bytes_gone_exact"]
    assert last["filter_mb"] > 0 and "bloom filters" in last["stages"]


def test_other_words_have_the_shape_of_the_texts_but_nothing_in_common() -> None:
    texts = ["The quick brown fox jumps over the lazy dog again and again"]
    both = tokenise(pa.array(texts + other_words(texts, 3)))
    hashes, offsets = shingle(both, 5)
    assert both.counts[0] == both.counts[1]
    assert not set(hashes[: offsets[1]].tolist()) & set(hashes[offsets[1] :].tolist())
