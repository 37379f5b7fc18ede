"""raypt.curation.quality.model: the artefact is checked when loaded, and any fastText file can take its place."""

import json
import pickle
import shutil
from pathlib import Path

import fasttext
import numpy as np
import pyarrow as pa
import pytest

from raypt.curation.quality.config import QualityConfig, ThresholdConfig
from raypt.curation.quality.fit import fit
from raypt.curation.quality.model import QualityModel
from raypt.curation.quality.train import train_quality
from raypt.errors import UserError

GOOD = [f"chapter {i} tells how the garden was planted and who walked there in spring" for i in range(120)]
BAD = [f"click {i} here | cheap | login | buy | share | menu | cookies" for i in range(120)]
CONFIG = QualityConfig(epochs=3, min_count=1)


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("quality") / "artefact"
    train_quality(pa.table({"text": GOOD}), pa.table({"text": BAD}), CONFIG, str(out), 5)
    return out


@pytest.fixture(scope="module")
def bare_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fastText file of the kind that is published: labels of its own, no card."""
    where = tmp_path_factory.mktemp("bare")
    lines = [f"__label__hq {t}" for t in GOOD] + [f"__label__cc {t}" for t in BAD] * 2
    (where / "train.txt").write_text("\n".join(lines))
    fit(str(where / "train.txt"), str(where / "published.bin"), lr=0.5, dim=8, epoch=5, wordNgrams=2, bucket=20_000)
    return where / "published.bin"


def test_what_is_loaded_scores_as_what_was_trained(artefact: Path) -> None:
    trained = train_quality(pa.table({"text": GOOD}), pa.table({"text": BAD}), CONFIG, str(artefact), 5)
    text = pa.array([*GOOD[:5], *BAD[:5], "", "neither of them"])
    loaded = QualityModel.load(str(artefact))
    assert loaded.card == trained.card
    scores = loaded.score(text)
    assert scores.dtype == np.float32
    np.testing.assert_array_equal(scores, trained.score(text))
    assert np.isnan(scores[-2:]).all(), "no word of these is known: they are not measured"
    scores = scores[:-2]
    assert ((scores >= 0) & (scores <= 1)).all()


def test_a_model_travels_by_pickle(artefact: Path) -> None:
    model = QualityModel.load(str(artefact))
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.score(pa.array(GOOD)), model.score(pa.array(GOOD)))


def test_another_model_file_beside_the_card_is_refused(artefact: Path, bare_file: Path, tmp_path: Path) -> None:
    shutil.copytree(artefact, tmp_path / "a")
    shutil.copy(bare_file, tmp_path / "a" / "model.bin")
    with pytest.raises(UserError, match=r"is not the file that quality\.json describes"):
        QualityModel.load(str(tmp_path / "a"))


def test_an_incomplete_artefact_is_refused(artefact: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no quality classifier at .*quality.json is missing"):
        QualityModel.load(str(tmp_path))
    (tmp_path / "quality.json").write_text((artefact / "quality.json").read_text())
    with pytest.raises(UserError, match=r"model.bin does not exist"):
        QualityModel.load(str(tmp_path))


def test_a_card_of_another_format_is_refused(artefact: Path, tmp_path: Path) -> None:
    card = json.loads((artefact / "quality.json").read_text())
    (tmp_path / "quality.json").write_text(json.dumps({**card, "format": 99}))
    with pytest.raises(UserError, match="another format"):
        QualityModel.load(str(tmp_path))


def test_the_fingerprint_changes_with_the_normalisation(artefact: Path, bare_file: Path) -> None:
    plain = QualityModel.load(str(bare_file), QualityConfig(label="hq", normalisation="plain"))
    words = QualityModel.load(str(bare_file), QualityConfig(label="hq", normalisation="words-v1"))
    assert len({plain.card.fingerprint, words.card.fingerprint, QualityModel.load(str(artefact)).card.fingerprint}) == 3


def test_a_published_fasttext_file_scores_the_label_asked_for(bare_file: Path) -> None:
    good = QualityModel.load(str(bare_file), QualityConfig(label="hq"))
    bad = QualityModel.load(str(bare_file), QualityConfig(label="__label__cc"))
    text = pa.array([GOOD[0] + "\n" + GOOD[1], BAD[0]])
    assert good.score(text)[0] > 0.5 > good.score(text)[1]
    np.testing.assert_allclose(good.score(text) + bad.score(text), 1.0, atol=1e-3)


def test_plain_normalisation_scores_as_fasttext_itself_does(bare_file: Path) -> None:
    model = QualityModel.load(str(bare_file), QualityConfig(label="hq", normalisation="plain"))
    bare = fasttext.load_model(str(bare_file))
    text = [GOOD[0] + "\n" + BAD[3], f"Mixed Case, kept? {GOOD[1]}", *BAD[:3]]
    expected = [dict(map(reversed, bare.f.predict(t.replace("\n", " ") + "\n", -1, 0.0, "strict"))) for t in text]
    np.testing.assert_allclose(model.score(pa.array(text)), [min(e["__label__hq"], 1.0) for e in expected], atol=1e-7)


def test_an_unknown_label_is_refused_with_the_labels_there_are(bare_file: Path) -> None:
    with pytest.raises(UserError, match=r"no label 'good'; its labels are cc, hq"):
        QualityModel.load(str(bare_file), QualityConfig(label="good"))


def test_a_percentile_of_a_file_without_percentiles_is_refused(bare_file: Path) -> None:
    model = QualityModel.load(str(bare_file), QualityConfig(label="hq"))
    with pytest.raises(UserError, match=r"threshold\.percentile"):
        model.threshold(ThresholdConfig(percentile=10))
    assert model.threshold(ThresholdConfig(minimum=0.25)).minimum == 0.25


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(b"not a model" * 100)
    with pytest.raises(UserError, match="is not a fastText model"):
        QualityModel.load(str(tmp_path / "x.bin"))
