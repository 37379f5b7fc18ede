"""A stage that cannot work on what there is: left out where it is a default, refused where it was asked for."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raypt.config_io import read, validate
from raypt.corpus import python_docs
from raypt.curation.quality.config import QualityConfig
from raypt.curation.quality.train import train_quality
from raypt.errors import UserError
from raypt.run.config import RunConfig
from raypt.run.curate import curate, resolve_builtin, settle_quality
from raypt.run.open import open_run

TEXT = "The harbour keeper wrote of ships and of the storms that came in from the north sea over a long night. "


def config_of(root: Path, reference: str) -> RunConfig:
    for name in ("in", "good"):
        lines = [json.dumps({"text": f"{name} {i}. {TEXT * (1 + i % 3)}"}) for i in range(4)]
        (root / f"{name}.jsonl").write_text("\n".join(lines))
    settings = {
        "run": {"dir": str(root / "run")},
        "corpus": {"sources": [{"name": "text", "paths": str(root / "in.jsonl")}], "builtin": {"files": 1}},
        "curation": {
            "stages": ["quality"],
            "quality": {"reference": [{"name": "good", "paths": str(root / "good.jsonl")}]},
        },
        "dedup": {"enabled": False},
    }
    config = validate(RunConfig, settings)
    if reference == "default":
        directory = root / "run" / python_docs.REFERENCE_DIR
        directory.mkdir(parents=True)
        for place in (directory, root / "run" / python_docs.CORPUS_DIR):  # both there: the embedded corpus is not made
            place.mkdir(parents=True, exist_ok=True)
            (place / "a.jsonl").write_text((root / "good.jsonl").read_text())
        source = python_docs.reference_source()
        source = source.model_copy(update={"paths": (source.paths[0].replace("*.jsonl.gz", "*.jsonl"),)})
        quality = config.curation.quality.model_copy(update={"reference": (source,)})
        config = config.model_copy(update={"curation": config.curation.model_copy(update={"quality": quality})})
    return config


def test_a_classifier_that_was_asked_for_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with (
        pytest.raises(UserError, match=r"curation.quality.reference: \d training windows .* are too few"),
        open_run(config_of(tmp_path, "named"), "test") as run,
    ):
        curate(config_of(tmp_path, "named"), run, in_process=True)


def test_a_percentile_of_few_texts_is_refused_if_asked_for_and_left_out_by_default(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = pa.table({"text": [f"chapter {i} tells how the garden was planted in spring" for i in range(150)]})
    bad = pa.table({"text": [f"click {i} here | cheap | login | buy | share | menu" for i in range(150)]})
    model = train_quality(good, bad, QualityConfig(epochs=2, min_count=1), str(tmp_path / "model"), 1)
    config = config_of(tmp_path, "default")
    with pytest.raises(UserError, match=r"percentile: 20 would be that of \d\d? held-out raw documents, fewer than"):
        settle_quality(config, model)
    monkeypatch.setattr(python_docs, "reference_source", lambda: config.curation.quality.reference[0])
    assert settle_quality(config, model) == (None, None)
    assert "the stage quality is left out: curation.quality.threshold.percentile" in caplog.text


def test_the_default_classifier_is_left_out_saying_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(tmp_path, "default")
    source = config.curation.quality.reference[0]
    monkeypatch.setattr(python_docs, "reference_source", lambda: source)  # the same, of a file that is not packed
    with open_run(config, "test") as run:
        curated = curate(config, run, in_process=True)
        assert curated.documents == 4
        assert pq.read_table(run.tagged(0))["text"].null_count == 0
    assert "the stage quality is left out: curation.quality.reference" in caplog.text


def test_a_megabyte_and_a_half_of_built_in_text_is_curated(tmp_path: Path) -> None:
    """`raypt curate corpus.builtin.max_bytes=1500000`, of this Python's own documentation, without its Ray."""
    loaded = read(RunConfig, None, ["corpus.builtin.max_bytes=1500000", f"run.dir={tmp_path / 'run'}"])
    config = resolve_builtin(loaded.config)
    with open_run(config, "curate") as run:
        curated = curate(config, run, in_process=True)
    entered = curated.ledger.stages["read"].kept.bytes
    assert 1_000_000 < entered < 2_500_000  # the last document of each file may go over its share
    assert curated.documents > 20
    assert curated.bytes < entered
