"""Reading a checkpoint: only the bytes that are wanted, each checked as it is read."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import xxhash
from torch import Tensor

from raypt import storage
from raypt.errors import UserError
from raypt.parallel.state import MASTER, Box, Shape, StateKey, Want
from raypt.training.checkpoint import pieces
from raypt.training.checkpoint.manifest import PIECES, CheckpointInfo
from raypt.training.checkpoint.pieces import CHUNK, Pieces, Row
from raypt.training.checkpoint.sealed import Damaged, carefully

BLOCK = 16 << 20
"""Bytes of one read at most: long enough for an object store's full rate, short enough to have several at once."""
READS = 8
"""Reads at a time; each holds a block in memory."""
GAP = 64 << 10
"""Bytes between two chunks that are read and thrown away rather than paid for by a request of their own."""


@dataclass(frozen=True)
class _Chunk:
    """Bytes [start, start + length) of a file, under one hash."""

    start: int
    length: int
    xxh3: int
    what: str
    row: Row | None = None
    """None: the header of the file."""
    element: int = 0
    """First element, in the flattened box of the row."""


@dataclass
class _Block:
    """Chunks of one file that are read at once."""

    file: str
    chunks: list[_Chunk] = field(default_factory=list)

    @property
    def start(self) -> int:
        return self.chunks[0].start

    @property
    def end(self) -> int:
        return self.chunks[-1].start + self.chunks[-1].length


