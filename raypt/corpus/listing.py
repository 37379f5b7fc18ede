"""Which files a path means: names, directories, globs and URIs, with what is passed over and why."""

import copy
import fnmatch
import functools
import os
import posixpath
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from raypt import storage
from raypt.corpus.formats.raw import etag_of
from raypt.corpus.formats.table import DATA, format_of
from raypt.errors import UserError
from raypt.outside import redact, shown
from raypt.retries import asked

THREADS = 32
"""Requests to a file system at a time."""
HIDDEN = "hidden or temporary"
NOT_DATA = "beside data, not data"
DANGLING = "a link to nothing"
TWICE = "named twice"
EXAMPLES = 5
_TEMPORARY = re.compile(r"(~|\.(tmp|temp|part|partial|crdownload|inprogress|crc|swp|bak|lock))$", re.IGNORECASE)
_CARD = re.compile(r"(readme|licen[cs]e|citation|notice|changelog|authors|contributing)([._-].*)?", re.IGNORECASE)
_SIDE = frozenset({"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"})
"""What `datasets` writes beside its Arrow files."""


@dataclass(frozen=True, slots=True)
class Found:
    """A file, with its size and identity as the listing gave them."""

    uri: str
    size: int | None
    etag: str


@dataclass
class Skipped:
    """Files that were passed over: how many and the first ones, by reason."""

    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, name: str) -> None:
        self.counts[reason] = self.counts.get(reason, 0) + 1
        examples = self.examples.setdefault(reason, [])
        if len(examples) < EXAMPLES:
            examples.append(redact(name))

    def merge(self, other: "Skipped") -> None:
        for reason, count in other.counts.items():
            self.counts[reason] = self.counts.get(reason, 0) + count
            examples = self.examples.setdefault(reason, [])
            examples += other.examples[reason][: EXAMPLES - len(examples)]

    def __str__(self) -> str:
        parts = []
        for reason, count in self.counts.items():
            names = ", ".join(map(shown, self.examples[reason]))
            parts.append(
                f"{count} {shown(reason, 60)} ({names}{', ...' if count > len(self.examples[reason]) else ''})"
            )
        return "; ".join(parts)


@functools.lru_cache(maxsize=1 << 16)
def natural(path: str) -> tuple[str | int, ...]:
    """A key that sorts numbers in names as numbers: part-99999 before part-100000."""
    return tuple(int(p) if i % 2 else p for i, p in enumerate(re.split(r"([0-9]+)", path)))


def is_hidden(name: str) -> bool:
    """Whether a file or directory name marks what is no data: `_temporary`, `.git`, `x.tmp`. (`_date=1` is Hive's.)"""
    return (name.startswith((".", "_", "#")) and "=" not in name) or bool(_TEMPORARY.search(name))


# --- entries of a directory ------------------------------------------------------------------------------------------


Entry = tuple[str, Found | None]
"""Path below the directory, and the file; None: passed over for the reason that `_below` was told."""


def _local_file(path: str) -> Found:
    status = Path(path).stat()
    return Found(path, status.st_size, f"mtime:{status.st_mtime}")


def _walk_local(top: str, skipped: Skipped) -> Iterator[tuple[str, Found]]:
    """(path below `top`, file) of the files in a directory and those below it; linked directories are followed, each
    directory is entered once. Real directories come before links, so that their names are the ones that count."""
    seen: set[tuple[int, int]] = set()
    real: list[str] = [""]
    links: list[str] = []
    linked_files: list[str] = []
    own: set[str] = set()
    while real or links:
        below = real.pop(0) if real else links.pop(0)
        folder = posixpath.join(top, below) if below else top
        status = Path(folder).stat()
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(folder) as scan:
            entries = sorted(scan, key=lambda e: natural(e.name))
        for entry in entries:
            path = posixpath.join(below, entry.name)
            if is_hidden(entry.name):
                skipped.add(HIDDEN, path + ("/" if entry.is_dir() else ""))
            elif entry.is_dir():
                (links if entry.is_symlink() else real).append(path)
            elif entry.is_symlink():
                linked_files.append(path)
            elif entry.is_file():
                own.add(os.path.realpath(entry.path))
                yield path, _local_file(entry.path)
    for path in linked_files:
        full = posixpath.join(top, path)
        target = os.path.realpath(full)
        if not Path(full).exists():
            skipped.add(DANGLING, path)
        elif target in own:
            skipped.add(TWICE, path)
        else:
            own.add(target)
            yield path, _local_file(full)


