import dataclasses
import time
from pathlib import Path

import pytest

from raypt import storage
from raypt.artefact import read_card
from raypt.collection import read_joint
from raypt.errors import UserError
from raypt.tokens.store.files import TokenStore, collection, joint_uri, wanted_uri
from raypt.tokens.stream.producer import StoreWork, Tokenizing, look_again_in, shard_schedule, tokenize_parts
from raypt.tokens.stream.reader import FAILURE_FILE, SampleReader
from raypt.tokens.stream.spec import plan_stream, prepare_store
from raypt.tokens.tokenizer.tokenizer import Tokenizer
from tests.tokens.conftest import PlanMaker
from tests.tokens.helpers import small_config


def test_all_parts_are_tokenized_and_listed_in_shard_order(make_plan: PlanMaker) -> None:
    plan, config, tokenizer_uri = make_plan()
    spec = plan_stream(plan, config, samples=96, global_batch=24, ranks=(1,))
    ledgers = tokenize_parts(plan, config, tokenizer_uri, spec)
    assert [ledger.shard for ledger in ledgers] == [0, 1, 2, 3, 4]
    assert TokenStore(plan.uri).shards() == [0, 1, 2, 3, 4]
    documents = sum(sum(p.documents.values()) for p in plan.parts)
    assert sum(ledger.documents + ledger.heldout_documents for ledger in ledgers) == documents


def test_the_schedule_begins_with_the_shards_of_the_first_samples(make_plan: PlanMaker) -> None:
    plan, config, tokenizer_uri = make_plan(stream={"window_shards": 1})
    spec = plan_stream(plan, config, samples=96, global_batch=24, ranks=(1,))
    schedule = shard_schedule(plan, spec)
    tokenize_parts(plan, config, tokenizer_uri)
    first = set(SampleReader(spec).resolve(0, 8).shard.tolist())
    assert set(schedule[: len(first)]) == first
    assert sorted(schedule) == [0, 1, 2, 3, 4]


def test_the_heldout_store_is_whole_before_tokenizing_goes_to_the_background(make_plan: PlanMaker) -> None:
    plan, config, tokenizer_uri = make_plan(heldout={"fraction": 0.3})
    tokenizing = Tokenizing(plan, config, tokenizer_uri)
    assert len(TokenStore(f"{plan.uri}/heldout").shards()) == 5
    assert len(tokenizing.wait()) == 5
    assert tokenizing.done


def test_a_paced_producer_stays_a_few_shards_ahead_of_the_readers(make_plan: PlanMaker) -> None:
    plan, config, tokenizer_uri = make_plan(stream={"window_shards": 1, "ahead_shards": 2})
    spec = plan_stream(plan, config, samples=96, global_batch=24, ranks=(1,))
    order = shard_schedule(plan, spec)
    tokenizing = Tokenizing(plan, config, tokenizer_uri, spec)
    store = TokenStore(plan.uri)

    def settled() -> set[int]:
        before = None
        while before != (now := set(store.shards())):
            before = now
            time.sleep(2)
        return now

    assert settled() == set(order[:2])
    SampleReader(spec).resolve(0, 8)
    asked = {int(name) for name in storage.listdir(wanted_uri(plan.uri))}
    assert settled() == set(order[: max(order.index(s) for s in asked) + 3])
    assert len(tokenizing.wait()) == 5


def test_a_failure_is_raised_and_left_for_the_readers(make_plan: PlanMaker, tmp_path: Path) -> None:
    plan, config, tokenizer_uri = make_plan()
    broken = tmp_path / "part-00003.parquet"
    broken.write_bytes(b"no parquet")
    parts = (*plan.part_uris[:3], str(broken), *plan.part_uris[4:])
    plan = dataclasses.replace(plan, part_uris=parts)
    with pytest.raises(UserError, match=r"part-00003\.parquet: cannot read"):
        tokenize_parts(plan, config, tokenizer_uri)
    assert "part-00003.parquet" in storage.read_json(f"{plan.uri}/{FAILURE_FILE}")["error"]


def test_tokenizing_again_mends_an_earlier_failure(make_plan: PlanMaker) -> None:
    plan, config, tokenizer_uri = make_plan()
    storage.write_json(f"{plan.uri}/{FAILURE_FILE}", {"error": "old"})
    tokenize_parts(plan, config, tokenizer_uri)
    assert not storage.exists(f"{plan.uri}/{FAILURE_FILE}")


@pytest.mark.parametrize("groups", [[[0, 1], [2, 3, 4]], [[1], [0, 2, 3, 4]], [[0], [1], [2], [3], [4]]])
def test_cards_of_other_groups_go_where_readers_look(
    curated: list[str], tokenizer_uri: str, tmp_path: Path, groups: list[list[int]]
) -> None:
    # As another version of raypt may have grouped the shards of a store that it did not finish: the file that readers
    # look for may be there, with fewer of them.
    config, uri = small_config(), f"memory://{tmp_path.name}"
    plan = prepare_store(curated, Tokenizer.load(tokenizer_uri), config, uri, seed=0)
    assert plan.together == [[0, 1, 2, 3, 4]]
    tokenize_parts(plan, config, tokenizer_uri)
    storage.remove_file(collection(uri).index_uri)
    cards = read_joint(joint_uri(uri, 0))
    storage.remove_file(joint_uri(uri, 0))
    for group in groups:
        if len(group) == 1:
            storage.write_bytes(collection(uri).card_uri(group[0]), cards[group[0]].to_bytes())
        else:
            collection(uri).put_together({shard: cards[shard] for shard in group}, joint_uri(uri, group[0]))
    work = StoreWork(plan, config, tokenizer_uri)
    assert sorted(work.cards) == [0, 1, 2, 3, 4]
    assert read_joint(joint_uri(uri, 0)) == cards
    assert {card.joint for card in StoreWork(plan, config, tokenizer_uri).cards.values()} == {"shard-group-00000.cards"}
    spec = plan_stream(plan, config, samples=96, global_batch=24, ranks=(1,))
    assert len(SampleReader(spec).resolve(0, 8).shard) == 8


def test_so_does_the_card_of_a_shard_that_is_with_no_other_now(
    curated: list[str], tokenizer_uri: str, tmp_path: Path
) -> None:
    config, uri = small_config(), f"memory://{tmp_path.name}"
    plan = prepare_store(curated, Tokenizer.load(tokenizer_uri), config, uri, seed=0)
    tokenize_parts(plan, config, tokenizer_uri)
    storage.remove_file(collection(uri).index_uri)
    cards = read_joint(joint_uri(uri, 0))
    plan.__dict__["together"] = [[0], [1, 2, 3, 4]]
    StoreWork(plan, config, tokenizer_uri)
    assert read_card(collection(uri).card_uri(0)) == cards[0]
    assert read_joint(joint_uri(uri, 1)) == {shard: cards[shard] for shard in (1, 2, 3, 4)}


@pytest.mark.parametrize(("pace", "most"), [(4.0, 2), (80.0, 5), (600.0, 11)])
def test_readers_of_a_steady_pace_are_looked_at_a_few_times_for_each_group(pace: float, most: int) -> None:
    looks = [look_again_in(0, pace)]
    while sum(looks) < pace:
        looks.append(look_again_in(sum(looks), pace))
    assert len(looks) <= most
    assert looks[-1] <= max(5.0, pace / 3), "they are not kept waiting"
