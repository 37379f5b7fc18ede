"""From a table of runs to a report of a fitted law."""

import argparse
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import stats

from raypt.charts import number
from raypt.errors import UserError
from raypt.run.study.laws import chinchilla, isoflop, mixture, repetition
from raypt.run.study.laws.bootstrap import LEVEL
from raypt.run.study.laws.fitting import Estimate, Fitted, fit_law
from raypt.run.study.laws.robust import Array
from raypt.run.study.table import Table, choose, numbers, parse_columns, parse_point, read_table, sizes, weight_columns

EPOCHS_SHOWN = (2, 4, 8, 16, 32, 64)
LEFT_OUT_SHOWN = 5


@dataclass
class FitReport:
    """What is said of a fit, to people and to programs."""

    law: str
    formula: str
    runs: int
    parameters: dict[str, Estimate]
    residuals: list[float] = field(default_factory=list)
    """log(observed) - log(predicted), of the rows in `rows`."""
    rows: list[int] = field(default_factory=list)
    left_out: list[tuple[int, str]] = field(default_factory=list)
    r2: float | None = None
    """Of the log loss."""
    details: dict[str, Any] = field(default_factory=dict)
    """What this law alone has, for programs."""
    lines: list[str] = field(default_factory=list)
    """The same, for people."""

    def to_json(self) -> dict[str, Any]:
        return {
            "law": self.law,
            "formula": self.formula,
            "runs": self.runs,
            "level": LEVEL,
            "parameters": {name: e.value for name, e in self.parameters.items()},
            "intervals": {name: [e.low, e.high] for name, e in self.parameters.items()},
            "deviations": {name: e.deviation for name, e in self.parameters.items()},
            "r2": self.r2,
            "rows": self.rows,
            "residuals": self.residuals,
            "left_out": [{"row": row, "why": why} for row, why in self.left_out],
            **self.details,
        }

    def text(self) -> str:
        head = f"{self.law}: {self.formula}\n{self.runs} runs"
        if self.left_out:
            by_why: dict[str, list[int]] = {}
            for row, why in self.left_out:
                by_why.setdefault(why, []).append(row)
            reasons = [f"{len(rows)} as {why} ({_some(rows)})" for why, rows in by_why.items()]
            head += f", {len(self.left_out)} left out: {'; '.join(reasons)}"
        if self.r2 is not None:
            head += f"; R2 of the log loss {self.r2:.4f}"
        width = max((len(name) for name in self.parameters), default=0) + 2
        body = [f"  {name:{width}}{e.value:<12.5g}[{e.low:.5g}, {e.high:.5g}]" for name, e in self.parameters.items()]
        return "\n".join([head, f"  {'':{width}}{'value':<12}{LEVEL:.0%} interval", *body, *self.lines])


def _some(rows: list[int]) -> str:
    shown = ", ".join(map(str, rows[:LEFT_OUT_SHOWN]))
    return f"row{'s' if len(rows) > 1 else ''} {shown}{', ...' if len(rows) > LEFT_OUT_SHOWN else ''}"


def _open(arguments: argparse.Namespace) -> tuple[Table, dict[str, str]]:
    table = read_table(arguments.files)
    choose(table, arguments.where)
    return table, parse_columns(arguments.columns)


def _sizes(arguments: argparse.Namespace, wanted: tuple[str, ...], least: int) -> tuple[Table, dict[str, Array], Array]:
    table, said = _open(arguments)
    x, loss = sizes(table, said, wanted)
    if arguments.drop_highest:
        highest = np.argsort(-loss, kind="stable")[: arguments.drop_highest]
        kept = np.ones(len(loss), bool)
        kept[highest] = False
        x, loss = _kept(table, x, loss, kept, f"one of the {arguments.drop_highest} highest losses")
    _enough(table, len(loss), least)
    return table, x, loss


def _kept(table: Table, x: dict[str, Array], loss: Array, kept: Array, why: str) -> tuple[dict[str, Array], Array]:
    table.keep([bool(k) for k in kept], why)
    return {name: values[kept] for name, values in x.items()}, loss[kept]


def _enough(table: Table, runs: int, least: int) -> None:
    if runs < least:
        raise UserError(f"{table.where}: {runs} runs are left, and the law needs {least} at least")


