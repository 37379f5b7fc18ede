"""The manifest: the inputs of a run, frozen. Which files, how they are cut into shards, in which order.

Everything downstream is a function of it: one shard is one row of the curation stage, one file at every later stage,
and half of a document's key. A run writes it once and checks on resume that the files are still the same.
"""

import glob
import itertools
import posixpath
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from raypt import storage
from raypt.artefact import hash_of
from raypt.corpus.config import CorpusConfig, SourceConfig
from raypt.corpus.formats.jsonl import read_jsonl
from raypt.corpus.presets import apply_preset, check_fields
from raypt.corpus.records import ReadRequest, Record
from raypt.errors import UserError

VERSION = 1
RUN_SCHEME = "run:"
FIRST_RECORD_BYTES = 20_000_000
"""Longer first records are not read to check a preset's schema."""

COMPRESSED = (".gz", ".zst", ".bz2", ".xz")
SUFFIXES = {
    ".jsonl": "jsonl",
    ".json": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".txt": "text",
    ".text": "text",
    ".md": "text",
    ".rst": "text",
    ".warc": "warc",
    ".wet": "warc",
    ".arc": "warc",
}


@dataclass(frozen=True)
class InputFile:
    """One input file as the manifest found it; `path` is absolute, or `run:...` for one inside the run directory."""

    source: str
    path: str
    format: str
    size: int
    etag: str
    rows: int | None


@dataclass(frozen=True)
class FilePiece:
    """Part of a file: bytes [start, stop) of lines, row groups [start, stop) of Parquet, or all of it (0, None)."""

    file: int
    start: int
    stop: int | None


@dataclass(frozen=True)
class Shard:
    """A unit of work: pieces of one source, read in order."""

    index: int
    source: str
    pieces: tuple[FilePiece, ...]


@dataclass(frozen=True)
class Manifest:
    """Files and shards of a run, in order."""

    sources: tuple[SourceConfig, ...]
    files: tuple[InputFile, ...]
    shards: tuple[Shard, ...]

    @property
    def fingerprint(self) -> str:
        """Hash of everything that decides which document has which key."""
        return xxhash.xxh3_128_hexdigest(repr((VERSION, self.sources, self.files, self.shards)).encode())

    def shard_key(self, shard: int) -> str:
        """Hash of everything that decides the records of one shard and their keys."""
        part = self.shards[shard]
        source = self.source(part.source).model_dump(mode="json", exclude={"weight", "priority"})
        pieces = [(asdict(self.files[piece.file]), piece.start, piece.stop) for piece in part.pieces]
        return hash_of([VERSION, part.index, source, pieces])

    def source(self, name: str) -> SourceConfig:
        return next(s for s in self.sources if s.name == name)

    def file_uri(self, file: int, run_uri: str) -> str:
        path = self.files[file].path
        return storage.join(run_uri, path.removeprefix(RUN_SCHEME)) if path.startswith(RUN_SCHEME) else path

    def to_json(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "fingerprint": self.fingerprint,
            "sources": [s.model_dump(mode="json") for s in self.sources],
            "files": [asdict(f) for f in self.files],
            "shards": [asdict(s) for s in self.shards],
        }

    @staticmethod
    def from_json(value: Any, uri: str) -> "Manifest":
        """Inverse of `to_json`.

        Raises:
            UserError: what is at `uri` is of another version, or is not what was written.
        """
        version = value.get("version") if isinstance(value, dict) else None
        if version != VERSION and isinstance(version, int):
            raise UserError(f"{uri} has version {version}, this raypt reads {VERSION}: use a new run.dir")
        try:
            manifest = Manifest(
                sources=tuple(SourceConfig.model_validate(s) for s in value["sources"]),
                files=tuple(InputFile(**f) for f in value["files"]),
                shards=tuple(
                    Shard(s["index"], s["source"], tuple(FilePiece(**p) for p in s["pieces"])) for s in value["shards"]
                ),
            )
            whole = value["fingerprint"] == manifest.fingerprint
        except (KeyError, TypeError, ValueError):
            whole = False
        if not whole:
            raise UserError(
                f"{uri} is damaged: it is not the list of inputs that this run began with. Document keys depend on it, "
                "so it is not made anew: restore it, or use a new run.dir"
            )
        return manifest


