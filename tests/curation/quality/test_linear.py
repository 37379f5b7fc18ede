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
from raypt.curation.quality.linear import LinearScorer
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


@pytest.fixture(scope="module", params=[(1, 1), (2, 1_000_003), (3, 1_100_000)], ids=["words", "2-grams", "3-grams"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    ngrams, buckets = request.param
    path = tmp_path_factory.mktemp("linear") / "train.txt"
    path.write_text("\n".join(LINES) + "\n")
    dim = 8 if ngrams > 1 else 150_000  # a matrix that fastText gets as zero pages: see train.MIN_MATRIX_BYTES
    return fasttext.train_supervised(
        str(path), dim=dim, epoch=2, wordNgrams=ngrams, bucket=buckets, thread=1, verbose=0, minCount=1
    )


@pytest.fixture(scope="module")
def scorers(model: Any) -> dict[str, LinearScorer]:
    return {label: LinearScorer(model, label) for label in ("__label__a", "__label__b", "__label__c")}


@settings(deadline=None, max_examples=150)
@given(st.lists(texts, min_size=1, max_size=4))
def test_probabilities_are_fasttexts_for_any_text(
    model: Any, scorers: dict[str, LinearScorer], values: list[str]
) -> None:
    for label, scorer in scorers.items():
        scores = scorer.score(pa.array(values, pa.large_string()))
        np.testing.assert_allclose(scores, [expected(model, v, label) for v in values], atol=2e-5)


def test_a_slice_is_scored_where_it_lies(scorers: dict[str, LinearScorer]) -> None:
    values = pa.array(["x1 é2", "中3", "", "x4"], pa.large_string())
    scorer = scorers["__label__b"]
    np.testing.assert_array_equal(scorer.score(values.slice(1, 2)), scorer.score(values)[1:3])
    assert len(scorer.score(values.slice(0, 0))) == 0


def test_models_with_subwords_or_quantised_go_through_fasttext_itself(tmp_path: Path) -> None:
    path = tmp_path / "train.txt"
    path.write_text("\n".join(LINES) + "\n")
    options = {"dim": 8, "epoch": 2, "bucket": 1_100_000, "thread": 1, "verbose": 0, "minCount": 1}
    subwords = fasttext.train_supervised(str(path), minn=2, maxn=3, **options)
    hierarchical = fasttext.train_supervised(str(path), loss="hs", wordNgrams=2, **options)
    quantised = fasttext.train_supervised(str(path), wordNgrams=2, **options)
    quantised.quantize(input=str(path), cutoff=2000, retrain=False)
    for i, model in enumerate((subwords, hierarchical, quantised)):
        assert not LinearScorer.supports(model)
        file = str(tmp_path / f"m{i}.ftz")
        model.save_model(file)
        loaded = QualityModel.load(file, QualityConfig(label="a"))
        again, text = fasttext.load_model(file), ["x1 é2", "中3"]
        scores = loaded.score(pa.array(text))
        np.testing.assert_allclose(scores, [min(expected(again, v, "__label__a"), 1) for v in text], atol=1e-6)