def _curve(report: FitReport, table: Table, fitted: Fitted) -> FitReport:
    report.r2, report.residuals, report.rows = fitted.r2, [float(r) for r in fitted.residual], table.number
    report.left_out = table.left_out
    return report


def _check_held_out(report: FitReport, arguments: argparse.Namespace, fitted: Fitted, wanted: tuple[str, ...]) -> None:
    """Predictions for runs that were not fitted."""
    if not arguments.held_out:
        return
    table = read_table(arguments.held_out)
    x, loss = sizes(table, parse_columns(arguments.columns), wanted)
    found = fitted.predict(x, arguments.seed)
    error = np.log(loss) - np.log([e.value for e in found])
    inside = sum(e.low <= observed <= e.high for e, observed in zip(found, loss, strict=True))
    report.details["held_out"] = {
        "rows": table.number,
        "loss": loss,
        "predicted": [e.value for e in found],
        "intervals": [[e.low, e.high] for e in found],
        "inside": inside,
    }
    report.lines.append(
        f"held-out runs: {inside} of {len(loss)} inside their interval, log error {np.sqrt((error**2).mean()):.4f}"
    )


def chinchilla_fit(arguments: argparse.Namespace) -> FitReport:
    """Approach 3."""
    wanted = ("N", "D")
    table, x, loss = _sizes(arguments, wanted, 6)
    law = chinchilla.Chinchilla()
    starts = chinchilla.starts(x, loss)
    fitted = fit_law(law, starts, x, loss, resamples=arguments.resamples, seed=arguments.seed)
    parameters = fitted.estimates(chinchilla.named)
    report = _curve(FitReport("chinchilla", "L = E + A/N^alpha + B/D^beta", len(loss), parameters), table, fitted)
    a = parameters["a"]
    missing = chinchilla.vanishing(fitted.theta, x, loss)
    report.details["undetermined"] = missing
    if missing:
        verdict = (
            f"is not known: the fit is as good without {' and '.join(missing)}. Runs of more sizes and tokens, further "
            "apart and trained for longer, determine it; the intervals above do not count this"
        )
    elif a.low <= 0.5 <= a.high:
        verdict = "holds within the noise"
    else:
        verdict = "does not hold: " + ("more" if a.value > 0.5 else "fewer") + " parameters than tokens"
    report.lines.append(f"N* ~ C^a with a = {a}: doubling the model asks for doubling the tokens {verdict}")
    report.details["optimum"] = []
    for text in arguments.predict:
        _predict_chinchilla(report, fitted, parse_point(text), text, arguments.seed)
    _check_held_out(report, arguments, fitted, wanted)
    return report


def _predict_chinchilla(report: FitReport, fitted: Fitted, point: dict[str, float], text: str, seed: int) -> None:
    if set(point) == {"C"}:
        best = [v[0] for v in chinchilla.optimum(fitted.theta[None], point["C"])]
        spread = chinchilla.optimum(fitted.resampled_BP, point["C"])
        n, d, loss = (fitted.estimate(float(v), s) for v, s in zip(best, spread, strict=True))
        ratio = fitted.estimate(best[1] / best[0], spread[1] / spread[0])
        entry = {"C": point["C"]}
        for name, e in (("N", n), ("D", d), ("D/N", ratio), ("loss", loss)):
            entry |= {name: e.value, f"{name} interval": [e.low, e.high]}  # type: ignore[dict-item]
        report.details["optimum"].append(entry)
        report.lines.append(
            f"{text}: N* {number(n.value)} [{number(n.low)}, {number(n.high)}], D* {number(d.value)} "
            f"[{number(d.low)}, {number(d.high)}], D*/N* {ratio}, loss {loss}"
        )
    elif set(point) == {"N", "D"}:
        _predict_loss(report, fitted, point, text, seed)
    else:
        raise UserError(f"--predict {text}: write C=1e24 (the best run of a budget) or N=70G,D=1.4T")


def _predict_loss(report: FitReport, fitted: Fitted, point: dict[str, float], text: str, seed: int) -> None:
    (e,) = fitted.predict({name: np.array([value]) for name, value in point.items()}, seed)
    report.details.setdefault("predictions", []).append(point | {"loss": e.value, "interval": [e.low, e.high]})
    report.lines.append(f"{text}: loss {e}")