class CheckpointReader:
    """A committed checkpoint as a source of boxes (`raypt.parallel.state.ShardSource`).

    What is read is checked, chunk by chunk, against the hashes that were written with it. A file is opened for a read
    and closed after it.

    Raises:
        Damaged: something has been read twice and is not what was written; the message names it.
        OSError: the storage does not answer.
    """

    def __init__(self, info: CheckpointInfo) -> None:
        self.info = info
        self._headed: set[str] = set()
        """Files whose header has been read."""
        self._pieces = carefully(self._read_pieces)

    def _read_pieces(self) -> Pieces:
        path, expected = storage.join(self.info.uri, PIECES), self.info.pieces
        try:
            data = storage.read_bytes(path)
        except FileNotFoundError:
            raise Damaged(f"{path} is missing") from None
        if len(data) != expected["size"] or xxhash.xxh3_128_hexdigest(data) != expected["xxh3"]:
            raise Damaged(f"{path} does not have the hash in the manifest")
        return Pieces(pieces.from_bytes(data))

    @property
    def scalars(self) -> Mapping[str, float]:
        return self.info.scalars

    def states(self, name: str) -> set[str]:
        """See ShardSource."""
        return self._pieces.states(name)

    def shapes(self) -> dict[str, Shape]:
        """Name and shape of every parameter."""
        return self._pieces.wholes()

    def read(self, wants: Sequence[Want]) -> None:
        """See ShardSource. A box that the files do not cover is an error of the checkpoint, not filled with zeros."""
        rows: dict[int, Row] = {}
        takers: dict[int, list[Want]] = {}
        for want in wants:
            filled = 0
            for row in self._pieces.meeting(want.key):
                common = want.key.box.meet(row.key.box)
                assert common is not None
                filled += common.numel
                rows[row.number] = row
                takers.setdefault(row.number, []).append(want)
            if filled != want.key.box.numel:
                name, state, box = want.key
                raise UserError(
                    f"{self.info.uri}: {state} of {name} has {filled} of {box.numel} elements wanted at {box.offset}; "
                    "the model's shape is not the one that was saved"
                )
        chunks: dict[str, list[_Chunk]] = {}
        for number, row in rows.items():
            chunks.setdefault(row.file, []).extend(_needed(row, [want.key.box for want in takers[number]]))
        blocks = [block for file, needed in chunks.items() for block in _blocks(file, [*self._header(file), *needed])]
        storage.in_parallel(lambda block: self._fill(block, takers), blocks, workers=READS)

    def full(self, name: str, shape: torch.Size) -> Tensor:
        """A whole parameter in fp32."""
        out = torch.empty(shape)
        self.read([Want(StateKey(name, MASTER, Box.whole(shape)), out)])
        return out

    def _header(self, file: str) -> list[_Chunk]:
        """Of a file that has not been read from yet."""
        if file in self._headed:
            return []
        entry = self.info.files[file]
        return [_Chunk(0, entry["header"], entry["xxh3"], "its header")]

    def _fill(self, block: _Block, takers: Mapping[int, list[Want]]) -> None:
        data = carefully(lambda: self._checked(block))
        for chunk in block.chunks:
            if chunk.row is not None:
                values = np.frombuffer(data, "<f4", chunk.length // 4, chunk.start - block.start)
                _give(chunk, values, takers[chunk.row.number])

    def _checked(self, block: _Block) -> bytes:
        path = storage.join(self.info.uri, block.file)
        try:
            data = storage.read_range(path, block.start, block.end - block.start)
        except FileNotFoundError:
            raise Damaged(f"{path} is missing") from None
        if len(data) != block.end - block.start:
            size = self.info.files[block.file]["size"]
            raise Damaged(f"{path} ends after {block.start + len(data)} bytes, not {size}")
        view = memoryview(data)
        for chunk in block.chunks:
            at = chunk.start - block.start
            if xxhash.xxh3_64_intdigest(view[at : at + chunk.length]) != chunk.xxh3:
                raise Damaged(f"{path}: {chunk.what} does not have the bytes that were written")
        if block.start == 0:
            self._headed.add(block.file)
        return data


def _needed(row: Row, boxes: Iterable[Box]) -> Iterator[_Chunk]:
    """The chunks of a row's box that hold any element of the boxes, each once, in order."""
    own, per_chunk = row.key.box, CHUNK // 4
    numbers: set[int] = set()
    for box in boxes:
        common = own.meet(box)
        assert common is not None
        low = _flat(common.offset, own)
        high = _flat(tuple(o + n - 1 for o, n in zip(*common, strict=True)), own)
        numbers |= set(range(low // per_chunk, high // per_chunk + 1))
    for number in sorted(numbers):
        start, length = number * CHUNK, min(CHUNK, 4 * own.numel - number * CHUNK)
        what = f"{row.key.state} of {row.key.name}"
        yield _Chunk(row.start + start, length, row.hashes[number], what, row, number * per_chunk)


def _flat(position: Shape, box: Box) -> int:
    """Which element of the flattened box it is."""
    at = 0
    for index, base, size in zip(position, *box, strict=True):
        at = at * size + index - base
    return at


def _blocks(file: str, chunks: list[_Chunk]) -> Iterator[_Block]:
    """The chunks in the order of the file, those that lie together in one read."""
    block: _Block | None = None
    for chunk in sorted(chunks, key=lambda c: c.start):
        if block is None or chunk.start > block.end + GAP or chunk.start + chunk.length > block.start + BLOCK:
            if block is not None:
                yield block
            block = _Block(file)
        block.chunks.append(chunk)
    if block is not None:
        yield block


def _give(chunk: _Chunk, values: "np.ndarray[tuple[int], np.dtype[np.float32]]", wants: Sequence[Want]) -> None:
    """Copy what the wants have of a chunk to where they want it."""
    assert chunk.row is not None
    at = 0
    for run in chunk.row.key.box.run(chunk.element, len(values)):
        part = values[at : at + run.numel].reshape(run.shape)
        at += run.numel
        for want in wants:
            common = want.key.box.meet(run)
            if common is not None:
                out = want.out.detach()[common.inside(want.key.box)]
                piece = part[common.inside(run)]
                if out.device.type == "cpu":
                    np.copyto(out.numpy(), piece)
                else:
                    out.copy_(torch.from_numpy(piece.copy()))
