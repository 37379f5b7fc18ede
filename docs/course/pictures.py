"""The pictures of the course, drawn by raypt's own code.

    python docs/course/pictures.py [NAME ...]

writes NAME.svg beside this file: what a page of the course shows is what the code does.
"""

import math
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from raypt.charts import COLOURS, GRID, INK, MUTED, NARROW, Series, Span, bar_chart, line_chart, open_svg, span_chart
from raypt.corpus.python_docs import docstrings, environment_files
from raypt.curation.config import CurationConfig
from raypt.dedup.minhash import choose_bands, match_probability
from raypt.parallel.pipeline.schedule import Action, Name, idle_formula, schedule_of, simulate
from raypt.parallel.traffic import local_sgd_bytes, parameter_server_bytes, zero_bytes
from raypt.run.planner.memory import zero_bytes as state_bytes
from raypt.tokens.config import TokenizerConfig
from raypt.tokens.tokenizer.trainer import train
from raypt.training.pipeline_page import KINDS, NAMES

HERE = Path(__file__).parent


def standard_library(nbytes: int) -> list[str]:
    """Docstrings of Python's own modules: text that every machine has."""
    texts, size = [], 0
    for name, kind, path in sorted(environment_files()):
        if not name.startswith("stdlib/") or kind != "docstrings" or "/test/" in name or size >= nbytes:
            continue
        if text := docstrings(path.read_text("utf-8", errors="replace"), name.removeprefix("stdlib/")):
            texts.append(text)
            size += len(text.encode())
    return texts


def funnel() -> str:
    """What each curation stage keeps of Python's docstrings, tagged and decided by the stages themselves."""
    import pyarrow as pa

    from raypt.curation.decide import decide
    from raypt.curation.ledger import curation_ledger
    from raypt.curation.tagger import Tagger

    config = CurationConfig(stages=("language", "gopher_repetition", "gopher_quality", "c4"))
    texts = standard_library(2_000_000)
    keys = pa.array(range(len(texts)), pa.uint64())
    docs = pa.table({"doc_key": keys, "text": texts, "source": pa.array(["stdlib"] * len(texts))})
    tagged = Tagger(config).tag(docs)
    ledger = curation_ledger(tagged, decide(tagged, config), config)
    first = next(iter(ledger.stages.values())).entered
    rows = [("read", 1.0, f"{first.documents:,} documents")]
    for name, account in ledger.stages.items():
        share = account.kept.bytes / first.bytes
        rows.append((name, share, f"{share:.0%} of the bytes, {account.kept.documents:,} documents"))
    return bar_chart(rows, title="What is left after each stage", width=820)


def minhash() -> str:
    """Bands and rows decide which pairs become candidates."""
    x = np.linspace(0, 1, 201)
    chosen = choose_bands(0.8, 128)
    lines = [
        Series(f"{b} bands of {r} rows{' (chosen for 0.8)' if (b, r) == chosen else ''}", x, match_probability(x, b, r))
        for b, r in ((64, 2), (20, 6), chosen, (5, 25))
    ]
    return line_chart(lines, title="Which pairs share a band", x_label="Jaccard similarity", y_label="probability")


def bpe() -> str:
    """Longer vocabularies say more a token, ever less so."""
    texts = standard_library(1_500_000)
    held_out, sizes = texts[::10], (300, 500, 1000, 2000, 4000, 8000)
    rest = [text for i, text in enumerate(texts) if i % 10]
    said = sum(len(text.encode()) for text in held_out)
    y = []
    for size in sizes:
        tokenizer = train(rest, TokenizerConfig(vocab_size=size))
        y.append(said / sum(len(tokenizer.encode(text)) for text in held_out))
    return line_chart(
        [Series("Python's docstrings", [math.log2(size) for size in sizes], y, marks=True)],
        title="What a token says", x_label="tokens in the vocabulary", y_label="bytes a token, held-out text",
        x_ticks=[(math.log2(size), f"{size:,}") for size in sizes],
    )  # fmt: skip


def scaling() -> str:
    """Loss over size at four budgets, by the constants that Besiroglu et al. 2024 fitted to Chinchilla's runs."""
    e, a, b, alpha, beta = 1.817, 482.0, 2085.0, 0.348, 0.366
    lines, best = [], []
    for budget in (1e18, 1e19, 1e20, 1e21):
        n = np.logspace(7, 10.5, 200)
        loss = e + a / n**alpha + b / (budget / (6 * n)) ** beta
        near = loss < loss.min() + 0.5
        lines.append(Series(f"{budget:.0e} FLOP", np.log10(n[near]), loss[near]))
        best.append((float(np.log10(n[loss.argmin()])), float(loss.min())))
    lines.append(Series("the best size", [x for x, _ in best], [y for _, y in best], marks=True, dashed=True))
    return line_chart(
        lines, title="A budget has a best size", x_label="parameters", y_label="loss, nats a token",
        x_ticks=[(x, f"1e{x}") for x in range(7, 11)],
    )  # fmt: skip


