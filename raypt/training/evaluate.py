"""Judging a finished model: held-out samples, perplexity on files, and tasks of lm-evaluation-harness."""

import logging
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from raypt import storage
from raypt.corpus.config import CorpusConfig
from raypt.corpus.manifest import build_manifest
from raypt.corpus.reader import read_shard
from raypt.errors import UserError
from raypt.model import Llama, load_hf
from raypt.model.scoring import score, windows
from raypt.tokens.tokenizer.tokenizer import Tokenizer
from raypt.training.config import EvaluateConfig

log = logging.getLogger("raypt")


@dataclass
class TextScore:
    """Log-probability and size of the texts of one source."""

    nats: float = 0.0
    tokens: int = 0
    bytes: int = 0
    documents: int = 0

    def summary(self) -> dict[str, float]:
        loss = self.nats / max(self.tokens, 1)
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
    """Every token of every text is scored once, the first after BOS (or EOS, or id 0); `stride` None = no overlap."""
    start = next((i for i in (tokenizer.bos_id, tokenizer.eos_id) if i is not None), 0)
    tally = TextScore()
    pairs = []
    for text in texts:
        ids = tokenizer.encode(text)
        tally.documents += 1
        tally.tokens += len(ids)
        tally.bytes += len(text.encode())
        pairs += list(windows(ids, start, max_length, stride or max_length))
    tally.nats = -sum(s.log_probability for s in score(model, pairs, max_length=max_length, batch_size=batch_size))
    return tally


def evaluate_model(config: EvaluateConfig, corpus: CorpusConfig, run_uri: str) -> dict[str, Any]:
    """Perplexity by source of `config.sources`, and the tasks of `config.tasks`; written to `config.out`.

    Raises UserError if there is no model, or nothing to evaluate it on.
    """
    model_uri = storage.absolute(config.model) if config.model else storage.join(run_uri, "export")
    if not config.sources and not config.tasks:
        raise UserError("nothing to evaluate on: give evaluate.sources (files) or evaluate.tasks (lm-eval tasks)")
    model, tokenizer = load_hf(model_uri), Tokenizer.load(model_uri)
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
    return {name: tally.summary() for name, tally in tallies.items()}
