"""The models of a run: trained from the reference sources once, or named by the configuration."""

import logging
from typing import Any

import numpy as np
import pyarrow.compute as pc

from raypt.artefact import Identity, Output, Verify, hash_of, make, read_card
from raypt.corpus.config import CorpusConfig
from raypt.corpus.manifest import build_manifest
from raypt.curation.language import LanguageConfig
from raypt.curation.perplexity import arpa
from raypt.curation.perplexity.config import CARD_FILE, Perplexity
from raypt.curation.perplexity.files import look
from raypt.curation.perplexity.sentences import sentences
from raypt.curation.perplexity.train import train
from raypt.curation.quality.sample import sample_documents
from raypt.errors import UserError
from raypt.run_dir import RunDir

log = logging.getLogger("raypt")

FORMAT = 2
"""Raise it when the same text gives another model, or the same model other values."""
NOT_TRAINING = {
    *("models", "models_sha256", "reference", "max_bytes"),
    *("per_token_min", "per_token_max", "unknown_fraction_max", "percentiles"),
}


def prepare(
    run: RunDir, config: Perplexity, corpus: CorpusConfig, language: LanguageConfig, seed: int, verify: Verify
) -> tuple[str, str]:
    """`(URI of the trained models, or of the hashes of those that are named; fingerprint of the models)`.

    Raises:
        UserError: a model that is not there, or no language with enough reference text.
    """
    if not config.reference:
        hashes = look(config)
        root = run.path("perplexity", "files")
        make(Identity("perplexity files", FORMAT, hashes), root, CARD_FILE, lambda _: {"sha256": hashes}, verify=verify)
        return root, hash_of(hashes)
    manifest = build_manifest(
        corpus.model_copy(update={"sources": config.reference}), run.uri, "curation.perplexity.reference"
    )
    settings = {
        "perplexity": config.model_dump(mode="json", exclude=NOT_TRAINING),
        "language": language.model_dump(mode="json", exclude=set(language.decides())),
        "corpus": corpus.model_dump(mode="json", exclude={"sources", "builtin"}),
        "seed": seed,
    }
    shards = {str(s.index): manifest.shard_key(s.index) for s in manifest.shards}
    identity = Identity("perplexity", FORMAT, {"reference": hash_of(shards)}, settings)

    def maker(output: Output) -> dict[str, Any]:
        sample = sample_documents(
            manifest, corpus, language, run.uri, max_documents=config.max_documents, seed=seed
        ).sort_by("doc_key")
        tokens: dict[str, int] = {}
        for name in sorted(pc.unique(sample["lang"].drop_null()).to_pylist()):
            chosen = sample.filter(pc.equal(sample["lang"], name))["text"]
            cut = sentences(chosen, config.normalisation, 1 << 24)
            words = int(np.count_nonzero(cut.data == 0x20)) + int(np.count_nonzero(np.diff(cut.offsets)))
            if words < config.min_tokens:
                log.info("perplexity: no model of %s, which has %d words of reference text", name, words)
                continue
            with output.open(f"{name}.arpa") as f:
                arpa.write(f, train(cut, config.order, config.min_count, config.max_tokens))
            tokens[name] = words
        if not tokens:
            raise UserError(
                f"curation.perplexity.reference: no language has {config.min_tokens} words of text; add text, or lower "
                "curation.perplexity.min_tokens"
            )
        return {"tokens": tokens}

    root = run.path("perplexity")
    card = make(identity, root, CARD_FILE, maker, verify=verify)
    log.info("perplexity: models of %s", ", ".join(f"{k} ({n} words)" for k, n in card.account["tokens"].items()))
    return root, card.content


def trained_languages(run: RunDir) -> list[str]:
    """Those of which an earlier start of the run has trained a model."""
    card = read_card(run.path("perplexity", CARD_FILE))
    return [] if card is None else sorted(card.account["tokens"])
