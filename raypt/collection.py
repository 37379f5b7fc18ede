"""Artefacts that come by number, one a shard: their cards, their index, and the files that several of them share.

Cards are found by one listing, kept together in one index file when all are there, and checked against one listing of
the files' directories, so that 10^5 finished shards cost some hundred requests and not some 10^5. What a task makes
together has its cards in one file, and, where requests cost, its small files before them (`Pack`).
"""

import io
import json
import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any, cast

import orjson
import zstandard

from raypt import storage
from raypt.artefact import (
    CARD_FORMAT,
    REASONS_SHOWN,
    Card,
    Damaged,
    Identity,
    Output,
    Verify,
    build,
    differences,
    hash_of,
    read_card,
    text_of,
)

log = logging.getLogger("raypt")

JOINT = ".cards"
"""How files of several cards are called."""
PACK = "pack-"
"""How packs are called, before a hash of what is in them."""
PACK_BYTES = 8 << 20
"""Of a pack, which whoever wants a file of it reads as a whole: some of them are kept (`packs.KEPT_BYTES`)."""


class Pack:
    """Small files of several artefacts, in memory until they are written as one object: the first `PACK_BYTES` of them
    last, with the cards behind them where those have no place of their own.
    """

    def __init__(self, root: str, path: str, more: str, most_bytes: int) -> None:
        """`path`: of that object, relative to `root`; `more`: of others, before their number."""
        self.most_bytes = most_bytes
        """Of a file that is put into it."""
        self._root, self._path, self._more = root, path, more
        self._first = self._data = io.BytesIO()
        self._full = 0

    def add(self, data: bytes) -> tuple[str, int]:
        """In which object a file lies, relative to `root`, and where it begins."""
        if self._data.tell() + len(data) > PACK_BYTES:
            self._write_more()
            self._full, self._data = self._full + 1, io.BytesIO()
        place = f"{self._more}-{self._full}" if self._full else self._path, self._data.tell()
        self._data.write(data)
        return place

    def _write_more(self) -> None:
        if self._full and self._data.tell():
            storage.write_bytes(storage.join(self._root, f"{self._more}-{self._full}"), self._data.getvalue())

    def write(self, cards: Mapping[int, "Card"] | None = None) -> None:
        """What is not written yet, and last, with the cards, what came first."""
        self._write_more()
        data = self._first.getvalue()
        if cards is not None:
            data = _joint(cards, data)
        if data:
            storage.write_bytes(storage.join(self._root, self._path), data)


def sizes_under(root: str, paths: Mapping[str, Any] | Sequence[str]) -> dict[str, int]:
    """Sizes of the files that are there, by path under `root`: one listing for each of their directories."""
    directories = sorted({path.rpartition("/")[0] for path in paths})
    listed = storage.in_parallel(lambda d: storage.list_sizes(storage.join(root, d) if d else root), directories)
    return {
        f"{directory}/{name}" if directory else name: size
        for directory, sizes in zip(directories, listed, strict=True)
        for name, size in sizes.items()
    }


Work = Mapping[int, tuple[Identity, Callable[[Output], Any]]]
"""By number, what an artefact is and what writes its files."""


