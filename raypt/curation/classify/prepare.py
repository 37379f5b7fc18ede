"""The classifiers of a run, before it starts: trained if need be, their labels against the configuration, their bytes
for its identity."""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from raypt import storage
from raypt.artefact import Identity, Output, Verify, hash_of, make
from raypt.corpus.config import CorpusConfig
from raypt.corpus.manifest import build_manifest, name_sources
from raypt.curation.classify.config import Classifier, Classify, Training, mistakes
from raypt.curation.classify.model import MODEL_FILE, bare, look, placed
from raypt.curation.language import LanguageConfig
from raypt.errors import UserError
from raypt.run_dir import RunDir

log = logging.getLogger("raypt")

FORMAT = 2
TRAINED_FORMAT = 1
"""Raise it when the same texts give another model."""
CARD_FILE = "card.json"


@dataclass(frozen=True)
class Origin:
    """What training reads its text by."""

    corpus: CorpusConfig
    language: LanguageConfig
    seed: int


def check_settings(settings: Classify, key: str = "curation.classify") -> dict[str, str]:
    """sha256 of the file of each model that has one. Reads every file once.

    Raises:
        UserError: one line a mistake: a file that is no model, a label or a metric that is not there.
    """
    found, problems = {}, []
    for name, model in settings.models.items():
        if model.model is None:
            continue
        try:
            found[name] = look(model, f"{key}.models.{name}")
        except UserError as e:
            problems.append(str(e))
    labels = {name: bare(file.labels) for name, file in found.items()}
    for name, model in settings.models.items():
        if name not in found and model.train is not None and model.train.label == "source":
            labels[name] = [source.name for source in name_sources(model.train.sources)]
    problems += mistakes(settings, labels, key)
    if problems:
        raise UserError("\n".join(problems))
    return {name: file.sha256 for name, file in found.items()}


def check_training(training: Training, key: str) -> None:
    """UserError if a source does not carry the label along."""
    for i, source in enumerate(training.sources):
        if training.label != "source" and training.label not in source.columns:
            raise UserError(
                f"{key}.label: {key}.sources[{i}] carries no column {training.label!r} along; "
                f"name its field in {key}.sources[{i}].columns.{training.label}"
            )


def prepare(
    run: RunDir, name: str, settings: Classify, verify: Verify, origin: Origin | None = None
) -> tuple[str, str]:
    """`(URI of the card that says which bytes the models of a stage have, fingerprint of these)`; `name` is the
    stage's in the run. `origin`: for models that are trained.

    Raises:
        UserError: as `check_settings`; labelled text that no model can be trained of.
    """
    root = run.path("classify", name)
    trained = {
        model: _trained(run, storage.join(root, model), model, classifier, classifier.train, origin, verify)
        for model, classifier in settings.models.items()
        if classifier.train is not None and origin is not None
    }
    hashes = check_settings(placed(settings, root))

    def maker(output: Output) -> dict[str, Any]:
        return {"models": {model: {"sha256": sha256} for model, sha256 in hashes.items()}, "trained": trained}

    make(Identity("classify", FORMAT, hashes), root, CARD_FILE, maker, verify=verify)
    return storage.join(root, CARD_FILE), hash_of(hashes)


def _trained(
    run: RunDir, root: str, name: str, classifier: Classifier, training: Training, origin: Origin, verify: Verify
) -> Mapping[str, Any]:
    """What the model measured; it is trained if it is not there."""
    from raypt.curation.classify.train import labelled, train  # fastText's own training
    from raypt.curation.quality.sample import sample_documents

    key = f"curation.classify.models.{name}.train"
    check_training(training, key)
    classifier = classifier.at(storage.join(root, MODEL_FILE))
    corpus = origin.corpus.model_copy(update={"sources": training.sources})
    manifest = build_manifest(corpus, run.uri, f"{key}.sources")
    settings = {
        "training": training.model_dump(mode="json", exclude={"sources"}),
        "max_bytes": classifier.max_bytes,
        "corpus": origin.corpus.model_dump(mode="json", exclude={"sources", "builtin"}),
        "seed": origin.seed,
    }
    shards = {str(s.index): manifest.shard_key(s.index) for s in manifest.shards}
    identity = Identity("classifier", TRAINED_FORMAT, {"sources": hash_of(shards)}, settings)

    def maker(output: Output) -> dict[str, Any]:
        sample = sample_documents(
            manifest,
            origin.corpus,
            origin.language,
            run.uri,
            max_documents=training.max_documents * len(training.sources),
            seed=origin.seed,
            columns=() if training.label == "source" else (training.label,),
        )
        data, found = train(labelled(sample, classifier, training, origin.seed), classifier, training, origin.seed, key)
        output.write_bytes(MODEL_FILE, data)
        return {"sha256": hashlib.sha256(data).hexdigest(), **found}

    account = make(identity, root, CARD_FILE, maker, verify=verify).account
    heldout = account["heldout"]
    log.info(
        "classifier %s: %d labels, accuracy %s on %d held-out documents",
        name,
        len(account["training"]["learnt"]),
        heldout["accuracy"],
        heldout["documents"],
    )
    found: Mapping[str, Any] = account
    return found