def _frontier_report(
    law: str, table: Table, found: isoflop.Frontier, runs: int, arguments: argparse.Namespace
) -> FitReport:
    if len(found.best) < 2:
        why = "; ".join(f"{number(flop)} FLOP: {reason}" for flop, reason in found.left_out[:LEFT_OUT_SHOWN])
        raise UserError(f"{table.where}: a power law needs the best size of two budgets or more. {why}")
    report = FitReport(law, "N* = k C^a, D* ~ C^b", runs, found.parameters)
    report.left_out = table.left_out
    report.details["best"] = [{"C": b.flop, "N": b.size, "D": b.tokens, "loss": b.loss} for b in found.best]
    report.details["budgets_left_out"] = [{"C": flop, "why": why} for flop, why in found.left_out]
    for text in arguments.predict:
        point = parse_point(text)
        if set(point) != {"C"}:
            raise UserError(f"--predict {text}: this law predicts the best size of a budget; write C=1e24")
        size = float(np.exp(found.offset + found.slope * np.log(point["C"])))
        report.details.setdefault("predictions", []).append({"C": point["C"], "N": size})
        report.lines.append(f"{text}: N* {number(size)}")
    used = f"{len(found.best)} best sizes"
    if found.left_out:
        reasons = sorted({why for _, why in found.left_out})
        used += f"; {len(found.left_out)} budgets left out: {', '.join(reasons)}"
    report.lines.insert(0, used)
    return report


def isoflop_fit(arguments: argparse.Namespace) -> FitReport:
    """Approach 2."""
    if arguments.points < 3:
        raise UserError(f"--points {arguments.points}: a parabola needs three")
    table, x, loss = _sizes(arguments, ("N", "D", "C"), 6)
    options = {"resamples": arguments.resamples, "seed": arguments.seed}
    found = isoflop.isoflop(x["N"], x["D"], x["C"], loss, points=arguments.points, **options)
    return _frontier_report("isoflop", table, found, len(loss), arguments)


def envelope_fit(arguments: argparse.Namespace) -> FitReport:
    """Approach 1."""
    table, x, loss = _sizes(arguments, ("N", "D", "C"), 6)
    options = {"resamples": arguments.resamples, "seed": arguments.seed}
    found = isoflop.envelope(x["N"], x["D"], x["C"], loss, **options)
    return _frontier_report("envelope", table, found, len(loss), arguments)


def repetition_fit(arguments: argparse.Namespace) -> FitReport:
    """What repeated text is worth."""
    wanted = ("N", "D", "U")
    table, x, loss = _sizes(arguments, wanted, 7)
    if not arguments.keep_over_fitted:
        kept = np.logical_not(repetition.over_fitted(x, loss))
        x, loss = _kept(table, x, loss, kept, "over-fitted: a run with no more of anything did better")
    if arguments.max_epochs is not None:
        kept = x["D"] / np.minimum(x["U"], x["D"]) <= arguments.max_epochs
        x, loss = _kept(table, x, loss, kept, f"more than {arguments.max_epochs:g} epochs")
    _enough(table, len(loss), 7)
    law = repetition.Repetition()
    starts = [*repetition.starts(x, loss), repetition.PUBLISHED]
    fitted = fit_law(law, starts, x, loss, resamples=arguments.resamples, seed=arguments.seed)
    formula = "L = E + A/N'^alpha + B/D'^beta, D' = U + U R_D* (1 - exp(-(D/U - 1)/R_D*))"
    report = FitReport("repetition", formula, len(loss), fitted.estimates(repetition.named))
    _curve(report, table, fitted)
    published = np.log(loss) - law.log_loss(repetition.PUBLISHED[None], x)[0][0]
    report.details["r2_of_the_published_law"] = published_r2 = fitted.r2_of(published)
    r_d, spread = np.exp(fitted.theta[5:6]), np.exp(np.minimum(fitted.resampled_BP[:, 5], 700))
    worth = {
        k: fitted.estimate(float(repetition.worth_of_epoch(r_d, k)[0]), repetition.worth_of_epoch(spread, k))
        for k in EPOCHS_SHOWN
    }
    epochs = {
        k: fitted.estimate(float(repetition.effective_epochs(r_d, k)[0]), repetition.effective_epochs(spread, k))
        for k in EPOCHS_SHOWN
    }
    report.details["worth_of_epoch"] = {k: {"value": e.value, "interval": [e.low, e.high]} for k, e in worth.items()}
    report.details["effective_epochs"] = {k: {"value": e.value, "interval": [e.low, e.high]} for k, e in epochs.items()}
    report.lines.append(f"R2 of the published law on these runs {published_r2:.4f}")
    report.lines += [
        f"{k:3d} epochs are worth {epochs[k]} of fresh text, the last of them {worth[k]}" for k in EPOCHS_SHOWN
    ]
    for text in arguments.predict:
        point = parse_point(text)
        if set(point) != set(wanted):
            raise UserError(f"--predict {text}: this law wants N, D and U (unique tokens): N=70G,D=1.4T,U=350G")
        _predict_loss(report, fitted, point, text, arguments.seed)
    _check_held_out(report, arguments, fitted, wanted)
    return report


