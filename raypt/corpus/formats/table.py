"""Which reader reads which format."""

from collections.abc import Callable, Iterator

from raypt.corpus.formats.jsonl import read_jsonl
from raypt.corpus.formats.lines import read_line_documents
from raypt.corpus.formats.parquet import read_parquet
from raypt.corpus.formats.text import read_text_file
from raypt.corpus.formats.warc import read_warc
from raypt.corpus.records import Item, ReadRequest

Reader = Callable[[ReadRequest], Iterator[Item]]

READERS: dict[str, Reader] = {
    "jsonl": read_jsonl,
    "lines": read_line_documents,
    "text": read_text_file,
    "parquet": read_parquet,
    "warc": read_warc,
}
