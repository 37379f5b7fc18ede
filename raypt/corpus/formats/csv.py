"""CSV and TSV: the first record names the columns (RFC 4180; delimiters , ; | and tab)."""

import csv
from collections import deque
from collections.abc import Iterator

from raypt.corpus.formats.compression import without_compression
from raypt.corpus.formats.lines import Line, cut, decode, request_lines, undecodable, untouched
from raypt.corpus.formats.raw import BrokenStream
from raypt.corpus.formats.stream import InputStream
from raypt.corpus.records import EXCERPT_BYTES, Fault, Item, ReadRequest, Record

DELIMITERS = b",;|\t"
MAX_RESYNCS = 100
"""So often in a file a quote that is never closed costs its own line only; afterwards all that it runs over."""
MAX_COLUMNS = 10_000


def delimiter_of(header: bytes, uri: str) -> str:
    """The delimiter that a header line uses: tab in .tsv files, else the most frequent one."""
    if without_compression(uri).lower().endswith(".tsv"):
        return "\t"
    return chr(max(DELIMITERS, key=lambda d: header.count(bytes([d]))))


def ends_in_quotes(line: bytes, delimiter: bytes, inside: bool = False) -> bool:
    """Whether a quoted field is open at the end of `line`; `inside`: one was at its start."""
    at = 0
    while True:
        if inside:
            end = line.find(b'"', at)
            if end < 0:
                return True
            at = end + 1
            if line[at : at + 1] == b'"':
                at += 1
                continue
            inside = False
        elif line[at : at + 1] == b'"':
            inside, at = True, at + 1
            continue
        at = line.find(delimiter, at) + 1
        if at == 0:
            return False


class _Records:
    """Records of one or several lines."""

    def __init__(self, lines: Iterator[Line], delimiter: str, limit: int | None) -> None:
        self._lines, self._limit = lines, limit
        self._delimiter = delimiter.encode()
        self._again: deque[Line] = deque()
        self._resyncs = 0

    def __iter__(self) -> Iterator[tuple[Line, str]]:
        """(the record as one line, "" or what is wrong with it)."""
        while (line := self._next()) is not None:
            _, offset, data, length, whole = line
            if not whole:
                yield line, f"the record has {length} bytes"
                continue
            inside = ends_in_quotes(data, self._delimiter)
            if not inside:
                yield line, ""
                continue
            parts, total = [line], length
            while inside and (self._limit is None or total <= self._limit):
                more = self._next()
                if more is None:
                    break
                parts.append(more)
                total += more[3]
                inside = not more[4] or ends_in_quotes(more[2], self._delimiter, inside=True)
                if not more[4]:
                    break
            if not inside:
                joined = b"\n".join(part[2] for part in parts)
                yield (0, offset, joined, total, True), ""
            elif self._resyncs < MAX_RESYNCS:
                self._resyncs += 1
                self._again.extendleft(reversed(parts[1:]))
                yield line, "a quote in it is never closed"
            else:
                yield (0, offset, data, total, True), "a quote in it is never closed"

    def _next(self) -> Line | None:
        return self._again.popleft() if self._again else next(self._lines, None)


def fields_of(text: str, delimiter: str) -> list[str]:
    """The fields of a record. Raises csv.Error."""
    return next(csv.reader([text], delimiter=delimiter), [])


def read_csv(request: ReadRequest) -> Iterator[Item]:
    """A record a line, or over several where a quoted field has line feeds. Missing fields at the end are null."""
    limit = None if request.max_document_bytes is None else 2 * request.max_document_bytes + 65536
    csv.field_size_limit((1 << 31) - 1)
    row = 0
    with InputStream(request) as stream:
        try:
            lines = request_lines(request, stream, limit, blank=True)
            first = next((line for line in lines if line[2].strip()), None)
            if first is None:
                return
            delimiter = delimiter_of(first[2], request.uri)
            records = iter(_Records(_chain(first, lines), delimiter, limit))
            (_, offset, header, length, _), wrong = next(records)
            try:
                names = fields_of(decode(header.removesuffix(b"\r"), stream.encoding), delimiter)
                if wrong or len(names) > MAX_COLUMNS:
                    raise csv.Error(wrong or f"{len(names)} columns")
            except (csv.Error, UnicodeDecodeError) as e:
                yield Fault(
                    0, "bad_header", f"the first line names no columns: {e}", offset, header[:EXCERPT_BYTES], length
                )
                row, names = 1, []
            for (_, offset, data, length, _), wrong in records:
                data = data.removesuffix(b"\r")
                if not data.strip() and not wrong:
                    continue
                yield _item(row, offset, data, length, wrong, names, delimiter, stream.encoding, request.skip)
                row += 1
        except BrokenStream as e:
            yield cut(row, e, None)


def _chain(first: Line, rest: Iterator[Line]) -> Iterator[Line]:
    yield first
    yield from rest


def _item(
    row: int,
    offset: int,
    data: bytes,
    length: int,
    wrong: str,
    names: list[str],
    delimiter: str,
    encoding: str,
    skip: frozenset[int],
) -> Item:
    if row in skip:
        return untouched(row, offset, length)
    start = data[:EXCERPT_BYTES]
    if wrong:
        return Fault(row, "open_quote" if "quote" in wrong else "too_long", wrong, offset, start, length)
    try:
        values = fields_of(decode(data, encoding), delimiter)
    except UnicodeDecodeError as e:
        return undecodable(row, offset, data, length, e)
    except csv.Error as e:
        return Fault(row, "bad_record", f"not CSV: {e}", offset, start, length)
    if len(values) > len(names):
        message = f"{len(values)} fields, the first line names {len(names)}"
        return Fault(row, "bad_record", message, offset, start, length)
    # Of two columns of one name the first counts, as where names are looked up.
    fields: dict[str, str | None] = {}
    for i, name in enumerate(names):
        fields.setdefault(name, values[i] if i < len(values) else None)
    return Record(row, fields)
