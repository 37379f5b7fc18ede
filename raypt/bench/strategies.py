"""Strategies of training beside each other, with workers that are slow: gradients a second, loss, bytes.

    python jobs/bench.py strategies
    python jobs/bench.py strategies --pattern none --steps 600 --strategies zero-0,averaging,nesterov,streaming

The real engines train a small model on random text with something to learn. Each gradient waits as long as the
pattern says before it is computed: `always`, the first worker is `--slow` times slower; `sometimes`, a tenth of each
worker's gradients are; `none`, no waits at all. The limit beside the gradients a second is that of the waits alone:
what is left of it is what computing, messages, updates and the machine cost. Held-out loss is of the end, and bytes are
those that a worker sends, of gradients and weights. Prints a table, or with --json the list, and writes a page with the
loss over time and over gradients.
"""

import argparse
import contextlib
import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from raypt.bench.collective_start import joined
from raypt.bench.collective_table import plain_table
from raypt.bench.straggler import Pattern, limit
from raypt.bench.strategy_rank import SHAPES, Found, Strategy, StrategyRank, Task
from raypt.charts import Series, line_chart, smoothed
from raypt.errors import UserError
from raypt.html import heading, table, text
from raypt.html import page as html_page

PATTERNS = ("always", "sometimes", "none")
HEAD = (
    "strategy", "gradients/s", "tokens/s", "limit", "of it", "gradients", "held-out loss", "bytes a token",
    "most steps stale", "mean versions stale",
)  # fmt: skip


def named(every_steps: int, bound: int) -> dict[str, Strategy]:
    """What can be asked for."""
    servers, local = "parameter_server", "local_sgd"
    listed = [
        Strategy("zero-0", "collective"),
        Strategy("synchronous", servers),
        Strategy("ssp", servers, {"staleness": bound}),
        Strategy("asynchronous", servers, {"staleness": None}),
        Strategy("staleness-aware", servers, {"staleness": None, "staleness_rate": True}),
        Strategy("averaging", local, {"every_steps": every_steps}),
        Strategy("nesterov", local, {"every_steps": every_steps, "outer_lr": 0.7, "outer_momentum": 0.9}),
        Strategy("nesterov-0.5", local, {"every_steps": every_steps, "outer_lr": 0.7, "outer_momentum": 0.5}),
        Strategy("streaming", local, {"every_steps": every_steps, "fragments": 5}),
        Strategy("streaming-4-bit", local, {"every_steps": every_steps, "fragments": 5, "outer_bits": 4}),
        Strategy(
            "streaming-delayed", local, {"every_steps": every_steps, "fragments": 5, "outer_bits": 4, "delay_steps": 5}
        ),
    ]
    return {strategy.name: strategy for strategy in listed}


DEFAULT = "synchronous,ssp,asynchronous,averaging"


@dataclass(frozen=True)
class Row:
    """A strategy under a pattern."""

    pattern: str
    strategy: str
    limit: float | None
    """Gradients a second."""
    found: Found

    @property
    def rate(self) -> float:
        return self.found.gradients / self.found.seconds

    def cells(self) -> list[str]:
        """As `HEAD` has it."""
        f = self.found
        stale = (f"{f.stale_steps}", f"{f.stale_versions:.2f}") if f.stale_versions or f.stale_steps else ("", "")
        return [
            self.strategy,
            f"{self.rate:.2f}",
            f"{f.tokens / f.counts[-1] * self.rate:,.0f}",
            "" if self.limit is None else f"{self.limit:.1f}",
            "" if self.limit is None else f"{self.rate / self.limit:.2f}",
            f"{f.counts[-1]:,}",
            f"{f.heldout:.4f}",
            f"{f.sent_bytes / f.tokens:,.1f}" if f.sent_bytes else "",
            *stale,
        ]

    def to_json(self) -> dict[str, Any]:
        return {"gradients_per_s": self.rate, **asdict(self)}


