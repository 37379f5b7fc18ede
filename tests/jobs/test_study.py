"""A study as a user runs it: shared stages once, killed and resumed with the same table, planted junk found out."""

import contextlib
import json
import random
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml

from tests.jobs.helpers import run_job, start_job

SUBJECTS = ("the committee", "an old engineer", "my neighbour", "the river", "this method", "the second reader")
VERBS = ("describes", "follows", "remembers", "changes", "supports", "explains")
OBJECTS = ("the bridge over the water", "a list of names", "every result", "the question of the day", "its own rules")
ENDINGS = ("in the morning", "with great care", "as was agreed", "for the last time", "and nobody objects")


def sentence(rng: random.Random) -> str:
    words = f"{rng.choice(SUBJECTS)} {rng.choice(VERBS)} {rng.choice(OBJECTS)} {rng.choice(ENDINGS)}."
    return words[0].upper() + words[1:]


def prose(rng: random.Random) -> str:
    return " ".join(sentence(rng) for _ in range(rng.randint(12, 30)))


def junk(rng: random.Random) -> str:
    """Lists of keys and numbers: what Gopher's rules of words and stop words remove."""
    return "\n".join(f"#{rng.getrandbits(64):x} {rng.getrandbits(40)} | {rng.random():.9f}" for _ in range(30))


def write_corpus(directory: Path) -> None:
    """Two sources: prose, and as many bytes of junk; two shards each."""
    rng = random.Random(7)
    for name, make, count in (("prose", prose, 500), ("junk", junk, 500)):
        for part in range(2):
            rows = [{"id": f"{name}-{part}-{i}", "text": make(rng)} for i in range(count // 2)]
            path = directory / name / f"{part}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))


STUDY: dict[str, Any] = {
    "study": {"dir": "study", "question": "Does the junk hurt?", "seeds": [0, 1, 2], "reference": "clean"},
    "base": {
        "ray": {"dashboard": False},
        "corpus": {"sources": [{"name": n, "paths": f"{n}/*.jsonl"} for n in ("prose", "junk")]},
        "curation": {"stages": ["gopher_quality"], "language": {"assume": "en"}},
        # Sentences of a small grammar resemble one another: near duplicates are not what is asked here.
        "dedup": {"fuzzy": {"enabled": False}},
        "tokens": {"tokenizer": {"vocab_size": 512}, "packing": {"sequence_length": 64}},
        "model": {"hidden_size": 32, "intermediate_size": 64, "num_layers": 1, "num_heads": 2, "num_kv_heads": 1},
        "train": {
            "steps": 80,
            "global_batch_tokens": 1024,
            "micro_batch_size": 16,
            "checkpoint": {"every_steps": 20},
            "evaluation": {"every_steps": 40, "max_samples": 16},
        },
    },
    "heldout": {"fraction": 0.2, "max_documents": 60},
    "variants": [
        {"name": "clean"},
        {"name": "clean again"},
        {"name": "without rules", "set": {"curation.stages": ["length"]}},
        {"name": "without duplicates' rule", "set": {"dedup.exact.enabled": False}},
    ],
}


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
    # Three seeds of the base and of what lacks its rules; the corpus has no duplicates, so that rule changes nothing.
    assert found["cost"]["trainings, each made once"] == "6 of 12"
    assert len(list((work / "study" / "trainings").iterdir())) == 6


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
    assert steps.num_rows == 4 * 3 * 80
    assert set(steps["variant"].to_pylist()) == {v["name"] for v in STUDY["variants"]}
    per_token = {f / t for f, t in zip(steps["flops"].to_pylist(), steps["tokens"].to_pylist(), strict=True)}
    assert max(per_token) == pytest.approx(min(per_token))
    assert steps["heldout/prose"].null_count == steps.num_rows - 4 * 3 * 2
    assert runs.num_rows == 12
    assert set(runs["tokens"].to_pylist()) == {80 * 1024}


def test_the_page_begins_with_the_answer_its_interval_and_a_picture(work: Path) -> None:
    html = (work / "study" / "study.html").read_text()
    found = json.loads((work / "study" / "study.json").read_text())
    places = [html.index(found["sentence"]), html.index("95 % interval"), html.index("<svg"), html.index("<h2 ")]
    assert places == sorted(places)
    assert "Does the junk hurt?" in html
    assert "http" not in html.replace("http://www.w3.org/2000/svg", "")


def test_killed_with_its_workers_and_started_again_it_gives_the_same_table(work: Path) -> None:
    again = work / "again"
    process = start_job("study.py", "--config", "study.yaml", "study.dir=again", "study.seeds=[0]", cwd=work)
    deadline = time.time() + 300
    while not any(again.glob("trainings/*/checkpoints/step-*/manifest.json")):
        assert process.poll() is None, (work / "killed.log").read_text()[-4000:]
        assert time.time() < deadline
        time.sleep(0.05)
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    for one in family:  # Ray's own too: nothing of it outlives the driver by more than a moment
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    process.wait()
    assert not (again / "study.html").exists()
    resumed = run_job("study.py", "--config", "study.yaml", "study.dir=again", "study.seeds=[0]", cwd=work)
    assert resumed.returncode == 0, resumed.stderr[-4000:]
    for one, other in zip(tables(work / "study"), tables(again), strict=True):
        assert one.filter(pc.equal(one["seed"], 0)).equals(other)
