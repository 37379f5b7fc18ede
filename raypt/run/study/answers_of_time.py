"""Answers about time: how text ages, and what is learned when."""

import itertools
import math
from collections.abc import Sequence

import numpy as np

from raypt import storage
from raypt.charts import Series, line_chart, number
from raypt.run.study.answer import Answer, said
from raypt.run.study.compare import Difference
from raypt.run.study.config import StudyConfig
from raypt.run.study.freshness import freshness as of_periods
from raypt.run.study.learned import Asked, asked, families
from raypt.run.study.pictures import dots, matrix
from raypt.run.study.results import Judged, Trial


def freshness(config: StudyConfig, trials: Sequence[Trial], found: Judged, runs_uri: str) -> Answer:
    """Each period against each."""
    periods = list(dict.fromkeys(t.variant.name for t in trials))
    nats = np.stack([found.nats[p] for p in periods])
    result = of_periods(nats, found.bytes_D, found.group_D, periods)
    steps = [b - a for a, b in itertools.pairwise(result.times_P)]
    unit = sum(steps) / len(steps)
    assert config.periods is not None
    apart = f"{number(unit)} {config.periods.unit}"
    slope = result.slope
    doing = "costs" if slope.value >= 0 else "saves"
    sentence = (
        f"Text that is {apart} older or newer than the test text {doing} {abs(slope.value) * unit:.4f} bits per "
        f"byte{', which is inside the noise' if slope.in_the_noise else ''}."
    )
    interval = (
        f"95 % interval [{slope.low * unit:+.4f}, {slope.high * unit:+.4f}], {apart} apart; test text newer "
        f"than the training text {said(_times(result.toward_newer, unit))}, older "
        f"{said(_times(result.toward_older, unit))}."
    )
    lines = [
        f"trained on {p}: " + ", ".join(f"{q} {v:.4f} ({g:+.4f})" for q, v, g in zip(periods, row, gap, strict=True))
        for p, row, gap in zip(periods, result.loss_PP, result.gap_PP, strict=True)
    ]
    lines.append("In brackets, and as the colour (green: better): against the model of the test period itself.")
    lines.append("Held-out documents of each period:")
    lines.append(", ".join(f"{p} {n}" for p, n in zip(periods, result.documents, strict=True)))
    lines.append("Periods may differ in more than time (sources, authors, kinds of text): the matrix cannot tell.")
    figures = {
        "periods": periods,
        "matrix": result.loss_PP,
        "gaps": result.gap_PP,
        "times": result.times_P,
        "documents": list(result.documents),
        "slopes": {
            name: {"value": d.value, "interval": [d.low, d.high], "in_the_noise": d.in_the_noise}
            for name, d in (("all", slope), ("newer", result.toward_newer), ("older", result.toward_older))
        },
    }
    picture = matrix(periods, result.loss_PP.tolist(), result.gap_PP.tolist(), title="Held-out bits per byte by period")
    by_gap: dict[float, list[float]] = {}
    for i, j in itertools.product(range(len(periods)), repeat=2):
        by_gap.setdefault(float(result.times_P[j] - result.times_P[i]), []).append(float(result.gap_PP[i, j]))
    curve = [Series("gap", sorted(by_gap), [sum(by_gap[k]) / len(by_gap[k]) for k in sorted(by_gap)], marks=True)]
    more = line_chart(
        curve,
        title="Loss by gap in time",
        x_label=f"test less training text, {config.periods.unit}",
        y_label="bits per byte more",
    )
    return Answer(sentence, interval, picture, lines, figures, more)


def _times(gap: Difference, unit: float) -> Difference:
    return Difference(gap.value * unit, gap.low * unit, gap.high * unit)


def learned(config: StudyConfig, trials: Sequence[Trial], found: Judged, runs_uri: str) -> Answer:
    """Accuracy on the tasks over tokens seen, of the reference."""
    variant = config.study.reference or trials[0].variant.name
    steps = storage.read_parquet(storage.join(config.uri, "study.parquet"))
    kinds = asked(config.base.train.evaluation.tasks, steps, variant)
    wholes = families(kinds)
    known = sorted((k for k in wholes if k.learned_at is not None), key=lambda k: (k.learned_at, -k.right_T[-1]))
    seen = number(float(wholes[0].tokens_T[-1]))
    verb = "is" if len(known) == 1 else "are"
    if known:
        first = known[0]
        when = "; ".join(f"{k.name} from {number(k.learned_at or 0)}" for k in known)
        sentence = (
            f"{len(known)} of {len(wholes)} kinds of question {verb} answered better than "
            f"by guessing within {seen} tokens: {when}."
        )
        interval = f"{first.name}: {_right(first)} at the end."
    else:
        sentence = f"Within {seen} tokens no kind of question is answered better than by guessing."
        best = max(wholes, key=lambda k: k.right_T[-1] - k.chance)
        interval = f"The nearest is {best.name}: {_right(best)} at the end."
    unknown = [k.name for k in wholes if k.learned_at is None]
    if known and unknown:
        interval += f" Inside the noise: {', '.join(unknown)}."
    series = [
        Series(k.name, np.log10(k.tokens_T).tolist(), k.right_T.tolist(), marks=True, band=k.interval_T2.tolist())
        for k in wholes
    ]
    at = [float(t) for t in wholes[0].tokens_T]
    marks = [(math.log10(t), number(t)) for t in _doubling(at)]
    levels = [("guessing", value) for value in sorted({k.chance for k in wholes})]
    picture = line_chart(
        series, title="Right answers", x_label="tokens seen", y_label="share", levels=levels, x_ticks=marks
    )
    rows = []
    for k in sorted(kinds, key=lambda k: k.chance - k.right_T[-1]):
        low, high = k.interval_T2[-1]
        rows.append((k.name, float(k.right_T[-1] - k.chance), float(low - k.chance), float(high - k.chance)))
    more = dots(rows, title="Right at the end, less guessing", better="higher is better", higher=True)
    lines = [f"{k.name}: {_right(k)}, {k.questions} questions, " + _since(k) for k in kinds]
    figures = {
        "variant": variant,
        "kinds": [
            {
                "task": k.task,
                "name": k.name,
                "questions": k.questions,
                "chance": k.chance,
                "tokens": k.tokens_T,
                "accuracy": k.right_T,
                "intervals": k.interval_T2,
                "learned_at": k.learned_at,
            }
            for k in (*wholes, *(k for k in kinds if ":" in k.name))
        ],
    }
    return Answer(sentence, interval, picture, lines, figures, more)


def _right(k: Asked) -> str:
    low, high = k.interval_T2[-1]
    return f"{k.right_T[-1]:.1%} right, 95 % interval [{low:.1%}, {high:.1%}], guessing gets {k.chance:.1%}"


def _since(k: Asked) -> str:
    return "inside the noise" if k.learned_at is None else f"above guessing from {number(k.learned_at)} tokens"


def _doubling(tokens: Sequence[float]) -> list[float]:
    """Those that are at least twice the one before."""
    out: list[float] = []
    for t in tokens:
        if not out or t >= 2 * out[-1]:
            out.append(t)
    return out
