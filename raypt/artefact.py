"""Artefacts: whatever a run makes has an identity, a place, and the sizes and hashes of its files.

An **identity** is what the artefact is a function of: the identities of its inputs, the settings that matter, and the
format version of the code that makes it (raise it when the code makes something else). Its **card** is a small JSON
file, written last: an artefact with a card is whole. The card holds the identity in words, so that the reason why an
artefact is made anew can be said, the stamp (size and hash) of each file, and the account of what was made.

`make` makes a single artefact once. Those that come by number, one a shard, are a `raypt.collection.Collection`.

What is there is never used on its name alone: of another identity it is made anew, and damaged (a file missing, of
another size, or, with `verify="full"`, of other bytes) it is named in the log with its file and made anew.
"""

import contextlib
import functools
import io
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import IO, Any, Literal, Protocol, cast

import pyarrow as pa
import xxhash

from raypt import __version__, packs, storage
from raypt.errors import UserError

log = logging.getLogger("raypt")

CARD_FORMAT = 1
Verify = Literal["sizes", "full"]
REASONS_SHOWN = 3


class Damaged(UserError):
    """A card or a file is not what was written. The message names the file and what is wrong with it."""


def canonical(value: Any) -> bytes:
    """The one JSON text of a value: what is hashed."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()


def hash_of(value: Any) -> str:
    """32 hexadecimal digits of a JSON value."""
    return xxhash.xxh3_128_hexdigest(canonical(value))


_texts: dict[int, tuple[Mapping[str, Any], bytes]] = {}
"""By `id`, settings and their canonical text; the settings are held, so that no others get their number."""
_MOST_TEXTS = 16


def text_of(settings: Mapping[str, Any]) -> bytes:
    """Their canonical text, made once of an object that many artefacts share."""
    found = _texts.get(id(settings))
    if found is None:
        while len(_texts) >= _MOST_TEXTS:
            _texts.pop(next(iter(_texts)), None)
        found = _texts[id(settings)] = settings, canonical(dict(settings))
    return found[1]


@dataclass(frozen=True)
class Identity:
    """What an artefact is a function of."""

    kind: str
    """What it is, e.g. `tagged`."""
    format: int
    """Version of the code that makes it, and of its files."""
    inputs: Mapping[str, str] = field(default_factory=dict)
    """Name -> key or content hash of an input."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """JSON values of the settings that decide what is made, and of no others."""

    def words(self) -> dict[str, Any]:
        """As JSON. The settings are the object itself: 10^5 shards share it."""
        settings = self.settings if isinstance(self.settings, dict) else dict(self.settings)
        return {"kind": self.kind, "format": self.format, "inputs": dict(self.inputs), "settings": settings}

    @functools.cached_property
    def key(self) -> str:
        """`hash_of(self.words())`; the settings, which 10^5 shards share, are made to text once."""
        inputs, kind = canonical(dict(self.inputs)), canonical(self.kind)
        text = b'{"format":%d,"inputs":%b,"kind":%b,"settings":%b}' % (
            self.format,
            inputs,
            kind,
            text_of(self.settings),
        )
        return xxhash.xxh3_128_hexdigest(text)

    def place(self, root: str) -> str:
        """A directory for this artefact alone under a root that several runs share."""
        return storage.join(root, self.kind, self.key)


def differences(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two identities in words, as `settings.seed: was 0, is 1`."""

    def flat(value: Any, at: str) -> Iterator[tuple[str, Any]]:
        if isinstance(value, Mapping):
            for name, inner in value.items():
                yield from flat(inner, f"{at}.{name}" if at else str(name))
        elif isinstance(value, list | tuple) and value and all(isinstance(inner, Mapping) for inner in value):
            for i, inner in enumerate(value):
                yield from flat(inner, f"{at}[{inner.get('name', i)}]")
        else:
            yield at, value

    old, new = dict(flat(was, "")), dict(flat(now, ""))
    keys = [k for k in dict.fromkeys([*old, *new]) if old.get(k) != new.get(k)]
    return [f"{k}: was {_short(old.get(k))}, is {_short(new.get(k))}" for k in keys]


def _short(value: Any) -> str:
    text = "absent" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


@dataclass(frozen=True)
class Stamp:
    """Bytes of a file, and their xxh3-128."""

    size: int
    xxh3: str


