"""jobs/train_quality.py: reference text against raw pages, from files to a model that another run can use."""

import json
from pathlib import Path

from tests.jobs.helpers import run_here, run_job


def test_a_classifier_is_trained_from_files_and_its_plot_written(cluster_address: str, tmp_path: Path) -> None:
    good = [f"In chapter {i} the garden is planted, and the old gardener walks there in spring." for i in range(200)]
    bad = [f"click {i} here | cheap | login | buy | share | menu | cookies" for i in range(200)]
    for name, texts in (("good", good), ("raw", bad)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    done = run_job(
        "train_quality.py",
        "ray.dashboard=false",
        "corpus.sources[0].paths=raw.jsonl",
        "curation.quality.reference=[{paths: good.jsonl}]",
        cwd=tmp_path,
        address=cluster_address,
    )
    assert done.returncode == 0, done.stderr
    assert "held-out documents" in done.stdout and "area under the ROC curve" in done.stdout
    quality = tmp_path / "runs" / "default" / "quality"
    assert json.loads((quality / "quality.json").read_text())["metrics"]["heldout"]["accuracy"] > 0.9
    assert "<svg" in (quality / "report.html").read_text()


def test_without_reference_text_there_is_nothing_to_train(tmp_path: Path) -> None:
    (tmp_path / "raw.jsonl").write_text('{"text": "x"}\n')
    done = run_here("train-quality", "corpus.sources[0].paths=raw.jsonl", cwd=tmp_path)
    assert done.returncode == 2 and "curation.quality.reference: name the sources" in done.stderr
    done = run_here("train-quality", "curation.quality.model=x.bin", cwd=tmp_path)
    assert done.returncode == 2 and "curation.quality.model" in done.stderr
