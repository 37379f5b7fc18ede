"""A study as a user runs it: shared stages once, planted junk found out.

Twelve variants, kills, and junk planted in real web pages: `python -m tests.jobs.study_commands`.
"""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from tests.jobs.helpers import run_job
from tests.jobs.study_corpus import STUDY, write_corpus


def tables(study: Path) -> tuple[pa.Table, pa.Table]:
    steps = pq.read_table(study / "study.parquet")
    return steps.drop_columns(["step_s"]), pq.read_table(study / "runs.parquet")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus, and a study of it that ran undisturbed."""
    work = tmp_path_factory.mktemp("study")
    write_corpus(work)
    (work / "study.yaml").write_text(yaml.safe_dump(STUDY))
    done = run_job("study.py", "--config", "study.yaml", cwd=work)
    assert done.returncode == 0, done.stderr[-4000:]
    (work / "said.txt").write_text(done.stdout)
    return work


def test_the_rule_that_removes_planted_junk_is_named_as_a_gain(work: Path) -> None:
    found = json.loads((work / "study" / "study.json").read_text())
    gap = found["differences"]["without rules"]
    assert gap["interval"][0] > 0, gap
    assert not gap["in_the_noise"]
    assert found["sentence"].startswith("without rules raises the held-out loss by")
    assert found["sentence"] in (work / "said.txt").read_text()


def test_a_variant_that_differs_in_nothing_is_no_other_training(work: Path) -> None:
    found = json.loads((work / "study" / "study.json").read_text())
    assert found["differences"]["clean again"]["value"] == 0
    # The base, and what lacks its rules; the corpus has no duplicates, so that rule changes nothing.
    assert found["cost"]["trainings, each made once"] == "2 of 4"
    assert len(list((work / "study" / "trainings").iterdir())) == 2


def test_documents_are_tagged_once_for_all_variants_that_tag_alike(work: Path) -> None:
    found = json.loads((work / "study" / "study.json").read_text())
    assert found["cost"]["documents read and tagged"] == "2,000"  # 1,000 by each of two lists of stages
    assert int(found["cost"]["curated texts"]) >= 4


def test_held_out_documents_are_in_no_text_that_is_trained_on(work: Path) -> None:
    parts = (work / "study" / "heldout").glob("*/part-*.parquet")
    heldout = {text for path in parts for text in pq.read_table(path)["text"].to_pylist()}
    assert len(heldout) == 60
    made = [pq.read_table(p, columns=["text"])["text"].to_pylist() for p in (work / "study").glob("data/*/curated/*")]
    with_them = [sum(text in heldout for text in texts) for texts in made]
    # The base's text, of which they were set aside, has them; that of the three variants has not.
    assert sum(with_them) == 60
    assert sum(count > 0 for count in with_them) <= 4


def test_the_table_has_every_step_of_every_training_with_its_compute(work: Path) -> None:
    steps, runs = tables(work / "study")
    assert steps.num_rows == 4 * 60
    assert set(steps["variant"].to_pylist()) == {v["name"] for v in STUDY["variants"]}
    per_token = {f / t for f, t in zip(steps["flops"].to_pylist(), steps["tokens"].to_pylist(), strict=True)}
    assert max(per_token) == pytest.approx(min(per_token))
    assert steps["heldout/prose"].null_count == steps.num_rows - 4 * 2
    assert runs.num_rows == 4
    assert set(runs["tokens"].to_pylist()) == {60 * 1024}


def test_the_page_begins_with_the_answer_its_interval_and_a_picture(work: Path) -> None:
    html = (work / "study" / "study.html").read_text()
    found = json.loads((work / "study" / "study.json").read_text())
    places = [html.index(found["sentence"]), html.index("95 % interval"), html.index("<svg"), html.index("<h2 ")]
    assert places == sorted(places)
    assert "Does the junk hurt?" in html
    assert "http" not in html.replace("http://www.w3.org/2000/svg", "")
