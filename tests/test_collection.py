"""raypt.collection: artefacts by number are found by few requests, however they were made, and nothing foreign is."""

import functools
import time
from pathlib import Path

import pytest

from raypt import collection as collections
from raypt import packs, storage
from raypt.artefact import Card, Identity, Output
from raypt.collection import Collection


def collection(tmp_path: Path, count: int, rule: int = 1) -> tuple[Collection, list[Identity]]:
    return Collection(str(tmp_path), "cards"), [
        Identity("part", 1, {"shard": str(n)}, {"rule": rule}) for n in range(count)
    ]


def build_all(found: Collection, identities: list[Identity]) -> list[Card]:
    cards = []
    for n, card in enumerate(found.survey(identities)):
        maker = lambda output, n=n: output.write_bytes(f"parts/{n}.txt", b"%d" % n * 100)  # noqa: E731
        cards.append(card or found.build(n, identities[n], maker))
    found.finish(cards)
    return cards


@pytest.mark.parametrize("index", [True, False], ids=["index", "cards"])
def test_only_what_is_missing_foreign_or_damaged_is_to_be_made(tmp_path: Path, index: bool) -> None:
    parts, identities = collection(tmp_path, 6)
    build_all(parts, identities)
    if not index:
        Path(parts.index_uri).unlink()
    (tmp_path / "parts" / "1.txt").unlink()
    (tmp_path / "parts" / "3.txt").write_bytes(b"3" * 99)
    (tmp_path / "parts" / "4.txt").write_bytes(b"5" * 100)
    identities[5] = Identity("part", 1, {"shard": "another"}, {"rule": 1})
    assert [card is None for card in parts.survey(identities)] == [False, True, False, True, False, True]
    assert [card is None for card in parts.survey(identities, "full")] == [False, True, False, True, True, True]


def test_a_survey_of_a_finished_collection_makes_no_request_an_artefact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts, identities = collection(tmp_path, 50)
    cards = build_all(parts, identities)
    read: list[str] = []
    original = storage.read_bytes
    monkeypatch.setattr(storage, "read_bytes", lambda uri: (read.append(uri), original(uri))[1])
    assert parts.survey(identities) == cards
    assert read == [parts.index_uri]


def test_a_start_that_makes_nothing_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts, identities = collection(tmp_path, 3)
    build_all(parts, identities)
    monkeypatch.setattr(storage, "write_bytes", lambda uri, data: pytest.fail(f"{uri} is written"))
    build_all(parts, identities)


def test_the_index_of_fewer_artefacts_is_written_anew(tmp_path: Path) -> None:
    build_all(*collection(tmp_path, 5))
    parts, identities = collection(tmp_path, 3)
    cards = build_all(parts, identities)
    assert list(parts.load().values()) == cards


def test_a_changed_setting_makes_all_anew_and_the_new_index_is_believed(tmp_path: Path) -> None:
    build_all(*collection(tmp_path, 4))
    parts, identities = collection(tmp_path, 4, rule=2)
    assert parts.survey(identities) == [None] * 4
    cards = build_all(parts, identities)
    assert parts.survey(identities) == cards
    assert all(card.key == identity.key for card, identity in zip(cards, identities, strict=True))


def test_the_index_keeps_the_order_of_an_account(tmp_path: Path) -> None:
    parts = Collection(str(tmp_path), "cards")
    identity = Identity("part", 1)
    card = parts.build(0, identity, lambda output: {"second": 1, "first": 2})
    parts.finish([card])
    assert list(parts.survey([identity])[0].account) == ["second", "first"]


def together(parts: Collection, identities: list[Identity], numbers: list[int], packed: bool = False) -> list[Card]:
    def maker(n: int, output: Output) -> dict[str, int]:
        output.write_bytes(f"parts/{n}.txt", b"%d" % n * 100)
        return {"n": n}

    work = {n: (identities[n], functools.partial(maker, n)) for n in numbers}
    return parts.build_together(work, pack_up_to=storage.TAIL_BYTES if packed else 0)