def _mixture_columns(table: Table, said: dict[str, str], weights: list[str]) -> tuple[Array, Array]:
    (loss_column,) = [said["loss"]] if "loss" in said else ["loss"]
    if loss_column not in table.names:
        raise UserError(f"--columns loss=...: which column of {table.where} is the loss? {', '.join(table.names)}")
    cells = numbers(table, [*weights, loss_column], positive=[loss_column])
    r_RS = np.stack([cells[name] for name in weights], -1)
    wrong = (r_RS < 0).any(1) | (r_RS.sum(1) <= 0)
    if wrong.any():
        raise UserError(f"{table.where}, row {table.number[int(np.argmax(wrong))]}: weights are shares, 0 or more")
    return r_RS, cells[loss_column]


def mixture_fit(arguments: argparse.Namespace) -> FitReport:
    """Loss by weights."""
    table, said = _open(arguments)
    weights = weight_columns(table, said)
    r_RS, loss = _mixture_columns(table, said, weights)
    _enough(table, len(loss), len(weights) + 2)
    options = {"resamples": arguments.resamples, "seed": arguments.seed}
    found = mixture.fit_mixture(tuple(weights), r_RS, loss, **options)
    law = found.law.law
    assert isinstance(law, mixture.MixingLaw)
    report = FitReport("mixture", "L = c + k exp(t . r)", len(loss), found.law.estimates(law.named))
    _curve(report, table, found.law)
    reference = mixture.shares(r_RS).mean(0)
    best = mixture.best_mixture(found, reference, seed=arguments.seed)
    report.details |= {
        "regressions": [{"name": s.regression, "error": s.error, "spearman": s.spearman} for s in found.scores],
        "best_regression": found.best,
        "best_mixture": dict(zip(weights, best.weights, strict=True)),
        "predicted_loss": best.loss,
        "predicted_gain": {"value": best.gain, "interval": [best.low, best.high]},
    }
    report.lines += [
        f"{s.regression:12} cross-validated log error {s.error:.4f}, Spearman {s.spearman:.3f}" for s in found.scores
    ]
    inside = "" if best.low > 0 else ", inside the noise"
    report.lines.append(
        f"best mixture by the {found.best} regression: log loss lower by {best.gain:.4f} "
        f"[{best.low:.4f}, {best.high:.4f}] than at the runs' mean weights{inside}"
    )
    report.lines += [f"    weight: {weight:.3f}  # {name}" for name, weight in zip(weights, best.weights, strict=True)]
    if arguments.held_out:
        held_out = read_table(arguments.held_out)
        r, observed = _mixture_columns(held_out, said, weights)
        ranks = {
            name: float(stats.spearmanr(found.predict(mixture.shares(r), name), observed)[0]) for name in found.models
        }
        report.details["held_out"] = {"runs": len(observed), "spearman": ranks}
        shown = ", ".join(f"{name} {rank:.3f}" for name, rank in ranks.items())
        report.lines.append(f"held-out runs ({len(observed)}): Spearman {shown}")
    return report
