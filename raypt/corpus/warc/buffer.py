"""Bytes of an archive from a place on, got as they are asked for; a gap is their end until it is passed."""

import re
from collections import deque
from collections.abc import Iterator

from raypt.corpus.warc.pieces import Gap, Piece


class Buffer:
    """`data[at:]` is what is there of the bytes from `position` (in the unpacked archive) on."""

    def __init__(self, pieces: Iterator[Piece | Gap], plain: bool) -> None:
        """`plain`: the archive is not compressed, so that positions in it are positions in the file."""
        self.data = bytearray()
        self.at = 0
        self.gap: Gap | None = None
        self._pieces, self._plain = pieces, plain
        self._before = 0  # unpacked bytes before data[0]
        self._ends: deque[tuple[int, int]] = deque()  # of pieces: where they end in the unpacked archive, in the file
        self._stored = 0

    @property
    def position(self) -> int:
        return self._before + self.at

    @property
    def left(self) -> int:
        """Bytes that are there."""
        return len(self.data) - self.at

    @property
    def stored(self) -> int:
        """Where the bytes at `position` are stored in the file; for compressed ones, at the latest."""
        if self._plain:
            return self.position
        while self._ends and self._ends[0][0] <= self.position:
            self._stored = self._ends.popleft()[1]
        return self._stored

    @property
    def stored_end(self) -> int:
        """Where the bytes that are there end in the file."""
        if self._plain:
            return self.position + self.left
        return self._ends[-1][1] if self._ends else self._stored

    def more(self) -> bool:
        """Get a piece; False at the end and at a gap."""
        if self.gap is not None:
            return False
        piece = next(self._pieces, None)
        if isinstance(piece, Gap):
            self.gap = piece
        if not isinstance(piece, Piece):
            return False
        del self.data[: self.at]
        self._before += self.at
        self.at = 0
        self.data += piece.data
        self._ends.append((self._before + len(self.data), piece.stored))
        return True

    def has(self, n: int) -> bool:
        """Whether there are `n` bytes; gets them."""
        while self.left < n:
            if not self.more():
                return False
        return True

    def peek(self, n: int, skip: int = 0) -> bytes:
        """Up to `n` bytes behind the next `skip` ones."""
        self.has(skip + n)
        return bytes(self.data[self.at + skip : self.at + skip + n])

    def find(self, pattern: re.Pattern[bytes], skip: int, within: int) -> re.Match[bytes] | None:
        """The first match that begins in the next `within` bytes, behind `skip` ones; gets no more than it needs."""
        while True:
            found = pattern.search(self.data, self.at + skip, self.at + within)
            if found or self.left >= within or not self.more():
                return found

    def pass_gap(self) -> Gap | None:
        """Go to what stands behind the gap; the gap, or None at the end of the archive."""
        gap, self.gap = self.gap, None
        self._before += len(self.data)
        self.data, self.at = bytearray(), 0
        if gap is not None:
            self._ends.clear()
            self._stored = gap.stored
        return gap

    def skip_bytes(self, wanted: bytes) -> None:
        """Over the bytes that are in `wanted`."""
        while self.has(1) and self.data[self.at] in wanted:
            self.at += 1

    def skip_to(self, pattern: re.Pattern[bytes], longest: int, most: int | None = None) -> bool:
        """Go to the next place where `pattern`, whose matches have at most `longest` bytes, begins; without one within
        `most` bytes, behind them or to the end. Whether there is one."""
        stop = None if most is None else self.position + most
        while True:
            found = pattern.search(self.data, self.at)
            if found and (stop is None or self._before + found.start() < stop):
                self.at = found.start()
                return True
            if stop is not None and self._before + len(self.data) >= stop:
                self.at = stop - self._before
                return False
            self.at = max(self.at, len(self.data) - longest)
            if not self.more():
                self.at = len(self.data)
                return False