@dataclass(frozen=True)
class Card:
    """What is kept of a whole artefact."""

    identity: dict[str, Any]
    """In words (`Identity.words`)."""
    key: str
    files: dict[str, Stamp]
    """By path, relative to the directory that the artefact's files are under."""
    account: Any
    """What its maker says of it: counts for ledgers, never needed to read the files."""
    raypt: str = __version__
    """Version of raypt that made it."""
    indexed: bool = field(default=False, compare=False, repr=False)
    """Whether it was read from the index of its collection."""
    packed: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Of the files that lie in a pack (`raypt.packs`): its path, and where in it they begin."""
    joint: str = field(default="", compare=False, repr=False)
    """Name of the file of several cards that it was read from, if any."""

    def uri(self, root: str, path: str) -> str:
        """Where one of the files is read."""
        if path not in self.packed:
            return storage.join(root, path)
        pack, start = self.packed[path]
        return packs.uri_of(storage.join(root, pack), start, self.files[path].size)

    @property
    def paths(self) -> set[str]:
        """Of the files and packs that must be there."""
        return {self.packed[path][0] if path in self.packed else path for path in self.files}

    @property
    def content(self) -> str:
        """Hash of what was made: the identity of this artefact as an input of another."""
        return hash_of({path: stamp.xxh3 for path, stamp in self.files.items()})

    def to_json(self) -> dict[str, Any]:
        files = {path: [stamp.size, stamp.xxh3] for path, stamp in self.files.items()}
        words = {"card": CARD_FORMAT, "raypt": self.raypt, "key": self.key, "identity": self.identity, "files": files}
        return {**words, "account": self.account, **({"packed": self.packed} if self.packed else {})}

    def holding(self, identity: Identity) -> "Card":
        """The card with the words of `identity`, whose settings 10^5 cards share; what came from another process has
        its own.
        """
        return replace(self, identity=identity.words()) if self.key == identity.key else self

    def like(self, other: "Card") -> "Card":
        """The card with the settings of `other`, the object itself, where they are equal."""
        settings = other.identity["settings"]
        if settings is self.identity["settings"] or settings != self.identity["settings"]:
            return self
        return replace(self, identity={**self.identity, "settings": settings})

    def to_bytes(self) -> bytes:
        value = self.to_json()
        return storage.json_bytes({**value, "checksum": hash_of(value)})

    @classmethod
    def from_json(cls, value: dict[str, Any], *, indexed: bool = False, joint: str = "") -> "Card":
        files = {path: Stamp(*stamp) for path, stamp in value["files"].items()}
        packed = {path: (pack, start) for path, (pack, start) in value.get("packed", {}).items()}
        return cls(value["identity"], value["key"], files, value["account"], value["raypt"], indexed, packed, joint)

    @classmethod
    def from_bytes(cls, data: bytes, uri: str) -> "Card":
        """Raises Damaged, naming `uri`, if any byte is not as it was written."""
        try:
            value = json.loads(data)
            checksum = value.pop("checksum")
            if value["card"] == CARD_FORMAT and checksum == hash_of(value):
                return cls.from_json(value)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            pass
        raise Damaged(f"{uri} is damaged: it does not hold what was written")

    def problem(self, sizes: Mapping[str, int]) -> str | None:
        """What is wrong by the sizes of the files that are there (by path), or None."""
        for path, stamp in self.files.items():
            pack, start = self.packed.get(path, ("", 0))
            if (pack or path) not in sizes:
                return f"{pack or path} is missing"
            if pack:
                if sizes[pack] < start + stamp.size:
                    return f"{pack} has {sizes[pack]} bytes, fewer than {start + stamp.size}"
                continue
            if sizes[path] != stamp.size:
                return f"{path} has {sizes[path]} bytes, not {stamp.size}"
        return None

    def damage(self, root: str) -> str | None:
        """What is wrong with the bytes of the files under `root`, all of which are read, or None."""
        for path, stamp in self.files.items():
            try:
                found = stamp_of(self.uri(root, path))
            except FileNotFoundError:
                return f"{path} is missing"
            if found.size != stamp.size:
                return f"{path} has {found.size} bytes, not {stamp.size}"
            if found != stamp:
                return f"{path} does not have the bytes that were written"
        return None


def stamp_of(uri: str) -> Stamp:
    """Reads all of a file."""
    digest, size = xxhash.xxh3_128(), 0
    with storage.open_read(uri) as f:
        while block := f.read(1 << 20):
            digest.update(block)
            size += len(block)
    return Stamp(size, digest.hexdigest())


class _Stamping(io.RawIOBase):
    """A file being written, stamped on the way."""

    def __init__(self, f: IO[bytes]) -> None:
        self._f, self._digest, self._size = f, xxhash.xxh3_128(), 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        with memoryview(data) as view:
            self._digest.update(view)
            self._size += view.nbytes
            self._f.write(view)
            return view.nbytes

    def tell(self) -> int:
        return self._size

    def flush(self) -> None:
        self._f.flush()

    @property
    def stamp(self) -> Stamp:
        return Stamp(self._size, self._digest.hexdigest())


class Packing(Protocol):
    """Where small files of several artefacts go together (`raypt.collection.Pack`)."""

    most_bytes: int

    def add(self, data: bytes) -> tuple[str, int]: ...


class Output:
    """Where the maker of an artefact writes its files: under `root`, each whole or absent."""

    def __init__(self, root: str, pack: Packing | None = None) -> None:
        self.root, self._pack = root, pack
        self.files: dict[str, Stamp] = {}
        self.packed: dict[str, tuple[str, int]] = {}

    @contextlib.contextmanager
    def open(self, path: str) -> Iterator[IO[bytes]]:
        """A file to be written front to back."""
        assert path not in self.files, f"{path} is written twice"
        if self._pack is not None:
            memory = io.BytesIO()
            yield memory
            self.write_bytes(path, memory.getvalue())
            return
        with storage.atomic_write(storage.join(self.root, path)) as f:
            stamping = _Stamping(f)
            yield cast(IO[bytes], stamping)
        self.files[path] = stamping.stamp

    def write_bytes(self, path: str, data: bytes, *, apart: bool = False) -> None:
        """`apart`: not into the pack, if there is one; nor is a file that is too large for it."""
        if self._pack is None or apart or len(data) > self._pack.most_bytes:
            storage.write_bytes(storage.join(self.root, path), data)
        else:
            self.packed[path] = self._pack.add(data)
        self.files[path] = Stamp(len(data), xxhash.xxh3_128_hexdigest(data))

    def write_json(self, path: str, value: Any) -> None:
        self.write_bytes(path, storage.json_bytes(value))

    def write_parquet(self, path: str, table: pa.Table, **options: Any) -> None:
        with self.open(path) as f, storage.parquet_writer(f, table.schema, **options) as writer:
            writer.write_table(table)

    def add(self, path: str) -> None:
        """Stamp a file that something else wrote under `root`."""
        self.files[path] = stamp_of(storage.join(self.root, path))


def read_card(uri: str) -> Card | None:
    """The card at `uri`; None if there is none. Raises Damaged."""
    try:
        data = storage.read_bytes(uri)
    except FileNotFoundError:
        return None
    return Card.from_bytes(data, uri)


def rewrite(uri: str, data: bytes, *, new: bool = False) -> None:
    """Write a small file that every start of a run makes anew; the log names it if it did not hold what was written.
    `new`: no earlier start has written it.
    """
    found = None if new else storage.read_if_there(uri)
    if found == data:
        return
    if found is not None:
        log.warning("%s did not hold what the run gives: written anew", uri)
    storage.write_bytes(uri, data)


def build(
    identity: Identity,
    root: str,
    maker: Callable[[Output], Any],
    card_uri: str | None = None,
    pack: Packing | None = None,
) -> Card:
    """Have `maker` write the artefact's files under `root`, or into a pack that the caller writes, then write the card
    (if it has a place of its own).
    """
    output = Output(root, pack)
    account = maker(output)
    card = Card(identity.words(), identity.key, output.files, account, packed=output.packed)
    if card_uri is not None:
        storage.write_bytes(card_uri, card.to_bytes())
    return card


def make(
    identity: Identity,
    root: str,
    card: str,
    maker: Callable[[Output], Any],
    *,
    verify: Verify = "sizes",
    refuse: str | None = None,
    new: bool = False,
) -> Card:
    """The artefact under `root`, whose card is `root/card`: as it is, if it is whole and of this identity, else made.

    `refuse`: what to do where an artefact of another identity is there, as the end of a message; None = make it anew.
    `new`: there is none, and nothing is looked for.

    Raises:
        UserError: there is an artefact of another identity, and it must not be replaced.
    """
    card_uri = storage.join(root, card)
    try:
        found = None if new else read_card(card_uri)
        why = None if found is None else _unusable(found, identity, root, verify)
    except Damaged as e:
        found, why = None, str(e)
    if found is not None and why is None:
        return found
    if why is not None:
        if refuse is not None and found is not None and found.key != identity.key:
            changed = "\n".join(f"  {line}" for line in differences(found.identity, identity.words()))
            raise UserError(f"{card_uri}: {identity.kind} was made of other inputs or settings; {refuse}\n{changed}")
        log.warning("%s is made anew: %s", identity.kind, why)
        storage.remove_file(card_uri)
    return build(identity, root, maker, card_uri)


def _unusable(card: Card, identity: Identity, root: str, verify: Verify) -> str | None:
    if card.key != identity.key:
        return "; ".join(differences(card.identity, identity.words())[:REASONS_SHOWN]) or "it is another artefact"
    problem = card.damage(root) if verify == "full" else card.problem(_sizes_of(root, list(card.files)))
    return None if problem is None else f"{storage.join(root, problem)}"


def _sizes_of(root: str, paths: Sequence[str]) -> dict[str, int]:
    """Sizes of a few files, asked for one by one: their directories may hold those of 10^5 other artefacts."""
    found = storage.in_parallel(lambda path: storage.info(storage.join(root, path)), paths)
    return {path: int(info["size"]) for path, info in zip(paths, found, strict=True) if info is not None}
