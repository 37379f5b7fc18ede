"""Text to a token store, without training; also as files of other programs.

Curates the sources first, unless the run directory holds the curated text already, then tokenizes and packs it into
`tokens/` there, where training in the same run directory finds it. `tokens.export.formats` writes the same tokens for
Megatron-LM, nanoGPT, MosaicML streaming, datatrove or LitData; `tokens.megatron` makes the store of Megatron-LM's
.bin/.idx instead of text.
"""

import functools
import logging
from typing import Any

from raypt import storage
from raypt.errors import UserError
from raypt.ray_session import check_capacity, session
from raypt.run.check import check
from raypt.run.config import RunConfig
from raypt.run.curate import curate, resolve_builtin
from raypt.run.nodes import check_nodes
from raypt.run.open import has_trained, open_run
from raypt.run.rehearsal import rehearsed
from raypt.run.stages import timed_stage
from raypt.run.starting import with_start
from raypt.run.stream import config_as_used, measured, measuring, with_heldout
from raypt.run_dir import RunDir
from raypt.tokens.formats.export import FORMATS, export_tokens
from raypt.tokens.formats.imported import find_pairs, import_megatron
from raypt.tokens.store.shards import TokenAccount, tokens_by_source
from raypt.tokens.stream.producer import tokenize_heldout_parts, tokenize_parts
from raypt.tokens.stream.spec import measure_parts, prepare_store
from raypt.tokens.tokenizer.trainer import prepare_tokenizer

log = logging.getLogger("raypt")


def main(config: RunConfig) -> None:
    imports = bool(config.tokens.megatron)
    if imports and config.tokens.export.formats:
        raise UserError("tokens.export.formats: tokens that were imported (tokens.megatron) are not exported again")
    if imports:
        find_pairs(config.tokens.megatron)
    else:
        config, _ = with_start(resolve_builtin(config))
        check(config)
    with open_run(config, "tokenize") as run, rehearsed("tokenize", config), session(config.ray):
        config = with_whole_cpus(config)
        needed = {"a tokenizing task": config.tokens.stream.tokenizer_cpus}
        check_capacity(needed, 0, autoscaling=config.ray.autoscaling)
        check_nodes(config, run)
        accounts = _import(config, run) if imports else _tokenize(config, run)
        figures = summary(accounts)
        storage.write_json(run.path("tokens.json"), figures)
    print(
        f"{figures['tokens']:,} tokens of {figures['documents']:,} documents in {figures['samples']:,} samples: "
        f"{run.token_store}"
    )


def with_whole_cpus(config: RunConfig) -> RunConfig:
    """A CPU for each tokenizing task, where nothing else is said: the default is what is good beside training."""
    stream = config.tokens.stream
    if "tokenizer_cpus" in stream.model_fields_set:
        return config
    stream = stream.model_copy(update={"tokenizer_cpus": max(1.0, stream.tokenizer_cpus)})
    return config.model_copy(update={"tokens": config.tokens.model_copy(update={"stream": stream})})


def _tokenize(config: RunConfig, run: RunDir) -> list[TokenAccount]:
    export, seed, verify = config.tokens.export, config.run.seed, config.run.verify
    replace = not has_trained(run)
    curated = curate(config, run, measure=functools.partial(measuring, config, run))
    config = with_heldout(config, curated.documents)
    parts = [run.curated(shard.index) for shard in curated.manifest.shards]
    with timed_stage(run, "tokenizer"):
        summaries = measure_parts(parts, curated.cards, config.tokens, seed, measured(run), verify, curated.measured)
        tokenizer = prepare_tokenizer(
            parts, config.tokens.tokenizer, run.tokenizer, seed, summaries, verify, replace=replace
        )
    for name in export.formats:
        FORMATS[name].check(tokenizer.vocab_size)
    tokens = config_as_used(config, tokenizer).tokens
    plan = prepare_store(parts, tokenizer, tokens, run.token_store, seed, summaries, replace=replace)
    with timed_stage(run, "tokenize") as figures:
        tokenize_heldout_parts(plan, tokens, run.tokenizer, verify)
        accounts = tokenize_parts(plan, tokens, run.tokenizer)
        figures |= {"documents": sum(a.documents for a in accounts), "bytes": sum(a.bytes for a in accounts)}
    if export.formats:
        out = storage.absolute(export.out) if export.out else run.path("token-export")
        with timed_stage(run, "export tokens"):
            export_tokens(plan, run.tokenizer, tokens, out, accounts=accounts, verify=verify)
        print(f"{', '.join(export.formats)}: {out}")
    return accounts


def _import(config: RunConfig, run: RunDir) -> list[TokenAccount]:
    seed, verify, replace = config.run.seed, config.run.verify, not has_trained(run)
    tokenizer = prepare_tokenizer([], config.tokens.tokenizer, run.tokenizer, seed, verify=verify, replace=replace)
    with timed_stage(run, "tokenize"):
        log.info("%s: a vocabulary of %d", config.tokens.tokenizer.path, tokenizer.vocab_size)
        _, accounts = import_megatron(
            config.tokens.megatron,
            run.tokenizer,
            config.tokens,
            run.token_store,
            seed,
            run.path("work", "token-files"),
            verify=verify,
            replace=replace,
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