def main(argv: list[str]) -> int:
    """`jobs/bench.py strategies ...`."""
    parser = argparse.ArgumentParser(
        "bench.py strategies", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--pattern", default="always,sometimes", help="of always, sometimes, none (default: both)")
    parser.add_argument("--pause", type=float, default=0.1, help="seconds before a gradient (default: %(default)s)")
    parser.add_argument("--slow", type=float, default=5.0, help="times as long where slow (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=15.0, help="of each strategy (default: %(default)s)")
    parser.add_argument("--steps", type=int, help="of each worker, instead of --seconds: the same tokens for all")
    parser.add_argument(
        "--shape", choices=tuple(SHAPES), default="small", help="medium: 8 M parameters; train: that of bench.py train"
    )
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="default: %(default)s")
    parser.add_argument("--strategies", default=DEFAULT, help=f"of {', '.join(named(1, 1))} (default: {DEFAULT})")
    parser.add_argument("--staleness", type=int, default=3, help="the bound of ssp (default: %(default)s)")
    parser.add_argument("--every-steps", type=int, default=50, help="of local SGD (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the list; the tables go to standard error")
    parser.add_argument("--page", type=Path, default=Path("strategies.html"), help="default: %(default)s")
    args = parser.parse_args(argv)
    try:
        return _main(args)
    except UserError as e:
        print(f"bench strategies: {e}", file=sys.stderr)
        return 2


def _main(args: argparse.Namespace) -> int:
    known = named(args.every_steps, args.staleness)
    strategies = [known[_of(name, known, "--strategies")] for name in args.strategies.split(",")]
    patterns = [Pattern(_of(kind, PATTERNS, "--pattern"), args.pause, args.slow) for kind in args.pattern.split(",")]
    if args.steps is None and any(p.kind == "none" for p in patterns):
        raise UserError("--pattern none: give --steps, since without pauses nothing else ends it")
    rows: list[Row] = []
    with joined(max(2, args.workers), None), ranks(args.workers) as actors:
        for pattern in patterns:
            for strategy in strategies:
                rows.append(measured(strategy, pattern, args, actors))
                print(f"{pattern.kind}, {strategy.name}: {rows[-1].rate:.1f} gradients/s", file=sys.stderr)
    by_pattern = [(p.kind, [row for row in rows if row.pattern == p.kind]) for p in patterns]
    out = sys.stderr if args.json else sys.stdout
    for kind, of_kind in by_pattern:
        print(f"\n{title(kind, args)}\n{plain_table(HEAD, [row.cells() for row in of_kind])}", file=out)
    args.page.write_text(page(by_pattern, args))
    print(f"\n{args.page}", file=out)
    if args.json:
        print(json.dumps([row.to_json() for row in rows]))
    return 0


def _of(name: str, names: Any, option: str) -> str:
    if name not in names:
        raise UserError(f"{option}: there is no {name!r}; there are {', '.join(names)}")
    return name


@contextlib.contextmanager
def ranks(count: int) -> Iterator[list[Any]]:
    """Actors for ranks, which run one strategy after the other."""
    import ray

    actors: list[Any] = [ray.remote(num_cpus=0.01)(StrategyRank).remote() for _ in range(count)]
    try:
        yield actors
    finally:
        for actor in actors:
            ray.kill(actor)


def measured(strategy: Strategy, pattern: Pattern, args: argparse.Namespace, actors: Sequence[Any]) -> Row:
    """One strategy under one pattern."""
    import ray

    seconds = math.inf if args.steps else args.seconds
    most = None if pattern.kind == "none" else limit(pattern, args.workers, strategy.staleness, seconds)
    # Nothing is faster than its limit: so many steps are never done within the time.
    steps = args.steps or 50 + math.ceil(2 * (most or 0) * args.seconds / args.workers)
    task = Task(
        args.workers,
        args.shape,
        Pattern("none", 0.0, 1.0) if pattern.kind == "none" else pattern,
        None if args.steps else args.seconds,
        steps,
        precision=args.precision,
    )
    actors = actors[:1] if strategy.staleness != 0 else actors
    meeting = ray.get(actors[0].meeting_point.remote())
    asked = [actor.measure.remote(strategy, task, i, len(actors), meeting) for i, actor in enumerate(actors)]
    found: list[Found] = ray.get(asked)
    return Row(pattern.kind, strategy.name, most, found[0])


def title(kind: str, args: argparse.Namespace) -> str:
    """What the workers of a pattern are like."""
    each = f"{args.workers} workers, {1000 * args.pause:g} ms a gradient"
    return {
        "always": f"{each}, the first always {args.slow:g} times slower",
        "sometimes": f"{each}, a tenth of them {args.slow:g} times slower",
        "none": f"{args.workers} workers that do not wait",
    }[kind]


def page(by_pattern: Sequence[tuple[str, list[Row]]], args: argparse.Namespace) -> str:
    """A self-contained page: for each pattern the table, the loss over time and over gradients."""
    shape = SHAPES[args.shape]
    parts = ["<h1>Strategies with slow workers</h1>"]
    parts.append(
        "<p class=muted>The limit is that of the waits alone: all that computing, messages, updates and the machine "
        f"cost is what is left of it. A gradient is of {shape.micro_batch} samples of {shape.length} tokens. Where one "
        "worker is always slow, a bound on staleness only puts the wait for it off; where each is slow now and then, "
        "it evens them out.</p>"
    )
    for kind, rows in by_pattern:
        parts += [
            heading(text(title(kind, args))),
            table(HEAD, [r.cells() for r in rows], numeric=tuple(range(1, len(HEAD)))),
        ]
        for x_label, values in (("seconds", "times"), ("gradients", "counts")):
            series = [Series(r.strategy, getattr(r.found, values), smoothed(r.found.losses)) for r in rows]
            parts.append(
                line_chart(
                    series, title=f"Loss over {x_label}", x_label=x_label, y_label="nats a token", width=900, height=320
                )
            )
    return html_page("Strategies with slow workers", "".join(parts))
