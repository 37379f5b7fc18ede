"""The token store: packed samples on disk, one file a shard, memory-mappable and checksummed; no Ray needed.

`shard-00000.tok`:

    bytes 0-7    magic b"RAYPTTOK"
    bytes 8-15   little-endian: u32 format version (1), u32 length of the header
    bytes 16-23  u64 xxh3-64 of the header
    header       JSON: rows, width (S + 1), dtype, sections, tokenizer, packing, arrays, index_checksum, file_size
    arrays       each at a multiple of 64 bytes, little-endian, C order:
        tokens           dtype[rows, width]   uint16 or uint32
        segment_lengths  uint32[segments]     slots of each segment, in row order; slots after the last are padding
        segment_offsets  int64[rows + 1]      row i has segments [segment_offsets[i], segment_offsets[i + 1])
        row_checksums    uint64[rows]         xxh3-64 of the row's token bytes

A section is a run of rows of one (source, lang). The last three arrays are verified when a shard is opened, each row
when it is read: a damaged file names itself before anything is trained on it. Beside it, `shard-00000.json` is the
shard's card, written last: a shard with a card is whole.
"""

import io
import json
import struct
import tempfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import xxhash

from raypt import packs, storage
from raypt.collection import Collection
from raypt.errors import UserError
from raypt.retries import asked
from raypt.tokens.store.packing import Packed, segments_of

MAGIC = b"RAYPTTOK"
VERSION = 1
_ALIGN = 64
_PREFIX = struct.Struct("<8sIIQ")
_HEAD = 16 << 10
"""Bytes read at first of a file: most headers are shorter."""
_INDEX_ARRAYS = ("segment_lengths", "segment_offsets", "row_checksums")


@dataclass(frozen=True)
class Section:
    """Rows [first_row, first_row + rows) of a shard: samples of one source (and language, where split by it)."""

    source: str
    lang: str | None
    first_row: int
    rows: int


def shard_name(shard: int) -> str:
    return f"shard-{shard:05d}.tok"


def shard_uri(store_uri: str, shard: int) -> str:
    return storage.join(store_uri, shard_name(shard))


def collection(store_uri: str) -> Collection:
    """The shards of a store: each has a card beside it, and all together an index."""
    return Collection(store_uri, "", "shard-")


def joint_uri(store_uri: str, first: int) -> str:
    """The cards of shards that are made together, of which `first` is the lowest."""
    return collection(store_uri).joint_uri(f"group-{first:05d}")


def wanted_uri(store_uri: str, shard: int | None = None) -> str:
    """Where readers leave a mark for each shard they have come to (`shard` None: the directory of the marks)."""
    root = storage.join(store_uri, "wanted")
    return root if shard is None else storage.join(root, f"{shard:05d}")


