"""The files of each source: listed, told by format, their fields looked at."""

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raypt import plugins, storage
from raypt.corpus.config import CorpusConfig, SourceConfig
from raypt.corpus.cutting import InputFile, can_be_cut
from raypt.corpus.footers import read_footers
from raypt.corpus.formats.json_values import one_a_line
from raypt.corpus.formats.parquet import Footer
from raypt.corpus.formats.raw import content_hash, known_by_content
from raypt.corpus.formats.table import READERS, reader_of
from raypt.corpus.listing import DANGLING, THREADS, TWICE, Found, Skipped, data_files, list_files
from raypt.corpus.presets import check_fields, is_passed_over
from raypt.corpus.schema import check_columns, first_fields, resolve_text_field
from raypt.errors import UserError
from raypt.outside import redact, shown

log = logging.getLogger("raypt")

RUN_SCHEME = "run:"
START_BYTES = 1 << 16


@dataclass
class Input:
    """A source with its files, as far as they are known."""

    source: SourceConfig
    key: str
    files: list[tuple[Found, str]] = field(default_factory=list)
    skipped: Skipped = field(default_factory=Skipped)


def _to_check(pattern: str) -> str:
    """What to look at where a path matches nothing."""
    place = "the bucket and the prefix" if "://" in pattern else f"the directory (relative to {Path.cwd()})"
    if Path(pattern).is_absolute():
        place = "the directory (on the machine that runs the job)"
    return (
        f"Check {place} and the spelling, case too; a pattern must match the whole name with its ending (*.jsonl does "
        "not match a.jsonl.gz) and goes into directories only with **; a directory needs no pattern: its data files "
        "are found by their endings"
    )


def list_source(source: SourceConfig, key: str, run_uri: str, broken_files: str, *, again: bool = False) -> Input:
    """The data files of a source's paths, in order, each once. `again`: see `list_files`."""
    if plugins.is_plugin(source.format):
        reader_of(source.format, f"{key}.format")
    listed = Input(source, key)
    taken: set[str] = set()
    for i, pattern in enumerate(source.paths):
        inside_run = pattern.startswith(RUN_SCHEME)
        where = storage.join(run_uri, pattern.removeprefix(RUN_SCHEME)) if inside_run else storage.absolute(pattern)
        try:
            listing = list_files(where, again=again)
        except UserError as e:
            raise UserError(f"{key}.paths[{i}]: {e}") from None
        if listing.skipped.counts.get(DANGLING) and broken_files != "quarantine":
            names = ", ".join(map(shown, listing.skipped.examples[DANGLING]))
            raise UserError(
                f"{key}.paths[{i}]: {redact(pattern)} has links to files that do not exist ({names}): restore or "
                "remove them, or set corpus.broken_files=quarantine to go on without"
            )
        if not listing.files and not listing.skipped.counts:
            raise UserError(f"{key}.paths[{i}]: no file matches {redact(pattern)!r}. {_to_check(pattern)}")
        found = 0
        for file, kind in data_files(listing, source.format):
            if kind is None:
                raise UserError(
                    f"{key}.format: cannot tell the format of {redact(shown(file.uri, 1000))} from its name; set it to "
                    f"one of {', '.join(READERS)}"
                )
            found += 1
            if file.uri in taken:
                listing.skipped.add(TWICE, file.uri)
            elif is_passed_over(source, file.uri):
                listing.skipped.add("beside the documents of the preset", file.uri)
            else:
                taken.add(file.uri)
                listed.files.append((file, kind))
        if not found:
            raise UserError(
                f"{key}.paths[{i}]: {redact(pattern)} has no file that is data: {listing.skipped}. If they are, name "
                f"them, or set {key}.format"
            )
        listed.skipped.merge(listing.skipped)
    if listed.skipped.counts:
        log.warning("source %s: passed over: %s", source.name, listed.skipped)
    return listed


def read_all_footers(inputs: list[Input], config: CorpusConfig) -> dict[str, Footer]:
    """Footers of all Parquet files that are not empty, by URI."""
    wanted = [(i, n, f.uri) for i in inputs for n, (f, kind) in enumerate(i.files) if kind == "parquet" and f.size]
    footers = read_footers([uri for _, _, uri in wanted], config.max_decoder_bytes)
    out: dict[str, Footer] = {}
    for (listed, _, uri), footer in zip(wanted, footers, strict=True):
        if isinstance(footer, Footer):
            out[uri] = footer
        elif config.broken_files != "quarantine":
            raise UserError(f"{listed.key}.paths: {redact(uri)} is not a readable Parquet file: {redact(str(footer))}")
    return out


def input_files(listed: Input, footers: dict[str, Footer], run_uri: str) -> Iterator[InputFile]:
    for file, kind in listed.files:
        if file.size is None:
            raise UserError(
                f"{listed.key}.paths: {redact(file.uri)}: the server does not say how long it is: download it"
            )
        inside_run = file.uri.startswith(run_uri.rstrip("/") + "/") and any(
            p.startswith(RUN_SCHEME) for p in listed.source.paths
        )
        name = RUN_SCHEME + file.uri.removeprefix(run_uri).lstrip("/") if inside_run else file.uri
        etag = content_hash(file.uri) if inside_run or known_by_content(file.uri, file.etag) else file.etag
        footer = footers.get(file.uri)
        yield InputFile(listed.source.name, name, kind, file.size, etag, None if footer is None else footer.rows)


def checked(listed: Input, footers: dict[str, Footer], config: CorpusConfig) -> SourceConfig:
    """The source with its text field known, its files' columns checked against it."""
    source, key = listed.source, listed.key
    columns = {f.uri: footers[f.uri].columns for f, _ in listed.files if f.uri in footers}
    sample: tuple[str, Sequence[str], dict[str, Any] | None] | None = None
    if columns:
        uri = next(iter(columns))
        sample = uri, columns[uri], None
    elif listed.files and (source.preset or source.text_field == "auto"):
        file, kind = listed.files[0]
        fields = first_fields(file.uri, kind, source, config)
        sample = None if fields is None else (file.uri, list(fields), fields)
    source = resolve_text_field(source, sample, key)
    if sample is not None and not columns:
        check_fields(source, sample[1], sample[0], key)
    for uri, names in columns.items():
        check_fields(source, names, uri, key)
    check_columns(source, columns, key)
    return source


def line_files(listed: Input, files: list[InputFile], source: SourceConfig, target: int) -> set[str]:
    """Of the files of a source that are bigger than `target`, those that may be cut at any line.

    A big .json file is looked into: it may be one array.
    """
    big = [(place.uri, info) for (place, _), info in zip(listed.files, files, strict=True) if info.size > target]
    cuttable = [(uri, info) for uri, info in big if can_be_cut(info, source.encoding)]
    unsure = [uri for uri, info in cuttable if info.format == "jsonl" and uri.lower().endswith(".json")]
    with ThreadPoolExecutor(THREADS) as pool:
        whole = {uri for uri, start in zip(unsure, pool.map(_start, unsure), strict=True) if not one_a_line(start)}
    return {uri for uri, _ in cuttable} - whole


def _start(uri: str) -> bytes:
    with storage.open_read(uri) as f:
        return f.read(START_BYTES)