def zero() -> str:
    """The ZeRO paper's figure 1: a model of 7.5 B parameters on 64 devices."""
    rows = [
        (f"ZeRO {stage}: {what}", state_bytes(7.5e9, 64, stage) / 1e9, f"{state_bytes(7.5e9, 64, stage) / 1e9:.1f} GB")
        for stage, what in enumerate(("nothing cut", "optimizer", "and gradients", "and weights"))
    ]
    return bar_chart(rows, title="Model states a device, 7.5 B parameters on 64 devices")


def tensor() -> str:
    """A block on two devices: matrices cut by columns, then by rows, so that one sum ends each half of it."""
    width, height = 620, 190
    parts = [open_svg(width, height, "A block's matrices on two devices")]
    mine = (COLOURS[0], COLOURS[2])

    def matrix(x: int, name: str, by_rows: bool) -> None:
        for i, colour in enumerate(mine):
            at = (x, 60 + 40 * i, 80, 40) if by_rows else (x + 40 * i, 60, 40, 80)
            parts.append(
                "<rect x='{}' y='{}' width='{}' height='{}' fill='{}' stroke='#fff'/>".format(*at, colour)
                + f"<text x='{at[0] + at[2] / 2}' y='{at[1] + at[3] / 2 + 4}' text-anchor='middle' fill='#fff'>"
                + f"{i}</text>"
            )
        said = "by rows" if by_rows else "by columns"
        parts.append(f"<text x='{x + 40}' y='52' text-anchor='middle' fill='{INK}'>{name}</text>")
        parts.append(f"<text x='{x + 40}' y='158' text-anchor='middle' fill='{MUTED}'>{said}</text>")

    def arrow(x: int, text: str) -> None:
        parts.append(
            f"<line x1='{x}' x2='{x + 44}' y1='100' y2='100' stroke='{INK}'/>"
            f"<path d='M{x + 44} 100l-7-4v8z' fill='{INK}'/>"
            f"<text x='{x + 22}' y='92' text-anchor='middle' fill='{MUTED}'>{text}</text>"
        )

    for x, name, by_rows in (
        (20, "q, k, v", False),
        (160, "output", True),
        (330, "gate, up", False),
        (470, "down", True),
    ):
        matrix(x, name, by_rows)
    for x, text in ((108, "heads"), (248, "sum"), (418, ""), (558, "sum")):
        arrow(x, text)
    return "".join(parts) + "</svg>"