def _walk_remote(fs: fsspec.AbstractFileSystem, top: str, prefix: str, skipped: Skipped) -> Iterator[tuple[str, Found]]:
    yield from _below(fs.find(top, detail=True), top, prefix, skipped)


def _below(found: dict[str, Any], top: str, prefix: str, skipped: Skipped) -> Iterator[tuple[str, Found]]:
    """Of what lies below a directory, the data."""
    for path, info in sorted(found.items(), key=lambda item: natural(item[0])):
        below = path[len(top) :].lstrip("/")
        if info.get("type") == "directory" or path.endswith("/"):
            continue
        if any(map(is_hidden, below.split("/"))):
            skipped.add(HIDDEN, below)
        else:
            yield below, _remote_file(prefix, path, info)


def _prefix(fs: fsspec.AbstractFileSystem, path: str, pattern: str) -> str:
    """What stands before a path of `fs` to make it a URI: as the pattern has it, with server, user and password."""
    path, pattern = path.rstrip("/"), pattern.rstrip("/")
    whole = pattern if pattern.endswith(path) else str(fs.unstrip_protocol(path))
    return whole[: len(whole) - len(path)]


def _remote_file(prefix: str, path: str, info: dict[str, Any]) -> Found:
    size = info.get("size")
    return Found(prefix + path, None if size is None else int(size), etag_of(info))


# --- patterns --------------------------------------------------------------------------------------------------------


def has_magic(text: str) -> bool:
    return any(c in text for c in "*?[")


def _literal_base(path: str, is_dir: Callable[[str], bool]) -> tuple[str, list[str]]:
    """A pattern as the directory it starts from and the components that are patterns; a directory that exists under
    its literal name is meant, whatever signs it has."""
    parts = path.split("/")
    base = parts[0]
    for i, part in enumerate(parts[1:], start=1):
        if has_magic(part) and not ("[" in part and i < len(parts) - 1 and is_dir(f"{base}/{part}")):
            return base or "/", parts[i:]
        base = f"{base}/{part}"
    return base, []


def _matches(patterns: list[str], parts: list[str]) -> int | None:
    """How many of `parts` a pattern takes, all of its own components used; None if it does not fit. Hidden names fit
    only a component that begins as they do."""
    if not patterns:
        return 0
    if not parts:
        return 0 if all(p == "**" for p in patterns) else None
    head, rest = patterns[0], patterns[1:]
    hidden = is_hidden(parts[0]) and not (head[0] == parts[0][0] or head == parts[0])
    if head == "**":
        taken = _matches(rest, parts) if rest else 1
        if taken is not None and rest:
            return taken
        if hidden:
            return None
        deeper = _matches(patterns, parts[1:])
        return None if deeper is None else deeper + 1
    if hidden or not fnmatch.fnmatchcase(parts[0], head):
        return None
    taken = _matches(rest, parts[1:])
    return None if taken is None else taken + 1


