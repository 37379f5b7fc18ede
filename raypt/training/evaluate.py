"""Judging a finished model: held-out samples, perplexity on files, and tasks of lm-evaluation-harness."""

import logging
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from raypt import storage
from raypt.corpus.config import CorpusConfig
from raypt.corpus.manifest import Manifest, build_manifest
from raypt.corpus.reader import read_shard
from raypt.errors import UserError
from raypt.model import load_hf
from raypt.model.scoring import windows
from raypt.tokens.tokenizer.tokenizer import Tokenizer
from raypt.training.config import EvaluateConfig
from raypt.training.export import DTYPES
from raypt.training.judged import Judged, WholeModel
from raypt.training.room import too_large

log = logging.getLogger("raypt")


@dataclass
class TextScore:
    """Log-probability and size of what was scored of the texts of one source."""

    nats: float = 0.0
    tokens: int = 0
    bytes: int = 0
    """UTF-8; of a first token that is no whole character, those of the replacement character are left out."""
    documents: int = 0

    def summary(self) -> dict[str, float]:
        assert self.tokens, "no token was scored: there is no loss"
        loss = self.nats / self.tokens
        return {
            "documents": self.documents,
            "tokens": self.tokens,
            "bytes": self.bytes,
            "loss": loss,
            "perplexity": math.exp(min(loss, 700.0)),
            "bits_per_byte": self.nats / math.log(2) / max(self.bytes, 1),
        }


def perplexity(model: Judged, tokenizer: Tokenizer, texts: list[str], *, stride: int | None) -> TextScore:
    """Every token of every text is scored once: the first after BOS if the tokenizer adds it, else not at all, since
    nothing came before it in training. `stride` None = no overlap.
    """
    start = tokenizer.bos_id if tokenizer.adds_bos else None
    tally = TextScore()
    pairs = []
    for text in texts:
        ids = tokenizer.encode(text)
        unscored = tokenizer.decode(ids[:1]) if start is None else ""
        tally.documents += 1
        tally.tokens += len(ids) if start is not None else max(0, len(ids) - 1)
        tally.bytes += max(0, len(text.encode()) - len(unscored.encode()))
        pairs += list(windows(ids, start, model.max_length, stride or model.max_length))
    tally.nats = -model.log_probability(pairs)
    return tally


def evaluate_model(config: EvaluateConfig, corpus: CorpusConfig, run_uri: str) -> dict[str, Any]:
    """`judge` a Hugging Face directory in this process. Raises UserError if there is no model, or none that fits."""
    model_uri = storage.absolute(config.model) if config.model else storage.join(run_uri, "export")
    check_work(config)
    dtype = None if config.precision is None else DTYPES[config.precision]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if (problem := too_large(model_uri, dtype, device)) is not None:
        raise UserError(
            f"evaluate.model: {problem}; or let the workers of this configuration hold it between them: "
            "train.parallel.tensor, train.parallel.pipeline, or train.zero.stage=3 with several train.workers"
        )
    model, tokenizer = load_hf(model_uri, dtype, device), Tokenizer.load(model_uri)
    manifest = sources_of(config, corpus, run_uri)
    judged = WholeModel(model, config.max_length or model.config.max_length, config.batch_size)
    return judge(judged, tokenizer, config, corpus, manifest, run_uri, model_uri)


def sources_of(config: EvaluateConfig, corpus: CorpusConfig, run_uri: str) -> Manifest | None:
    """What the files of `config.sources` are; None where none is named."""
    corpus = corpus.model_copy(update={"sources": config.sources})
    return build_manifest(corpus, run_uri) if config.sources else None


def check_work(config: EvaluateConfig) -> None:
    """Raises UserError if there is nothing to evaluate on."""
    if not config.sources and not config.tasks:
        raise UserError("nothing to evaluate on: give evaluate.sources (files) or evaluate.tasks (lm-eval tasks)")


def results_uri(config: EvaluateConfig, run_uri: str) -> str:
    """Where `judge` writes what it found."""
    return storage.absolute(config.out) if config.out else storage.join(run_uri, "evaluation.json")


def judge(
    model: Judged,
    tokenizer: Tokenizer,
    config: EvaluateConfig,
    corpus: CorpusConfig,
    manifest: Manifest | None,
    run_uri: str,
    model_uri: str,
) -> dict[str, Any]:
    """Perplexity by source of `manifest`, and the tasks of `config.tasks`; written to `results_uri`.

    Raises UserError if a source has no token that could be scored: it has no loss.
    """
    out: dict[str, Any] = {"model": model_uri}
    if manifest is not None:
        out["perplexity"] = _sources(model, tokenizer, config, corpus, manifest, run_uri)
    if config.tasks:
        from raypt.training.harness import run_tasks

        out["tasks"] = run_tasks(model, tokenizer, config.tasks, limit=config.limit, num_fewshot=config.num_fewshot)
    storage.write_json(results_uri(config, run_uri), out)
    return out


def _sources(
    model: Judged,
    tokenizer: Tokenizer,
    config: EvaluateConfig,
    corpus: CorpusConfig,
    manifest: Manifest,
    run_uri: str,
) -> dict[str, dict[str, float]]:
    corpus = corpus.model_copy(update={"sources": config.sources})
    tallies: dict[str, TextScore] = {}
    for shard in manifest.shards:
        tally = tallies.setdefault(shard.source, TextScore())
        for batch in read_shard(manifest, shard.index, corpus, run_uri):
            for fault in batch.quarantined:
                log.warning("%s, row %s: %s", fault["file"], fault["row"], fault["error"])
            left = np.inf if config.max_documents is None else config.max_documents - tally.documents
            if left <= 0:
                break
            texts = batch.documents.column("text").to_pylist()[: int(min(left, len(batch.documents)))]
            more = perplexity(model, tokenizer, texts, stride=config.stride)
            tally.nats += more.nats
            tally.tokens += more.tokens
            tally.bytes += more.bytes
            tally.documents += more.documents
    named = [source.name for source in manifest.sources]
    empty = [name for name in named if name not in tallies or not tallies[name].tokens]
    if empty:
        raise UserError(
            f"evaluate.sources: no token to score in {', '.join(empty)} (documents read: "
            f"{', '.join(str(tallies[name].documents if name in tallies else 0) for name in empty)}); see that the "
            "paths, the text field and the filters of the source give text"
        )
    return {name: tally.summary() for name, tally in tallies.items()}
