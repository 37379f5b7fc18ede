"""The data side of a run, in order: manifest, quality classifier, tag, decide, deduplicate, curated documents."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from raypt import metrics, storage
from raypt.artefact import Card, hash_of, rewrite
from raypt.corpus import python_docs
from raypt.corpus.manifest import Manifest, build_manifest
from raypt.corpus.unchanged import check_unchanged
from raypt.curation.classify import percentiles as classify_percentiles
from raypt.curation.classify.config import Classify
from raypt.curation.classify.prepare import Origin
from raypt.curation.classify.prepare import prepare as prepare_classify
from raypt.curation.config import CurationConfig
from raypt.curation.deciding import DecideAtOnce, decide_all, decided_uri
from raypt.curation.perplexity import percentiles as perplexity_percentiles
from raypt.curation.perplexity.config import Perplexity
from raypt.curation.perplexity.prepare import prepare as prepare_perplexity
from raypt.curation.quality.model import QualityModel
from raypt.curation.quality.sample import sample_documents
from raypt.curation.quality.threshold import QualityThreshold, TooFewTexts
from raypt.curation.quality.train import train_quality
from raypt.curation.reading import check_reading, reading_account
from raypt.curation.tagging import Made, tag, tagged_uri
from raypt.dedup.pipeline import deduplicate
from raypt.dedup.plan import PlannedShard
from raypt.errors import UserError
from raypt.ledger import Ledger
from raypt.ray_session import is_own
from raypt.run.config import RunConfig
from raypt.run.outlook import expected_text_bytes
from raypt.run.stages import timed_stage
from raypt.run.workers_ahead import start_workers
from raypt.run.write import Measure, write_curated
from raypt.run_dir import RunDir

log = logging.getLogger("raypt")


@dataclass(frozen=True)
class Curated:
    """What the data side leaves."""

    manifest: Manifest
    ledger: Ledger
    cards: list[Card]
    """Of the curated parts, in shard order."""
    documents: int
    bytes: int
    measured: dict[int, Card]
    """By shard, of what was measured of the parts that were written in this start."""


def resolve_builtin(config: RunConfig) -> RunConfig:
    """Replace `builtin:` sources by the files they stand for (which `curate` writes), and with them what is not set:
    the classifier's reference set, and thresholds for technical documentation instead of web pages."""
    sources = config.corpus.sources
    if not any(s.is_builtin for s in sources):
        return config
    for i, source in enumerate(sources):
        if source.is_builtin and source.paths != (f"builtin:{python_docs.NAME}",):
            raise UserError(f"corpus.sources[{i}].paths: the one embedded corpus is builtin:{python_docs.NAME}")
    resolved = tuple(python_docs.resolve(s) if s.is_builtin else s for s in sources)
    curation = config.curation
    if curation == CurationConfig():
        curation = CurationConfig(preset="documentation")
    quality = curation.quality
    if quality.model is None and not quality.reference:
        quality = quality.model_copy(update={"reference": (python_docs.reference_source(),)})
    return config.model_copy(
        update={
            "corpus": config.corpus.model_copy(update={"sources": resolved}),
            "curation": curation.model_copy(update={"quality": quality}),
        }
    )


def freeze_inputs(config: RunConfig, run: RunDir) -> Manifest:
    """The run's manifest: made and written the first time, read and checked against the files afterwards."""
    if not run.new and storage.is_file(run.manifest):
        manifest = Manifest.from_json(storage.read_json(run.manifest), run.manifest)
        manifest = manifest.with_credentials(config.corpus.sources)
        check_unchanged(manifest, run.uri)
        return manifest
    manifest = build_manifest(config.corpus, run.uri)
    empty = [f.path for f in manifest.files if f.size == 0]
    if empty:
        log.warning("%d input files are empty, the first: %s", len(empty), empty[0])
    storage.write_json(run.manifest, manifest.to_json())
    return manifest


