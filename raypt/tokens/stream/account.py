"""What became of every stored sample: trained on, or left out by a named rule.

A pass over a source meets each of its samples once, so counts suffice: how many samples of a source the clock has given
says how many different ones were trained on, and how often one came again.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from raypt.tokens.store.shards import TokenAccount
from raypt.tokens.stream.clock import ClockSource
from raypt.tokens.stream.spec import StreamSpec

NO_WEIGHT = "no_weight"
"""The source is not in the mixture."""
LIMIT = "limit"
"""The source's epochs or token budget end before them."""
INCOMPLETE_BATCH = "incomplete_batch"
"""Fewer than a global batch were left when the stream ended."""
AFTER_LAST_STEP = "after_last_step"
"""Training ended before the stream came to them."""


@dataclass(frozen=True)
class SourceAccount:
    """stored = trained + what is left out."""

    source: str
    stored: int
    """Samples in the token store."""
    trained: int
    """Of those, the ones that were given to the trainer at least once."""
    repeats: int
    """Samples given again in later passes."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Never given, by rule."""


def account_samples(spec: StreamSpec, ledgers: Sequence[TokenAccount], next_sample: int) -> list[SourceAccount]:
    """The account of a run whose trainer stopped before sample `next_sample` of the stream; `ledgers` of all shards."""
    rows: Counter[tuple[int, str]] = Counter()
    for ledger in ledgers:
        for section in ledger.sections:
            rows[ledger.shard, section["source"]] += section["rows"]
    stored: Counter[str] = Counter()
    for (_, name), n in rows.items():
        stored[name] += n
    clock = spec.clock(lambda shard, source: rows[shard, source])
    given, ahead = clock.counts(next_sample), clock.counts(next_sample + spec.global_batch)
    ended = sum(ahead) < next_sample + spec.global_batch
    accounts = []
    for source, before, after in zip(spec.sources, given, ahead, strict=True):
        have = stored.pop(source.name, 0)
        trained = min(before, have)
        left = Counter({LIMIT: have - _reachable(source, have)})
        rest = have - trained - left[LIMIT]
        left[INCOMPLETE_BATCH] = min(rest, after - before) if ended else 0
        left[AFTER_LAST_STEP] = rest - left[INCOMPLETE_BATCH]
        named = {rule: n for rule, n in left.items() if n}
        accounts.append(SourceAccount(source.name, have, trained, before - trained, named))
    accounts += [SourceAccount(name, n, 0, 0, {NO_WEIGHT: n}) for name, n in sorted(stored.items())]
    for a in accounts:
        assert a.stored == a.trained + sum(a.left_out.values()), a
    return accounts


def _reachable(source: ClockSource, stored: int) -> int:
    """Different samples that the source's limits allow."""
    most = stored if source.max_samples is None else min(stored, source.max_samples)
    return most if source.max_epochs is None else min(most, int(stored * source.max_epochs))
