"""What a study says: a sentence with its interval, a picture, and the figures behind them."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from raypt import storage
from raypt.charts import Series, line_chart, number
from raypt.errors import UserError
from raypt.run.study import fit, fits
from raypt.run.study.compare import Difference, difference
from raypt.run.study.config import StudyConfig
from raypt.run.study.pictures import dots
from raypt.run.study.results import Judged, Trial
from raypt.run.study.stability import SPIKE, WINDOW, stability

RESAMPLES = 1000


@dataclass
class Answer:
    """The first screen of the page, and what is below it."""

    sentence: str
    interval: str
    """In words, with its level."""
    picture: str
    """SVG."""
    lines: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    """The same for programs."""
    more: str = ""
    """A second picture, below the first screen."""


def compare(config: StudyConfig, trials: Sequence[Trial], found: Judged, runs_uri: str) -> Answer:
    """Each variant against the reference, or the one that it is said to be held against."""
    names = list(dict.fromkeys(t.variant.name for t in trials))
    reference = config.study.reference or names[0]
    against = {n: reference for n in names if n != reference}
    against |= {v.name: v.against for v in config.variants if v.against is not None}
    others = [n for n in names if n in against]
    if not others:
        value = found.bits_per_byte(reference)
        return Answer(f"{reference} has {value:.4f} bits per byte.", "There is nothing to compare it with.", "")
    gaps = {n: difference(found.nats[n], found.nats[against[n]], found.bytes_D) for n in others}
    best = min(others, key=lambda n: gaps[n].value)
    worst = max(others, key=lambda n: gaps[n].value)
    clear = [n for n in others if not gaps[n].in_the_noise]
    # What is furthest from 0 of those that differ; of two references, a loss from the one is a gain from the other.
    top = max(clear, key=lambda n: abs(gaps[n].value), default=None)
    if top is None:
        several = "what it is held against" if len(set(against.values())) > 1 else reference
        sentence = f"No variant differs from {several} by more than the noise."
        shown = max((best, worst), key=lambda n: abs(gaps[n].value))
        interval = f"The largest difference is that of {shown}: {said(gaps[shown])}."
    else:
        sign = "lowers" if gaps[top].value < 0 else "raises"
        share = abs(gaps[top].value) / found.bits_per_byte(against[top])
        sentence = (
            f"{top} {sign} the held-out loss by {abs(gaps[top].value):.4f} bits per byte ({share:.1%}) against "
            f"{against[top]}."
        )
        interval = f"{said(gaps[top])}. {len(clear)} of {len(others)} variants differ by more than the noise."
    ordered = sorted(others, key=lambda n: (names.index(against[n]), gaps[n].value))
    mixed = len(set(against.values())) > 1
    rows = [(f"{n} (against {against[n]})" if mixed else n, gaps[n].value, gaps[n].low, gaps[n].high) for n in ordered]
    documents = {t.variant.name: t.documents for t in trials}
    lines = [
        f"{n}: {found.bits_per_byte(n):.4f} bits per byte, {said(gaps[n])}"
        f"{' (inside the noise)' if gaps[n].in_the_noise else ''}; {documents[n]:,} documents, "
        f"{documents[n] - documents[against[n]]:+,} against {against[n]}"
        for n in ordered
    ]
    calm = {n: stability([t for t in trials if t.variant.name == n]) for n in names}
    lines.append(
        f"Stability: gradient norms above {SPIKE:g} times the median of the {WINDOW} steps before them are spikes."
    )
    lines += [f"{n}: {s}" for n, s in calm.items()]
    figures = {
        "reference": reference,
        "bits_per_byte": {n: found.bits_per_byte(n) for n in names},
        "differences": {
            n: {
                "value": g.value,
                "interval": [g.low, g.high],
                "in_the_noise": g.in_the_noise,
                "against": against[n],
                "documents": documents[n] - documents[against[n]],
            }
            for n, g in gaps.items()
        },
        "documents": documents,
        "stability": {n: asdict(s) for n, s in calm.items()},
    }
    title = "Held-out bits per byte" + ("" if mixed else f" against {reference}")
    return Answer(sentence, interval, dots(rows, title=title, better="lower is better"), lines, figures)


def said(gap: Difference) -> str:
    return f"{gap.value:+.4f} bits per byte, 95 % interval [{gap.low:+.4f}, {gap.high:+.4f}]"


def _fitted(law: str, runs_uri: str, *more: str) -> fits.FitReport:
    arguments: argparse.Namespace = fit.parse([runs_uri, "--law", law, *more])
    return fit.LAWS[law](arguments)


def scale(config: StudyConfig, trials: Sequence[Trial], found: Judged, runs_uri: str) -> Answer:
    """L(N, D)."""
    aside = {v.name for v in config.variants if v.held_out}
    fitted = [t for t in trials if t.variant.name not in aside]
    if not fitted:
        raise UserError("variants: all have held_out: true, and none is left to fit the law to")
    options = ["--columns", "N=parameters,D=tokens,loss=loss"]
    largest = max(t.tokens * t.flops_per_token for t in fitted)
    options += ["--predict", f"C={10 * largest:.4g}"]
    table_uri = runs_uri
    if aside:
        runs = storage.read_parquet(runs_uri)
        mask = pc.is_in(runs["variant"], pa.array(sorted(aside)))
        table_uri, held_uri = (storage.join(config.uri, f"runs-{name}.parquet") for name in ("fitted", "held-out"))
        storage.write_parquet(table_uri, runs.filter(pc.invert(mask)))
        storage.write_parquet(held_uri, runs.filter(mask))
        options += ["--held-out", held_uri]
    report = _fitted("chinchilla", table_uri, *options)
    a, best = report.parameters["a"], report.details["optimum"][0]
    holds = "does" if a.low <= 0.5 <= a.high else "does not"
    sentence = (
        f"Doubling the model {holds} ask for doubling the tokens here: the best size grows as compute^{a.value:.2f}."
    )
    interval = (
        f"95 % interval of the exponent [{a.low:.2f}, {a.high:.2f}]. With ten times the largest budget: "
        f"{number(best['N'])} parameters and {number(best['D'])} tokens for a loss of {best['loss']:.3f} "
        f"[{best['loss interval'][0]:.3f}, {best['loss interval'][1]:.3f}]."
    )
    if missing := report.details["undetermined"]:
        sentence = "These runs do not say how the model should grow with the tokens."
        interval = (
            f"The law fits them without {' and '.join(missing)}: any exponent would do. Train more sizes on more "
            "tokens, further apart."
        )
    if checked := report.details.get("held_out"):
        pairs = zip(checked["predicted"], checked["intervals"], checked["loss"], strict=True)
        shown = "; ".join(
            f"{p:.3f} [{low:.3f}, {high:.3f}] predicted, {is_:.3f} found" for p, (low, high), is_ in pairs
        )
        interval += f" Kept out of the fit: {shown}."
    by_size: dict[int, dict[int, list[float]]] = {}
    seen: dict[str, int] = {}
    for t in trials:
        at = seen[t.variant.name] = seen.get(t.variant.name, -1) + 1
        by_size.setdefault(t.parameters, {}).setdefault(t.tokens, []).append(found.loss(t.variant.name, at))
    series = [
        Series(f"{number(n)} parameters", sorted(d), [sum(d[k]) / len(d[k]) for k in sorted(d)], marks=True)
        for n, d in sorted(by_size.items())
    ]
    picture = line_chart(series, title="Held-out loss by size", x_label="tokens", y_label="nats a token", log_y=True)
    return Answer(sentence, interval, picture, report.text().splitlines(), report.to_json())


def repetition(config: StudyConfig, trials: Sequence[Trial], found: Judged, runs_uri: str) -> Answer:
    """What repeated text is worth."""
    columns = "N=parameters,D=tokens,U=unique_tokens,loss=loss"
    report = _fitted("repetition", runs_uri, "--columns", columns, "--keep-over-fitted")
    worth, epochs = report.details["worth_of_epoch"], report.details["effective_epochs"]
    four = epochs[4]
    sentence = f"Four passes over a text are worth {four['value']:.2f} of fresh text here."
    interval = (
        f"95 % interval [{four['interval'][0]:.2f}, {four['interval'][1]:.2f}]; a token seen the 16th time is worth "
        f"{worth[16]['value']:.0%} [{worth[16]['interval'][0]:.0%}, {worth[16]['interval'][1]:.0%}] of a new one."
    )
    ks = sorted(worth)
    series = [
        Series("value", ks, [worth[k]["value"] for k in ks], marks=True),
        Series("low", ks, [worth[k]["interval"][0] for k in ks], dashed=True),
        Series("high", ks, [worth[k]["interval"][1] for k in ks], dashed=True),
    ]
    picture = line_chart(
        series, title="Worth of the k-th epoch", x_label="epoch", y_label="of a new token", y_from=0.0, y_to=1.0
    )
    return Answer(sentence, interval, picture, report.text().splitlines(), report.to_json())


def mixture(config: StudyConfig, trials: Sequence[Trial], found: Judged, runs_uri: str) -> Answer:
    """The best weights."""
    if any(t.variant.weights is None for t in trials):
        raise UserError("study.kind=mixture: takes its variants from `mixtures`; leave `variants` empty")
    report = _fitted("mixture", runs_uri, "--columns", "weights=weight_*,loss=bits_per_byte")
    gain, best = report.details["predicted_gain"], report.details["best_mixture"]
    top = max(best, key=lambda name: best[name])
    low, high = gain["interval"]
    said = "" if low > 0 else ", which is inside the noise"
    sentence = (
        f"The best mixture has {best[top]:.0%} of {top.removeprefix('weight_')}, and lowers the held-out loss by "
        f"{gain['value']:.1%} against the mean of those tried{said}."
    )
    interval = (
        f"95 % interval of the gain [{low:.1%}, {high:.1%}], by cross-validation of the "
        f"{report.details['best_regression']} regression."
    )
    rows = [(name.removeprefix("weight_"), share, share, share) for name, share in best.items()]
    picture = dots(rows, title="Weights of the best mixture", better="")
    lines = ["Paste into base.tokens.mixture.weights:"]
    lines += [f"  {name.removeprefix('weight_')}: {share:.3f}" for name, share in best.items()]
    return Answer(sentence, interval, picture, [*lines, *report.text().splitlines()], report.to_json())
