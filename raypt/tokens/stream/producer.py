"""Fill the token store in the background while training runs: Ray tasks over shards, in the order the stream needs."""

import functools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from raypt import metrics, storage
from raypt.artefact import Card, Verify
from raypt.progress import TaskProgress
from raypt.tasks import run_tasks
from raypt.tokens.config import TokensConfig
from raypt.tokens.store.files import collection, joint_uri, wanted_uri
from raypt.tokens.store.shards import (
    HELDOUT,
    Reader,
    TokenAccount,
    nothing,
    shard_identity,
    shard_work,
    store_identity,
)
from raypt.tokens.stream.reader import FAILURE_FILE
from raypt.tokens.stream.spec import StorePlan, StreamSpec
from raypt.tokens.tokenizer.tokenizer import load_tokenizer

log = logging.getLogger("raypt")

POLL_S = 0.5
REMOTE_POLL_S, MOST_POLL_S = 5.0, 60.0
"""Between two looks at what the readers want: a listing, which an object store charges for (`look_again_in`)."""


@dataclass(frozen=True)
class _Task:
    """Tokenizes the shards it is called with. Picklable; the tokenizer is loaded once a process."""

    part_uris: tuple[str, ...]
    contents: tuple[str, ...]
    tokenizer_uri: str
    config: TokensConfig
    store_uri: str
    seed: int
    heldout: bool = False
    read: Reader | None = None
    empty: frozenset[int] = frozenset()
    """Shards of which it is known that no document goes into them."""

    def __call__(self, item: "_Item") -> list[Card]:
        tokenizer = load_tokenizer(self.tokenizer_uri)
        root = storage.join(self.store_uri, HELDOUT) if self.heldout else self.store_uri
        work = {
            shard: shard_work(
                self.part_uris[shard], shard, tokenizer, self.config, self.seed, self.contents[shard],
                heldout=self.heldout, read=nothing if shard in self.empty else self.read,
            )
            for shard in item.shards
        }  # fmt: skip
        uri = joint_uri(root, item.first) if item.others or len(work) > 1 else None
        cards = collection(root).build_together(
            work, uri, item.others, pack_up_to=storage.LITTLE_BYTES if self.heldout and uri else 0
        )
        run = metrics.label_of(self.store_uri.rstrip("/").rpartition("/")[0])
        metrics.put("raypt_stream_shards_tokenized", len(cards), run)
        metrics.put("raypt_stream_tokens_made", sum(card.account["packed_tokens"] for card in cards), run)
        return cards


@dataclass(frozen=True)
class _Item:
    """Shards that a task makes together."""

    first: int
    """The lowest of their group."""
    shards: tuple[int, ...]
    others: dict[int, Card]
    """The cards of those of the group that are there."""


