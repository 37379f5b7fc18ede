"""Every stored sample is trained on or left out by a named rule."""

from typing import Any

import pytest

from raypt.tokens.store.shards import TokenAccount
from raypt.tokens.stream.account import (
    AFTER_LAST_STEP,
    INCOMPLETE_BATCH,
    LIMIT,
    NO_WEIGHT,
    SourceAccount,
    account_samples,
)
from raypt.tokens.stream.producer import tokenize_parts
from raypt.tokens.stream.reader import StoreRows
from raypt.tokens.stream.spec import StreamSpec, plan_stream
from tests.tokens.conftest import PlanMaker

BATCH = 25


def stored(make_plan: PlanMaker, mixture: dict[str, Any]) -> tuple[StreamSpec, list[TokenAccount]]:
    plan, config, tokenizer_uri = make_plan(mixture=mixture)
    ledgers = tokenize_parts(plan, config, tokenizer_uri)
    return plan_stream(plan, config, samples=10**9, global_batch=BATCH, ranks=(1,)), ledgers


def by_name(accounts: list[SourceAccount]) -> dict[str, SourceAccount]:
    return {a.source: a for a in accounts}


def walked(spec: StreamSpec, end: int) -> dict[str, tuple[int, int]]:
    """Different samples and repeats of each source among the first `end`, from the clock itself."""
    samples = spec.clock(StoreRows(spec.store_uri, timeout_s=1)).resolve(0, end)
    out = {}
    for k, source in enumerate(spec.sources):
        mine = samples.source == k
        places = set(zip(samples.shard[mine].tolist(), samples.row[mine].tolist(), strict=True))
        out[source.name] = len(places), int(mine.sum()) - len(places)
    return out


@pytest.mark.parametrize("steps", [1, 5, 40])
def test_the_counts_are_those_of_the_samples_that_the_clock_gives(make_plan: PlanMaker, steps: int) -> None:
    spec, ledgers = stored(make_plan, {"weights": {"web": 1.0, "books": 3.0}})
    accounts = by_name(account_samples(spec, ledgers, steps * BATCH))
    assert {name: (a.trained, a.repeats) for name, a in accounts.items()} == walked(spec, steps * BATCH)
    assert sum(a.stored for a in accounts.values()) == sum(ledger.samples for ledger in ledgers)
    for a in accounts.values():
        assert a.left_out == ({AFTER_LAST_STEP: a.stored - a.trained} if a.trained < a.stored else {})


def test_samples_short_of_a_last_batch_are_counted_as_such(make_plan: PlanMaker) -> None:
    spec, ledgers = stored(make_plan, {"limits": {s: {"epochs": 1} for s in ("web", "books")}})
    total = sum(ledger.samples for ledger in ledgers)
    assert total % BATCH
    accounts = account_samples(spec, ledgers, total // BATCH * BATCH)
    left = [rule for a in accounts for rule in a.left_out]
    assert set(left) == {INCOMPLETE_BATCH}
    assert sum(a.left_out.get(INCOMPLETE_BATCH, 0) for a in accounts) == total % BATCH


def test_what_a_limit_never_lets_through_is_counted_under_the_limit(make_plan: PlanMaker) -> None:
    spec, ledgers = stored(make_plan, {"limits": {"web": {"epochs": 0.5}}})
    web = by_name(account_samples(spec, ledgers, 10_000 * BATCH))["web"]
    assert web.trained == web.stored // 2
    assert web.left_out == {LIMIT: web.stored - web.stored // 2}


def test_a_source_without_weight_is_counted_as_such(make_plan: PlanMaker) -> None:
    spec, ledgers = stored(make_plan, {"weights": {"web": 1.0}})
    books = by_name(account_samples(spec, ledgers, BATCH))["books"]
    assert books.stored > 0
    assert books.left_out == {NO_WEIGHT: books.stored}
