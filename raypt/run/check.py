"""Everything that can be known wrong before work starts, looked at before: minutes, not days, and no directory claimed.

What a run froze already (its manifest is there) is not looked at again: it is checked against the manifest.
"""

import difflib
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from raypt import plugins, storage
from raypt.corpus.config import SourceConfig
from raypt.corpus.inputs import RUN_SCHEME, list_source
from raypt.corpus.manifest import default_name, name_sources
from raypt.corpus.presets import apply_preset, document_columns
from raypt.curation import languages
from raypt.curation.classify.config import PERCENTILE, Classify
from raypt.curation.classify.prepare import check_settings, check_training
from raypt.curation.language import known_codes
from raypt.curation.perplexity.config import BUCKET, Perplexity
from raypt.curation.perplexity.files import look as look_at_models
from raypt.curation.plan import NO_LANGUAGE, Stage
from raypt.curation.presets import languages_of_preset
from raypt.curation.quality.model import languages_with_percentiles
from raypt.errors import UserError
from raypt.outside import redact
from raypt.packages import package_version
from raypt.retries import StorageError
from raypt.run.config import RunConfig
from raypt.run_dir import RunDir
from raypt.schemes import check_scheme
from raypt.tokens.groups import columns
from raypt.tokens.shares import load_shares

log = logging.getLogger("raypt")


def check(config: RunConfig) -> None:
    """Look at names, files and directories that a configuration speaks of.

    Costs a listing of each input directory, a request each other file that is named, and a read of the evaluation sets.

    Raises:
        UserError: one line a mistake, each naming its key.
    """
    problems: list[str] = []

    def collect(found: Iterable[str]) -> None:
        try:
            problems.extend(found)
        except (UserError, StorageError) as e:
            problems.append(str(e))

    collect(_schemes(config))
    if not problems:  # else what follows would meet the same wall
        collect(_mixture(config))
        collect(_run_dir(config))
        collect(_engine(config))
        collect(_packages(config))
        if not _is_frozen(config):
            for key, sources in _inputs(config):
                for i, source in enumerate(sources):
                    collect(_source(source, f"{key}[{i}]", config.corpus.broken_files))
            collect(_files(config))
            collect(_languages(config))
            collect(_classifiers(config))
            collect(_models_of_perplexity(config))
            collect(_evaluation_sets(config))
        collect(_tasks(config))
    if problems:
        raise UserError("\n".join(dict.fromkeys(problems)))


def _is_frozen(config: RunConfig) -> bool:
    try:
        return storage.is_file(RunDir(config.run_uri).manifest)
    except StorageError:  # `_run_dir` says it
        return False


def _perplexity(config: RunConfig) -> Perplexity | None:
    """The settings of the stage, if it runs."""
    return next((s.settings for s in config.curation.plan() if isinstance(s.settings, Perplexity)), None)


def _inputs(config: RunConfig) -> Iterator[tuple[str, tuple[SourceConfig, ...]]]:
    """Lists of sources that the data side reads, with their keys."""
    yield "corpus.sources", config.corpus.sources
    quality = config.curation.quality
    if config.curation.runs("quality") and quality.model is None:
        yield "curation.quality.reference", quality.reference
        yield "curation.quality.raw", quality.raw
    if (perplexity := _perplexity(config)) is not None:
        yield "curation.perplexity.reference", perplexity.reference
    for stage in config.curation.plan():
        if isinstance(stage.settings, Classify):
            for name, model in stage.settings.models.items():
                if model.train is not None:
                    yield f"curation.classify.models.{name}.train.sources", model.train.sources


def _single_files(config: RunConfig) -> Iterator[tuple[str, str]]:
    """(key, path) of the files that the data side loads whole."""
    if config.tokens.tokenizer.path:
        yield "tokens.tokenizer.path", config.tokens.tokenizer.path
    for stage in config.curation.plan():
        yield from ((f"curation.{_key(stage, key)}", uri) for key, uri in stage.settings.named_files().items())


def _key(stage: Stage, key: str) -> str:
    """A setting of a turn of a stage: of its section, or of a further turn."""
    return f"{stage.name}.{key}" if stage.name == stage.settings.stage else f"stages: {stage.name}: {key}"


def named_uris(config: RunConfig) -> list[tuple[str, str]]:
    """(key, path or URI) of all that a configuration reads and writes."""
    named = [("run.dir", config.run_uri), *_single_files(config)]
    for key, sources in _inputs(config):
        named += [(f"{key}[{i}].paths[{j}]", p) for i, s in enumerate(sources) for j, p in enumerate(s.paths)]
    named += [(f"dedup.contamination.paths[{i}]", p) for i, p in enumerate(config.dedup.contamination.paths)]
    if config.dedup.index:
        named.append(("dedup.index", config.dedup.index))
    return named


