"""raypt.artefact: made once, verified when used, and made anew (saying why) when foreign or damaged."""

import json
import logging
from pathlib import Path

import pyarrow as pa
import pytest

from raypt import storage
from raypt.artefact import Card, Damaged, Identity, Output, hash_of, make
from raypt.errors import UserError

IDENTITY = Identity("thing", 1, {"text": "abc"}, {"minimum": 3, "rule": {"on": True}})


class Maker:
    """Writes two files and counts how often it was asked to."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self, output: Output) -> dict[str, int]:
        self.made += 1
        output.write_bytes("data/one.txt", b"one" * 1000)
        output.write_parquet("data/two.parquet", pa.table({"n": list(range(1000))}))
        return {"rows": 1000}


def test_an_artefact_is_made_once(tmp_path: Path) -> None:
    maker = Maker()
    first = make(IDENTITY, str(tmp_path), "thing.json", maker)
    second = make(IDENTITY, str(tmp_path), "thing.json", maker)
    assert first == second
    assert maker.made == 1
    assert first.account == {"rows": 1000}
    assert storage.read_parquet(str(tmp_path / "data" / "two.parquet")).num_rows == 1000


@pytest.mark.parametrize(
    "other",
    [
        Identity("thing", 2, IDENTITY.inputs, IDENTITY.settings),
        Identity("thing", 1, {"text": "abd"}, IDENTITY.settings),
        Identity("thing", 1, IDENTITY.inputs, {"minimum": 4, "rule": {"on": True}}),
    ],
    ids=["format", "input", "setting"],
)
def test_another_identity_is_made_anew_and_the_log_says_what_differs(
    tmp_path: Path, other: Identity, caplog: pytest.LogCaptureFixture
) -> None:
    maker = Maker()
    make(IDENTITY, str(tmp_path), "thing.json", maker)
    with caplog.at_level(logging.WARNING, "raypt"):
        made = make(other, str(tmp_path), "thing.json", maker)
    assert maker.made == 2
    assert made.key == other.key
    assert "is made anew" in caplog.text
    assert any(word in caplog.text for word in ("format: was 1, is 2", "'abd'", "settings.minimum: was 3, is 4"))


def test_an_artefact_that_must_not_be_replaced_is_refused_naming_what_differs(tmp_path: Path) -> None:
    make(IDENTITY, str(tmp_path), "thing.json", Maker())
    other = Identity("thing", 1, IDENTITY.inputs, {"minimum": 4, "rule": {"on": True}})
    with pytest.raises(UserError, match=r"use another directory\n  settings.minimum: was 3, is 4"):
        make(other, str(tmp_path), "thing.json", Maker(), refuse="use another directory")


@pytest.mark.parametrize("file", ["data/one.txt", "data/two.parquet", "thing.json"])
@pytest.mark.parametrize("how", ["delete", "cut", "flip"])
def test_a_damaged_file_is_named_and_made_anew(
    tmp_path: Path, file: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    maker = Maker()
    make(IDENTITY, str(tmp_path), "thing.json", maker)
    before = {name: (tmp_path / name).read_bytes() for name in ("data/one.txt", "data/two.parquet", "thing.json")}
    path = tmp_path / file
    data = bytearray(path.read_bytes())
    if how == "delete":
        path.unlink()
    elif how == "cut":
        path.write_bytes(data[: len(data) // 2])
    else:
        data[len(data) // 2] ^= 0xFF
        path.write_bytes(data)
    with caplog.at_level(logging.WARNING, "raypt"):
        make(IDENTITY, str(tmp_path), "thing.json", maker, verify="full")
    assert maker.made == 2
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    if not (file == "thing.json" and how == "delete"):  # without a card nothing is known to have been there
        assert path.name in caplog.text


def test_every_flipped_byte_of_a_card_is_noticed(tmp_path: Path) -> None:
    data = make(IDENTITY, str(tmp_path), "thing.json", Maker()).to_bytes()
    for at in range(len(data)):
        flipped = bytearray(data)
        flipped[at] ^= 0x01
        try:
            card = Card.from_bytes(bytes(flipped), "thing.json")
        except Damaged:
            continue
        assert card.to_bytes() == data, f"byte {at}"  # white space, which says nothing


def test_the_key_is_the_hash_of_the_words() -> None:
    settings = {"b": [1, {"语": None}], "a": 0.5}
    for kind in ("part", 'a "quoted" kind'):
        identity = Identity(kind, 3, {"z": "1", "a": "2"}, settings)
        assert identity.key == hash_of(identity.words())


def test_cards_of_other_processes_share_their_settings() -> None:
    def card(settings: dict[str, int]) -> Card:
        identity = Identity("part", 1, {}, settings)
        return Card.from_json(json.loads(json.dumps(Card(identity.words(), identity.key, {}, None).to_json())))

    first, second, other = card({"rule": 1}), card({"rule": 1}), card({"rule": 2})
    assert second.like(first) == second and second.like(first).identity["settings"] is first.identity["settings"]
    assert other.like(first) is other
