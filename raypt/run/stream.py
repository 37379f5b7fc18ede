"""From curated text to the stream that training reads: the tokenizer, the plan of the samples, and their tokens made in
the background. What a job of text alone shares with `raypt pretrain`: no torch.
"""

from raypt.collection import Collection
from raypt.run.config import RunConfig
from raypt.run.curate import Curated
from raypt.run.open import has_trained
from raypt.run.stages import timed_stage
from raypt.run_dir import RunDir
from raypt.tokens.config import TokensConfig
from raypt.tokens.stream.producer import Tokenizing
from raypt.tokens.stream.spec import (
    Measure,
    StorePlan,
    StreamSpec,
    measure_of,
    measure_parts,
    plan_stream,
    prepare_store,
)
from raypt.tokens.tokenizer.tokenizer import Tokenizer
from raypt.tokens.tokenizer.trainer import prepare_tokenizer
from raypt.training.bos import as_it_is_used


def start_stream(
    config: RunConfig, run: RunDir, curated: Curated, worker_counts: list[int]
) -> tuple[StreamSpec, Tokenizer, Tokenizing]:
    """Tokenizer, the plan of the samples, and tokenizing under way in the background."""
    spec, tokenizer, plan, tokens = planned_stream(config, run, curated, worker_counts)
    return spec, tokenizer, Tokenizing(plan, tokens, run.tokenizer, spec, verify=config.run.verify)


def planned_stream(
    config: RunConfig, run: RunDir, curated: Curated, worker_counts: list[int]
) -> tuple[StreamSpec, Tokenizer, StorePlan, TokensConfig]:
    """The plan of the samples, tokenizer, plan of the store, and the settings of tokens as they are used."""
    parts = [run.curated(shard.index) for shard in curated.manifest.shards]
    seed, train, verify, new = config.run.seed, config.train, config.run.verify, run.new
    replace = new or not has_trained(run)
    with timed_stage(run, "tokenizer"):
        summaries = measure_parts(parts, curated.cards, config.tokens, seed, measured(run), verify, curated.measured)
        tokenizer = prepare_tokenizer(
            parts, config.tokens.tokenizer, run.tokenizer, seed, summaries, verify, replace=replace, new=new
        )
    config = config_as_used(config, tokenizer)
    global_batch = train.global_batch_tokens // config.tokens.packing.sequence_length
    plan = prepare_store(parts, tokenizer, config.tokens, run.token_store, seed, summaries, replace=replace, new=new)
    weights = {s.name: s.weight for s in curated.manifest.sources}
    spec = plan_stream(
        plan,
        config.tokens,
        samples=train.steps * global_batch,
        global_batch=global_batch,
        ranks=[workers // train.parallel.replica for workers in worker_counts],
        weights=weights if len(set(weights.values())) > 1 and config.tokens.mixture.by == ("source",) else None,
        micro_batch=train.micro_batch_size,
    )
    return spec, tokenizer, plan, config.tokens


def measured(run: RunDir) -> Collection:
    """What was measured of the curated parts."""
    return Collection(run.uri, "work/measured", new=run.new)


def measuring(config: RunConfig, run: RunDir, documents: int) -> Measure:
    """How so many curated documents are measured (`raypt.run.curate.curate`)."""
    return measure_of(with_heldout(config, documents).tokens, config.run.seed, measured(run))


def with_heldout(config: RunConfig, documents: int) -> RunConfig:
    """The configuration with the share of held-out documents that so many curated documents give."""
    heldout = config.tokens.heldout.bounded(documents)
    return config.model_copy(update={"tokens": config.tokens.model_copy(update={"heldout": heldout})})


def config_as_used(config: RunConfig, tokenizer: Tokenizer) -> RunConfig:
    """The configuration with BOS as a tokenizer that was brought along has it (`raypt.training.bos`), and the stream on
    the nodes of the other data stages unless it has its own.
    """
    packing = as_it_is_used(config.tokens.packing, tokenizer)
    stream = config.tokens.stream
    stream = stream.model_copy(update={"labels": stream.labels or config.ray.labels})
    return config.model_copy(update={"tokens": config.tokens.model_copy(update={"packing": packing, "stream": stream})})