class StoreWork:
    """The shards of a store (or of its held-out store): which are whole, and the task that makes the others.

    `read` finds documents at the parts' URIs that are no curated parts.
    """

    def __init__(
        self,
        plan: StorePlan,
        config: TokensConfig,
        tokenizer_uri: str,
        *,
        heldout: bool = False,
        verify: Verify = "sizes",
        read: Reader | None = None,
    ) -> None:
        contents = tuple(p.content for p in plan.parts)
        self.config, self.heldout = config, heldout
        self.root = storage.join(plan.uri, HELDOUT) if heldout else plan.uri
        none = [i for i, part in enumerate(plan.parts) if heldout and part.documents == part.training_documents]
        uris = plan.part_uris
        if heldout:
            uris = tuple(part.heldout_uri or uri for part, uri in zip(plan.parts, uris, strict=True))
        self.task = _Task(uris, contents, tokenizer_uri, config, plan.uri, plan.seed, heldout, read, frozenset(none))
        made_of = store_identity(load_tokenizer(tokenizer_uri), config, plan.seed)
        identities = [shard_identity(made_of, content) for content in contents]
        self._collection = replace(collection(self.root), new=plan.new)
        cards = self._collection.survey(identities, verify)
        self.cards = {shard: card for shard, card in enumerate(cards) if card is not None}
        self.shards = len(cards)
        self.groups = plan.heldout_together if heldout else plan.together
        self._put_in_place()

    def _put_in_place(self) -> None:
        """Cards that were written for other groups, by another version of raypt, go where readers look for those of a
        group that has nothing left to make. The file may be there, of a smaller group.
        """

        def put(group: Sequence[int]) -> None:
            cards = {shard: self.cards[shard] for shard in group}
            if len(group) == 1:
                storage.write_bytes(collection(self.root).card_uri(group[0]), cards[group[0]].to_bytes())
            else:
                collection(self.root).put_together(cards, joint_uri(self.root, group[0]))

        def in_place(group: Sequence[int]) -> bool:
            name = joint_uri(self.root, group[0]).rpartition("/")[2] if len(group) > 1 else ""
            return all(self.cards[shard].joint == name for shard in group)

        if all(card.indexed for card in self.cards.values()):
            return
        whole = [group for group in self.groups if all(shard in self.cards for shard in group)]
        storage.in_parallel(put, [group for group in whole if not in_place(group)])

    def make(
        self,
        groups: Sequence[Sequence[int]],
        name: str,
        max_in_flight: int | None = None,
        progress: TaskProgress | None = None,
    ) -> None:
        """Make those shards of some of `self.groups` that are not there: of what `progress` counts, a part or all."""
        items = [item for group in groups if (item := self._item(group)).shards]
        stream = self.config.stream
        cpus, labels = stream.tokenizer_cpus, stream.labels
        made = run_tasks(
            self.task, items, name=name, num_cpus=cpus, labels=labels, max_in_flight=max_in_flight,
            progress=progress,
        )  # fmt: skip
        for item, cards in zip(items, made, strict=True):
            self.cards |= dict(zip(item.shards, cards, strict=True))

    def _item(self, group: Sequence[int]) -> _Item:
        there = {shard: self.cards[shard] for shard in group if shard in self.cards}
        return _Item(group[0], tuple(shard for shard in group if shard not in there), there)

    def finish(self) -> list[TokenAccount]:
        """Keep the cards of all shards in one file; the accounts, in shard order."""
        cards = [self.cards[shard] for shard in range(self.shards)]
        self._collection.finish(cards)
        return [TokenAccount.from_json(card.account) for card in cards]


def tokenize_heldout_parts(
    plan: StorePlan, config: TokensConfig, tokenizer_uri: str, verify: Verify = "sizes"
) -> list[TokenAccount]:
    """Make the held-out store, `<store>/heldout`; the accounts in shard order.

    It comes before training, so that every evaluation of a run sees the same documents.
    """
    work = StoreWork(plan, config, tokenizer_uri, heldout=True, verify=verify)
    work.make(work.groups, "tokenize held-out documents")
    return work.finish()


def shard_schedule(plan: StorePlan, spec: StreamSpec | None) -> list[int]:
    """All shards, those first that the stream needs first; in their own order without a stream."""
    every = range(len(plan.parts))
    if spec is None:
        return list(every)
    sizes = {(i, source): n for i, part in enumerate(plan.parts) for source, n in part.bytes.items()}
    needed = spec.clock(lambda shard, source: 0).shard_schedule(sizes)
    rest = set(every).difference(needed)
    return needed + sorted(rest)


def _limit(plan: StorePlan, config: TokensConfig, order: list[list[int]], unpaced: threading.Event) -> int:
    """How many groups of `order` may be tokenized by now."""
    ahead = config.stream.ahead_shards
    if ahead is None or unpaced.is_set():
        return len(order)
    place = {group[0]: i for i, group in enumerate(order)}
    # A group that was there already is wanted too, but nothing is to be made before it.
    reached = max((place.get(int(name), -1) for name in storage.listdir(wanted_uri(plan.uri))), default=-1)
    return min(len(order), reached + 1 + ahead)