@dataclass(frozen=True)
class Collection:
    """Artefacts of one kind by number, e.g. one a shard: cards `root/cards/00007.json`, an index when all are there.

    The files of all of them are under `root`, which may be shared with other collections.
    """

    root: str
    cards: str
    """Directory of the cards, relative to `root`; empty: `root` itself."""
    prefix: str = ""
    """Of the names of the cards."""
    new: bool = False
    """Whether there was none of it when this start of a job began: nothing is looked for."""

    @property
    def cards_uri(self) -> str:
        return storage.join(self.root, self.cards) if self.cards else self.root

    def card_uri(self, number: int) -> str:
        return storage.join(self.cards_uri, self._name(number))

    @property
    def index_uri(self) -> str:
        return storage.join(self.cards_uri, "index.zst")

    def build(self, number: int, identity: Identity, maker: Callable[[Output], Any], *, pack_up_to: int = 0) -> Card:
        """Make one and write its card; in a task, which may be retried. Its files of up to so many bytes are one."""
        if not pack_up_to:
            return build(identity, self.root, maker, self.card_uri(number))
        pack = self._pack({number: (identity, maker)}, pack_up_to, with_cards=True)
        card = build(identity, self.root, maker, pack=pack)
        pack.write({number: card})
        return card

    def _pack(self, work: Work, most_bytes: int, *, with_cards: bool) -> Pack:
        """Named after what will be in it."""
        content = hash_of([[number, identity.key] for number, (identity, _) in sorted(work.items())])
        more = storage.join(self.cards, PACK + content) if self.cards else PACK + content
        own = self.joint_uri(content).removeprefix(f"{self.root.rstrip('/')}/") if with_cards else more
        return Pack(self.root, own, more, most_bytes)

    def build_together(
        self,
        work: Work,
        uri: str | None = None,
        others: Mapping[int, Card] | None = None,
        *,
        pack_up_to: int = 0,
    ) -> list[Card]:
        """Make several, by number, in a task that may be retried, and write all their cards last as one file: a request
        where small ones cost one each. Until then none of them is there. With `uri`, where others look for the file,
        it has the cards of `others` too. Their files of up to `pack_up_to` bytes are one with the cards, or, with
        `uri`, whose file may be written again, one beside it.
        """
        if len(work) == 1 and uri is None:
            return [self.build(number, *of) for number, of in work.items()]
        pack = self._pack(work, pack_up_to, with_cards=uri is None) if pack_up_to else None
        cards = {n: build(identity, self.root, maker, pack=pack) for n, (identity, maker) in work.items()}
        if pack is not None and uri is None:
            pack.write(cards)
            return list(cards.values())
        if pack is not None:
            pack.write()
        self.put_together({**(others or {}), **cards}, uri or self.joint_uri(hash_of(sorted(work))[:16]))
        return list(cards.values())

    def put_together(self, cards: Mapping[int, Card], uri: str) -> None:
        """Write cards as one file."""
        storage.write_bytes(uri, _joint(cards))

    def joint_uri(self, name: str) -> str:
        """Of a file of several cards."""
        return storage.join(self.cards_uri, f"{self.prefix}{name}{JOINT}")

    def look(
        self, identities: Sequence[Identity], verify: Verify = "sizes"
    ) -> tuple[list[Card | None], dict[int, str]]:
        """By number, the card of each artefact that is whole and of its identity (None: it has to be made); and why
        those that are there and cannot be used have to be made anew. Changes nothing.
        """
        found = self._index() or self._read_cards(identities)
        usable = {n: card for n, card in found.items() if isinstance(card, Card) and n < len(identities)}
        if len(found) != len(identities):  # the index is of another number: `finish` writes it anew
            usable = {n: replace(card, indexed=False) for n, card in usable.items()}
        why = {n: str(card) for n, card in found.items() if isinstance(card, Damaged) and n < len(identities)}
        paths = sorted({path for card in usable.values() for path in card.paths})
        sizes = sizes_under(self.root, paths) if paths else {}
        out: list[Card | None] = [None] * len(identities)
        to_read = []
        for number, card in usable.items():
            identity = identities[number]
            if card.key != identity.key:
                reasons = differences(card.identity, identity.words())[:REASONS_SHOWN]
                why[number] = "; ".join(reasons) or "it is another artefact"
            elif (problem := card.problem(sizes)) is not None:
                why[number] = storage.join(self.root, problem)
            else:
                out[number] = card
                to_read.append(number)
        if verify == "full":
            damage = storage.in_parallel(lambda n: cast(Card, out[n]).damage(self.root), to_read)
            for number, problem in zip(to_read, damage, strict=True):
                if problem is not None:
                    out[number], why[number] = None, storage.join(self.root, problem)
        return out, why

    def survey(
        self, identities: Sequence[Identity], verify: Verify = "sizes", made_now: Mapping[int, Card] | None = None
    ) -> list[Card | None]:
        """What `look` finds. Says in the log how many that were there have to be made anew, and why, and takes their
        cards away: whoever waits for a card must not meet the old one. Nothing is looked at where `made_now`, what
        this start has made by now, is all there is to be.
        """
        there = made_now or {}
        of_now = {n for n, identity in enumerate(identities) if n in there and there[n].key == identity.key}
        if self.new or (identities and len(of_now) == len(identities)):
            return [there[n].holding(identity) if n in of_now else None for n, identity in enumerate(identities)]
        out, why = self.look(identities, verify)
        if why:
            shown = "; ".join(f"{number}: {reason}" for number, reason in sorted(why.items())[:REASONS_SHOWN])
            more = "; ..." if len(why) > REASONS_SHOWN else ""
            log.warning("%d of %d %s are made anew: %s%s", len(why), len(identities), identities[0].kind, shown, more)
            storage.remove_file(self.index_uri)
            self._take_away(why.keys())
        return out

    def _take_away(self, numbers: Set[int]) -> None:
        """The cards of these artefacts, from wherever they are."""
        names = storage.list_sizes(self.cards_uri)
        alone = [n for n in numbers if self._name(n) in names]
        storage.remove_files(self.cards_uri, [self._name(n) for n in alone])

        def less(name: str) -> None:
            uri = storage.join(self.cards_uri, name)
            cards = read_joint(uri)
            rest = {n: card for n, card in cards.items() if n not in numbers}
            if not rest:
                storage.remove_file(uri)
            elif len(rest) < len(cards):
                whole = storage.read_bytes(uri)
                own = _cards_at_end(whole[-FOOT_BYTES:]) or len(whole)
                storage.write_bytes(uri, _joint(rest, whole[: len(whole) - own]))

        storage.in_parallel(less, self._joint_names(names))

    def _name(self, number: int) -> str:
        return f"{self.prefix}{number:05d}.json"

    def _joint_names(self, names: Iterable[str]) -> list[str]:
        return sorted(name for name in names if name.startswith(self.prefix) and name.endswith(JOINT))

    def load(self) -> dict[int, Card]:
        """The cards of a finished collection by number, from its index; empty if it is not finished."""
        return {n: card for n, card in self._index().items() if isinstance(card, Card)}

    def finish(self, cards: Sequence[Card]) -> None:
        """Keep all cards in one file, which the next start reads instead of theirs: a line of the settings that they
        share, and a line a card. Nothing is written where the cards are those of the file.
        """
        if cards and all(card.indexed for card in cards):
            return
        shared: dict[bytes, int] = {}
        lines = [b""]
        for card in cards:
            value = card.to_json()
            settings = shared.setdefault(text_of(value["identity"]["settings"]), len(shared))
            # Not `canonical`: the order of an account's keys may say something (the stages of a ledger).
            value["identity"] = value["identity"] | {"settings": settings}
            lines.append(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())
        lines[0] = b"[" + b",".join(shared) + b"]"
        packed = zstandard.ZstdCompressor(write_checksum=True).compress(b"\n".join(lines))
        storage.write_bytes(self.index_uri, packed)
        self._drop_packs(cards)

    def _drop_packs(self, cards: Sequence[Card]) -> None:
        """Delete the packs beside the cards that are none of theirs any more: of an earlier start, or of an attempt
        that died, whose artefacts were then made one by one.
        """
        if self.new and all(card.packed or not card.files for card in cards):
            return
        if any(card.packed for card in cards):
            ours = {path.rpartition("/")[2] for card in cards for path in card.paths}
            names = [name for name in storage.list_sizes(self.cards_uri) if name.startswith(PACK) and name not in ours]
            storage.remove_files(self.cards_uri, names)

    def _index(self) -> dict[int, Card | Damaged]:
        try:
            packed = storage.read_bytes(self.index_uri)
        except FileNotFoundError:
            return {}
        try:
            head, *lines = zstandard.ZstdDecompressor().decompress(packed).split(b"\n")
            shared, found = json.loads(head), {}
            for n, line in enumerate(lines):
                value = orjson.loads(line)
                value["identity"]["settings"] = shared[value["identity"]["settings"]]
                found[n] = Card.from_json(value, indexed=True)
            return dict(found)
        except (zstandard.ZstdError, ValueError, KeyError, TypeError, AttributeError, IndexError) as e:
            log.warning("%s is damaged (%s): the cards are read one by one", self.index_uri, e)
            return {}

    def read_cards(self) -> dict[int, Card]:
        """The cards that are there and whole, by number: of a collection that need not be finished."""
        return self.load() or {n: card for n, card in self._read_cards().items() if isinstance(card, Card)}

    def _read_cards(self, identities: Sequence[Identity] | None = None) -> dict[int, Card | Damaged]:
        """All cards that are there; of `identities` alone where they are given. Who is in several files (a task that
        was thought dead may have come to its end) has one of its identity there.
        """
        names = storage.list_sizes(self.cards_uri)
        form = re.compile(rf"{re.escape(self.prefix)}(\d{{5,}})\.json")
        numbers = [int(match[1]) for name in names if (match := form.fullmatch(name))]
        if identities is not None:
            numbers = [n for n in numbers if n < len(identities)]

        def read(number: int) -> Card | Damaged | None:
            try:
                return read_card(self.card_uri(number))
            except Damaged as e:
                return e

        cards = storage.in_parallel(read, numbers)
        out: dict[int, Card | Damaged] = {n: c for n, c in zip(numbers, cards, strict=True) if c is not None}
        uris = [storage.join(self.cards_uri, name) for name in self._joint_names(names)]
        for joint in storage.in_parallel(read_joint, uris):
            for number, card in joint.items():
                if identities is not None and number >= len(identities):
                    continue
                wanted = None if identities is None else identities[number].key
                before = out.get(number)
                if before is None or (card.key == wanted and not _is_of(before, wanted)):
                    out[number] = card
        return out


