"""Text to a token store without training: curated, tokenized and packed as a run does it; as other programs' files.

With `tokens.export.formats` the same tokens are also written for Megatron-LM, nanoGPT, MosaicML streaming, datatrove or
LitData. With `tokens.megatron` the store is made of Megatron-LM's token files instead of text. Training in the same run
directory finds the store there.
"""

import logging
from typing import Any

from raypt import storage
from raypt.errors import UserError
from raypt.ray_session import check_capacity, session
from raypt.run.config import RunConfig
from raypt.run.curate import curate, resolve_builtin, timed_stage
from raypt.run.open import open_run
from raypt.run_dir import RunDir
from raypt.tokens.config import TokensConfig
from raypt.tokens.formats.export import FORMATS, export_tokens
from raypt.tokens.formats.imported import import_megatron
from raypt.tokens.parts import part_uris
from raypt.tokens.store.shards import TokenAccount, tokens_by_source
from raypt.tokens.stream.producer import tokenize_heldout_parts, tokenize_parts
from raypt.tokens.stream.spec import prepare_store, summarize_parts
from raypt.tokens.tokenizer.tokenizer import Tokenizer
from raypt.tokens.tokenizer.trainer import prepare_tokenizer

log = logging.getLogger("raypt")


def main(config: RunConfig) -> None:
    run_config = resolve_builtin(config) if not config.tokens.megatron else config
    if config.tokens.megatron and config.tokens.export.formats:
        raise UserError("tokens.export.formats: tokens that were imported (tokens.megatron) are not exported again")
    run = open_run(run_config)
    with session(config.ray):
        needed = {"a tokenizing task": config.tokens.stream.tokenizer_cpus}
        check_capacity(needed, 0, autoscaling=config.ray.autoscaling)
        accounts = _import(run_config, run) if config.tokens.megatron else _tokenize(run_config, run)
    figures = summary(accounts)
    storage.write_json(run.path("tokens.json"), figures)
    print(
        f"{figures['tokens']:,} tokens of {figures['documents']:,} documents in {figures['samples']:,} samples: "
        f"{run.token_store}"
    )


def as_used(tokens: TokensConfig, tokenizer: Tokenizer) -> TokensConfig:
    """Where nothing is said of BOS, documents begin with it if the tokenizer, brought along, puts it before a text."""
    if "add_bos" in tokens.packing.model_fields_set or not tokenizer.adds_bos:
        return tokens
    return tokens.model_copy(update={"packing": tokens.packing.model_copy(update={"add_bos": True})})


def _tokenize(config: RunConfig, run: RunDir) -> list[TokenAccount]:
    export, seed = config.tokens.export, config.run.seed
    curate(config, run)
    parts = part_uris(run.path("curated"))
    with timed_stage(run, "tokenizer"):
        summaries = summarize_parts(parts, config.tokens, seed)
        tokenizer = prepare_tokenizer(parts, config.tokens.tokenizer, run.tokenizer, seed, summaries)
    for name in export.formats:
        FORMATS[name].check(tokenizer.vocab_size)
    tokens = as_used(config.tokens, tokenizer)
    plan = prepare_store(parts, tokenizer, tokens, run.token_store, seed, summaries)
    with timed_stage(run, "tokenize") as figures:
        tokenize_heldout_parts(plan, tokens, run.tokenizer)
        accounts = tokenize_parts(plan, tokens, run.tokenizer)
        figures |= {"documents": sum(a.documents for a in accounts), "bytes": sum(a.bytes for a in accounts)}
    if export.formats:
        out = storage.absolute(export.out) if export.out else run.path("token-export")
        with timed_stage(run, "export tokens"):
            content = plan.identity["manifest"]
            export_tokens(parts, run.tokenizer, tokens, out, seed, content=content, accounts=accounts)
        print(f"{', '.join(export.formats)}: {out}")
    return accounts


def _import(config: RunConfig, run: RunDir) -> list[TokenAccount]:
    prepare_tokenizer([], config.tokens.tokenizer, run.tokenizer, config.run.seed)
    with timed_stage(run, "tokenize"):
        _, accounts = import_megatron(
            config.tokens.megatron, run.tokenizer, config.tokens, run.token_store, config.run.seed
        )
    return accounts


def summary(accounts: list[TokenAccount]) -> dict[str, Any]:
    """The store in figures, by source where that tells something."""
    return {
        "documents": sum(a.documents for a in accounts),
        "bytes": sum(a.bytes for a in accounts),
        "tokens": sum(a.packed_tokens for a in accounts),
        "samples": sum(a.samples for a in accounts),
        "padding": sum(a.padding for a in accounts),
        "by_source": tokens_by_source(accounts),
    }
