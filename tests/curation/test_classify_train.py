"""raypt.curation.classify.train: reproducible, measured on what it has not seen, and clear about unusable labels."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from raypt.curation.classify.config import Classifier, Training
from raypt.curation.classify.train import Texts, labelled, train
from raypt.errors import UserError

WORDS = {"science": 1000, "sport": 2000, "cooking": 3000}
CLASSIFIER = Classifier.model_validate({"train": {"sources": [{"paths": "x"}]}}).at("memory://model.bin")


def training(**more: Any) -> Training:
    return Training.model_validate({"sources": [{"paths": "x"}], "label": "topic", "epochs": 5, "min_count": 1, **more})


def table(n: int = 120, seed: int = 0, labels: dict[str, int] = WORDS) -> pa.Table:
    """n texts a label: half of its words are the label's own, out of 40."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        for label, first in labels.items():
            own = [f"w{w}" for w in first + rng.integers(0, 40, 15)]
            both = [f"w{w}" for w in rng.integers(0, 900, 15)]
            rows.append({"text": " ".join(own + both), "topic": label, "url": f"https://s{i // 2}.example/{label}"})
    return pa.Table.from_pylist(rows)


def texts_of(rows: pa.Table, settings: Training) -> Texts:
    return labelled(rows, CLASSIFIER, settings, 3)


def test_labels_are_found_in_text_that_was_held_out() -> None:
    texts = texts_of(table(), training())
    data, found = train(texts, CLASSIFIER, training(), 3, "key")
    heldout = found["heldout"]
    assert heldout["documents"] + sum(found["training"]["learnt"].values()) == 360
    assert heldout["accuracy"] > 0.95 and heldout["not_measured"] == 0
    assert set(heldout["by_label"]) == set(WORDS)
    assert sum(of["documents"] for of in heldout["by_label"].values()) == heldout["documents"]
    assert found["split"]["hosts"] == 60
    again, same = train(texts, CLASSIFIER, training(), 3, "key")
    assert (again, same) == (data, found)


def test_the_order_of_the_texts_does_not_matter() -> None:
    rows = table(40)
    shuffled = rows.take(pa.array(np.random.default_rng(1).permutation(rows.num_rows)))
    a, b = (train(texts_of(t, training()), CLASSIFIER, training(), 3, "key") for t in (rows, shuffled))
    assert a == b


def test_labels_at_random_measure_as_chance() -> None:
    rows = table(200, labels={"a": 1000, "b": 1000})
    _, found = train(
        texts_of(rows, training(heldout_fraction=0.3)), CLASSIFIER, training(heldout_fraction=0.3), 3, "key"
    )
    # About 120 texts are held out: the standard deviation of a share of a half is 0.046.
    assert found["heldout"]["accuracy"] == pytest.approx(0.5, abs=0.14)


def test_what_is_not_learnt_from_is_counted() -> None:
    rows = table(40)
    odd = [
        {"text": "one two three", "topic": None, "url": None},
        {"text": " ", "topic": "sport", "url": None},
        {"text": "said twice", "topic": "sport", "url": None},
        {"text": "said  twice", "topic": "cooking", "url": None},
        {**rows.to_pylist()[0]},
        {"text": "white space", "topic": "table  tennis", "url": None},
    ]
    texts = texts_of(pa.concat_tables([rows, pa.Table.from_pylist(odd, schema=rows.schema)]), training())
    assert texts.left_out == {"empty": 1, "repeated": 1, "with_several_labels": 2, "without_label": 1}
    assert len(texts.label) == 121 and "table_tennis" in texts.label
    few = texts_of(rows, training(max_documents=30))
    assert few.left_out == {"beyond_max_documents": 30} and len(few.label) == 90


def test_labels_without_enough_text_are_named() -> None:
    rows = pa.concat_tables([table(40), table(5, labels={"chess": 5000})])
    with pytest.raises(UserError, match=r"key\.sources: 'chess' \(\d\) of the labels have too few texts"):
        train(texts_of(rows, training()), CLASSIFIER, training(), 3, "key")
    with pytest.raises(UserError, match="a classifier needs two labels"):
        train(texts_of(table(60, labels={"chess": 5000}), training()), CLASSIFIER, training(), 3, "key")