def format_of(path: str) -> str | None:
    """The format a file name stands for, seen through its compression suffix; None if it says nothing."""
    stem, suffix = posixpath.splitext(path.lower())
    if suffix in COMPRESSED:
        stem, suffix = posixpath.splitext(stem)
    return SUFFIXES.get(suffix)


def expand(pattern: str) -> list[str]:
    """Files of a path, directory, glob or URI, sorted; scheme kept."""
    fs, path = storage.filesystem(pattern)
    if any(c in path for c in "*?[") and not fs.exists(path):
        found = sorted(p for p in fs.glob(path) if fs.isfile(p))
    elif fs.isdir(path):
        found = sorted(p for p in fs.find(path) if format_of(p))
    else:
        found = [path] if fs.exists(path) else []
    return [fs.unstrip_protocol(p) if "://" in pattern else p for p in found]


def default_name(source: SourceConfig) -> str:
    """A source's name from its first path: the last component without wildcards and suffixes."""
    for part in reversed(source.paths[0].removeprefix("builtin:").split("/")):
        stem = part.split(".")[0]
        if stem and not glob.has_magic(stem):
            return "".join(c if c.isalnum() or c in "_-." else "-" for c in stem)
    return "input"


def name_sources(sources: tuple[SourceConfig, ...]) -> tuple[SourceConfig, ...]:
    """Every source with a name; derived names are made distinct by a number."""
    taken = Counter(s.name for s in sources if s.name)
    out = []
    for s in sources:
        name = s.name
        if not name:
            base = default_name(s)
            name = base
            while taken[name]:
                name = f"{base}-{taken[base] + 1}"
                taken[base] += 1
            taken[name] += 1
        out.append(s.model_copy(update={"name": name}))
    return tuple(out)


def _etag(uri: str, info: dict[str, Any]) -> str:
    for key in ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified"):
        if info.get(key) is not None:
            return f"{key.lower()}:{info[key]}"
    return ""


def _content_hash(uri: str) -> str:
    digest = xxhash.xxh3_128()
    with storage.open_read(uri) as f:
        while block := f.read(1 << 20):
            digest.update(block)
    return f"xxh3:{digest.hexdigest()}"


def check_parquet_columns(schema: pa.Schema, source: SourceConfig, uri: str, key: str) -> None:
    column = source.text_field.split(".")[0]
    if column not in schema.names:
        raise UserError(
            f"{key}.text_field: {uri} has no column {source.text_field!r}; its columns are {', '.join(schema.names)}"
        )


def _first_record(uri: str, limit: int | None) -> dict[str, Any] | None:
    for item in itertools.islice(read_jsonl(ReadRequest(uri, max_document_bytes=limit)), 100):
        if isinstance(item, Record):
            return item.fields
    return None


def _list_files(source: SourceConfig, key: str, run_uri: str) -> Iterator[tuple[InputFile, str]]:
    listed = 0
    for i, pattern in enumerate(source.paths):
        inside_run = pattern.startswith(RUN_SCHEME)
        where = storage.join(run_uri, pattern.removeprefix(RUN_SCHEME)) if inside_run else storage.absolute(pattern)
        uris = expand(where)
        if not uris:
            raise UserError(f"{key}.paths[{i}]: no file matches {pattern!r}")
        for uri in uris:
            kind = source.format if source.format != "auto" else format_of(uri)
            if kind is None:
                raise UserError(
                    f"{key}.format: cannot tell the format of {uri} from its name; "
                    "set it to jsonl, parquet, text, lines or warc"
                )
            fs, path = storage.filesystem(uri)
            info = fs.info(path)
            rows = None
            if kind == "parquet" and info["size"]:
                try:
                    with storage.open_read(uri) as f:
                        metadata = pq.read_metadata(f)
                except (pa.ArrowInvalid, OSError) as e:
                    raise UserError(f"{key}.paths[{i}]: {uri} is not a readable Parquet file: {e}") from None
                check_fields(source, metadata.schema.to_arrow_schema().names, uri, key)
                check_parquet_columns(metadata.schema.to_arrow_schema(), source, uri, key)
                rows = metadata.num_rows
            elif kind == "jsonl" and source.preset and not listed:
                first = _first_record(uri, FIRST_RECORD_BYTES)
                if first is not None:
                    check_fields(source, first, uri, key)
            listed += 1
            etag = _content_hash(uri) if inside_run else _etag(uri, info)
            name = RUN_SCHEME + uri.removeprefix(run_uri).lstrip("/") if inside_run else uri
            yield InputFile(source.name, name, kind, int(info["size"]), etag, rows), uri