def _is_of(card: Card | Damaged, key: str | None) -> bool:
    return isinstance(card, Card) and card.key == key and card.joint != ""


FOOT_BYTES = 16
"""Of a file that has more than cards: a line with how many bytes of them, and of itself, end it."""


def _joint(cards: Mapping[int, Card], data: bytes = b"") -> bytes:
    """A line a card, each with its own checksum, behind `data` of theirs."""
    lines = []
    for number, card in sorted(cards.items()):
        value = {"number": number, **card.to_json()}
        lines.append(json.dumps({**value, "checksum": hash_of(value)}, ensure_ascii=False, separators=(",", ":")))
    text = ("\n".join(lines) + "\n").encode()
    return data + b"\n" + text + b"%015d\n" % (len(text) + FOOT_BYTES) if data else text


def _cards_at_end(foot: bytes) -> int:
    """Of a file of several cards that ends so, how many bytes are not data of theirs; 0: it has no other."""
    return int(foot) if len(foot) == FOOT_BYTES and foot[:-1].isdigit() else 0


def _read_cards_of(uri: str) -> bytes:
    """The lines of the cards; what lies before them is not read, but for some that comes with them."""
    with storage.open_ranges(uri) as f:
        size = f.seek(0, io.SEEK_END)
        f.seek(max(size - FOOT_BYTES, 0))
        own = _cards_at_end(f.read()) or size
        f.seek(max(size - own, 0))
        return f.read(own - FOOT_BYTES if own < size else own)


def read_joint(uri: str) -> dict[int, Card]:
    """The cards of a joint file, by number; of a damaged line nothing is known, not even whose card it was. Empty if
    there is none.
    """
    try:
        data = _read_cards_of(uri)
    except FileNotFoundError:
        return {}
    out: dict[int, Card] = {}
    name, damaged = uri.rpartition("/")[2], False
    for line in data.splitlines():
        try:
            value = orjson.loads(line)
            checksum = value.pop("checksum")
            if value["card"] == CARD_FORMAT and checksum == hash_of(value):
                out[value["number"]] = Card.from_json(value, joint=name)
                continue
        except (ValueError, TypeError, KeyError, AttributeError):
            pass
        damaged = True
    if damaged:
        log.warning("%s is damaged: the artefacts of some of its lines are made anew", uri)
    return out
