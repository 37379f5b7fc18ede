"""Anyone's table of runs: CSV or Parquet files, joined, with its columns found by their usual names."""

import csv
import fnmatch
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raypt import storage
from raypt.config_values import parse_number
from raypt.errors import UserError
from raypt.run.study.laws.chinchilla import FLOPS_PER_TOKEN_PARAMETER
from raypt.run.study.laws.robust import Array

ALIASES = {
    "N": ("n", "params", "parameters", "model size", "model_size"),
    "D": ("d", "tokens", "training tokens", "training_tokens"),
    "C": ("c", "flops", "flop", "training flop", "training_flop", "training flops"),
    "U": ("u", "unique_tokens", "unique tokens"),
    "loss": ("loss", "l", "val_loss", "heldout_loss"),
}
"""Names under which a column is found without `--columns`, in lower case."""
ABSENT = ("", "nan", "na", "n/a", "null", "none")
"""How tables write that there is no figure."""


@dataclass
class Table:
    """Text by column, a row a run, and the rows that were left out."""

    names: list[str]
    rows: list[list[str]]
    number: list[int]
    """Of the rows, in the first file: the header is row 1."""
    where: str
    """The files, for messages."""
    left_out: list[tuple[int, str]] = field(default_factory=list)
    """Row, and why."""

    def column(self, name: str) -> list[str]:
        at = self.names.index(name)
        return [row[at] for row in self.rows]

    def keep(self, kept: Sequence[bool], why: Sequence[str] | str) -> None:
        """Leave out the other rows; `why` for each row or for all."""
        whys = [why] * len(self.rows) if isinstance(why, str) else why
        self.left_out += [(n, w) for n, w, k in zip(self.number, whys, kept, strict=True) if not k]
        self.rows = [row for row, k in zip(self.rows, kept, strict=True) if k]
        self.number = [n for n, k in zip(self.number, kept, strict=True) if k]


def _read(uri: str) -> tuple[list[str], dict[int, list[str]]]:
    """Names of the columns, and rows by number."""
    try:
        data = storage.read_bytes(uri)
    except FileNotFoundError:
        raise UserError(f"{uri}: no such file") from None
    if data[:4] == b"PAR1":
        try:
            table = pq.read_table(io.BytesIO(data))
        except pa.ArrowException as e:
            raise UserError(f"{uri}: cannot be read as Parquet: {e}") from None
        columns = [["" if v is None else str(v) for v in table[name].to_pylist()] for name in table.column_names]
        return table.column_names, dict(enumerate(map(list, zip(*columns, strict=True)), 2))
    try:
        text = data.decode("utf-8-sig")
        rows = {n: row for n, row in enumerate(csv.reader(io.StringIO(text, newline=""), strict=True), 1) if row}
    except (UnicodeDecodeError, csv.Error) as e:
        raise UserError(f"{uri}: cannot be read as CSV: {e}") from None
    if len(rows) < 2:
        raise UserError(f"{uri}: a header and at least one row are wanted")
    names = [name.strip() for name in rows.pop(min(rows))]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"{uri}: the header names {', '.join(map(repr, twice))} twice")
    for number, row in rows.items():
        if len(row) != len(names):
            raise UserError(f"{uri}, row {number}: {len(row)} fields, the header has {len(names)}")
    return names, rows


def read_table(uris: Sequence[str]) -> Table:
    """The rows of the first file; the columns of each further one are joined by the names that both have."""
    names, rows = _read(uris[0])
    table = Table(names, list(rows.values()), list(rows), ", ".join(uris))
    for uri in uris[1:]:
        more, others = _read(uri)
        shared = [name for name in table.names if name in more]
        if not shared:
            raise UserError(f"{uri}: no column in common with {uris[0]}, by which to join their rows")
        at, new = [more.index(name) for name in shared], [i for i, name in enumerate(more) if name not in shared]
        found: dict[tuple[str, ...], list[str]] = {}
        for number, row in others.items():
            key = tuple(row[i] for i in at)
            if key in found:
                raise UserError(f"{uri}, row {number}: {dict(zip(shared, key, strict=True))} is there twice")
            found[key] = [row[i] for i in new]
        here = [table.names.index(name) for name in shared]
        matches = [found.get(tuple(row[i] for i in here)) for row in table.rows]
        table.rows = [[*row, *(match or [""] * len(new))] for row, match in zip(table.rows, matches, strict=True)]
        table.names = [*table.names, *(more[i] for i in new)]
        table.keep([match is not None for match in matches], f"not in {uri}")
    return table


def choose(table: Table, conditions: Sequence[str]) -> None:
    """Keep the rows for which each `column=value` holds, as numbers if both are."""
    for condition in conditions:
        name, equals, value = condition.partition("=")
        if not equals or name not in table.names:
            raise UserError(f"--where {condition}: write COLUMN=VALUE; columns are {', '.join(table.names)}")
        kept = [cell == value or (_number(cell) == _number(value)) for cell in table.column(name)]
        if not any(kept):
            some = ", ".join(sorted(set(table.column(name)))[:8])
            raise UserError(f"--where {condition}: no row has it; the column holds {some}")
        table.keep(kept, f"{name} is not {value}")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return np.nan


