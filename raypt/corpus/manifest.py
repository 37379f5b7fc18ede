"""The manifest: the inputs of a run, frozen. Which files, how they are cut into shards, in which order.

Everything downstream is a function of it: one shard is one row of the curation stage, one file at every later stage,
and half of a document's key. A run writes it once and checks on resume that the files are still the same.
"""

import functools
import glob
import itertools
import json
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import xxhash

from raypt import plugins, storage
from raypt.corpus.config import CorpusConfig, SourceConfig
from raypt.corpus.cutting import FilePiece, InputFile, Shard, cut_file, group_pieces, shard_bytes_for
from raypt.corpus.inputs import RUN_SCHEME, Input, checked, input_files, line_files, list_source, read_all_footers
from raypt.corpus.listing import THREADS
from raypt.corpus.presets import apply_preset
from raypt.errors import UserError
from raypt.outside import redact

VERSION = 2


@dataclass(frozen=True)
class Manifest:
    """Files and shards of a run, in order."""

    sources: tuple[SourceConfig, ...]
    files: tuple[InputFile, ...]
    shards: tuple[Shard, ...]
    skipped: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By source: files of its paths that are no data, `{reason: {count, first}}`."""
    readers: dict[str, str] = field(default_factory=dict)
    """Readers of the user's own, and the hash of the file that each comes from."""

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of everything that decides which document has which key."""
        digest = xxhash.xxh3_128(repr((VERSION, self.readers, tuple(map(_shown_source, self.sources)))).encode())
        for file in self.files:
            digest.update(repr(_file_words(file)).encode())
        for shard in self.shards:
            digest.update(repr((shard.source, [(p.file, p.start, p.stop) for p in shard.pieces])).encode())
        return digest.hexdigest()

    def shard_key(self, shard: int) -> str:
        """Hash of everything that decides the records of one shard and their keys."""
        part = self.shards[shard]
        source = _shown_source(self.source(part.source)).model_dump(mode="json", exclude={"weight", "priority"})
        pieces = [(_file_words(self.files[p.file]), p.start, p.stop) for p in part.pieces]
        readers = {name: self.readers[name] for name in (self.files[p.file].format for p in part.pieces) if ":" in name}
        words = json.dumps([VERSION, part.index, source, pieces, readers], sort_keys=True, ensure_ascii=False)
        return xxhash.xxh3_128_hexdigest(words.encode())

    def source(self, name: str) -> SourceConfig:
        return next(s for s in self.sources if s.name == name)

    def file_uri(self, file: int, run_uri: str) -> str:
        path = self.files[file].path
        return storage.join(run_uri, path.removeprefix(RUN_SCHEME)) if path.startswith(RUN_SCHEME) else path

    def to_json(self) -> dict[str, Any]:
        """A column a list, so that 10^5 files are some megabytes. Without what gives access to the files: see
        `with_credentials`."""
        pieces = [p for s in self.shards for p in s.pieces]
        return {
            "version": VERSION,
            "fingerprint": self.fingerprint,
            "sources": [_shown_source(s).model_dump(mode="json") for s in self.sources],
            "skipped": self.skipped,
            "readers": self.readers,
            "files": {
                "source": [f.source for f in self.files],
                "path": [redact(f.path) for f in self.files],
                "format": [f.format for f in self.files],
                "size": [f.size for f in self.files],
                "etag": [f.etag for f in self.files],
                "rows": [f.rows for f in self.files],
            },
            "shards": {"source": [s.source for s in self.shards], "pieces": [len(s.pieces) for s in self.shards]},
            "pieces": {
                "file": [p.file for p in pieces],
                "start": [p.start for p in pieces],
                "stop": [p.stop for p in pieces],
                "size": [p.size for p in pieces],
            },
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
            manifest = _parsed(value)
            whole = value["fingerprint"] == manifest.fingerprint
        except (KeyError, TypeError, ValueError):
            whole = False
        if not whole:
            raise UserError(
                f"{uri} is damaged: it is not the list of inputs that this run began with. Document keys depend on it, "
                "so it is not made anew: restore it, or use a new run.dir"
            )
        return manifest

    def with_credentials(self, sources: Sequence[SourceConfig]) -> "Manifest":
        """This manifest with what the paths of `sources` hold and a stored one does not: users, passwords, tokens."""
        secret = {redact(p): p for s in sources for p in s.paths if redact(p) != p}
        if not secret:
            return self
        by_host = {_host(shown_path): _host(path) for shown_path, path in secret.items()}

        def restored(path: str) -> str:
            if path in secret:
                return secret[path]
            host = _host(path)
            return by_host[host] + path[len(host) :] if host in by_host else path

        files = tuple(
            InputFile(f.source, restored(f.path), f.format, f.size, f.etag, f.rows) if f.path != restored(f.path) else f
            for f in self.files
        )
        return Manifest(self.sources, files, self.shards, self.skipped, self.readers)


def _parsed(value: dict[str, Any]) -> Manifest:
    files, shards, cuts = value["files"], value["shards"], value["pieces"]
    columns = [files[k] for k in ("source", "path", "format", "size", "etag", "rows")]
    pieces = [FilePiece(*p) for p in zip(cuts["file"], cuts["start"], cuts["stop"], cuts["size"], strict=True)]
    ends = [0, *itertools.accumulate(shards["pieces"])]
    return Manifest(
        sources=tuple(SourceConfig.model_validate(s) for s in value["sources"]),
        files=tuple(InputFile(*f) for f in zip(*columns, strict=True)),
        shards=tuple(Shard(i, name, tuple(pieces[ends[i] : ends[i + 1]])) for i, name in enumerate(shards["source"])),
        skipped=value["skipped"],
        readers=value["readers"],
    )


def _host(uri: str) -> str:
    """`scheme://user@host` of a URI."""
    scheme, separator, rest = uri.partition("://")
    return f"{scheme}{separator}{rest.split('/', 1)[0]}"


def _file_words(file: InputFile) -> list[Any]:
    return [file.source, redact(file.path), file.format, file.size, file.etag, file.rows]


def _shown_source(source: SourceConfig) -> SourceConfig:
    return source.model_copy(update={"paths": tuple(map(redact, source.paths))})


def default_name(source: SourceConfig) -> str:
    """A source's name from its first path: the last component without wildcards and suffixes."""
    for part in reversed(redact(source.paths[0]).removeprefix("builtin:").split("?")[0].split("/")):
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


