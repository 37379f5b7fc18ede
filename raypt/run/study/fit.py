"""Fit a law of loss to a table of runs: `raypt study fit FILE... --law LAW`.

chinchilla   L = E + A/N^alpha + B/D^beta (Hoffmann et al. 2022, approach 3, as Besiroglu et al. 2024 correct it)
isoflop      the best size of each budget by parabolas, N* = k C^a (approach 2)
envelope     the same from loss curves: several D a size (approach 1)
repetition   the effective-data law of Muennighoff et al. 2023: what repeated text is worth
mixture      loss by the sources' weights: RegMix's regressions and the data mixing law of Ye et al. 2024

Files are CSV or Parquet; further files are joined by the columns they share. Columns are found by their usual names (N:
params, D: tokens, C: flops, U: unique_tokens, loss) or said: --columns 'N=Model Size,C=Training FLOP,weights=train_*'.
"""

import argparse
import json
import math
import sys
from typing import Any

import numpy as np

from raypt.errors import UserError
from raypt.run.study import fits
from raypt.run.study.laws.bootstrap import RESAMPLES
from raypt.run.study.laws.isoflop import POINTS

LAWS = {
    "chinchilla": fits.chinchilla_fit,
    "isoflop": fits.isoflop_fit,
    "envelope": fits.envelope_fit,
    "repetition": fits.repetition_fit,
    "mixture": fits.mixture_fit,
}
OPTIONS_OF = {
    "drop_highest": ("chinchilla", "isoflop", "envelope", "repetition"),
    "max_epochs": ("repetition",),
    "keep_over_fitted": ("repetition",),
    "points": ("isoflop",),
    "predict": ("chinchilla", "isoflop", "envelope", "repetition"),
    "held_out": ("chinchilla", "repetition", "mixture"),
}
"""Options that only some laws have."""


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="raypt study fit", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="CSV or Parquet, one run a row")
    parser.add_argument("--law", required=True, choices=LAWS)
    parser.add_argument("--columns", help="NAME=COLUMN,... for N, D, C, U, loss, and weights=PATTERN")
    parser.add_argument("--where", action="append", default=[], metavar="COLUMN=VALUE", help="only these rows")
    parser.add_argument("--drop-highest", type=int, default=0, metavar="K", help="leave out the K highest losses")
    parser.add_argument("--max-epochs", type=float, metavar="E", help="repetition: leave out runs with more epochs")
    parser.add_argument("--keep-over-fitted", action="store_true", help="repetition: keep runs that lost by more")
    parser.add_argument("--points", type=int, default=POINTS, help="isoflop: runs of a parabola (%(default)s)")
    parser.add_argument(
        "--predict", action="append", default=[], metavar="C=1e24|N=70G,D=1.4T[,U=350G]", help="the loss there"
    )
    parser.add_argument("--held-out", nargs="+", metavar="FILE", help="runs to check the fit on, not to fit")
    parser.add_argument("--resamples", type=int, default=RESAMPLES, help="of the bootstrap (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap (%(default)s)")
    parser.add_argument("--json", action="store_true", help="one object, for programs")
    arguments = parser.parse_args(argv)
    for name, laws in OPTIONS_OF.items():
        if arguments.law not in laws and getattr(arguments, name) != parser.get_default(name):
            option = "--" + name.replace("_", "-")
            parser.error(f"{option} is not for --law {arguments.law}, but for {', '.join(laws)}")
    if arguments.resamples < 2:
        parser.error("--resamples: an interval needs 2 or more")
    if arguments.drop_highest < 0:
        parser.error("--drop-highest: a number of runs, 0 or more")
    return arguments


def plain(value: Any) -> Any:
    """JSON has no infinities: they are null, and arrays are lists."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(v) for v in value]
    if isinstance(value, bool):
        return value
    if isinstance(value, np.integer | int):
        return int(value)
    if isinstance(value, np.floating | float):
        return float(value) if math.isfinite(value) else None
    return value


def main(argv: list[str]) -> int:
    """Exit status: 0, or 2 for a mistake in the table or the options."""
    arguments = parse(argv)
    try:
        report = LAWS[arguments.law](arguments)
    except UserError as e:
        print(f"raypt study fit: {e}", file=sys.stderr)
        return 2
    if arguments.json:
        print(json.dumps(plain(report.to_json()), ensure_ascii=False, allow_nan=False))
    else:
        print(report.text())
    return 0