def _cut(file: int, info: InputFile, uri: str, target: int) -> Iterator[tuple[FilePiece, int]]:
    """Pieces of one file with their sizes in stored bytes."""
    if info.format == "parquet" and info.size:
        with storage.open_read(uri) as f:
            metadata = pq.read_metadata(f)
        start = size = 0
        for group in range(metadata.num_row_groups):
            row_group = metadata.row_group(group)
            stored = sum(row_group.column(c).total_compressed_size for c in range(row_group.num_columns))
            if size and size + stored > target:
                yield FilePiece(file, start, group), size
                start, size = group, 0
            size += stored
        yield FilePiece(file, start, metadata.num_row_groups), size
    elif info.format in ("jsonl", "lines") and not uri.endswith(COMPRESSED) and info.size > target:
        cuts = max(1, round(info.size / target))
        edges = [info.size * i // cuts for i in range(cuts + 1)]
        for start, stop in itertools.pairwise(edges):
            yield FilePiece(file, start, stop), stop - start
    else:
        yield FilePiece(file, 0, None), info.size


def _default_shard_bytes(total: int) -> int:
    """Enough shards to keep a small machine busy and to let training begin early, none so large that a retry hurts."""
    return min(max(total // 64, 128 << 10), 64 << 20)


def build_manifest(config: CorpusConfig, run_uri: str, key: str = "corpus.sources") -> Manifest:
    """List, check and cut the inputs. `key` is where the sources stand in the configuration, for messages.

    Raises:
        UserError: a path that matches nothing, a format that cannot be told, a Parquet file without the text column,
            files that are not the data set their preset names.
    """
    sources = name_sources(tuple(apply_preset(s, f"corpus.sources[{n}]") for n, s in enumerate(config.sources)))
    listed = [list(_list_files(s, f"{key}[{n}]", run_uri)) for n, s in enumerate(sources)]
    target = config.shard_bytes or _default_shard_bytes(sum(info.size for found in listed for info, _ in found))
    files: list[InputFile] = []
    shards: list[Shard] = []
    for source, found in zip(sources, listed, strict=True):
        group: list[FilePiece] = []
        size = 0

        def flush(name: str = source.name) -> None:
            nonlocal group, size
            if group:
                shards.append(Shard(len(shards), name, tuple(group)))
            group, size = [], 0

        for info, uri in found:
            files.append(info)
            for piece, stored in _cut(len(files) - 1, info, uri, target):
                if group and size + stored > target:
                    flush()
                group.append(piece)
                size += stored
        flush()
    return Manifest(sources, tuple(files), tuple(shards))


def check_unchanged(manifest: Manifest, run_uri: str) -> None:
    """Raise UserError if an input file is gone or differs from what the manifest recorded."""
    for i, known in enumerate(manifest.files):
        uri = manifest.file_uri(i, run_uri)
        fs, path = storage.filesystem(uri)
        what = None
        if not fs.exists(path):
            what = "is gone"
        else:
            info = fs.info(path)
            if int(info["size"]) != known.size:
                what = f"had {known.size} bytes, now has {info['size']}"
            elif not known.path.startswith(RUN_SCHEME) and _etag(uri, info) != known.etag:
                what = f"was changed ({known.etag} is now {_etag(uri, info)})"
        if what:
            raise UserError(
                f"{uri} {what} since this run started: a resumed run must see the same input. Restore the file, or "
                "start a new run with another run.name or run.dir"
            )