@pytest.mark.parametrize("packed", [False, True], ids=["files", "pack"])
def test_what_is_made_together_is_found_as_what_is_made_alone(tmp_path: Path, packed: bool) -> None:
    at = f"memory://{tmp_path.name}-{packed}"
    parts, identities = Collection(at, "cards"), collection(tmp_path, 5)[1]
    cards = [*together(parts, identities, [0, 1, 2], packed), *together(parts, identities, [3], packed)]
    assert parts.survey(identities) == [*cards, None]
    names = storage.listdir(parts.cards_uri)
    assert len(names) == 2, "a card, and cards of three, with what is packed"
    for n, card in enumerate(cards):
        assert storage.read_bytes(card.uri(at, f"parts/{n}.txt")) == b"%d" % n * 100
    alone = [parts.build(4, identities[4], lambda output: output.write_bytes("parts/4.txt", b"4"))]
    parts.finish([*cards, *alone])
    assert list(parts.load().values()) == parts.survey(identities, "full") == [*cards, *alone]


def test_of_what_is_made_together_nothing_is_there_before_all_is(tmp_path: Path) -> None:
    parts, identities = Collection(f"memory://{tmp_path.name}", "cards"), collection(tmp_path, 3)[1]

    def dies(output: Output) -> None:
        raise OSError("killed")

    work = {0: (identities[0], lambda output: output.write_bytes("0", b"0")), 1: (identities[1], dies)}
    with pytest.raises(OSError, match="killed"):
        parts.build_together(work)
    assert parts.survey(identities) == [None] * 3


def test_one_of_several_that_is_foreign_or_damaged_is_made_anew_and_the_others_stay(tmp_path: Path) -> None:
    at = f"memory://{tmp_path.name}"
    parts, identities = Collection(at, "cards"), collection(tmp_path, 4)[1]
    cards = together(parts, identities, [0, 1, 2, 3])
    storage.write_bytes(f"{at}/parts/2.txt", b"2" * 99)
    identities[1] = Identity("part", 1, {"shard": "another"}, {"rule": 1})
    assert parts.survey(identities) == [cards[0], None, None, cards[3]]
    assert sorted(parts.read_cards()) == [0, 3], "whoever waits for a card does not meet the old one"
    (joint,) = storage.listdir(parts.cards_uri)
    assert len(storage.read_bytes(f"{parts.cards_uri}/{joint}").splitlines()) == 2, "nothing of the others is left"
    made = together(parts, identities, [1, 2])
    assert parts.survey(identities) == [cards[0], *made, cards[3]]


def test_of_a_pack_what_is_foreign_is_made_anew_and_the_others_stay_where_they_are(tmp_path: Path) -> None:
    at = f"memory://{tmp_path.name}"
    parts, identities = Collection(at, "cards"), collection(tmp_path, 4)[1]
    cards = together(parts, identities, [0, 1, 2, 3], packed=True)
    identities[1] = Identity("part", 1, {"shard": "another"}, {"rule": 1})
    assert parts.survey(identities) == [cards[0], None, *cards[2:]]
    assert sorted(parts.read_cards()) == [0, 2, 3], "whoever waits for a card does not meet the old one"
    made = together(parts, identities, [1], packed=True)
    parts.finish(parts_now := [cards[0], *made, *cards[2:]])
    assert parts.survey(identities, "full") == parts_now
    packs.kept.__init__()  # type: ignore[misc]  # another process
    for n, card in enumerate(parts_now):
        assert storage.read_bytes(card.uri(at, f"parts/{n}.txt")) == b"%d" % n * 100


