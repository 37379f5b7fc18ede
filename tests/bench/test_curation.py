"""The benchmark prints one line of figures, saves decisions, and counts agreement with saved ones."""

import gzip
import json
from pathlib import Path

import pytest

from raypt.bench.curation import main

GOOD = (
    "The cat sat on the mat and the dog ran off to the town. It was a good day for both of them, and they have fun. "
    * 1
)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    rows = [{"id": str(i), "text": f"Story {i}. {GOOD}", "lang": "en"} for i in range(3)] + [
        {"id": "3", "text": "short", "lang": "en"}
    ]
    with gzip.open(tmp_path / "part-0.jsonl.gz", "wt") as f:
        f.writelines(json.dumps(row) + "\n" for row in rows)
    return tmp_path


def line(out: str) -> dict:
    return json.loads(out.strip().splitlines()[-1])


def test_decisions_saved_agree_with_themselves(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved = corpus / "decisions.jsonl"
    assert main(["--corpus", str(corpus), "--stages", "gopher_repetition,length", "--save", str(saved)]) == 0
    first = line(capsys.readouterr().out)
    assert first["docs"] == 4
    assert first["mb_per_cpu_s"] > 0
    assert [json.loads(x)["id"] for x in saved.read_text().splitlines()] == ["0", "1", "2", "3"]
    main(["--corpus", str(corpus), "--stages", "gopher_repetition,length", "--compare", str(saved)])
    assert line(capsys.readouterr().out)["agreement_all"] == 1.0
    main(["--corpus", str(corpus), "--stages", "gopher_quality", "--compare", str(saved)])
    assert line(capsys.readouterr().out)["agreement_all"] < 1.0


def test_language_identification_is_measured_beside_fasttext(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--corpus", str(corpus), "--workload", "language"]) == 0
    got = line(capsys.readouterr().out)
    assert got["workload"] == "curate/language"
    assert got["english"] == 4