def pipeline() -> str:
    """Four schedules of eight micro-batches on four devices, each action simulated from the schedule that runs."""
    pictures = []
    names: list[tuple[Name, int]] = [("gpipe", 1), ("1f1b", 1), ("interleaved_1f1b", 2), ("zero_bubble", 1)]
    for name, virtual in names:
        schedule = schedule_of(name, 4, 8, virtual)
        split = any(action.kind == "weight" for device in schedule for action in device)

        def cost(action: Action, split: bool = split, virtual: int = virtual) -> float:
            backward = 1.0 if split else 2.0
            return (backward if action.kind == "backward" else 1.0) / virtual

        times = simulate(schedule, cost)
        rows = [
            (
                f"device {i}",
                [
                    Span(*times.spans[a], str(a.micro), KINDS[a.kind], 1 - 0.6 * (a.part // 4) / virtual)
                    for a in actions
                ],
            )
            for i, actions in enumerate(schedule)
        ]
        kinds = dict.fromkeys(a.kind for device in schedule for a in device)
        formula = idle_formula(name, 4, 8, virtual)
        title = f"{name}: idle for {times.idle_share:.0%} of the time, {formula:.0%} by the formula"
        chart = span_chart(
            rows, title=title, unit="forward passes", legend=[(NAMES[k], KINDS[k]) for k in kinds], width=900
        )
        pictures.append(chart)
    return stacked(pictures)


def stacked(charts: list[str]) -> str:
    """Several pictures in one, below each other."""
    parts, y, width = [], 0, 0
    for chart in charts:
        svg = alone(chart)
        size = re.search(r"viewBox='0 0 (\d+) (\d+)'", svg)
        assert size is not None
        parts.append(svg.replace("<svg ", f"<svg y='{y}' ", 1))
        y, width = y + int(size[2]) + 8, max(width, int(size[1]))
    head = f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {y}' width='{width}' height='{y}'>"
    return head + "".join(parts) + "</svg>"


def servers() -> str:
    """What the busiest machine sends in a step, 1 B parameters, 2 bytes a value."""
    ranks = [2, 4, 8, 16, 32, 64]
    x = [math.log2(n) for n in ranks]

    def server(servers: Callable[[int], int]) -> list[float]:
        return [parameter_server_bytes(1e9, n, servers(n), weight=2, gradient=2).server_sends / 1e9 for n in ranks]

    lines = [
        Series("one server", x, server(lambda n: 1)),
        Series("a server for each four workers", x, server(lambda n: max(1, n // 4))),
        Series("all-reduce", x, [zero_bytes(1e9, n, 0, weight=2, gradient=2)[1] / 1e9 for n in ranks]),
        Series("local SGD, every 50 steps", x, [local_sgd_bytes(1e9, n, 50, value=2) / 1e9 for n in ranks]),
    ]
    return line_chart(
        lines, title="What the busiest machine sends a step", x_label="workers", y_label="GB (1 B parameters)",
        log_y=True,
        x_ticks=[(math.log2(n), str(n)) for n in ranks],
    )  # fmt: skip


def ring_steps(ranks: int) -> list[list[list[int]]]:
    """held[step][rank][chunk]: of how many ranks the chunk is the sum, in a ring all-reduce of `ranks` chunks."""
    held = [[1] * ranks for _ in range(ranks)]
    steps = [[row.copy() for row in held]]
    for step in range(2 * (ranks - 1)):
        before = [row.copy() for row in held]
        for rank in range(ranks):
            to = (rank + 1) % ranks
            if step < ranks - 1:  # reduce-scatter: add what comes
                chunk = (rank - step) % ranks
                held[to][chunk] += before[rank][chunk]
            else:  # all-gather: take what is whole
                chunk = (rank + 1 - (step - ranks + 1)) % ranks
                held[to][chunk] = before[rank][chunk]
        steps.append([row.copy() for row in held])
    return steps


def collectives() -> str:
    """A ring all-reduce of four ranks, simulated: of how many ranks each chunk is the sum after each step."""
    steps, cell = ring_steps(4), 22
    each = 4 * cell + 14
    width = each * len(steps) + 60
    parts = [open_svg(width, 170, "A ring all-reduce: of how many ranks each chunk is the sum")]
    for s, held in enumerate(steps):
        x0 = 56 + each * s
        title = "begin" if s == 0 else f"step {s}"
        parts.append(f"<text x='{x0 + 2 * cell}' y='44' text-anchor='middle' fill='{MUTED}'>{title}</text>")
        for rank, row in enumerate(held):
            if s == 0:
                parts.append(f"<text x='48' y='{67 + cell * rank}' text-anchor='end' fill='{INK}'>rank {rank}</text>")
            for chunk, n in enumerate(row):
                x, y = x0 + cell * chunk, 52 + cell * rank
                fill, strength = (COLOURS[2], 1.0) if n == 4 else (COLOURS[0], n / 4)
                ink = "#fff" if strength > 0.6 else INK
                parts.append(
                    f"<rect x='{x}' y='{y}' width='{cell}' height='{cell}' fill='{fill}' fill-opacity='{strength}' "
                    f"stroke='{GRID}'/>"
                    f"<text x='{x + cell / 2}' y='{y + 15}' text-anchor='middle' fill='{ink}'>{n}</text>"
                )
    parts.append(
        f"<text x='56' y='160' fill='{MUTED}'>"
        "Columns are chunks. Three steps of reduce-scatter, three of all-gather.</text>"
    )
    return "".join(parts) + "</svg>"


PICTURES: dict[str, Callable[[], str]] = {
    f.__name__: f for f in (funnel, minhash, bpe, scaling, zero, tensor, pipeline, servers, collectives)
}


def alone(chart: str) -> str:
    """The picture for wide screens, as a file of its own."""
    found = re.findall(r"<svg .*?</svg>", chart, re.DOTALL)
    return max(found, key=lambda svg: float((re.search(r"viewBox='0 0 (\d+)", svg) or [0, NARROW])[1]))


def main(names: list[str]) -> int:
    for name in names or list(PICTURES):
        drawn = PICTURES[name]()
        svg = drawn if name == "pipeline" else alone(drawn)
        (HERE / f"{name}.svg").write_text(svg.replace("<svg ", "<svg style='background:#fff' ", 1))
        print(f"{name}.svg")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