def _glob_local(base: str, patterns: list[str], skipped: Skipped) -> Iterator[tuple[str, Found]]:
    """Files that a pattern names, and those in directories that it names."""

    def level(folder: str, patterns: list[str]) -> Iterator[str]:
        try:
            with os.scandir(folder) as scan:
                entries = sorted(scan, key=lambda e: natural(e.name))
        except (FileNotFoundError, NotADirectoryError):
            return
        for entry in entries:
            head, rest = patterns[0], patterns[1:]
            path = posixpath.join(folder, entry.name)
            if head == "**":
                if is_hidden(entry.name):
                    skipped.add(HIDDEN, path[len(base) :].lstrip("/"))
                    continue
                if not rest:
                    yield path
                    continue
                if _matches(rest, [entry.name]) is not None:
                    yield path
                elif entry.is_dir() and len(rest) > 1 and fnmatch.fnmatchcase(entry.name, rest[0]):
                    yield from level(path, rest[1:])
                if entry.is_dir() and not entry.is_symlink():
                    yield from level(path, patterns)
            elif fnmatch.fnmatchcase(entry.name, head):
                if is_hidden(entry.name) and head[0] != entry.name[0] and head != entry.name:
                    skipped.add(HIDDEN, path[len(base) :].lstrip("/"))
                elif not rest:
                    yield path
                elif entry.is_dir():
                    yield from level(path, rest)

    for path in level(base, patterns):
        if Path(path).is_dir():
            for below, found in _walk_local(path, skipped):
                yield posixpath.join(path, below)[len(base) :].lstrip("/"), found
        elif Path(path).exists():
            yield path[len(base) :].lstrip("/"), _local_file(path)
        else:
            skipped.add(DANGLING, path)


@dataclass
class Listing:
    """The files of a pattern in order, each with its path below what the pattern names; and what was passed over.
    `named`: the pattern is one file, which is taken whatever its name."""

    files: list[tuple[str, Found]] = field(default_factory=list)
    skipped: Skipped = field(default_factory=Skipped)
    named: bool = False

    def emptied(self) -> "Listing":
        """This one, to be filled again from the beginning."""
        self.files, self.skipped, self.named = [], Skipped(), False
        return self


KEPT_S = 120.0
"""How long a listing serves once more: the first stage of a run wants what was listed to see that the run can start."""
_kept: dict[str, tuple[float, Listing]] = {}
"""By pattern, listings that are going to be asked for again, and when they were made."""


def list_files(pattern: str, *, again: bool = False) -> Listing:
    """The files that a path, directory, glob or URI means. `again`: it is going to be asked for once more, which is
    answered from memory where they are far away: a million files are a thousand requests, and 300 MB.

    Raises:
        UserError: a link that leads nowhere or a file that cannot be looked at, where it is named itself.
    """
    made, kept = _kept.pop(pattern, (0.0, None))
    if kept is not None and not again and time.monotonic() - made < KEPT_S:
        return kept
    listing = Listing()
    try:
        fs, path = storage.filesystem(pattern)
        if isinstance(fs, LocalFileSystem):
            found = _list_local(path, pattern, listing)
        else:
            found = asked(pattern, lambda: iter(list(_list_remote(fs, path, pattern, listing.emptied()))))
        once = {item[1].uri: item for item in found}
        listing.files = sorted(once.values(), key=lambda item: natural(item[1].uri))
    except (OSError, ValueError, ImportError) as e:
        raise UserError(f"{redact(pattern)} cannot be listed: {redact(str(e))}") from None
    for _, file in listing.files:
        if not file.uri.isascii() and any("\ud800" <= c <= "\udfff" for c in file.uri):
            raise UserError(f"{shown(file.uri)}: the name of this file is no UTF-8: rename it")
    if again and not isinstance(fs, LocalFileSystem):
        _kept[pattern] = time.monotonic(), replace(listing, skipped=copy.deepcopy(listing.skipped))
    return listing


def _list_local(path: str, pattern: str, listing: Listing) -> Iterator[tuple[str, Found]]:
    place = Path(path)
    if place.is_dir():
        yield from _walk_local(path, listing.skipped)
    elif place.exists():
        listing.named = True
        yield place.name, _local_file(path)
    elif place.is_symlink():
        raise UserError(f"{pattern} is a link to {os.readlink(path)}, which does not exist")
    elif has_magic(path):
        base, patterns = _literal_base(path, lambda p: Path(p).is_dir())
        if patterns:
            yield from _glob_local(base, patterns, listing.skipped)