@pytest.mark.parametrize("how", ["gone", "cut", "flipped"])
def test_a_damaged_pack_is_noticed(tmp_path: Path, how: str) -> None:
    at = f"memory://{tmp_path.name}"
    parts, identities = Collection(at, "cards"), collection(tmp_path, 3)[1]
    cards = together(parts, identities, [0, 1, 2], packed=True)
    uri = storage.join(at, next(iter(cards[0].paths)))
    data = bytearray(storage.read_bytes(uri))
    packs.kept.__init__()  # type: ignore[misc]  # another process has not read it
    if how == "gone":
        storage.remove_file(uri)
        assert parts.survey(identities) == [None] * 3
    elif how == "cut":
        storage.write_bytes(uri, bytes(data[:-1]))
        assert parts.survey(identities) == cards, "the cards are found without the line that says where"
        storage.write_bytes(uri, bytes(data[:250]))
        assert parts.survey(identities) == [None] * 3
    else:
        data[150] ^= 1
        storage.write_bytes(uri, bytes(data))
        assert parts.survey(identities, "full") == [cards[0], None, cards[2]]


def test_a_full_pack_is_written_and_another_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collections, "PACK_BYTES", 250)
    at = f"memory://{tmp_path.name}"
    parts, identities = Collection(at, "cards"), collection(tmp_path, 5)[1]
    cards = together(parts, identities, [0, 1, 2, 3, 4], packed=True)
    assert len({path for card in cards for path in card.paths}) == 3
    for n, card in enumerate(cards):
        assert storage.read_bytes(card.uri(at, f"parts/{n}.txt")) == b"%d" % n * 100
    parts.finish(cards)
    assert parts.survey(identities, "full") == cards, "none of the packs is taken for one of before"
    storage.remove_file(parts.index_uri)
    assert parts.survey(identities, "full") == cards, "the cards lie behind what came first"


def test_a_file_above_the_limit_is_not_packed(tmp_path: Path) -> None:
    at = f"memory://{tmp_path.name}"
    parts, identities = Collection(at, "cards"), collection(tmp_path, 2)[1]

    def maker(output: Output) -> None:
        output.write_bytes("small", b"x" * 10)
        output.write_bytes("large", b"x" * 11)

    work = {0: (identities[0], maker), 1: (identities[1], lambda output: None)}
    (card, _) = parts.build_together(work, pack_up_to=10)
    assert list(card.packed) == ["small"]
    assert storage.read_bytes(f"{at}/large") == b"x" * 11


def test_a_pack_that_threads_want_at_a_time_is_read_once(tmp_path: Path) -> None:
    kept, reads = packs.Kept(), []

    def read(pack: str) -> bytes:
        reads.append(pack)
        time.sleep(0.05)
        if len(reads) == 1:
            raise OSError("once")
        return pack.encode()

    with pytest.raises(OSError, match="once"):
        kept.get("a", read)
    found = storage.in_parallel(lambda pack: kept.get(pack, read), ["a", "b"] * 8)
    assert found == [b"a", b"b"] * 8
    assert sorted(reads) == ["a", "a", "b"]


def test_packs_of_earlier_artefacts_are_deleted_when_all_are_made(tmp_path: Path) -> None:
    at = f"memory://{tmp_path.name}"
    parts, identities = Collection(at, "cards"), collection(tmp_path, 3)[1]
    parts.finish(together(parts, identities, [0, 1, 2], packed=True))
    others = [Identity("part", 1, {"shard": str(n)}, {"rule": 2}) for n in range(3)]
    assert parts.survey(others) == [None] * 3
    cards = together(parts, others, [0, 1, 2], packed=True)
    parts.finish(cards)
    assert {f"cards/{name}" for name in storage.listdir(parts.cards_uri)} == {*cards[0].paths, "cards/index.zst"}


def test_of_a_new_one_nothing_is_looked_for_but_what_was_made_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = f"memory://{tmp_path.name}"
    parts, identities = Collection(at, "cards", new=True), collection(tmp_path, 3)[1]
    made = dict(zip([0, 2], together(parts, identities, [0, 2], packed=True), strict=True))
    with monkeypatch.context() as patch:
        patch.setattr(storage, "listdir", lambda uri: 1 / 0)
        patch.setattr(storage, "read_bytes", lambda uri: 1 / 0)
        assert parts.survey(identities, made_now=made) == [made[0], None, made[2]]
        assert parts.survey(identities) == [None] * 3
    assert Collection(at, "cards").survey(identities) == [made[0], None, made[2]]