def prepare_quality(config: RunConfig, run: RunDir, manifest: Manifest) -> QualityModel | None:
    """The classifier of this run: loaded, trained from reference sources against a raw sample, or none."""
    quality = config.curation.quality
    if not config.curation.runs("quality"):
        return None
    if not quality.enabled:
        log.warning("no quality scores: curation.quality names neither a model nor reference sources to train one from")
        return None
    if quality.model is not None:
        return QualityModel.load(quality.model, quality)
    options: dict[str, Any] = {"max_documents": quality.max_documents, "seed": config.run.seed}
    sources = quality.reference
    reference_corpus = config.corpus.model_copy(update={"sources": sources})
    reference_manifest = build_manifest(reference_corpus, run.uri, "curation.quality.reference")
    reference = sample_documents(reference_manifest, config.corpus, config.curation.language, run.uri, **options)
    raw_manifest = manifest
    if quality.raw:
        raw_corpus = config.corpus.model_copy(update={"sources": quality.raw})
        raw_manifest = build_manifest(raw_corpus, run.uri, "curation.quality.raw")
    raw = sample_documents(raw_manifest, config.corpus, config.curation.language, run.uri, **options)
    try:
        model = train_quality(reference, raw, quality, run.quality, config.run.seed)
    except TooFewTexts as e:
        if sources != (python_docs.reference_source(),):
            raise
        # Nobody asked for it by name: what the built-in text is too small for is left out.
        log.warning("the stage quality is left out: %s", e)
        return None
    log.info("quality classifier: %s", describe_quality(model))
    return model


def settle_quality(
    config: RunConfig, model: QualityModel | None
) -> tuple[QualityModel | None, QualityThreshold | None]:
    """The classifier and the rule on its scores; neither, with a warning, if nobody asked for it by name and the text
    is too little for its percentile.

    Raises:
        UserError: the model has no percentile, or one of too few texts.
    """
    if model is None:
        return None, None
    try:
        return model, model.threshold(config.curation.quality.threshold, config.run.seed)
    except TooFewTexts as e:
        if config.curation.quality.reference != (python_docs.reference_source(),):
            raise
        log.warning("the stage quality is left out: %s", e)
        return None, None


def describe_quality(model: QualityModel) -> str:
    """The classifier's held-out figures and the score percentiles of the raw sample, in a line."""
    heldout = model.card.metrics["heldout"]
    figures = ", ".join(f"{k} {heldout[k]:.3f}" for k in ("accuracy", "precision", "recall") if heldout[k] is not None)
    of_raw = model.card.percentiles["all"].get("")  # none, if no raw document was held out
    shown = [f"p{p}={of_raw['scores'][p]:.3f}" for p in (1, 10, 25, 50, 75, 90, 99)] if of_raw else ["not measured"]
    return f"on {heldout['documents']} held-out documents {figures}; raw scores {' '.join(shown)}"


def prepare_classifiers(config: RunConfig, run: RunDir) -> dict[str, Made]:
    """The models of every turn of the `classify` stage, trained or looked at, by its name in the run."""
    out: dict[str, Made] = {}
    origin = Origin(config.corpus, config.curation.language, config.run.seed)
    for stage in config.curation.plan():
        if isinstance(stage.settings, Classify) and stage.settings.models:
            out[stage.name] = prepare_classify(run, stage.name, stage.settings, config.run.verify, origin)
    return out


def settles_percentiles(curation: CurationConfig) -> bool:
    """Whether a stage decides by a percentile over the tagged shards of the run."""
    return any(
        (isinstance(stage.settings, Classify) and classify_percentiles.asked(stage.settings))
        or (isinstance(stage.settings, Perplexity) and stage.settings.percentiles.asked)
        for stage in curation.plan()
    )


def settle_percentiles(config: RunConfig, tagged: list[str]) -> dict[str, Any]:
    """The percentiles that stages decide by, over the tagged shards of the run, by name of the stage."""
    out: dict[str, Any] = {}
    for stage in config.curation.plan():
        if isinstance(stage.settings, Classify):
            out[stage.name] = classify_percentiles.settle_run(tagged, stage.name, stage.settings)
        elif isinstance(stage.settings, Perplexity):
            out[stage.name] = perplexity_percentiles.settle_run(tagged, stage.name, stage.settings)
    return {name: found for name, found in out.items() if found is not None}


