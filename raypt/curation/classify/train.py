"""Train a classifier of labelled texts: normalised as the quality classifier's, measured by label on held-out text.

Everything is chosen by seeded hashes of the normalised text, and fastText runs on one thread with a fixed seed in a
process of its own, so the same texts give the same model, byte for byte, in whatever order they come.
"""

import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from raypt.curation import fasttext_file
from raypt.curation.classify.config import Classifier, Training
from raypt.curation.classify.model import MODEL_FILE, PREFIX, Model
from raypt.curation.quality import fit
from raypt.curation.quality.holdout import hold_out, host_of, mix
from raypt.curation.quality.normalise import normalise
from raypt.curation.quality.train import cut_windows, epochs_for
from raypt.errors import UserError

MIN_TEXTS = 20
"""Distinct training texts that a label needs."""
_PICK_SALT, _TRAIN_SALT = 0x51C5, 0x51C6


@dataclass(frozen=True)
class Texts:
    """Labelled texts, each once, in an order that their hashes give."""

    line: pa.Array
    """large_string[n], normalised."""
    hash: np.ndarray
    label: np.ndarray
    """str[n]."""
    host: list[str | None]
    left_out: dict[str, int]
    """Texts that were not taken, by why."""


def labelled(table: pa.Table, classifier: Classifier, training: Training, seed: int) -> Texts:
    """The texts of `table` (text, `training.label`, and url if known), normalised; at most `max_documents` a label."""
    labels = pc.fill_null(table[training.label].combine_chunks().cast(pa.string()), "").to_pylist()
    labels = ["_".join(label.split()) for label in labels]
    lines = normalise(table["text"].combine_chunks(), classifier.normalisation, classifier.max_bytes)
    urls = table["url"].to_pylist() if "url" in table.column_names else [None] * len(labels)
    hashes = np.array([xxhash.xxh3_64_intdigest(line.as_buffer()) for line in lines], np.uint64)
    said: dict[int, set[str]] = {}
    left_out: Counter[str] = Counter()
    for h, label in zip(hashes.tolist(), labels, strict=True):
        if label:
            said.setdefault(h, set()).add(label)
    taken: Counter[str] = Counter()
    rows, seen = [], set[int]()
    for row in np.lexsort((np.array([url or "" for url in urls]), mix(hashes, seed, _PICK_SALT))).tolist():
        h, label = int(hashes[row]), labels[row]
        if not label:
            left_out["without_label"] += 1
        elif len(lines[row].as_py()) == 0:
            left_out["empty"] += 1
        elif len(said[h]) > 1:
            left_out["with_several_labels"] += 1
        elif h in seen:
            left_out["repeated"] += 1
        elif taken[label] >= training.max_documents:
            left_out["beyond_max_documents"] += 1
        else:
            seen.add(h)
            taken[label] += 1
            rows.append(row)
    return Texts(
        lines.take(pa.array(rows, pa.int64())),
        hashes[rows],
        np.array([labels[row] for row in rows], object),
        [host_of(urls[row]) for row in rows],
        dict(sorted(left_out.items())),
    )


def train(
    texts: Texts, classifier: Classifier, training: Training, seed: int, key: str
) -> tuple[bytes, dict[str, Any]]:
    """(the model's file, what it measured on held-out texts). `key`: of the settings, for messages.

    Raises:
        UserError: fewer than two labels, or a label with too few texts; training met a NaN at every rate.
    """
    split = hold_out(texts.line, texts.hash, texts.host, training.heldout_fraction, seed, key)
    learnt = Counter(texts.label[~split.heldout].tolist())
    few = {label: learnt[label] for label in sorted(set(texts.label.tolist())) if learnt[label] < MIN_TEXTS}
    if few or len(learnt) < 2:
        named = ", ".join(f"{label!r} ({n})" for label, n in few.items())
        raise UserError(
            f"{key}.sources: "
            + (f"{named} of the labels have" if few else f"{len(learnt)} label(s), of which each has")
            + f" too few texts to learn from; a classifier needs two labels and {MIN_TEXTS} distinct texts of each"
        )
    windows = [
        f"{PREFIX}{label} {window}\n"
        for line, label, held in zip(texts.line.to_pylist(), texts.label, split.heldout, strict=True)
        if not held
        for window in cut_windows(line, training.window_bytes, training.max_windows)
    ]
    order = np.argsort(
        mix(np.array([xxhash.xxh3_64_intdigest(w.encode()) for w in windows], np.uint64), seed, _TRAIN_SALT)
    )
    lines = "".join(windows[i] for i in order).encode()
    epochs = epochs_for(lines.count(b" "), training)
    with tempfile.TemporaryDirectory() as scratch:
        text_file, model_file = Path(scratch, "train.txt"), Path(scratch, MODEL_FILE)
        text_file.write_bytes(lines)
        rate = fit.fit_at_some_rate(
            str(text_file),
            str(model_file),
            training.learning_rate,
            key,
            dim=training.dimension,
            epoch=epochs,
            wordNgrams=training.word_ngrams,
            bucket=training.buckets,
            minCount=training.min_count,
            loss="softmax",
            seed=seed & 0x7FFFFFFF,
        )
        data = model_file.read_bytes()
        model = Model(classifier, fasttext_file.load(str(model_file), key)[0])
    held = pa.array(split.heldout)
    found = measure(model, texts.line.filter(held), texts.label[split.heldout])
    taught = {
        "learnt": dict(sorted(learnt.items())),
        "left_out": texts.left_out,
        "learning_rate": rate,
        "epochs": epochs,
    }
    return data, {"heldout": found, "split": split.figures, "training": taught}


def measure(model: Model, lines: pa.Array, labels: np.ndarray) -> dict[str, Any]:
    """Documents, those not measured, accuracy, its mean over labels, and by label: documents, and the shares of them
    that are found (recall) and of what is called so that is so (precision)."""
    answers = np.array(model.ask(lines).label.to_pylist(), object)
    known = np.array([answer is not None for answer in answers], bool)
    right = known & (answers == labels)
    by_label = {}
    for label in sorted(set(labels.tolist())):
        own, called = labels == label, known & (answers == label)
        by_label[label] = {
            "documents": int(own.sum()),
            "recall": _share(right & own, own & known),
            "precision": _share(right & own, called),
        }
    recalls = [of["recall"] for of in by_label.values() if of["recall"] is not None]
    return {
        "documents": len(labels),
        "not_measured": int((~known).sum()),
        "accuracy": _share(right, known),
        "balanced_accuracy": round(float(np.mean(recalls)), 6) if recalls else None,
        "by_label": by_label,
    }


def _share(part: np.ndarray, whole: np.ndarray) -> float | None:
    return round(float(part.sum() / whole.sum()), 6) if whole.any() else None
