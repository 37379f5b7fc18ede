"""Judging a finished model: held-out samples, perplexity on files, and tasks of lm-evaluation-harness."""

import logging
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from raypt import storage
from raypt.corpus.config import CorpusConfig
from raypt.corpus.manifest import build_manifest
from raypt.corpus.reader import read_shard
from raypt.errors import UserError
from raypt.model import Llama, load_hf
from raypt.model.scoring import score, windows
from raypt.tokens.tokenizer.tokenizer import Tokenizer
from raypt.training.config import EvaluateConfig
from raypt.training.export import DTYPES
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


def perplexity(
    model: Llama, tokenizer: Tokenizer, texts: list[str], *, max_length: int, stride: int | None, batch_size: int
) -> TextScore:
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
        pairs += list(windows(ids, start, max_length, stride or max_length))
    tally.nats = -sum(s.log_probability for s in score(model, pairs, max_length=max_length, batch_size=batch_size))
    return tally


def evaluate_model(config: EvaluateConfig, corpus: CorpusConfig, run_uri: str) -> dict[str, Any]:
    """Perplexity by source of `config.sources`, and the tasks of `config.tasks`; written to `config.out`.

    Raises UserError if there is no model, or nothing to evaluate it on: a source without a token that could be scored
    has no loss.
    """
    model_uri = storage.absolute(config.model) if config.model else storage.join(run_uri, "export")
    if not config.sources and not config.tasks:
        raise UserError("nothing to evaluate on: give evaluate.sources (files) or evaluate.tasks (lm-eval tasks)")
    dtype = None if config.precision is None else DTYPES[config.precision]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if (problem := too_large(model_uri, dtype, device)) is not None:
        raise UserError(f"evaluate.model: {problem}")
    model, tokenizer = load_hf(model_uri, dtype, device), Tokenizer.load(model_uri)
    max_length = config.max_length or model.config.max_length
    out: dict[str, Any] = {"model": model_uri}
    if config.sources:
        out["perplexity"] = _sources(config, corpus, run_uri, model, tokenizer, max_length)
    if config.tasks:
        from raypt.training.harness import run_tasks

        out["tasks"] = run_tasks(
            model, tokenizer, config.tasks, max_length=max_length, batch_size=config.batch_size, limit=config.limit,
            num_fewshot=config.num_fewshot,
        )  # fmt: skip
    storage.write_json(config.out or storage.join(run_uri, "evaluation.json"), out)
    return out


def _sources(
    config: EvaluateConfig, corpus: CorpusConfig, run_uri: str, model: Llama, tokenizer: Tokenizer, max_length: int
) -> dict[str, dict[str, float]]:
    corpus = corpus.model_copy(update={"sources": config.sources})
    manifest = build_manifest(corpus, run_uri)
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
            more = perplexity(
                model, tokenizer, texts, max_length=max_length, stride=config.stride, batch_size=config.batch_size
            )
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
