"""Train a tokenizer on the curated text, and report how well it fits.

Curates the sources first, unless the run directory holds the curated text already. Leaves `tokenizer/` there (for
`tokens.tokenizer.path` of any later run, and for `transformers`), with `fertility.json`: tokens a word and a character,
bytes a token and unknown tokens, by source and language.
"""

from raypt.ray_session import check_capacity, session
from raypt.run.check import check
from raypt.run.config import RunConfig
from raypt.run.curate import curate, resolve_builtin
from raypt.run.open import open_run
from raypt.run.stream import measured
from raypt.tokens.stream.spec import measure_of, measure_parts
from raypt.tokens.tokenizer import fertility
from raypt.tokens.tokenizer.trainer import prepare_tokenizer


def main(config: RunConfig) -> None:
    config = resolve_builtin(config)
    check(config)
    with open_run(config, "train-tokenizer") as run, session(config.ray):
        check_capacity({"curation actor": config.ray.actor_cpus}, 0, autoscaling=config.ray.autoscaling)
        seed, kept_in = config.run.seed, measured(run)
        curated = curate(config, run, measure=lambda documents: measure_of(config.tokens, seed, kept_in))
        parts = [run.curated(shard.index) for shard in curated.manifest.shards]
        verify = config.run.verify
        summaries = measure_parts(parts, curated.cards, config.tokens, seed, kept_in, verify, curated.measured)
        tokenizer = prepare_tokenizer(parts, config.tokens.tokenizer, run.tokenizer, seed, summaries)
        groups = fertility.measure(parts, summaries, run.tokenizer, seed)
    print(fertility.table(groups))
    print(f"{tokenizer.vocab_size} tokens, encoded by {tokenizer.encoder}, in {run.tokenizer}")