def _schemes(config: RunConfig) -> Iterator[str]:
    for key, uri in named_uris(config):
        try:
            check_scheme(uri, key)
        except UserError as e:
            yield str(e)


def _mixture(config: RunConfig) -> Iterator[str]:
    """Names in the mixture that are no source, or might be one of several."""
    sources = config.corpus.sources
    names = [s.name for s in name_sources(sources)]
    derived = Counter(default_name(s) for s in sources if not s.name)
    mixture = config.tokens.mixture
    if not config.dedup.enabled and any(name.partition("~")[0] == "dedup.cluster_size" for name in mixture.by):
        yield "tokens.mixture.by: dedup.cluster_size is not known without deduplication; set dedup.enabled=true"
    if "lang" in columns(mixture.by) and not config.curation.knows_language(document_columns(sources)):
        yield f"tokens.mixture.by: lang {NO_LANGUAGE}"
    perplexity = _perplexity(config)
    if f"perplexity.{BUCKET}" in columns(mixture.by) and (perplexity is None or perplexity.percentiles.buckets is None):
        yield (
            f"tokens.mixture.by: there is no perplexity.{BUCKET} without buckets; name the stage perplexity in "
            "curation.stages and set curation.perplexity.percentiles.buckets=[30,60]"
        )
    for stage in config.curation.plan():
        for column in columns(mixture.by):
            metric = column.removeprefix(f"{stage.name}.")
            if not isinstance(stage.settings, Classify) or metric == column or not metric.endswith(PERCENTILE):
                continue
            if metric not in stage.settings.settled_names():
                yield (
                    f"tokens.mixture.by: there is no {column}; curation.classify.percentiles gives it: "
                    f"{{{metric.removesuffix(PERCENTILE)}: {{}}}}"
                )
    weights = mixture.weights
    if isinstance(weights, str):
        load_shares(weights)
        weights = {}
    if mixture.by != ("source",):
        return  # the groups are known once the text is curated
    named = [("weights", list(weights or {})), ("limits", list(mixture.limits))]
    named += [(f"curriculum[{i}].weights", list(step.weights)) for i, step in enumerate(mixture.curriculum)]
    for where, said in named:
        for name in said:
            if name not in names:
                near = difflib.get_close_matches(name, names, 1, 0.5)
                hint = f"; did you mean {near[0]}?" if near else "."
                yield f"tokens.mixture.{where}.{name}: no source is named so{hint} The sources are {', '.join(names)}"
            elif derived[name] > 1:
                yield (
                    f"tokens.mixture.{where}.{name}: {derived[name]} sources would be named {name!r} by their paths; "
                    "give each a name of its own (corpus.sources[i].name)"
                )


def _engine(config: RunConfig) -> Iterator[str]:
    """An engine of the user's that is not there."""
    if plugins.is_plugin(config.train.strategy):
        from raypt.training.engines import engine_factory

        engine_factory(config.train.strategy)
    yield from ()


def _packages(config: RunConfig) -> Iterator[str]:
    """Packages beside raypt's own that the data side needs, and that are not installed here."""
    for key, packages in (
        ("curation.stages", config.curation.packages()),
        (f"corpus.html.engine={config.corpus.html.engine}", config.corpus.html.packages()),
    ):
        for name, install in packages.items():
            if package_version(name) is None:
                yield f"{key}: the package {name} is needed and not installed here: {install}"


def _run_dir(config: RunConfig) -> Iterator[str]:
    """A local run directory that cannot be made or written, seen without making it; a remote one that cannot be looked
    at. That it cannot be written shows when it is opened."""
    if not storage.is_local(config.run_uri):
        try:
            storage.listdir(config.run_uri)
        except StorageError as e:
            yield f"run.dir: {e}"
        return
    path = Path(storage.filesystem(config.run_uri)[1])
    there = next(p for p in (path, *path.parents) if p.exists())
    if not there.is_dir():
        yield f"run.dir: {there} is a file, not a directory"
    elif not os.access(there, os.W_OK | os.X_OK):
        yield f"run.dir: {there} cannot be written by this user"