def write_shard(
    f: IO[bytes], sections: list[tuple[str, str | None, Packed]], *, width: int, **identity: Any
) -> list[Section]:
    """Write one shard file of packed sections (source, lang, samples); `identity` goes into its header."""
    dtype = sections[0][2].tokens.dtype if sections else np.dtype(np.uint16)
    packed = [p for _, _, p in sections]
    first_rows = np.cumsum([0, *(p.rows for p in packed)])
    placed = [
        Section(source, lang, int(first), p.rows)
        for (source, lang, p), first in zip(sections, first_rows, strict=False)
    ]
    rows = int(first_rows[-1])
    segment_offsets = np.zeros(rows + 1, np.int64)
    at, base = 0, 0
    for p in packed:
        segment_offsets[at : at + p.rows + 1] = p.offsets + base
        at, base = at + p.rows, base + p.lengths.size
    checksums = [xxhash.xxh3_64_intdigest(row) for p in packed for row in p.tokens]
    index = {
        "segment_lengths": np.concatenate([p.lengths for p in packed] or [np.empty(0, np.uint32)]).astype("<u4"),
        "segment_offsets": segment_offsets.astype("<i8"),
        "row_checksums": np.array(checksums, "<u8"),
    }
    arrays: dict[str, dict[str, Any]] = {}
    end = 0
    shapes = {"tokens": ([rows, width], dtype.newbyteorder("<"))} | {
        k: (list(v.shape), v.dtype) for k, v in index.items()
    }
    for name, (shape, kind) in shapes.items():
        start = -(-end // _ALIGN) * _ALIGN
        end = start + int(np.prod(shape)) * kind.itemsize
        arrays[name] = {"offset": start, "shape": shape, "dtype": kind.str}
    checksum = xxhash.xxh3_64()
    for name in _INDEX_ARRAYS:
        checksum.update(index[name].tobytes())
    header = {
        **identity,
        "rows": rows,
        "width": width,
        "sections": [vars(s) for s in placed],
        "arrays": arrays,
        "index_checksum": checksum.hexdigest(),
        "data_size": end,
    }
    text = json.dumps(header, ensure_ascii=False, sort_keys=True).encode()
    text += b" " * (-(_PREFIX.size + len(text)) % _ALIGN)
    f.write(_PREFIX.pack(MAGIC, VERSION, len(text), xxhash.xxh3_64_intdigest(text)) + text)
    written = 0
    for name in arrays:
        f.write(b"\0" * (arrays[name]["offset"] - written))
        parts = [p.tokens for p in packed] if name == "tokens" else [index[name]]
        for part in parts:
            f.write(np.ascontiguousarray(part, arrays[name]["dtype"]).data)
        written = arrays[name]["offset"] + sum(p.nbytes for p in parts)
    return placed


_BETWEEN_BYTES = 64 << 10
"""Rows of a remote shard that lie no further apart are fetched by one request, with what is between them."""


class StoreShard:
    """One open shard file. A local file is memory-mapped. A remote one is copied to a temporary file first, by one
    request; with `ranged`, for those who want few of its rows, its header and index are fetched now (by one request if
    it is no more than `storage.TAIL_BYTES`, which then has its rows too), and rows as they are asked for. With `most`
    beside, for those who want most of its rows, that is so of one of up to `storage.WHOLE_BYTES`.
    """

    def __init__(self, uri: str, *, ranged: bool = False, most: bool = False) -> None:
        self.uri = uri
        self._copy: Any = None
        place = uri
        if not storage.is_local(uri) and not ranged and packs.parsed(uri) is None:
            self._copy = tempfile.NamedTemporaryFile(prefix="raypt-shard-")  # noqa: SIM115 (lives as long as the shard)
            place = self._copy.name
        try:
            if place != uri:
                fs, remote = storage.filesystem(uri)
                asked(uri, lambda: fs.get_file(remote, place))
            file = storage.open_ranges(place, whole=most)
        except FileNotFoundError:
            raise UserError(
                f"{uri}: the token-store shard is missing; start the run again, or delete the card beside it (.json)"
            ) from None
        with file:
            self._open(file, place, storage.WHOLE_BYTES if most else storage.TAIL_BYTES)

    def _open(self, file: IO[bytes], place: str, at_once: int) -> None:
        """Take in header and index of the file, which is at `place`; one of `at_once` bytes at most is there whole."""
        uri, size = self.uri, file.seek(0, io.SEEK_END)
        file.seek(0)
        head = file.read(_HEAD)
        if len(head) < _PREFIX.size:
            raise self._damaged("it is shorter than a header")
        magic, version, length, header_checksum = _PREFIX.unpack_from(head)
        if magic != MAGIC:
            raise self._damaged("it does not start as a token-store shard does")
        if version != VERSION:
            raise UserError(f"{uri}: token-store format {version}; this raypt reads {VERSION}")
        start = _PREFIX.size + length
        if len(head) < min(start, size):
            head += file.read(start - len(head))
        text = head[_PREFIX.size : start]
        if xxhash.xxh3_64_intdigest(text) != header_checksum:
            raise self._damaged("the checksum of its header does not match")
        header = json.loads(text)
        if size != start + header["data_size"]:
            raise self._damaged(f"it has {size} bytes, its header says {start + header['data_size']}")
        self.header: dict[str, Any] = header
        self.rows: int = header["rows"]
        self.width: int = header["width"]
        self.sections = [Section(**s) for s in header["sections"]]
        arrays = header["arrays"]
        first = min(arrays[name]["offset"] for name in _INDEX_ARRAYS)
        file.seek(start + first)
        rest = file.read(header["data_size"] - first)
        if len(rest) != header["data_size"] - first:
            raise self._damaged("it ends early")
        index = {name: _array(rest, first, arrays[name]) for name in _INDEX_ARRAYS}
        checksum = xxhash.xxh3_64()
        for name in _INDEX_ARRAYS:
            checksum.update(index[name].tobytes())
        if checksum.hexdigest() != header["index_checksum"]:
            raise self._damaged("the checksum of its index does not match")
        self._lengths, self._offsets = index["segment_lengths"], index["segment_offsets"]
        self._checksums = index["row_checksums"]
        self._dtype, self._start = np.dtype(arrays["tokens"]["dtype"]), start + arrays["tokens"]["offset"]
        self._mapped: npt.NDArray[Any] | None = None
        if self.rows == 0:
            self._mapped = np.empty((0, self.width), self._dtype)
        elif storage.is_local(place):
            path, shape = storage.filesystem(place)[1], (self.rows, self.width)
            self._mapped = np.memmap(path, mode="r", dtype=self._dtype, offset=self._start, shape=shape)
        elif size <= at_once:  # its rows came with the rest
            file.seek(self._start)
            data = file.read(self.rows * self.width * self._dtype.itemsize)
            self._mapped = np.frombuffer(data, self._dtype).reshape(self.rows, self.width)

    def _damaged(self, why: str) -> UserError:
        return UserError(f"{self.uri}: damaged token-store shard: {why}; delete it to have it made again")

    def first_row(self, source: str, lang: str | None = None) -> int:
        for s in self.sections:
            if s.source == source and (lang is None or s.lang == lang):
                return s.first_row
        raise KeyError((self.uri, source, lang))

    def read(self, rows: npt.NDArray[np.int64]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """(tokens, segments), each [n, width] in the stored unsigned type, of the rows, each verified.

        Raises UserError naming the shard and the row if a row's checksum does not match.
        """
        tokens = self._tokens(rows)
        for i, row in enumerate(tokens):
            if xxhash.xxh3_64_intdigest(row) != self._checksums[rows[i]]:
                raise self._damaged(f"the checksum of row {int(rows[i])} does not match")
        return tokens, segments_of(self._lengths, self._offsets, rows, self.width)

    def _tokens(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        if self._mapped is not None or rows.size == 0:
            return np.empty((0, self.width), self._dtype) if self._mapped is None else self._mapped[rows]
        wanted = np.unique(rows)
        nbytes = self.width * self._dtype.itemsize
        runs = np.split(wanted, np.flatnonzero((np.diff(wanted) - 1) * nbytes > _BETWEEN_BYTES) + 1)
        spans = [(int(run[0]), int(run[-1]) + 1) for run in runs]
        found = storage.read_ranges(self.uri, [(self._start + a * nbytes, (b - a) * nbytes) for a, b in spans])
        data = b"".join(found)
        there = np.concatenate([np.arange(a, b) for a, b in spans])
        if len(data) != there.size * nbytes:
            raise self._damaged("it ends early")
        return np.frombuffer(data, self._dtype).reshape(-1, self.width)[np.searchsorted(there, rows)]


def _array(data: bytes, base: int, spec: dict[str, Any]) -> npt.NDArray[Any]:
    """An array of a shard, out of its bytes from `base` on."""
    shape, dtype = tuple(spec["shape"]), np.dtype(spec["dtype"])
    return np.frombuffer(data, dtype, int(np.prod(shape)), spec["offset"] - base).reshape(shape)


class TokenStore:
    """A reader of a store directory, usable without Ray. Keeps at most `max_open` shards open; `ranged`: see
    StoreShard.
    """

    def __init__(self, uri: str, max_open: int = 64, *, ranged: bool = False) -> None:
        self.uri = uri
        self._max_open, self._ranged = max_open, ranged
        self._open: OrderedDict[int, StoreShard] = OrderedDict()
        self.places: Mapping[int, str] = {}
        """Of shards that lie in packs, where that is (`sections` says it too)."""
        self.sizes: Mapping[int, int] = {}
        """Bytes of the shards' files, as `sections` finds them."""
        self.most: frozenset[int] = frozenset()
        """Shards of which most rows will be wanted: where `ranged`, a smaller one is opened by one request."""

    def shards(self) -> list[int]:
        """Indexes of the shards that are whole (have a card)."""
        return sorted(collection(self.uri).read_cards())

    def account(self, shard: int) -> dict[str, Any]:
        """The account of one shard, as JSON (see `raypt.tokens.store.shards.TokenAccount`)."""
        card = collection(self.uri).read_cards().get(shard)
        if card is None:
            raise UserError(f"{collection(self.uri).card_uri(shard)}: the token store has no such shard")
        return dict(card.account)

    def shard(self, index: int) -> StoreShard:
        if index not in self._open:
            self._open[index] = self._opened(index)
        self._open.move_to_end(index)
        while len(self._open) > self._max_open:
            self._open.popitem(last=False)
        return self._open[index]

    def _opened(self, index: int) -> StoreShard:
        place = self.places.get(index) or shard_uri(self.uri, index)
        return StoreShard(place, ranged=self._ranged, most=index in self.most)

    def sections(self) -> list[tuple[int, Section]]:
        """Every (shard, section) of the store, in order, as their cards have it: no shard is opened. One request where
        all shards of a run are there, else one a shard, side by side.
        """
        cards = collection(self.uri).read_cards()
        names = {i: shard_name(i) for i, card in cards.items() if card.packed}
        self.places = {i: cards[i].uri(self.uri, name) for i, name in names.items()}
        self.sizes = {i: card.files[shard_name(i)].size for i, card in cards.items()}
        return [(i, Section(**s)) for i, card in sorted(cards.items()) for s in card.account["sections"]]

    def __len__(self) -> int:
        """Samples in the store."""
        return sum(s.rows for _, s in self.sections())

    def read(
        self, shard: npt.NDArray[np.int32], row: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """(tokens, segments), each [n, width], of samples (shard, row of the shard), in the order asked for; n > 0."""
        assert shard.size == row.size > 0
        shards = [int(s) for s in np.unique(shard)]
        if self._ranged:
            self.open(shards)
        tokens, segments = self.shard(int(shard[0])).read(row[:0])
        tokens, segments = (np.empty((shard.size, a.shape[1]), a.dtype) for a in (tokens, segments))
        for s in shards:
            mask = shard == s
            tokens[mask], segments[mask] = self.shard(s).read(row[mask])
        return tokens, segments

    def open(self, shards: Sequence[int]) -> None:
        """Open several shards side by side, as many as are kept open at most."""
        todo = [s for s in shards[: self._max_open] if s not in self._open]
        opened = storage.in_parallel(self._opened, todo)
        self._open.update(zip(todo, opened, strict=True))
