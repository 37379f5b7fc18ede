"""The directory of a run's checkpoints: which is the newest, which are kept, and what became of the others.

Nothing here takes an error for an absence. What is not there is what the storage says is not there; what might be a
checkpoint is never deleted, only left where it is and named.
"""

import contextlib
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from raypt import storage
from raypt.errors import UserError
from raypt.training.checkpoint.manifest import MANIFEST, PIECES, CheckpointInfo, read_info
from raypt.training.checkpoint.sealed import Damaged, carefully, seal, unseal
from raypt.training.config import CheckpointConfig

log = logging.getLogger("raypt")

REJECTED = "rejected.json"
RECORD = "committed.json"
"""Names of the attempts that were whole once and have not been pruned: what tells a lost manifest from an attempt that
never had one.
"""
_NAME = re.compile(r"step-(\d{8,})-[0-9a-zA-Z]+")


class Entry(NamedTuple):
    """What pruning needs to know of a checkpoint."""

    step: int
    name: str
    heldout_loss: float | None


def attempts(uri: str) -> list[str]:
    """Names of the directories of attempts, newest step first."""
    return _attempts_of(carefully(lambda: storage.listdir(uri)))


def _attempts_of(there: Iterable[str]) -> list[str]:
    names = filter(_NAME.fullmatch, there)
    return sorted(names, key=lambda name: (step_of(name), name), reverse=True)


def step_of(name: str) -> int:
    match = _NAME.fullmatch(name)
    assert match is not None
    return int(match[1])


def latest_checkpoint(uri: str) -> CheckpointInfo | None:
    """The newest checkpoint under `uri` that has a manifest and has not been rejected; None if there never was one.

    Three requests, whatever there is. The checkpoint's bytes are checked by those who read them
    (`raypt.training.checkpoint.reader`).

    Raises:
        UserError: checkpoints are there, and none of them can be used. This is no first start.
        OSError: the storage does not answer.
    """
    why: list[str] = []
    for info in _usable(uri, why):
        return info
    if problem := _lost(uri, why):
        raise UserError(problem)
    return None


def newest_step(uri: str) -> int:
    """Step of the newest checkpoint on record; 0 = none. One request."""
    return max((entry.step for entry in read_record(uri).values()), default=0)


def list_checkpoints(uri: str) -> list[CheckpointInfo]:
    """All usable checkpoints under `uri`, oldest step first; a request or two for each."""
    return list(_usable(uri, []))[::-1]


def _usable(uri: str, why: list[str]) -> Iterable[CheckpointInfo]:
    """Newest first; why others are not is appended to `why`."""
    for name in attempts(uri):
        directory = storage.join(uri, name)
        try:
            info = read_info(directory)
        except Damaged as e:
            log.error("checkpoint %s is damaged (%s): going back to the one before it", directory, e)
            why.append(str(e))
            continue
        if info is None:
            if _has(directory, PIECES):
                why.append(f"{directory} has all but its {MANIFEST}")
        elif info.step != step_of(name):
            why.append(f"{directory} holds the manifest of step {info.step}")
            log.error("%s: it does not count", why[-1])
        elif _has(directory, REJECTED):
            why.append(f"{directory} was found damaged (see {REJECTED} in it)")
        else:
            yield info


def _has(directory: str, file: str) -> bool:
    return carefully(lambda: storage.is_file(storage.join(directory, file)))


def _lost(uri: str, why: Sequence[str]) -> str | None:
    """What is wrong where no checkpoint is usable; None if there never was one."""
    problems = list(why)
    try:
        for name in read_record(uri):
            if not any(name in problem for problem in problems):
                problems.append(f"{storage.join(uri, name)} was whole once and has lost its {MANIFEST}")
    except Damaged as e:
        problems.append(str(e))
    if not problems:
        return None
    return (
        f"{uri} holds checkpoints, and none that is whole:\n" + "\n".join(f"  {problem}" for problem in problems) + "\n"
        "Nothing has been changed. Bring back their files from a copy or from the storage's older versions (and delete "
        f"{REJECTED} where there is one), and the same command resumes. To give up what was trained and begin again at "
        f"step 0, move {uri} elsewhere, or start under another run.name"
    )


def reject(info: CheckpointInfo, problem: str) -> None:
    """Mark a checkpoint that was read twice and is not what was written. It stays where it is, and is never pruned."""
    log.error("checkpoint %s is damaged (%s): going back to the one before it", info.uri, problem)
    note = f"delete this file to have the checkpoint tried again; delete {info.uri} if you do not need it"
    storage.write_json(storage.join(info.uri, REJECTED), {"problem": problem, "note": note})


def read_record(uri: str) -> dict[str, Entry]:
    """The attempts on record, by name; none where there is no record. Raises Damaged."""
    path = storage.join(uri, RECORD)

    def read() -> dict[str, Entry]:
        try:
            data = storage.read_bytes(path)
        except FileNotFoundError:
            return {}
        return {name: Entry(step, name, loss) for name, (step, loss) in unseal(data, path)["committed"].items()}

    return carefully(read)