def build_manifest(config: CorpusConfig, run_uri: str, key: str = "corpus.sources") -> Manifest:
    """List, check and cut the inputs. `key` is where the sources stand in the configuration, for messages.

    One listing a directory, and two requests a Parquet file, many at a time.

    Raises:
        UserError: a path that matches nothing, a format that cannot be told, a Parquet file without the text column,
            files that are not the data set their preset names.
    """
    sources = name_sources(tuple(apply_preset(s, f"corpus.sources[{n}]") for n, s in enumerate(config.sources)))
    keys = [f"{key}[{n}]" for n in range(len(sources))]
    with ThreadPoolExecutor(THREADS) as pool:
        run_uris, broken = itertools.repeat(run_uri), itertools.repeat(config.broken_files)
        inputs: list[Input] = list(pool.map(list_source, sources, keys, run_uris, broken))
    footers = read_all_footers(inputs, config)
    sources = tuple(checked(listed, footers, config) for listed in inputs)
    found = [list(input_files(listed, footers, run_uri)) for listed in inputs]
    target = shard_bytes_for(sum(f.size for part in found for f in part), config.shard_bytes)
    files: list[InputFile] = []
    shards: list[Shard] = []
    for source, listed, part in zip(sources, inputs, found, strict=True):
        by_bytes = line_files(listed, part, source, target)
        pieces = (
            piece
            for n, (info, (place, _)) in enumerate(zip(part, listed.files, strict=True), start=len(files))
            for piece in cut_file(n, info, footers.get(place.uri), place.uri in by_bytes, target)
        )
        shards += group_pieces(pieces, source.name, len(shards), target)
        files += part
    skipped = {
        i.source.name: {r: {"count": n, "first": i.skipped.examples[r]} for r, n in i.skipped.counts.items()}
        for i in inputs
        if i.skipped.counts
    }
    own = [s.format for s in sources if plugins.is_plugin(s.format)]
    readers = {name: plugins.fingerprint(name, f"{key}[].format") for name in own}
    return Manifest(sources, tuple(files), tuple(shards), skipped, readers)