def look_again_in(waited: float, pace: float) -> float:
    """Seconds to the next look on an object store, where it is `waited` since readers came further, which took `pace`
    before: a few looks each time, for they are still about what they have ahead.
    """
    return min(max(REMOTE_POLL_S, waited / 4, pace / 3), MOST_POLL_S)


def tokenize_parts(
    plan: StorePlan,
    config: TokensConfig,
    tokenizer_uri: str,
    spec: StreamSpec | None = None,
    max_in_flight: int | None = None,
    unpaced: threading.Event | None = None,
    work: StoreWork | None = None,
) -> list[TokenAccount]:
    """Tokenize every part that is not in the store yet; the accounts in shard order. Blocks until all are done.

    With `unpaced`, goes `config.stream.ahead_shards` (small ones count together) beyond the furthest that readers have
    asked for, and waits there until they come closer or the event is set. A failure is left in the store for its
    readers before it is raised here.
    """
    failure = storage.join(plan.uri, FAILURE_FILE)
    if not plan.new:
        storage.remove_file(failure)
    try:
        work = work or StoreWork(plan, config, tokenizer_uri)
        group_of = {shard: group for group in work.groups for shard in group}
        needed = [group_of[shard] for shard in shard_schedule(plan, spec) if shard not in work.cards]
        order = list({group[0]: group for group in needed}.values())
        progress, done = TaskProgress("tokenize", len(order)), 0
        pace, since = 0.0, time.monotonic()
        while done < len(order):
            limit = len(order) if unpaced is None else _limit(plan, config, order, unpaced)
            if limit <= done:
                assert unpaced is not None
                pause = POLL_S if storage.is_local(plan.uri) else look_again_in(time.monotonic() - since, pace)
                unpaced.wait(pause)
                continue
            pace, since = time.monotonic() - since, time.monotonic()
            work.make(order[done:limit], progress.name, config.stream.tokenizers or max_in_flight, progress)
            done = limit
        return work.finish()
    except BaseException as e:
        storage.write_json(failure, {"error": f"{type(e).__name__}: {e}"})
        raise


class Tokenizing:
    """`tokenize_parts` in a thread. `wait()` gives the ledgers, or raises what went wrong.

    Has made the held-out store by the time it is constructed.
    """

    def __init__(
        self,
        plan: StorePlan,
        config: TokensConfig,
        tokenizer_uri: str,
        spec: StreamSpec | None = None,
        max_in_flight: int | None = None,
        verify: Verify = "sizes",
    ) -> None:
        self.heldout_ledgers = tokenize_heldout_parts(plan, config, tokenizer_uri, verify)
        # Before any reader: from here on a shard that has a card is the right one.
        work = StoreWork(plan, config, tokenizer_uri, verify=verify)
        self.started_at = time.time()
        self.ended_at: float | None = None
        self._unpaced = threading.Event()
        self._ledgers: list[TokenAccount] | None = None
        self._error: BaseException | None = None
        self._run: Callable[[], list[TokenAccount]] = functools.partial(
            tokenize_parts, plan, config, tokenizer_uri, spec, max_in_flight, self._unpaced, work
        )
        # A daemon: a driver that fails in training need not wait for the tokens of a run that is over.
        self._thread = threading.Thread(target=self._work, name="raypt-tokenize", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            self._ledgers = self._run()
            log.info("tokenize: all %d shards done", len(self._ledgers))
        except BaseException as e:
            self._error = e
            log.error("tokenize: failed: %s", e)
        finally:
            self.ended_at = time.time()

    @property
    def done(self) -> bool:
        return self.ended_at is not None

    def wait(self) -> list[TokenAccount]:
        """Tokenize what is left without regard to readers; the ledgers, in shard order, or what went wrong."""
        self._unpaced.set()
        self._thread.join()
        if self._error is not None:
            raise self._error
        assert self._ledgers is not None
        return self._ledgers
