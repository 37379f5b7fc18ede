"""Where JSON values begin and end in a file that has not one a line: arrays of objects, objects over several lines."""

import re
from collections.abc import Iterable, Iterator

import orjson

from raypt.corpus.formats.lines import CutStream, Line
from raypt.corpus.formats.raw import BrokenStream
from raypt.corpus.records import EXCERPT_BYTES

_SIGN = re.compile(rb'["{}\[\]]')
_STRING = re.compile(rb'[^"\\]*(?:\\.[^"\\]*)*', re.DOTALL)
_BETWEEN = re.compile(rb"[ \t\r\n,]+")
_END = re.compile(rb'[ \t\r\n,\[\]{"]')
"""What ends a value that is neither an object nor a string."""


def one_a_line(start: bytes) -> bool:
    """Whether a file that starts with these bytes has a value on each line, as far as they tell.

    It has not if it is an array of objects, or if its first line opens an object that a later one closes. A line that
    breaks inside a string, or before a line that opens an object of its own, is a damaged record among lines.
    """
    head = start.lstrip()
    if head.startswith(b"["):
        return head[1:].lstrip()[:1] not in (b"{", b"")
    if not head.startswith(b"{"):
        return True
    first, newline, rest = head.partition(b"\n")
    try:
        orjson.loads(first)
    except orjson.JSONDecodeError:
        scan = _Scan()
        end = scan.feed(first, 0, 0)
        if scan.depth == 0:  # an object, and more behind it on its line
            return not _is_json(first[:end])
        if not newline:
            return True
        return scan.depth < 0 or scan.in_string or rest.lstrip().startswith(b"{")
    return True


def _is_json(data: bytes) -> bool:
    try:
        orjson.loads(data)
    except orjson.JSONDecodeError:
        return False
    return True


class _Scan:
    """How deep a place in JSON lies: `depth` open brackets, inside a string or not."""

    def __init__(self) -> None:
        self.depth = 0
        self.in_string = self._escaped = False

    def feed(self, data: bytes, at: int = 0, until: int | None = None) -> int:
        """Go on at `data[at]` up to the sign that closes a value at depth `until`, or to the end; where that is."""
        if self._escaped and at < len(data):
            at, self._escaped = at + 1, False
        while at < len(data):
            if self.in_string:
                found = _STRING.match(data, at)
                assert found is not None
                at = found.end()
                if at == len(data):
                    break
                if data[at] == 0x22:
                    self.in_string, at = False, at + 1
                    if self.depth == until:
                        return at
                else:  # a backslash that ends the piece
                    self._escaped, at = True, at + 1
                continue
            found = _SIGN.search(data, at)
            if found is None:
                return len(data)
            at = found.end()
            sign = data[at - 1]
            if sign == 0x22:
                self.in_string = True
            elif sign in b"{[":
                self.depth += 1
            else:
                self.depth -= 1
                if self.depth == until:
                    return at
        return at


def split_values(pieces: Iterable[bytes], offset: int, stop: int | None, limit: int | None) -> Iterator[Line]:
    """The values of a file, those of its top-level arrays one by one; as `split_lines`, with rows of values.

    What stands between values and is neither white space nor a comma is a value too: no byte is left out. `stop` is
    None: such files are not cut.

    Raises:
        BrokenStream: from `pieces`, CutStream if part of another value came; at the end of a file inside an array.
    """
    assert stop is None
    row, base = 0, 0
    scan = _Scan()
    held = bytearray()
    length = 0  # of the value at hand; 0: between values

    def hold(data: bytes) -> None:
        nonlocal length
        length += len(data)
        if limit is None or length <= limit:
            held.extend(data)
        else:
            held.extend(data[: max(0, EXCERPT_BYTES - len(held))])

    def value(end: int) -> Line:
        nonlocal row, length
        whole = limit is None or length <= limit
        line = row, end - length, bytes(held) if whole else bytes(held[:EXCERPT_BYTES]), length, whole
        row, length = row + 1, 0
        held.clear()
        return line

    try:
        for piece in pieces:
            at = 0
            while at < len(piece):
                if (length and scan.depth > base) or scan.in_string:
                    stopped = scan.feed(piece, at, base)
                    hold(piece[at:stopped])
                    at = stopped
                    if scan.depth <= base and not scan.in_string:
                        yield value(offset + at)
                    continue
                if length:  # a value that is neither an object nor a string: up to what ends it
                    end = _END.search(piece, at)
                    stopped = len(piece) if end is None else end.start()
                    hold(piece[at:stopped])
                    at = stopped
                    if end is not None:
                        yield value(offset + at)
                    continue
                if between := _BETWEEN.match(piece, at):
                    at = between.end()
                    continue
                sign = piece[at : at + 1]
                if sign == b"[" and base == 0:
                    base = scan.depth = 1
                    at += 1
                elif sign == b"]" and base == 1:
                    base = scan.depth = 0
                    at += 1
                elif sign in b"{[":
                    scan.depth = base + 1
                    hold(sign)
                    at += 1
                elif sign == b'"':
                    scan.in_string = True
                    hold(sign)
                    at += 1
                else:
                    hold(sign)
                    at += 1
            offset += len(piece)
    except BrokenStream as e:
        if length:
            raise CutStream(e, bytes(held[:EXCERPT_BYTES]), length) from None
        raise
    if length:
        yield value(offset)
    if base:
        raise BrokenStream("the JSON array is not closed")
