"""`--dry-run`: what a job would read, make anew and use as it is, and what it needs. Nothing is written.

The data side is compared shard by shard with what the run directory has, as the job itself will (`Collection.look`);
what depends on text that is not there yet can only be told from its settings.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from raypt import storage
from raypt.artefact import Card
from raypt.corpus import python_docs
from raypt.corpus.manifest import Manifest, build_manifest
from raypt.corpus.unchanged import check_unchanged
from raypt.curation import deciding, tagging
from raypt.curation.perplexity.config import Perplexity
from raypt.curation.perplexity.prepare import trained_languages
from raypt.curation.quality.model import QualityModel
from raypt.errors import UserError
from raypt.lease import holder_of
from raypt.outside import redact
from raypt.run.check import check
from raypt.run.config import RunConfig
from raypt.run.curate import resolve_builtin, settle_quality
from raypt.run.open import LEASE, Changes, changes
from raypt.run.planner.answer import describe, model_of, own_layout
from raypt.run.planner.memory import memory
from raypt.run.planner.shape import Shape
from raypt.run.starting import as_planned, with_start
from raypt.run_dir import RunDir
from raypt.training.checkpoint.directory import newest_step
from raypt.training.sizes import check_mesh, check_workers

JOBS = ("pretrain", "curate", "tokenize")
"""Jobs whose course can be told beforehand."""
OF_NO_TOKEN = ("tokens.export.", "tokens.stream.", "tokens.mixture.")
"""Settings of `tokens` that decide how they are used, not what they are."""
SHOWN = 5
"""Settings, sources and reasons that are listed; of more, the number is said."""


def forecast(job: str, config: RunConfig) -> str:
    """The text that `--dry-run` prints.

    Raises:
        UserError: what the job itself would end with before its work starts; or this job has no forecast.
    """
    if job not in JOBS:
        raise UserError(f"--dry-run: {job} has none; it is for {', '.join(JOBS)}")
    config, found = (resolve_builtin(config), None) if job == "curate" else with_start(resolve_builtin(config))
    if job == "pretrain":
        workers = check_workers(config.train, config.tokens.packing.sequence_length)
        check_mesh(config.model, config.train, config.tokens.packing.sequence_length)
    check(config)
    run = RunDir(config.run_uri)
    changed = changes(config, run)
    if changed is not None and changed.refused:
        raise UserError(changed.refusal(run.uri))
    lines = [f"{job} in {run.uri}", *_state(run, changed)]
    manifest = _manifest(config, run)
    lines += ["", "reads:", *_inputs(config, manifest), "", "makes:"]
    if manifest is None:
        lines.append("  everything")
    else:
        lines += _data(config, run, manifest, changed)
        if job != "curate":
            lines += _tokens(run, changed)
    if job == "pretrain":
        lines += [*_training(config, run), "", "needs, at the same time:", *_needs(as_planned(config, found), workers)]
    else:
        most = config.ray.max_actors or "as many as there are CPUs"
        lines += [
            "",
            f"needs: {config.ray.actor_cpus:g} CPU for each actor, of which {config.ray.min_actors} to {most}",
        ]
    return "\n".join([*lines, "", "nothing was changed"])


def _state(run: RunDir, changed: Changes | None) -> Iterator[str]:
    held = holder_of(run.path(*LEASE))
    if held is not None:
        yield f"  held by {held[0].what} on {held[0].host} since {held[0].since}: this job would be refused now"
    if changed is None:
        yield "  a new run"
        return
    yield "  resumes what is there" + ("" if changed.all else ", with the settings of the last start")
    yield from (f"  {key}: was {before!r}, now {after!r}" for key, before, after in changed.all[:SHOWN])
    if len(changed.all) > SHOWN:
        yield f"  and {len(changed.all) - SHOWN} more settings"


def _manifest(config: RunConfig, run: RunDir) -> Manifest | None:
    """The frozen inputs, checked against the files that are there; listed now where nothing is frozen yet; None where
    the text is still to be written."""
    if storage.exists(run.manifest):
        manifest = Manifest.from_json(storage.read_json(run.manifest), run.manifest)
        manifest = manifest.with_credentials(config.corpus.sources)
        check_unchanged(manifest, run.uri)
        return manifest
    if any(python_docs.is_embedded(source) for source in config.corpus.sources):
        return None
    return build_manifest(config.corpus, run.uri)


def _inputs(config: RunConfig, manifest: Manifest | None) -> Iterator[str]:
    if manifest is None:
        yield f"  the documentation of this Python's packages, at most {_bytes(config.corpus.builtin.max_bytes)}"
        return
    for source in manifest.sources[:SHOWN]:
        files = [f for f in manifest.files if f.source == source.name]
        shards = sum(shard.source == source.name for shard in manifest.shards)
        paths = ", ".join(map(redact, source.paths))
        size = _bytes(sum(f.size for f in files))
        yield f"  {source.name}: {len(files):,} files, {size}, {shards:,} shards ({paths})"
    if len(manifest.sources) > SHOWN:
        size = _bytes(sum(f.size for f in manifest.files))
        yield f"  {len(manifest.sources):,} sources in all: {len(manifest.files):,} files, {size}"
    for name, reasons in manifest.skipped.items():
        said = ", ".join(f"{found['count']} {reason}" for reason, found in reasons.items())
        yield f"  {name}: passed over {said}"


@dataclass(frozen=True)
class _Classifier:
    """The quality classifier as far as it is known: none, there, or to be trained."""

    model: QualityModel | None = None
    trained: bool = False


def _classifier(config: RunConfig, run: RunDir, changed: Changes | None) -> _Classifier:
    quality = config.curation.quality
    if not config.curation.runs("quality") or not quality.enabled:
        return _Classifier()
    if quality.model is not None:
        return _Classifier(QualityModel.load(quality.model, quality))
    other = any(
        key.startswith(("curation.quality.", "curation.language.", "corpus."))
        and not key.startswith("curation.quality.threshold")
        for key, _, _ in (() if changed is None else changed.all)
    )
    if other or not storage.listdir(run.quality):
        return _Classifier(trained=True)
    return _Classifier(QualityModel.load(run.quality))


def _data(config: RunConfig, run: RunDir, manifest: Manifest, changed: Changes | None) -> Iterator[str]:
    classifier = _classifier(config, run, changed)
    count = len(manifest.shards)
    if classifier.trained:
        yield "  quality classifier: trained, and with its scores all that follows"
        yield f"  tagged documents: {count:,} shards"
        return
    if any(stage.settings.stage in ("perplexity", "classify") for stage in config.curation.plan()):
        yield f"  models of the stages, then tagged documents: {count:,} shards at most"
        yield from _perplexity(config, run)
        return
    model, threshold = settle_quality(config, classifier.model)
    wanted = tagging.identities(manifest, config.corpus, config.curation, model)
    tagged, why = tagging.collection(run).look(wanted, config.run.verify)
    yield _line("tagged documents", tagged, why)
    if None in tagged:
        yield "  decisions, duplicates, curated text: those of documents that come out otherwise"
        return
    cards = [card for card in tagged if card is not None]
    decided, why = deciding.collection(run).look(
        deciding.identities(cards, config.curation, {"quality": threshold}), config.run.verify
    )
    yield _line("decisions", decided, why)
    keys = [key for key, _, _ in (() if changed is None else changed.all)]
    if None in decided:
        yield "  duplicates, curated text: if decisions come out otherwise"
    elif any(key.startswith("dedup") for key in keys):
        yield "  duplicates, curated text: anew, dedup has other settings"
    else:
        there = sum(name.endswith(".parquet") for name in storage.listdir(run.path("curated")))
        yield f"  duplicates, curated text: {there:,} shards as they are" + (
            f", {count - there:,} to be made" if there < count else ""
        )


def _perplexity(config: RunConfig, run: RunDir) -> Iterator[str]:
    """The languages that have a model, and what percentiles decide."""
    stages = [s.settings for s in config.curation.plan() if isinstance(s.settings, Perplexity)]
    for stage in stages:
        there, asked = trained_languages(run), stage.percentiles
        if stage.models:
            yield f"  perplexity of {', '.join(sorted(stage.models))}: models from files"
        elif there:
            yield f"  perplexity of {', '.join(there)}: models trained before, if reference and settings are the same"
        else:
            yield "  perplexity: a model of each language of the reference sources is trained"
        said = [f"below percentile {asked.min:g} goes" if asked.min is not None else ""]
        said.append(f"above percentile {asked.max:g} goes" if asked.max is not None else "")
        if asked.buckets:
            said.append("head, middle and tail are cut at {:g} and {:g}".format(*asked.buckets))
        if asked.asked:
            groups = ", ".join(asked.within) or "the run"
            yield f"  decisions: {'; '.join(filter(None, said))}, within {groups}, once all documents are measured"


def _line(what: str, cards: list[Card | None], why: dict[int, str]) -> str:
    there = sum(card is not None for card in cards)
    anew = f"{len(why):,} anew" if why else ""
    first = f" ({next(iter(dict.fromkeys(why.values())))})" if why else ""
    new = len(cards) - there - len(why)
    parts = [f"{there:,} shards as they are" if there else "", anew + first, f"{new:,} to be made" if new else ""]
    return f"  {what}: {', '.join(part for part in parts if part)}"


def _tokens(run: RunDir, changed: Changes | None) -> Iterator[str]:
    keys = [key for key, _, _ in (() if changed is None else changed.all)]
    for what, place, ending, decided_by in (
        ("tokenizer", run.tokenizer, "tokenizer.card.json", "tokens.tokenizer"),
        ("token shards", run.token_store, ".tok", "tokens."),
    ):
        there = sum(name.endswith(ending) for name in storage.listdir(place))
        if not there:
            yield f"  {what}: to be made"
        elif any(_decides(key, decided_by) for key in keys):
            yield f"  {what}: anew, other settings"
        else:
            yield f"  {what}: {there:,} as they are, as far as the text stays the same"


def _decides(key: str, section: str) -> bool:
    """Whether a setting of that section decides what tokens are."""
    return key.startswith(section) and (key == "tokens.mixture.by" or not key.startswith(OF_NO_TOKEN))


def _training(config: RunConfig, run: RunDir) -> Iterator[str]:
    steps, batch = config.train.steps, config.train.global_batch_tokens
    done = newest_step(run.path("checkpoints")) or 0
    if done >= steps:
        yield f"  training: done at step {done:,}"
    elif done:
        yield f"  training: goes on at step {done:,} of {steps:,}, {(steps - done) * batch / 1e6:,.1f} million tokens"
    else:
        yield f"  training: {steps:,} steps, {steps * batch / 1e6:,.1f} million tokens"


def _needs(config: RunConfig, workers: list[int]) -> Iterator[str]:
    from raypt.run.pretrain import needs

    cpus, gpus = needs(config, workers[0])
    yield f"  {sum(cpus.values()):g} CPUs: " + ", ".join(f"{what} {n:g}" for what, n in cpus.items())
    if gpus:
        yield f"  {gpus:g} GPUs"
    if config.train.strategy == "collective" and not config.train.zero.offload_params:
        layout = own_layout(config, workers[-1], gpu=config.train.use_gpu)
        each = memory(Shape.of(model_of(config, least=True)), layout, gpu=config.train.use_gpu)
        yield f"  {_bytes(each.total)} of memory for each worker ({describe(layout)}); `raypt plan` says more"


def _bytes(n: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n >= size:
            return f"{n / size:.3g} {unit}"
    return f"{n:.0f} bytes"