def parse_columns(text: str | None) -> dict[str, str]:
    """`N=params,D=tokens,weights=train_*`: what each name stands for."""
    out = {}
    for part in (text or "").split(","):
        if part:
            name, equals, column = part.partition("=")
            if not equals:
                raise UserError(f"--columns {part}: write NAME=COLUMN, as in N=params,D=tokens,loss=val_loss")
            if name.strip() not in (*ALIASES, "weights"):
                raise UserError(f"--columns {part}: names are {', '.join(ALIASES)} and weights, not {name.strip()}")
            out[name.strip()] = column.strip()
    return out


def column_of(table: Table, said: Mapping[str, str], name: str) -> str | None:
    """The column that a name stands for: as said, or by its usual names; None: there is none."""
    if name in said:
        if said[name] not in table.names:
            raise UserError(
                f"--columns {name}={said[name]}: {table.where} has no such column, but {', '.join(table.names)}"
            )
        return said[name]
    by_lower = {column.lower(): column for column in table.names}
    return next((by_lower[alias] for alias in ALIASES.get(name, ()) if alias in by_lower), None)


def weight_columns(table: Table, said: Mapping[str, str]) -> list[str]:
    """The columns of a mixture's weights: those that the pattern after `weights=` names."""
    pattern = said.get("weights", "weight_*")
    found = [name for name in table.names if fnmatch.fnmatchcase(name, pattern)]
    if len(found) < 2:
        raise UserError(
            f"--columns weights={pattern}: names {len(found)} columns of {table.where}, and a mixture has two or more; "
            "say which hold the weights, as in weights=train_*"
        )
    return found


def numbers(table: Table, columns: Sequence[str], *, positive: Sequence[str]) -> dict[str, Array]:
    """Columns as numbers. Rows in which one is empty, nan or infinite (a run that diverged) are left out, and counted.

    Raises:
        UserError: a cell is no number, or not positive where it must be; or every row would be left out.
    """
    before = len(table.rows)
    values = {name: np.array([_number(cell) for cell in table.column(name)]) for name in columns}
    why = [""] * before
    for name in columns:
        cells = table.column(name)
        for i, value in enumerate(values[name]):
            at = f"{table.where}, row {table.number[i]}, column {name}"
            if np.isnan(value) and cells[i].strip().lower() not in ABSENT:
                raise UserError(
                    f"{at}: {cells[i]!r} is no number. Write it plainly (6.8e9); leave the cell empty, or choose rows "
                    "with --where, to leave the run out"
                )
            if name in positive and value <= 0 and np.isfinite(value):
                raise UserError(f"{at}: {cells[i]} is not above 0, and its logarithm is fitted; mend or empty the cell")
            if not why[i] and not np.isfinite(value):
                why[i] = f"{name} is {cells[i].strip() or 'empty'}"
    kept = [not w for w in why]
    table.keep(kept, why)
    if not table.rows:
        row, reason = table.left_out[-1]
        raise UserError(f"{table.where}: no row is left that holds numbers; row {row}: {reason}")
    return {name: values[name][np.array(kept)] for name in columns}


def sizes(table: Table, said: Mapping[str, str], wanted: Sequence[str]) -> tuple[dict[str, Array], Array]:
    """The columns of N, D, C or U that a law wants, and the losses. Of N, D and C the third follows: C = 6 N D."""
    found = {name: column_of(table, said, name) for name in ("N", "D", "C", "U", "loss")}
    if found["loss"] is None:
        raise UserError(f"--columns loss=...: which column of {table.where} is the loss? {', '.join(table.names)}")
    if sum(found[name] is not None for name in ("N", "D", "C")) < 2:
        lacking = [name for name in ("N", "D", "C") if found[name] is None]
        raise UserError(
            f"--columns {'=..., or '.join(lacking)}=...: two of N (parameters), D (training tokens) and C (FLOP) are "
            f"wanted; {table.where} has {', '.join(table.names)}"
        )
    if "U" in wanted and found["U"] is None:
        raise UserError(
            f"--columns U=...: which column of {table.where} holds the unique tokens? {', '.join(table.names)}"
        )
    if found["N"] and found["D"] and "C" not in wanted:
        found["C"] = None
    used = {name: column for name, column in found.items() if column is not None and (name != "U" or "U" in wanted)}
    cells = numbers(table, list(used.values()), positive=list(used.values()))
    x = {name: cells[column] for name, column in used.items()}
    loss = x.pop("loss")
    if "N" not in x:
        x["N"] = x["C"] / (FLOPS_PER_TOKEN_PARAMETER * x["D"])
    if "D" not in x:
        x["D"] = x["C"] / (FLOPS_PER_TOKEN_PARAMETER * x["N"])
    if "C" not in x:
        x["C"] = FLOPS_PER_TOKEN_PARAMETER * x["N"] * x["D"]
    return {name: x[name] for name in wanted}, loss


def parse_point(text: str) -> dict[str, float]:
    """`C=1e24` or `N=70G,D=1.4T`: a run to predict."""
    out = {}
    for part in text.split(","):
        name, _, value = part.partition("=")
        try:
            number = parse_number(value, None, whole=False)
        except ValueError:
            number = None
        if name not in ("N", "D", "C", "U") or number is None or number <= 0:
            raise UserError(f"--predict {text}: write C=1e24, N=70G,D=1.4T or N=70G,D=1.4T,U=350G")
        out[name] = float(number)
    return out
