"""The classify stage in a run: labels and percentiles decide, and other bytes under the same name are another model."""

import json
import random
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from raypt import storage
from raypt.config_io import validate
from raypt.curation.quality.fit import fit
from raypt.errors import UserError
from raypt.run.check import check
from raypt.run.config import RunConfig
from raypt.run.curate import curate
from raypt.run.open import open_run
from raypt.run.report import build_report
from raypt.tokens.parts import part_uris, summarize_part

pytestmark = pytest.mark.fast

WORDS = {"science": ["atom", "cell", "light", "star"], "sport": ["goal", "team", "ball", "match"]}


def train(path: Path, words: dict[str, list[str]]) -> None:
    lines = [
        f"__label__{topic} {' '.join(own[i * k % 4] for k in (1, 2, 3))}"
        for i in range(50)
        for topic, own in words.items()
    ]
    text = path.with_suffix(".txt")
    text.write_text("\n".join(lines) + "\n")
    fit(str(text), str(path), dim=4, epoch=5, minCount=1)


def config_of(root: Path, models: dict[str, Any] | None = None, **decisions: object) -> RunConfig:
    return validate(
        RunConfig,
        {
            "run": {"dir": str(root / "run")},
            "corpus": {"sources": [{"name": "text", "paths": str(root / "*.jsonl")}], "shard_bytes": 2000},
            "dedup": {"enabled": False},
            "curation": {
                "stages": ["classify"],
                "classify": {"models": models or {"topic": {"model": str(root / "topic.bin")}}, "decisions": decisions},
            },
        },
    )


def test_labels_and_percentiles_decide_and_the_models_bytes_are_part_of_what_is_tagged(tmp_path: Path) -> None:
    train(tmp_path / "topic.bin", WORDS)
    texts = [f"{' '.join(words[i * k % 4] for k in range(9))} {i}" for i in range(40) for words in WORDS.values()]
    for part in range(2):
        lines = "".join(json.dumps({"text": text}) + "\n" for text in texts[part::2])
        (tmp_path / f"{part}.jsonl").write_text(lines)
    within = {"percentile": 60, "within": ["source", "classify.topic"], "min_documents": 10}
    config = config_of(tmp_path, topic={"drop": ["sport"]}, topic_science=within)
    check(config)
    with open_run(config, "test") as run:
        found = curate(config, run, in_process=True)
        removed = found.ledger.stages["classify"].removed
        assert removed["classify.topic_drop"].documents == 40
        gone = removed["classify.topic_science_percentile"].documents
        assert found.documents + gone == 40
        assert 0 < gone <= 24  # equal texts stay together: at most the asked share is below
        counts = storage.read_json(run.decisions)["labels"]["classify.topic"]
        assert counts["sport"][0] == counts["science"][0] == 40
        assert (counts["sport"][2], counts["science"][2]) == (0, found.documents)
        groups = [summarize_part(uri, by=("classify.topic",)).documents for uri in part_uris(run.path("curated"))]
        assert sum(g.get("science", 0) for g in groups) == found.documents
        assert "What the classifiers say" in build_report(run, "test")
        first = pq.read_table(run.tagged(0))["classify"]
    train(tmp_path / "topic.bin", {"science": WORDS["sport"], "sport": WORDS["science"]})
    with open_run(config, "test") as run:
        curate(config, run, in_process=True)
        assert pq.read_table(run.tagged(0))["classify"] != first


