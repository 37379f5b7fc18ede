import json
from pathlib import Path

import pytest

from raypt.artefact import Card, Stamp
from raypt.collection import Collection
from raypt.errors import UserError
from raypt.tokens.store.files import collection
from raypt.tokens.stream.producer import tokenize_heldout_parts
from raypt.tokens.stream.spec import check_fingerprint, measure_parts, mixture_of, plan_stream, prepare_store
from raypt.tokens.tokenizer.tokenizer import Tokenizer
from tests.tokens.conftest import PlanMaker
from tests.tokens.helpers import small_config, write_parts


def spec_of(make_plan: PlanMaker, **overrides: object) -> str:
    plan, config, _ = make_plan(name=str(len(overrides)) + str(hash(str(overrides))), **overrides)
    return plan_stream(plan, config, samples=100, global_batch=8, ranks=(1, 2)).fingerprint


def shares(make_plan: PlanMaker, source_weights: dict[str, float] | None = None, **mixture: object) -> dict[str, float]:
    plan, config, _ = make_plan(mixture=mixture)
    sources, phases = mixture_of(plan, config.mixture, 32, source_weights)
    total = sum(phases[0].weights)
    return {s.name: w / total for s, w in zip(sources, phases[0].weights, strict=True)}


def test_without_weights_shares_follow_the_size_of_the_text(make_plan: PlanMaker) -> None:
    plan, _, _ = make_plan()
    sizes = plan.bytes_by_source
    assert shares(make_plan)["web"] == pytest.approx(sizes["web"] / sum(sizes.values()))


def test_configured_weights_win_over_those_of_the_sources(make_plan: PlanMaker) -> None:
    assert shares(make_plan, {"web": 1, "books": 3})["books"] == pytest.approx(0.75)
    assert shares(make_plan, {"web": 1, "books": 3}, weights={"web": 1, "books": 1})["books"] == pytest.approx(0.5)


def test_a_high_temperature_flattens_the_shares(make_plan: PlanMaker) -> None:
    assert shares(make_plan, {"web": 16, "books": 1}, temperature=2)["web"] == pytest.approx(0.8)


def test_epochs_without_weights_set_the_shares_so_that_all_end_together(make_plan: PlanMaker) -> None:
    plan, _, _ = make_plan()
    web, books = (plan.bytes_by_source[s] for s in ("web", "books"))
    got = shares(make_plan, limits={"web": {"epochs": 1}, "books": {"epochs": 4}})
    assert got["books"] == pytest.approx(4 * books / (4 * books + web))


def test_token_budgets_without_weights_set_the_shares(make_plan: PlanMaker) -> None:
    assert shares(make_plan, limits={"web": {"tokens": 3000}, "books": {"tokens": 1000}})["web"] == pytest.approx(0.75)


def test_a_budget_for_some_sources_only_needs_weights(make_plan: PlanMaker) -> None:
    with pytest.raises(UserError, match=r"tokens\.mixture\.limits: .*set tokens\.mixture\.weights"):
        shares(make_plan, limits={"web": {"tokens": 3000}})


@pytest.mark.parametrize(
    "mixture",
    [
        {"weights": {"web": 1, "wbe": 1}},
        {"limits": {"wbe": {"epochs": 1}}},
        {"curriculum": [{"at_tokens": 64, "weights": {"wbe": 1}}]},
    ],
)
def test_a_source_that_is_not_there_is_refused_with_those_that_are(
    make_plan: PlanMaker, mixture: dict[str, object]
) -> None:
    with pytest.raises(UserError, match=r"tokens\.mixture.*'wbe'.*'books', 'web'"):
        shares(make_plan, **mixture)


def test_a_curriculum_starts_its_phases_at_whole_samples(make_plan: PlanMaker) -> None:
    plan, config, _ = make_plan(mixture={"curriculum": [{"at_tokens": 1000, "weights": {"books": 1}}]})
    _, phases = mixture_of(plan, config.mixture, 32)
    assert [p.start for p in phases] == [0, 31]
    assert phases[1].weights == (1.0, 0.0)


def test_a_source_without_weight_is_left_out(make_plan: PlanMaker) -> None:
    assert shares(make_plan, {"web": 1}) == {"web": 1.0}