def curate(
    config: RunConfig, run: RunDir, *, in_process: bool = False, measure: Callable[[int], Measure] | None = None
) -> Curated:
    """From raw files to `curated/`, `removed/`, `quarantine/` and `ledger.json`; needs a running Ray, or does all of it
    `in_process`. `measure`: how so many curated documents are measured, which is done where they are written.

    Raises:
        UserError: input that cannot be used, too much of it unreadable, nothing left.
    """
    with timed_stage(run, "manifest") as figures:
        if any(python_docs.is_embedded(s) for s in (*config.corpus.sources, *config.curation.quality.reference)):
            python_docs.materialize(config.corpus.builtin, run.uri)
        manifest = freeze_inputs(config, run)
        size = sum(f.size for f in manifest.files)
        log.info("%d files, %.1f MB stored, %d shards", len(manifest.files), size / 1e6, len(manifest.shards))
        figures["expected_text_bytes"] = expected_text_bytes(manifest.files)
    with timed_stage(run, "quality") as figures:
        model, threshold = settle_quality(config, prepare_quality(config, run, manifest))
    verify, curation = config.run.verify, config.curation
    made = prepare_classifiers(config, run)
    for stage in curation.plan():
        if isinstance(stage.settings, Perplexity) and stage.settings.enabled:
            with timed_stage(run, "perplexity"):
                made[stage.name] = prepare_perplexity(
                    run, stage.settings, config.corpus, curation.language, config.run.seed, verify
                )
    with timed_stage(run, "curate") as figures:
        actors = None if in_process else config.ray
        ahead = start_workers if actors is not None and is_own(actors) else None
        at_once = None if settles_percentiles(curation) else DecideAtOnce(run.uri, curation, {"quality": threshold})
        made_now = tag(run, manifest, config.corpus, curation, model, actors, verify, made, at_once, ahead)
        tagged = made_now.cards
        accounts = [card.account for card in tagged]
        metrics.put_ledger(Ledger({"read": reading_account(accounts)}).to_json())
        check_reading(accounts, manifest, run, config.corpus)
        ledger = Ledger({"read": reading_account(accounts)})
        figures |= {"documents": ledger.stages["read"].kept.documents, "bytes": ledger.stages["read"].kept.bytes}
        if not ledger.stages["read"].kept.documents:
            raise UserError("corpus.sources: the input holds no document")
    texts = [tagged_uri(run, i, card) for i, card in enumerate(tagged)]
    with timed_stage(run, "decide") as figures:
        settled = {"quality": threshold, **settle_percentiles(config, texts)}
        decided, decisions = decide_all(run, tagged, config.curation, settled, verify, made_now.decided)
        ledger.merge(decisions)
    dedup: tuple[str, str] | None = None
    if config.dedup.enabled:
        with timed_stage(run, "dedup") as figures:
            dedup_uri = run.path("work", "dedup")
            shards = [
                PlannedShard(
                    index=i,
                    docs_uri=texts[i],
                    decisions_uri=decided_uri(run, i, decisions_of),
                    rows=documents.account["documents"],
                    text_bytes=documents.account["bytes"],
                    stamp=hash_of([documents.content, decisions_of.content]),
                )
                for i, (documents, decisions_of) in enumerate(zip(tagged, decided, strict=True))
            ]
            priority = {s.name: s.priority for s in manifest.sources}
            out_uri = run.path("dedup")
            result = deduplicate(
                shards, config.dedup, dedup_uri, out_uri, source_priority=priority, verify=verify, new=run.new
            )
            ledger.stages["dedup"] = result.account
            entered = result.account.entered
            figures |= {"documents": entered.documents, "bytes": entered.bytes}
            dedup = dedup_uri, result.key
    with timed_stage(run, "write") as figures:
        kept = list(ledger.stages.values())[-1].kept.documents
        made_there = write_curated(run, tagged, decided, dedup, verify, None if measure is None else measure(kept))
        written = made_there.cards
        documents, nbytes = sum(c.account["documents"] for c in written), sum(c.account["bytes"] for c in written)
        figures |= {"documents": documents, "bytes": nbytes}
    ledger.check()
    last = list(ledger.stages.values())[-1].kept
    assert (documents, nbytes) == (last.documents, last.bytes), f"curated/ has {documents} documents, the ledger {last}"
    metrics.put_ledger(ledger.to_json())
    rewrite(run.ledger, storage.json_bytes(ledger.to_json()), new=run.new)
    log.info("kept of what was read (every reason is in the report):\n%s", ledger.short())
    if not documents:
        raise UserError(
            f"no document is left after curation and deduplication; {run.ledger} says which rules removed them"
        )
    return Curated(manifest, ledger, written, documents, nbytes, made_there.measured)