def _source(source: SourceConfig, key: str, broken_files: str) -> Iterator[str]:
    """Paths of a source that match nothing, or files whose format cannot be told."""
    source = apply_preset(source, key)
    if any(pattern.startswith(RUN_SCHEME) for pattern in source.paths):
        return  # the run itself makes these
    try:
        list_source(source, key, "", broken_files, again=True)
    except UserError as e:
        yield str(e)
    except Exception as e:  # each file system has errors of its own
        yield f"{key}.paths: {', '.join(map(redact, source.paths))} cannot be listed: {type(e).__name__}: {e}"


def _files(config: RunConfig) -> Iterator[str]:
    for key, uri in _single_files(config):
        if not storage.exists(uri):
            yield f"{key}: no file {uri}"


def _classifiers(config: RunConfig) -> Iterator[str]:
    """Labels that classifiers do not have, of those on a local disk; the others are read when the run starts."""
    for stage in config.curation.plan():
        if not isinstance(stage.settings, Classify):
            continue
        models = stage.settings.models
        if not models:
            yield "curation.classify: the stage is on and has no model; name one in curation.classify.models"
            continue
        for name, classifier in models.items():
            if classifier.train is not None:
                check_training(classifier.train, f"curation.classify.models.{name}.train")
        files = [m.model for m in models.values() if m.model is not None]
        if all(storage.is_local(uri) and storage.exists(uri) for uri in files):
            check_settings(stage.settings)


def _models_of_perplexity(config: RunConfig) -> Iterator[str]:
    """A stage without models, and files on a local disk that are none; the others are read when the run starts."""
    perplexity = _perplexity(config)
    if perplexity is None:
        return
    if perplexity.models and all(storage.is_local(u) and storage.exists(u) for u in perplexity.models.values()):
        look_at_models(perplexity)
    if not perplexity.enabled:
        yield (
            "curation.perplexity: the stage is on and has no model; name sources of good text in "
            "curation.perplexity.reference, or files in curation.perplexity.models"
        )


def _languages(config: RunConfig) -> Iterator[str]:
    """Languages that the language model gives to no document: what is asked for by them never comes."""
    curation, model = config.curation, config.curation.language.model
    if not curation.runs("language") or (model and not (storage.is_local(model) and storage.exists(model))):
        return
    said: list[tuple[str, Iterable[str]]] = [("by_language", curation.by_language)]
    for stage in curation.plan():
        said += [(_key(stage, key), named) for key, named in stage.settings.named_languages().items()]
        if "lang" in stage.when:
            said.append((f"stages: {stage.name}: when.lang", stage.when["lang"].among or ()))
    along = languages_of_preset(curation.preset)  # lists for more languages than a model need know
    quality = curation.quality
    classified = curation.runs("quality") and quality.model is not None and storage.exists(quality.model)
    # Reading raypt's own model takes a third of a second, of which most configurations have no need.
    asked_for = model or classified or any(name not in along for _, named in said for name in named)
    labels = known_codes(curation.language) if asked_for else frozenset()
    for key, named in said:
        for name in named:
            if name not in along and not any(languages.covers(name, label) for label in labels):
                near = languages.nearest(name, labels)
                hint = f"; did you mean {near}?" if near else f". It knows {', '.join(sorted(labels))}"
                yield f"curation.{key}: the language model has no {name!r}{hint}"
        if pair := languages.twice(named):
            yield f"curation.{key}: {pair[0]} and {pair[1]} are the same language; name it once"
    if classified and quality.model is not None:
        own = languages_with_percentiles(quality.model, quality.threshold)
        strange = [name for name in own if not any(languages.covers(name, label) for label in labels)]
        if strange:
            yield (
                f"curation.quality.threshold.by_language: the classifier {quality.model} has percentiles of "
                f"{', '.join(strange)}, which the language model has no label for; load the language model that the "
                "classifier was trained under (curation.language.model), or set by_language to false"
            )


def _tasks(config: RunConfig) -> Iterator[str]:
    """Questions that are asked in training, read as they will be: a mistake would show hours later."""
    from raypt.training.questions import read_questions

    for i, task in enumerate(config.train.evaluation.tasks):
        try:
            read_questions(task.path, None, f"train.evaluation.tasks[{i}].path")
        except UserError as e:
            yield str(e)


def _evaluation_sets(config: RunConfig) -> Iterator[str]:
    """Evaluation sets that hold nothing to look for: leaked documents would stay, in silence."""
    if config.dedup.enabled and config.dedup.contamination.paths:
        from raypt.dedup.samples import read_samples

        samples = read_samples(config.dedup.contamination)
        log.info("evaluation sets: %d samples to look for", samples.num_rows)
    yield from ()
