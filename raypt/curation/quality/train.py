"""Train the quality classifier: reference text against raw pages, balanced, without duplicates, measured on held-out
text.

Everything is chosen by seeded hashes of the normalised text, and fastText runs on one thread with a fixed seed in a
process of its own (see `fit`), so the same inputs give the same model, byte for byte, in whatever order they come.
"""

import hashlib
import itertools
import logging
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import fasttext
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from raypt import storage
from raypt.curation.quality import fit, metrics
from raypt.curation.quality.config import Normalisation, QualityConfig
from raypt.curation.quality.holdout import SPLIT, hold_out, host_of, mix
from raypt.curation.quality.model import CARD_FILE, MODEL_FILE, QualityCard, QualityModel
from raypt.curation.quality.normalise import normalise
from raypt.curation.quality.threshold import TooFewTexts
from raypt.errors import UserError

log = logging.getLogger("raypt")

NORMALISATION: Normalisation = "words-v1"
LABELS = {True: "ref", False: "raw"}
MIN_TRAINING_DOCUMENTS = 20
TARGET_WORDS = 60_000_000
"""Words that training sees over all its passes, if the number of passes is not set."""
_PICK_SALT = 0x51C4


class HasEpochs(Protocol):
    """Settings of a training."""

    @property
    def epochs(self) -> int | None: ...


@dataclass(frozen=True)
class _Side:
    """Documents of one side, without duplicates and in hash order: text_N, hash_N, lang_N, source_N, host_N,
    heldout_N."""

    text: pa.Array
    hash: np.ndarray
    lang: pa.Array
    source: pa.Array
    host: list[str | None]
    heldout: np.ndarray

    def where(self, keep: np.ndarray) -> "_Side":
        mask = pa.array(keep)
        return _Side(
            self.text.filter(mask),
            self.hash[keep],
            self.lang.filter(mask),
            self.source.filter(mask),
            [host for host, kept in zip(self.host, keep.tolist(), strict=True) if kept],
            self.heldout[keep],
        )


def _column(table: pa.Table, name: str) -> pa.Array:
    if name in table.column_names:
        return table[name].combine_chunks().cast(pa.string())
    return pa.nulls(len(table), pa.string())


def _side(table: pa.Table, config: QualityConfig, seed: int) -> _Side:
    text = table["text"].combine_chunks() if "text" in table.column_names else None
    if text is None:
        raise UserError(f"the training set has no column 'text'; it has {', '.join(table.column_names)}")
    lines = normalise(text, NORMALISATION, config.max_bytes)
    hashes = np.array([xxhash.xxh3_64_intdigest(line.as_buffer()) for line in lines], np.uint64)
    _, first = np.unique(hashes, return_index=True)
    first = first[pc.binary_length(lines).to_numpy()[first] > 0]
    order = first[np.argsort(mix(hashes[first], seed, _PICK_SALT), kind="stable")][: config.max_documents]
    taken = pa.array(order)
    return _Side(
        lines.take(taken),
        hashes[order],
        _column(table, "lang").take(taken),
        _column(table, "source").take(taken),
        [host_of(url) for url in _column(table, "url").take(taken).to_pylist()],
        np.zeros(len(order), bool),
    )


def _split(sides: Sequence[_Side], config: QualityConfig, seed: int) -> tuple[list[_Side], dict[str, int]]:
    """(the sides with what is held out of them: whole groups, whichever sides they are on; figures of the split)."""
    hosts = [host for side in sides for host in side.host]
    hashes = np.concatenate([side.hash for side in sides])
    lines = pa.concat_arrays([side.text for side in sides])
    split = hold_out(lines, hashes, hosts, config.heldout_fraction, seed, "quality classifier")
    bounds = np.cumsum([0, *(len(side.hash) for side in sides)])
    cut = [replace(side, heldout=split.heldout[a:b]) for side, a, b in zip(sides, bounds, bounds[1:], strict=False)]
    return cut, split.figures


