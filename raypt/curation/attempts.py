"""Documents that kill or hang the process that touches them: found, quarantined, never tried again for ever.

A worker leaves a marker before it begins a shard and takes it away at the end. Who finds markers of attempts that did
not end knows that they died. After PLAIN_ATTEMPTS of them (nodes are taken away, neighbours eat the memory) the shard
is looked through in child processes: a record whose reading ends the child, and a document on which the tagger ends it,
are found and go to quarantine; then the shard is done as usual. A worker that hangs ends itself. Small shards that are
done together have one marker: if that attempt dies, each is done by itself.
"""

import contextlib
import faulthandler
import json
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

from raypt import storage
from raypt.corpus.reader import NOTHING, Poison
from raypt.errors import UserError
from raypt.run_dir import RunDir

log = logging.getLogger("raypt")

Item = TypeVar("Item")

PLAIN_ATTEMPTS = 2
"""Deaths that are taken for somebody else's doing."""
MOST_ATTEMPTS = 6
"""A shard that ends its worker so often, looked through in between, ends the run."""


def _marker(run: RunDir, shard: int) -> str:
    return run.path("work", "attempts", f"shard-{shard}.json")


def _poison(value: dict[str, Any]) -> Poison:
    return Poison(
        rows=tuple((p, r) for p, r in value["rows"]),
        documents=tuple(value["documents"]),
        cuts=tuple((p, r) for p, r in value["cuts"]),
    )


def begin(run: RunDir, shard: int, find: Callable[[Poison], Poison]) -> Poison:
    """Mark that an attempt at a shard begins; what must not be touched in it.

    `find` looks the shard through for more than what is known already; it is called when earlier attempts died.

    Raises:
        UserError: too many did.
    """
    uri = _marker(run, shard)
    known, died = NOTHING, 0
    with contextlib.suppress(FileNotFoundError):
        value = json.loads(storage.read_bytes(uri))
        known, died = _poison(value["poison"]), value["attempts"]
    if died >= MOST_ATTEMPTS:
        raise UserError(
            f"shard {shard} ended {died} workers, and no single document of it was found that does. Give the workers "
            f"more memory (fewer actors a node, a smaller corpus.batch_bytes), remove {uri} and start the run again"
        )
    _write(uri, died + 1, known)
    if died >= PLAIN_ATTEMPTS:
        log.warning("shard %d ended %d workers: it is looked through in a child process", shard, died)
        found = find(known)
        if found != known:
            log.warning("shard %d: not touched again: %s", shard, found)
            _write(uri, died + 1, found)
        return found
    return known


def _write(uri: str, attempts: int, poison: Poison) -> None:
    storage.write_bytes(uri, json.dumps({"attempts": attempts, "poison": asdict(poison)}).encode())


def finish(run: RunDir, shard: int) -> None:
    """Mark that a shard is done."""
    storage.remove_file(_marker(run, shard))


def _joint_marker(run: RunDir, shards: Sequence[int]) -> str:
    return run.path("work", "attempts", f"shards-{shards[0]}-{shards[-1]}-{len(shards)}.json")


def begin_together(run: RunDir, shards: Sequence[int]) -> bool:
    """Mark that an attempt at several shards begins, by one marker. False if an earlier one died: then they are to be
    done one by one, each with its own marker.
    """
    uri = _joint_marker(run, shards)
    try:
        storage.read_bytes(uri)
    except FileNotFoundError:
        storage.write_bytes(uri, b"{}")
        return True
    log.warning("an attempt at shards %d to %d has ended a worker: they are done one by one", shards[0], shards[-1])
    return False


def finish_together(run: RunDir, shards: Sequence[int]) -> None:
    """Mark that they are all done, together or one by one."""
    storage.remove_file(_joint_marker(run, shards))


@contextlib.contextmanager
def watched(seconds: float | None) -> Iterator[None]:
    """End this process if the block takes longer than `seconds` (None: it may), whatever holds it up: the timer is a
    thread of C that needs no lock of Python's."""
    if seconds is None:
        yield
        return
    faulthandler.dump_traceback_later(seconds, exit=True, file=sys.__stderr__ or sys.stderr)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def watched_items(items: Iterator[Item], seconds: float | None) -> Iterator[Item]:
    """`items`, each of which is waited for at most `seconds`."""
    end = object()
    while True:
        with watched(seconds):
            item = next(items, end)
        if item is end:
            return
        yield item  # type: ignore[misc]
