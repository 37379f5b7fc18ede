"""raypt.curation.quality.linear: fastText's own probabilities, by fastText as the reference."""

from pathlib import Path
from typing import Any

import fasttext
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raypt.curation.quality.config import QualityConfig
from raypt.curation.quality.fit import fit
from raypt.curation.quality.linear import LinearScorer, _modulo
from raypt.curation.quality.model import QualityModel

LINES = [
    f"__label__{'abc'[i % 3]} {' '.join(f'{w}{(i * k) % 17}' for k, w in enumerate(('é', 'x', '中', '</b>')))}"
    for i in range(300)
]
words = st.sampled_from(
    ["é0", "x3", "中4", "</b>5", "</s>", "__label__a", "__label__zz", "unknown", "ÿ", "𝄞", "\t", "\x00", " ", "\r", "x"]
)
texts = st.one_of(
    st.lists(words, max_size=12).map(" ".join),
    st.text(st.characters(exclude_characters="\n", exclude_categories=("Cs",))),
)


def expected(model: Any, text: str, label: str) -> float:
    return {name: p for p, name in model.f.predict(text + "\n", -1, 0.0, "strict")}.get(label, 0.0)


@pytest.mark.parametrize("n", [1, 2, 3, 100, 1000, 2047, 2048, 4099, 600_000, (1 << 40) - 1])
def test_a_hash_falls_into_its_bucket_whatever_their_number(n: int) -> None:
    hashes = np.random.default_rng(n).integers(0, (1 << 64) - 1, 5000, np.uint64, endpoint=True)
    hashes[:4] = (0, 1, (1 << 63) - 1, (1 << 64) - 1)
    assert [int(_modulo(h, float(n))) for h in hashes] == [int(h) % n for h in hashes]


@pytest.fixture(
    scope="module",
    params=[(1, 1), (2, 10_007), (3, 20_000), (3, 100)],
    ids=["words", "2-grams", "3-grams", "few buckets"],
)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    ngrams, buckets = request.param
    where = tmp_path_factory.mktemp("linear")
    (where / "train.txt").write_text("\n".join(LINES) + "\n")
    fit(str(where / "train.txt"), str(where / "m.bin"), dim=8, epoch=2, wordNgrams=ngrams, bucket=buckets, minCount=1)
    return fasttext.load_model(str(where / "m.bin"))


@pytest.fixture(scope="module")
def scorers(model: Any) -> dict[str, LinearScorer]:
    return {label: LinearScorer(model, label) for label in ("__label__a", "__label__b", "__label__c")}


@settings(deadline=None, max_examples=150)
@given(st.lists(texts, min_size=1, max_size=4))
def test_probabilities_are_fasttexts_for_any_text(
    model: Any, scorers: dict[str, LinearScorer], values: list[str]
) -> None:
    for label, scorer in scorers.items():
        scores, _ = scorer.score(pa.array(values, pa.large_string()))
        np.testing.assert_allclose(scores, [expected(model, v, label) for v in values], atol=2e-5)


def test_a_slice_is_scored_where_it_lies(scorers: dict[str, LinearScorer]) -> None:
    values = pa.array(["x1 é2", "中3", "", "x4"], pa.large_string())
    scorer = scorers["__label__b"]
    np.testing.assert_array_equal(scorer.score(values.slice(1, 2))[0], scorer.score(values)[0][1:3])
    assert len(scorer.score(values.slice(0, 0))[0]) == 0


def test_models_with_subwords_or_quantised_go_through_fasttext_itself(tmp_path: Path) -> None:
    path = tmp_path / "train.txt"
    path.write_text("\n".join(LINES) + "\n")
    options: dict[str, Any] = {"dim": 8, "epoch": 2, "bucket": 20_000, "minCount": 1}
    kinds: dict[str, dict[str, Any]] = {
        "subwords": {"minn": 2, "maxn": 3},
        "hierarchical": {"loss": "hs", "wordNgrams": 2},
        "quantised": {"wordNgrams": 2, "quantize": {"cutoff": 2000, "retrain": False}},
    }
    for name, kind in kinds.items():
        file = str(tmp_path / f"{name}.ftz")
        fit(str(path), file, **options, **kind)
        bare = fasttext.load_model(file)
        assert not LinearScorer.supports(bare)
        text = ["x1 é2", "中3"]
        scores = QualityModel.load(file, QualityConfig(label="a")).score(pa.array(text))
        np.testing.assert_allclose(scores, [min(expected(bare, v, "__label__a"), 1) for v in text], atol=1e-6)