def _write_record(uri: str, entries: Mapping[str, Entry]) -> None:
    committed = {name: [entry.step, entry.heldout_loss] for name, entry in entries.items()}
    storage.write_bytes(storage.join(uri, RECORD), seal({"committed": committed}))


def _entry(info: CheckpointInfo) -> Entry:
    return Entry(info.step, info.name, info.progress.heldout_loss)


def kept(entries: Iterable[Entry], config: CheckpointConfig) -> set[str]:
    """Names of those that the policy keeps: the last k, every n-th step, the best k by held-out loss."""
    entries = sorted(entries)
    keep = set(entries[-config.keep_last :])
    if config.keep_every is not None:
        keep |= {entry for entry in entries if entry.step % config.keep_every == 0}
    scored = [(entry.heldout_loss, entry) for entry in entries if entry.heldout_loss is not None]
    keep |= {entry for _, entry in sorted(scored)[: config.keep_best]}
    return {entry.name for entry in keep}


class Kept:
    """The checkpoints of a directory that are whole, as rank 0 of those who write them keeps them. What earlier starts
    have left is looked at when the first one is added; from then on it is known, and adding one is a listing and one
    small file, whatever there is.
    """

    def __init__(self, uri: str, config: CheckpointConfig) -> None:
        self.uri, self.config = uri, config
        self._entries: dict[str, Entry] | None = None
        self._rejected: set[str] = set()
        self._files: dict[str, list[str]] = {}
        """Of those that were added: what is in them beside the manifest."""

    def add(self, info: CheckpointInfo, left: Sequence[str] = ()) -> None:
        """Put a checkpoint that is whole on record, and with it those that the record has missed; delete what the
        policy does not keep. Rejected ones do not count, and stay; so does what has no manifest, since another may be
        being written (see `sweep`).

        One that is whole and not on record was committed by a worker that outlived its driver by a moment, beside the
        run that went on from the checkpoint before it. `left`: files in it that nobody needs any more.
        """
        names = carefully(lambda: storage.listdir(self.uri))
        there = {*_attempts_of(names), info.name}
        if self._entries is None:
            self._entries = _on_record(self.uri) if RECORD in names else {}
            self._rejected = set(filter(self._is_rejected, there & self._entries.keys()))
        entries = {**self._entries, info.name: _entry(info)}
        for name in there - entries.keys():
            with contextlib.suppress(Damaged):
                other = read_info(storage.join(self.uri, name))
                if other is not None and other.step == step_of(name):
                    entries[name] = _entry(other)
                    if self._is_rejected(name):
                        self._rejected.add(name)
        rejected = self._rejected & entries.keys()
        keep = kept((entry for name, entry in entries.items() if name in there - rejected), self.config) | rejected
        # From the record first: a directory half deleted must not look like a checkpoint that was lost.
        self._entries = {name: entry for name, entry in entries.items() if name in keep}
        _write_record(self.uri, self._entries)
        self._files[info.name] = [*info.files, PIECES]
        unneeded = [f"{info.name}/{name}" for name in left]
        for name in (entries.keys() - keep) & there:
            storage.remove_file(storage.join(self.uri, name, MANIFEST))
            files = self._files.pop(name, None)
            if files is None or storage.is_local(self.uri):
                storage.remove(storage.join(self.uri, name))
            else:
                unneeded += [f"{name}/{file}" for file in files]
        storage.remove_files(self.uri, unneeded)

    def look_again(self) -> None:
        """One of them was rejected."""
        self._entries = None

    def _is_rejected(self, name: str) -> bool:
        return _has(storage.join(self.uri, name), REJECTED)


def _on_record(uri: str) -> dict[str, Entry]:
    """What the record says; where it is damaged, what is there."""
    try:
        return read_record(uri)
    except Damaged as e:
        log.warning("%s: writing it anew from what is there", e)
        return {info.name: _entry(info) for info in list_checkpoints(uri)}


def sweep(uri: str) -> None:
    """Delete what is left of attempts that never became whole: no manifest, nothing that is written just before it, and
    not on record. Only while nobody writes, and after the state that the run goes on from is sure. Where there is
    doubt, it stays and is named.
    """
    try:
        there = attempts(uri)
        record = read_record(uri) if there else {}
        missed = {}
        for name in there:
            directory = storage.join(uri, name)
            if name in record or _has(directory, PIECES):
                if not _has(directory, MANIFEST):
                    log.error("%s has lost its %s: it does not count, and stays", directory, MANIFEST)
                elif name not in record and (info := read_info(directory)) is not None:
                    missed[name] = _entry(info)
            elif not _has(directory, MANIFEST):
                log.warning("removing %s: a checkpoint that was never finished", directory)
                storage.remove(directory)
        if missed:
            _write_record(uri, record | missed)
    except (Damaged, OSError) as e:
        log.warning("unfinished checkpoints are left where they are: %s", e)