def _list_remote(
    fs: fsspec.AbstractFileSystem, path: str, pattern: str, listing: Listing
) -> Iterator[tuple[str, Found]]:
    web = pattern.startswith(("http://", "https://"))
    prefix = _prefix(fs, path, pattern)
    folder = path.rstrip("/")
    if storage.is_s3(fs) and not has_magic(path) and "." not in posixpath.basename(folder):
        # Most likely a directory: what it has is asked for at once, and not first whether it is one, by two requests.
        found = fs.find(folder, detail=True)
        if any(name != folder for name in found):
            yield from _below(found, folder, prefix, listing.skipped)
            return
    try:
        info = fs.info(path)
    except FileNotFoundError:
        info = None
    # A web server's pages are no directories: what is named is a file.
    if info is not None and (web or info.get("type") != "directory"):
        listing.named = True
        yield posixpath.basename(path), _remote_file(prefix, path, info)
    elif info is not None or (not has_magic(path) and fs.isdir(path)):
        yield from _walk_remote(fs, path.rstrip("/"), prefix, listing.skipped)
    elif has_magic(path):
        base, patterns = _literal_base(path, fs.isdir)
        escaped = "/".join("".join(f"[{c}]" if c in "*?[" else c for c in part) for part in base.split("/"))
        matched = fs.glob("/".join([escaped, *patterns]), detail=True)
        folders = []
        for name, info in sorted(matched.items(), key=lambda item: natural(item[0])):
            below = name[len(base) :].lstrip("/")
            if _matches(patterns, below.split("/")) is None and any(map(is_hidden, below.split("/"))):
                listing.skipped.add(HIDDEN, below)
            elif info.get("type") == "directory":
                folders.append(name)
            else:
                yield below, _remote_file(prefix, name, info)
        if folders:
            with ThreadPoolExecutor(THREADS) as pool:
                walk = functools.partial(_walked, fs, prefix)
                for folder, (found, skipped) in zip(folders, pool.map(walk, folders), strict=True):
                    listing.skipped.merge(skipped)
                    for below, file in found:
                        yield posixpath.join(folder[len(base) :].lstrip("/"), below), file


def _walked(fs: fsspec.AbstractFileSystem, prefix: str, folder: str) -> tuple[list[tuple[str, Found]], Skipped]:
    skipped = Skipped()
    return list(_walk_remote(fs, folder, prefix, skipped)), skipped


def expand(pattern: str) -> list[str]:
    """URIs of the files that a path, glob or URI means, in order; of a directory those whose names tell a format."""
    listing = list_files(pattern)
    every = listing.named or has_magic(pattern)
    return [file.uri for _, file in listing.files if every or format_of(file.uri)]


def data_files(listing: Listing, declared: str) -> list[tuple[Found, str | None]]:
    """The files of a listing that are data, with their formats; the others are added to `listing.skipped`.

    `declared` is the source's format. "auto" takes what the names say, of a file that is named by itself None if its
    name says nothing; another holds for all files, whatever their names. Beside data sets, cards and code are no data.
    """
    auto = declared == "auto"
    formats = [format_of(file.uri) for _, file in listing.files]
    if listing.named:
        return [(listing.files[0][1], formats[0] if auto else declared)]
    present = set(formats) if auto else {declared}
    out: list[tuple[Found, str | None]] = []
    for (below, file), kind in zip(listing.files, formats, strict=True):
        name = posixpath.basename(below)
        card = present & DATA and _CARD.fullmatch(name) and kind in ("text", None)
        if card or (kind == "jsonl" and name in _SIDE) or (auto and present & DATA and kind == "code"):
            listing.skipped.add(NOT_DATA, below)
        elif not auto:
            out.append((file, declared))
        elif kind is None:
            suffix = posixpath.splitext(name)[1].lower()
            listing.skipped.add(f"of unknown format {suffix}" if suffix else "without a suffix", below)
        else:
            out.append((file, kind))
    return out