def cut_windows(line: str, window_bytes: int, max_windows: int) -> list[str]:
    """At most `max_windows` windows of `window_bytes` UTF-8 bytes of a normalised line, spread out, cut at spaces."""
    data = line.encode()
    if len(data) <= window_bytes:
        return [line]
    count = min(max_windows, len(data) // window_bytes)
    step = (len(data) - window_bytes) / max(count - 1, 1)
    out = []
    for i in range(count):
        start = int(i * step)
        end = start + window_bytes
        if start:
            start = (data.find(b" ", start, end) + 1) or start
        if end < len(data):
            last = data.rfind(b" ", start, end)
            end = last if last > start else end
        out.append(data[start:end].decode(errors="ignore"))
    return out


def _balanced(reference: _Side, raw: _Side, config: QualityConfig) -> tuple[list[str], list[str], dict[str, int]]:
    """Training windows of each side, as many of one as of the other in each language, and their number by language.

    A language that only one side has would let the classifier tell the sides by language: it is left out.
    """
    by_lang: dict[bool, dict[str, list[str]]] = {}
    for is_reference, side in ((True, reference), (False, raw)):
        documents: dict[str, list[list[str]]] = defaultdict(list)
        for line, lang in zip(side.text.to_pylist(), side.lang.to_pylist(), strict=True):
            documents[lang or ""].append(cut_windows(line, config.window_bytes, config.max_windows))
        # First windows first: what is left out then is further windows of the same documents, not documents.
        by_lang[is_reference] = {
            lang: [w for rank in itertools.zip_longest(*cut) for w in rank if w is not None]
            for lang, cut in documents.items()
        }
    counts = {lang: min(len(by_lang[True][lang]), len(by_lang[False].get(lang, []))) for lang in sorted(by_lang[True])}
    counts = {lang: n for lang, n in counts.items() if n}
    chosen = {side: [w for lang, n in counts.items() for w in by_lang[side][lang][:n]] for side in (True, False)}
    return chosen[True], chosen[False], counts


def epochs_for(words: int, config: HasEpochs) -> int:
    """Passes over a training set of so many words."""
    return config.epochs or min(max(round(TARGET_WORDS / max(words, 1)), 5), 25)


def _fit(text_file: str, model_file: str, config: QualityConfig, epochs: int, seed: int) -> float:
    """Train into `model_file`; the learning rate that worked."""
    return fit.fit_at_some_rate(
        text_file,
        model_file,
        config.learning_rate,
        "curation.quality",
        dim=config.dimension,
        epoch=epochs,
        wordNgrams=config.word_ngrams,
        bucket=config.buckets,
        minCount=config.min_count,
        loss="softmax",
        seed=seed & 0x7FFFFFFF,
    )


def _inputs_fingerprint(reference: _Side, raw: _Side, config: QualityConfig, seed: int) -> str:
    settings = config.model_dump(
        mode="json", exclude={"model", "model_sha256", "label", "normalisation", "reference", "raw", "threshold"}
    )
    h = hashlib.sha256(repr((SPLIT, sorted(settings.items()), seed, metadata.version("fasttext"))).encode())
    for side in (reference, raw):
        h.update(side.hash.tobytes())
        h.update(repr((side.lang.to_pylist(), side.source.to_pylist(), side.host)).encode())
    return h.hexdigest()[:32]


def _training_lines(reference: list[str], raw: list[str], seed: int) -> bytes:
    lines = [f"__label__{LABELS[True]} {w}\n" for w in reference] + [f"__label__{LABELS[False]} {w}\n" for w in raw]
    order = np.random.default_rng(seed).permutation(len(lines))
    return "".join(lines[i] for i in order).encode()


def _measure(model: QualityModel, reference: _Side, raw: _Side, raw_all: _Side) -> tuple[dict[str, Any], Any]:
    """Held-out metrics (reference against raw that is no reference); percentiles of the whole held-out raw sample."""
    scores = {id(side): model.score_normalised(side.text) for side in (reference, raw, raw_all)}
    score = np.concatenate([scores[id(reference)], scores[id(raw)]])
    is_reference = np.concatenate([np.ones(len(reference.hash), bool), np.zeros(len(raw.hash), bool)])
    measured = pa.array(~np.isnan(score))
    lang = pa.concat_arrays([reference.lang, raw.lang]).filter(measured)
    source = pa.concat_arrays([reference.source, raw.source]).filter(measured)
    unmeasured = int(np.isnan(score).sum())
    score, is_reference = score[~np.isnan(score)], is_reference[~np.isnan(score)]
    found = {
        "not_measured": unmeasured,
        "heldout": metrics.confusion(score, is_reference),
        "heldout_by_language": metrics.confusion_by(score, is_reference, lang),
        "heldout_by_source": metrics.confusion_by(score, is_reference, source),
        "area_under_roc": metrics.area_under_roc(score, is_reference),
        "calibration": metrics.calibration(score, is_reference),
    }
    all_scores = scores[id(raw_all)]
    known = ~np.isnan(all_scores)
    groups = {"lang": raw_all.lang.filter(pa.array(known)), "source": raw_all.source.filter(pa.array(known))}
    return found, metrics.score_percentiles(all_scores[known], groups)


def train_quality(reference: pa.Table, raw: pa.Table, config: QualityConfig, out_uri: str, seed: int) -> QualityModel:
    """Train on documents `reference` (good) against `raw` and write the artefact to `out_uri`; return it, loaded.

    The tables have `text`, and optionally `lang` (then both sides are balanced by language), `source` and
    `url` (then a host is held out as a whole). Texts that
    are on both sides count as reference in training and as raw in the percentiles. If `out_uri` holds the model of
    these very inputs, it is loaded instead. Raises TooFewTexts if either side has too few documents.
    """
    (ref, raw_all), split = _split([_side(reference, config, seed), _side(raw, config, seed)], config, seed)
    inputs = _inputs_fingerprint(ref, raw_all, config, seed)
    card_uri = storage.join(out_uri, CARD_FILE)
    if storage.exists(card_uri) and storage.read_json(card_uri).get("inputs") == inputs:
        log.info("quality classifier: %s was trained on these inputs already", out_uri)
        return QualityModel.load(out_uri)

    raw_only = raw_all.where(~np.isin(raw_all.hash, ref.hash))
    train_ref, train_raw = ref.where(~ref.heldout), raw_only.where(~raw_only.heldout)
    reference_windows, raw_windows, by_language = _balanced(train_ref, train_raw, config)
    for name, side, windows in (("reference", train_ref, reference_windows), ("raw", train_raw, raw_windows)):
        if len(windows) < MIN_TRAINING_DOCUMENTS:
            raise TooFewTexts(
                f"curation.quality.{name}: {len(windows)} training windows from {len(side.hash)} distinct documents "
                f"are too few (at least {MIN_TRAINING_DOCUMENTS}, in languages that both sides have); add text, or "
                "set curation.quality.reference=[] to do without the classifier"
            )
    if config.threshold.percentile is not None and not raw_all.heldout.any():
        raise TooFewTexts(
            f"curation.quality.raw: none of {len(raw_all.hash)} distinct documents is held out, and "
            "curation.quality.threshold.percentile is of these; add text, or raise curation.quality.heldout_fraction"
        )
    with tempfile.TemporaryDirectory() as scratch:
        train_file, model_file = Path(scratch, "train.txt"), Path(scratch, MODEL_FILE)
        lines = _training_lines(reference_windows, raw_windows, seed)
        train_file.write_bytes(lines)
        epochs = epochs_for(lines.count(b" "), config)
        rate = _fit(str(train_file), str(model_file), config, epochs, seed)
        data = model_file.read_bytes()
        model = fasttext.load_model(str(model_file))

    card = QualityCard(
        label=LABELS[True],
        normalisation=NORMALISATION,
        max_bytes=config.max_bytes,
        model_sha256=hashlib.sha256(data).hexdigest(),
        seed=seed,
        inputs=inputs,
    )
    trained = QualityModel(out_uri, card, model)
    found, percentiles = _measure(
        trained, ref.where(ref.heldout), raw_only.where(raw_only.heldout), raw_all.where(raw_all.heldout)
    )
    found["training"] = {
        "reference_documents": len(train_ref.hash),
        "raw_documents": len(train_raw.hash),
        "windows_per_side_by_language": by_language,
        "learning_rate": rate,
        "epochs": epochs,
        "documents_on_both_sides": len(raw_all.hash) - len(raw_only.hash),
    }
    found["split"] = split
    card = QualityCard(**{**asdict(card), "metrics": found, "percentiles": percentiles})
    storage.remove(card_uri)  # never an old card beside a new model
    storage.write_bytes(storage.join(out_uri, MODEL_FILE), data)
    storage.write_json(card_uri, {**asdict(card), "fingerprint": card.fingerprint})
    return QualityModel(out_uri, card, model)