def test_sources_whose_documents_are_all_held_out_are_not_in_the_mixture(tmp_path: Path, tokenizer_uri: str) -> None:
    parts = write_parts(tmp_path / "curated", [["web"] * 50, ["tiny"]])
    config = small_config(heldout={"fraction": 0.999999})
    with pytest.raises(UserError, match="no document to train on"):
        prepare_store(parts, Tokenizer.load(tokenizer_uri), config, str(tmp_path / "store"), seed=0)


def test_a_store_of_other_inputs_is_refused_naming_what_differs(make_plan: PlanMaker) -> None:
    make_plan()
    with pytest.raises(UserError, match=r"packing: was 'sequence_length=32.*is 'sequence_length=64"):
        make_plan(packing={"sequence_length": 64})
    with pytest.raises(UserError, match=r"heldout: was 'fraction=0\.05"):
        make_plan(heldout={"fraction": 0.1})


def test_the_same_inputs_have_the_same_fingerprint(make_plan: PlanMaker) -> None:
    assert spec_of(make_plan) == spec_of(make_plan)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"packing": {"strategy": "greedy"}}, "packing"),
        ({"heldout": {"fraction": 0.2}}, "heldout"),
        ({"mixture": {"weights": {"web": 1, "books": 9}}}, "mixture"),
        ({"mixture": {"limits": {"web": {"epochs": 3}}, "weights": {"web": 1, "books": 9}}}, "limits"),
        ({"stream": {"window_shards": None}}, "window"),
    ],
)
def test_a_changed_stream_is_refused_naming_what_differs(
    make_plan: PlanMaker, changed: dict[str, object], named: str
) -> None:
    with pytest.raises(UserError, match=rf"(?s)another stream.*\n  {named}: was"):
        check_fingerprint(spec_of(make_plan), spec_of(make_plan, **changed))


def test_changed_text_and_tokenizer_are_named_too() -> None:
    was = {"manifest": "shards=3", "tokenizer": "hash=1", "packing": "S=32"}
    now = was | {"manifest": "shards=4", "tokenizer": "hash=2"}
    with pytest.raises(UserError, match=r"(?s)manifest: was 'shards=3', is 'shards=4'.*tokenizer: was 'hash=1'"):
        check_fingerprint(json.dumps(was), json.dumps(now))


def test_the_number_of_workers_and_fetchers_is_no_part_of_the_fingerprint(make_plan: PlanMaker) -> None:
    plan, config, _ = make_plan(stream={"fetchers": [2, 4], "block_bytes": 1000})
    other = plan_stream(plan, config, samples=999, global_batch=24, ranks=(3,)).fingerprint
    assert other == spec_of(make_plan)


def test_held_out_documents_that_were_kept_when_text_was_measured_give_the_same_store(
    make_plan: PlanMaker, curated: list[str], tmp_path: Path
) -> None:
    plan, config, tokenizer_uri = make_plan(heldout={"fraction": 0.1})
    cards = [
        Card({}, str(i), {"part": Stamp(i, "")}, {"bytes": Path(uri).stat().st_size}) for i, uri in enumerate(curated)
    ]
    measured = Collection(f"memory://{tmp_path.name}", "measured")
    summaries = measure_parts(curated, cards, config, 0, measured, "full")
    assert summaries == list(plan.parts)
    held = [part.documents != part.training_documents for part in plan.parts]
    assert [bool(part.heldout_uri) for part in summaries] == held
    assert any(held)
    assert [p.heldout_uri for p in measure_parts(curated, cards, config, 0, measured, "full")] == [
        p.heldout_uri for p in summaries
    ]
    here = str(tmp_path / "kept")
    kept = prepare_store(curated, Tokenizer.load(tokenizer_uri), config, here, 0, summaries)
    for store in (plan, kept):
        tokenize_heldout_parts(store, config, tokenizer_uri)
    first, second = (collection(f"{store.uri}/heldout").read_cards() for store in (plan, kept))
    assert [c.files for c in first.values()] == [c.files for c in second.values()]
    assert [{**c.account, "seconds": 0} for c in first.values()] == [
        {**c.account, "seconds": 0} for c in second.values()
    ]
