"""jobs/train_tokenizer.py: from raw files to a tokenizer that another run and `transformers` can use."""

import json
from pathlib import Path

from tests.jobs.helpers import run_job


def test_a_tokenizer_is_trained_from_files_and_its_fertility_told(cluster_address: str, tmp_path: Path) -> None:
    english = [
        f"In chapter {i} the garden is planted, and the old gardener walks there in spring." * 3 for i in range(80)
    ]
    chinese = [f"第{i}章：花园种好了，老园丁在春天里散步，看着新开的花，心里很高兴。" * 3 for i in range(80)]
    rows = [{"text": t} for t in (*english, *chinese)]
    (tmp_path / "raw.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    done = run_job(
        "train_tokenizer.py",
        "ray.dashboard=false",
        "corpus.sources=[{name: garden, paths: raw.jsonl}]",
        "curation.stages=[language]",
        "dedup.enabled=false",
        "tokens.tokenizer.vocab_size=400",
        cwd=tmp_path,
        address=cluster_address,
    )
    assert done.returncode == 0, done.stderr
    assert "tokens/word" in done.stdout and "encoded by the fast encoder" in done.stdout
    tokenizer = tmp_path / "runs" / "default" / "tokenizer"
    rows = json.loads((tokenizer / "fertility.json").read_text())
    assert {row["lang"] for row in rows} >= {"en", "zh"}
    assert (tokenizer / "tokenizer.json").exists()
