"""Fill the token store in the background while training runs: Ray tasks over shards, in the order the stream needs."""

import functools
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from raypt import storage
from raypt.tasks import run_tasks
from raypt.tokens.config import TokensConfig
from raypt.tokens.store.files import wanted_uri
from raypt.tokens.store.shards import TokenAccount, tokenize_heldout, tokenize_shard
from raypt.tokens.stream.metrics import StreamMetrics
from raypt.tokens.stream.reader import FAILURE_FILE, INDEX_FILE
from raypt.tokens.stream.spec import StorePlan, StreamSpec
from raypt.tokens.tokenizer.tokenizer import load_tokenizer

log = logging.getLogger("raypt")

_POLL_S = 0.5


@dataclass(frozen=True)
class _Task:
    """Tokenizes the shard it is called with. Picklable; the tokenizer is loaded once a process."""

    part_uris: tuple[str, ...]
    contents: tuple[str, ...]
    tokenizer_uri: str
    config: TokensConfig
    store_uri: str
    seed: int

    heldout: bool = False

    def __call__(self, shard: int) -> TokenAccount:
        tokenizer = load_tokenizer(self.tokenizer_uri)
        work = tokenize_heldout if self.heldout else tokenize_shard
        ledger = work(
            self.part_uris[shard], shard, tokenizer, self.config, self.store_uri, self.seed, self.contents[shard]
        )
        StreamMetrics().add(shards_tokenized=1, tokens_made=ledger.packed_tokens)
        return ledger


def _task(plan: StorePlan, config: TokensConfig, tokenizer_uri: str, *, heldout: bool = False) -> _Task:
    contents = tuple(p.content for p in plan.parts)
    return _Task(plan.part_uris, contents, tokenizer_uri, config, plan.uri, plan.seed, heldout)


def tokenize_heldout_parts(plan: StorePlan, config: TokensConfig, tokenizer_uri: str) -> list[TokenAccount]:
    """Make the held-out store, `<store>/heldout`; the ledgers in shard order.

    It comes before training, so that every evaluation of a run sees the same documents.
    """
    task = _task(plan, config, tokenizer_uri, heldout=True)
    shards = range(len(plan.parts))
    stream = config.stream
    name = "tokenize held-out documents"
    return run_tasks(task, shards, name=name, num_cpus=stream.tokenizer_cpus, labels=stream.labels)


def shard_schedule(plan: StorePlan, spec: StreamSpec | None) -> list[int]:
    """All shards, those first that the stream needs first; in their own order without a stream."""
    every = range(len(plan.parts))
    if spec is None:
        return list(every)
    sizes = {(i, source): n for i, part in enumerate(plan.parts) for source, n in part.bytes.items()}
    needed = spec.clock(lambda shard, source: 0).shard_schedule(sizes)
    return needed + [i for i in every if i not in set(needed)]


def _limit(plan: StorePlan, config: TokensConfig, order: list[int], unpaced: threading.Event) -> int:
    """How many shards of `order` may be tokenized by now."""
    ahead = config.stream.ahead_shards
    if ahead is None or unpaced.is_set():
        return len(order)
    place = {shard: i for i, shard in enumerate(order)}
    reached = max((place[int(name)] for name in storage.listdir(wanted_uri(plan.uri))), default=-1)
    return min(len(order), reached + 1 + ahead)


def tokenize_parts(
    plan: StorePlan,
    config: TokensConfig,
    tokenizer_uri: str,
    spec: StreamSpec | None = None,
    max_in_flight: int | None = None,
    unpaced: threading.Event | None = None,
) -> list[TokenAccount]:
    """Tokenize every part that is not in the store yet; the ledgers in shard order. Blocks until all are done.

    With `unpaced`, goes `config.stream.ahead_shards` beyond the furthest shard that readers have asked for, and waits
    there until they come closer or the event is set. A failure is left in the store for its readers before it is
    raised here.
    """
    failure = storage.join(plan.uri, FAILURE_FILE)
    storage.remove(failure)
    order = shard_schedule(plan, spec)
    task = _task(plan, config, tokenizer_uri)
    ledgers: list[TokenAccount] = []
    try:
        while len(ledgers) < len(order):
            limit = len(order) if unpaced is None else _limit(plan, config, order, unpaced)
            if limit <= len(ledgers):
                assert unpaced is not None
                unpaced.wait(_POLL_S)
                continue
            ledgers += run_tasks(
                task,
                order[len(ledgers) : limit],
                name=f"tokenize (of {len(order)})",
                num_cpus=config.stream.tokenizer_cpus,
                labels=config.stream.labels,
                max_in_flight=config.stream.tokenizers or max_in_flight,
            )
    except BaseException as e:
        storage.write_json(failure, {"error": f"{type(e).__name__}: {e}"})
        raise
    by_shard = sorted(ledgers, key=lambda ledger: ledger.shard)
    storage.write_json(storage.join(plan.uri, INDEX_FILE), {ledger.shard: ledger.sections for ledger in by_shard})
    return by_shard


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
    ) -> None:
        self.heldout_ledgers = tokenize_heldout_parts(plan, config, tokenizer_uri)
        self.started_at = time.time()
        self.ended_at: float | None = None
        self._unpaced = threading.Event()
        self._ledgers: list[TokenAccount] | None = None
        self._error: BaseException | None = None
        self._run: Callable[[], list[TokenAccount]] = functools.partial(
            tokenize_parts, plan, config, tokenizer_uri, spec, max_in_flight, self._unpaced
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