def test_percentiles_are_columns_of_the_curated_text_that_mix_and_do_not_tag_again(tmp_path: Path) -> None:
    rng = random.Random(2)
    for topic in ("topic", "other"):
        train(tmp_path / f"{topic}.bin", WORDS)
    words = [word for own in WORDS.values() for word in own]
    texts = [" ".join([*rng.choices(words, k=9), str(i)]) for i in range(200)]
    for part in range(2):
        (tmp_path / f"{part}.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts[part::2]))
    plain = config_of(tmp_path, {name: {"model": str(tmp_path / f"{name}.bin")} for name in ("topic", "other")})
    with open_run(plain, "test") as run:
        curate(plain, run, in_process=True)
        before = Path(run.tagged(0)).stat().st_mtime_ns
    classify = plain.curation.classify.model_dump() | {
        "ensembles": {"good": {"of": {"topic": "science", "other": "science"}, "how": "percentile"}},
        "percentiles": {"topic_science": {"within": ["classify.topic"], "min_documents": 20}},
        "decisions": {"good": {"min": 40}},
    }
    by = ["classify.topic", "classify.topic_science_percentile"]
    edges = {by[1]: {"edges": [50, 95], "steps": [1, 2, 7]}}
    config = validate(
        RunConfig,
        {
            **plain.model_dump(),
            "curation": {"stages": ["classify"], "classify": classify},
            "tokens": {"mixture": {"by": by, "upsample": edges}},
        },
    )
    check(config)
    with open_run(config, "test") as run:
        found = curate(config, run, in_process=True)
        assert Path(run.tagged(0)).stat().st_mtime_ns == before
        gone = found.ledger.stages["classify"].removed["classify.good_min"].documents
        assert gone == pytest.approx(80, abs=8)  # both models are much the same
        rows = [row for uri in part_uris(run.path("curated")) for row in pq.read_table(uri)["classify"].to_pylist()]
        assert len(rows) == 200 - gone and min(row["good"] for row in rows) >= 40
        parts = [summarize_part(uri, by=tuple(by), edges={by[1]: (50, 95)}) for uri in part_uris(run.path("curated"))]
        best = sum(part.documents.get("science/>=95", 0) for part in parts)
        assert best == sum(row["topic"] == "science" and row["topic_science_percentile"] >= 95 for row in rows) > 0
        assert "classify.good" in build_report(run, "test")
        counts = storage.read_json(run.decisions)["labels"]["classify.good"]
        assert sum(n for n, *_ in counts.values()) == 200
        decided = [Path(run.decided(i)).stat().st_mtime_ns for i in range(2)]
    with open_run(config, "test") as run:
        curate(config, run, in_process=True)
        assert [Path(run.decided(i)).stat().st_mtime_ns for i in range(2)] == decided
    wrong = validate(RunConfig, {**plain.model_dump(), "tokens": {"mixture": {"by": by}}})
    with pytest.raises(
        UserError, match=r"no classify.topic_science_percentile; curation.classify.percentiles gives it"
    ):
        check(wrong)


def test_a_model_is_trained_in_the_run_from_labelled_sources_once(tmp_path: Path) -> None:
    rng = random.Random(1)
    for topic, words in WORDS.items():
        texts = [" ".join(rng.choices([*words, *"abcdefgh"], k=12)) for _ in range(80)]
        (tmp_path / f"{topic}.train").write_text("".join(json.dumps({"text": t, "of": topic}) + "\n" for t in texts))
    lines = [json.dumps({"text": f"{words[0]} {words[i % 4]} {i}"}) for i in range(20) for words in WORDS.values()]
    (tmp_path / "0.jsonl").write_text("\n".join(lines) + "\n")
    by_name = [{"name": t, "paths": str(tmp_path / f"{t}.train"), "format": "jsonl"} for t in WORDS]
    by_column = [{"paths": str(tmp_path / "*.train"), "format": "jsonl", "columns": {"topic": "of"}}]
    settings = {"min_count": 1, "epochs": 10}
    models = {
        "name": {"train": {"sources": by_name, **settings}},
        "column": {"train": {"sources": by_column, "label": "topic", **settings}},
    }
    with pytest.raises(UserError, match="trained in the run, has no label 'sprot'; did you mean sport"):
        check(config_of(tmp_path, models, name={"drop": ["sprot"]}))
    other = {"other": {"train": {"sources": by_column, "label": "topics"}}}
    with pytest.raises(UserError, match=r"other\.train\.label: .*sources\[0\] carries no column 'topics' along"):
        check(config_of(tmp_path, other))
    config = config_of(tmp_path, models, name={"drop": ["sport"]})
    check(config)
    with open_run(config, "test") as run:
        found = curate(config, run, in_process=True)
        assert found.ledger.stages["classify"].removed["classify.name_drop"].documents == 20 == found.documents
        rows = [row for uri in part_uris(run.path("curated")) for row in pq.read_table(uri)["classify"].to_pylist()]
        assert {(row["name"], row["column"]) for row in rows} == {("science", "science")}
        page = build_report(run, "test")
        assert "Classifiers trained in the run" in page and "found (recall)" in page
        model = Path(run.path("classify", "classify", "name", "model.bin"))
        made = model.stat().st_mtime_ns
    with open_run(config, "test") as run:
        curate(config, run, in_process=True)
    assert model.stat().st_mtime_ns == made


def test_an_unknown_label_and_a_stage_without_models_are_refused_before_the_run(tmp_path: Path) -> None:
    train(tmp_path / "topic.bin", WORDS)
    (tmp_path / "0.jsonl").write_text(json.dumps({"text": "atom"}) + "\n")
    with pytest.raises(UserError, match=r"classify.decisions.topic.keep: .* no label 'scince'; did you mean science"):
        check(config_of(tmp_path, topic={"keep": ["scince"]}))
    none = {"curation": {"stages": ["classify"]}, "corpus": {"sources": [{"paths": str(tmp_path / "0.jsonl")}]}}
    with pytest.raises(UserError, match="the stage is on and has no model"):
        check(validate(RunConfig, {**none, "run": {"dir": str(tmp_path / "run")}}))
