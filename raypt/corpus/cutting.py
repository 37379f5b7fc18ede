"""Files to shards: big ones are cut by byte range or row group, small ones grouped."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from raypt.corpus.formats.compression import codec_of
from raypt.corpus.formats.parquet import Footer
from raypt.corpus.formats.stream import is_wide
from raypt.corpus.formats.table import CUTTABLE
from raypt.errors import UserError

MOST_SHARDS = 1 << 22
"""A shard is a task and three files at every stage."""


@dataclass(frozen=True, slots=True)
class InputFile:
    """One input file as the manifest found it; `path` is absolute, or `run:...` for one inside the run directory."""

    source: str
    path: str
    format: str
    size: int
    etag: str
    rows: int | None


@dataclass(frozen=True, slots=True)
class FilePiece:
    """Part of a file: bytes [start, stop) of lines, row groups [start, stop) of Parquet, or all of it (0, None). `size`
    in stored bytes."""

    file: int
    start: int
    stop: int | None
    size: int


@dataclass(frozen=True, slots=True)
class Shard:
    """A unit of work: pieces of one source, read in order."""

    index: int
    source: str
    pieces: tuple[FilePiece, ...]


def shard_bytes_for(total: int, wanted: int | None) -> int:
    """Stored bytes of a shard. By default enough shards to keep a small machine busy and to let training begin early,
    none so large that a retry hurts. UserError if `wanted` makes more than MOST_SHARDS."""
    if wanted is None:
        return max(min(max(total // 64, 128 << 10), 64 << 20), total // MOST_SHARDS)
    if total // wanted > MOST_SHARDS:
        raise UserError(
            f"corpus.shard_bytes={wanted} cuts {total} bytes of input into {total // wanted} shards; "
            f"at least {-(-total // MOST_SHARDS)} keeps them below {MOST_SHARDS}"
        )
    return wanted


def can_be_cut(info: InputFile, encoding: str | None) -> bool:
    """Whether a file may be cut at any line, as far as its name and configuration tell."""
    return info.format in CUTTABLE and codec_of(info.path) is None and not is_wide(encoding or "utf-8")


def cut_file(file: int, info: InputFile, footer: Footer | None, by_bytes: bool, target: int) -> Iterator[FilePiece]:
    """Pieces of about `target` stored bytes, in order: of row groups with a `footer`, else `by_bytes` if it may be."""
    if footer is not None and footer.groups:
        start = size = 0
        for group, (_, stored) in enumerate(footer.groups):
            if size and size + stored > target:
                yield FilePiece(file, start, group, size)
                start, size = group, 0
            size += stored
        yield FilePiece(file, start, len(footer.groups), size)
    elif by_bytes and info.size > target:
        cuts = max(1, round(info.size / target))
        edges = [info.size * i // cuts for i in range(cuts + 1)]
        for start, stop in itertools.pairwise(edges):
            yield FilePiece(file, start, stop, stop - start)
    else:
        yield FilePiece(file, 0, None, info.size)


def group_pieces(pieces: Iterator[FilePiece], source: str, first: int, target: int) -> Iterator[Shard]:
    """Shards of about `target` bytes from pieces of one source, numbered from `first`."""
    group: list[FilePiece] = []
    size = 0
    for piece in pieces:
        if group and size + piece.size > target:
            yield Shard(first, source, tuple(group))
            first, group, size = first + 1, [], 0
        group.append(piece)
        size += piece.size
    if group:
        yield Shard(first, source, tuple(group))
