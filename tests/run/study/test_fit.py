"""`raypt study fit` on published tables (facts and figures: ../shared/impact/README.md) and on tables with mistakes."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats
from scipy.optimize import minimize

from raypt.run.cli import run
from raypt.run.study.laws import chinchilla
from raypt.run.study.laws.robust import descend, objective
from raypt.run.study.table import choose, read_table, sizes

IMPACT = Path(__file__).resolve().parents[4] / "shared" / "impact"
published = pytest.mark.skipif(not IMPACT.exists(), reason="shared tables absent: published figures are not met")

CHINCHILLA = [str(IMPACT / "chinchilla.csv"), "--law", "chinchilla", "--columns", "N=Model Size,C=Training FLOP"]
EPOCH = {"E": 1.8172, "A": 482.01, "B": 2085.43, "alpha": 0.3478, "beta": 0.3658}
"""Besiroglu et al. 2024, and below the deviations of their bootstrap."""
EPOCH_DEVIATIONS = {"E": 0.027, "A": 116, "B": 1419, "alpha": 0.015, "beta": 0.022}
RUNS = "N,D,loss\n" + "".join(
    f"{n},{d},{1.8 + 480 / n**0.35 + 2000 / d**0.37}\n" for n in (1e7, 1e8, 1e9) for d in (1e9, 1e10, 1e11)
)


def fit(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    status = run(["study", "fit", *arguments, "--json"])
    said = capsys.readouterr()
    assert status == 0, said.err
    found: dict[str, Any] = json.loads(said.out)
    return found


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(["study", "fit", *arguments]) == 2
    return capsys.readouterr().err


def chinchilla_runs() -> tuple[dict[str, np.ndarray], np.ndarray]:
    table = read_table(CHINCHILLA[:1])
    x, loss = sizes(table, {"N": "Model Size", "C": "Training FLOP"}, ("N", "D"))
    kept = np.sort(np.argsort(-loss, kind="stable")[5:])
    return {name: values[kept] for name, values in x.items()}, loss[kept]


@published
def test_chinchillas_runs_give_the_published_values(capsys: pytest.CaptureFixture[str]) -> None:
    found = fit(capsys, *CHINCHILLA, "--drop-highest", "5", "--predict", "C=5.76e23")
    for name, value in EPOCH.items():
        within = 0.1 * min(found["deviations"][name], EPOCH_DEVIATIONS[name])
        assert found["parameters"][name] == pytest.approx(value, abs=within), name
        low, high = found["intervals"][name]
        assert low < value < high
    assert found["parameters"]["a"] == pytest.approx(0.514, abs=0.002)
    assert found["optimum"][0]["D/N"] == pytest.approx(17.9, abs=0.1)
    assert (found["runs"], len(found["left_out"]), len(found["residuals"])) == (240, 5, 240)


@published
def test_twenty_starts_lead_to_one_minimum() -> None:
    x, loss = chinchilla_runs()
    n, d = np.log(x["N"]), np.log(x["D"])
    rng = np.random.default_rng(0)
    law, deviations = chinchilla.Chinchilla(), EPOCH_DEVIATIONS
    for _ in range(20):
        start = chinchilla.projected(np.array([0, 0, 0, *rng.uniform(0, 2, 2)]), n, d, loss)
        theta, _ = descend(law, start, x, np.log(loss))
        found = chinchilla.named(theta[None])
        for name, value in EPOCH.items():
            assert found[name][0] == pytest.approx(value, abs=0.1 * deviations[name]), (start, name)


@published
def test_the_mean_of_hubers_loss_at_the_default_tolerance_stops_where_it_began() -> None:
    """The negative control: what Hoffmann et al. did. The check above would see it."""
    x, loss = chinchilla_runs()
    law, log_loss = chinchilla.Chinchilla(), np.log(loss)

    def mean(theta: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = objective(law, theta, x, log_loss)
        return value / len(loss), slope / len(loss)

    start = np.array([6.0, 6.0, 0.5, 0.35, 0.3])
    stopped = minimize(mean, start, jac=True, method="L-BFGS-B").x
    assert stopped[4] == pytest.approx(0.284, abs=0.001)
    np.testing.assert_allclose(stopped[:2], start[:2], atol=0.01)
    assert abs(stopped[4] - EPOCH["beta"]) > EPOCH_DEVIATIONS["beta"]


@published
def test_runs_that_others_left_out_move_beta(capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(capsys, *CHINCHILLA, "--resamples", "20")["parameters"]["beta"] == pytest.approx(0.453, abs=0.003)


@published
@pytest.mark.parametrize(
    ("setting", "exponent"),
    [
        ("base-long-kaplan-kaplan", 0.834),
        ("base-long-kaplan-standard", 0.701),
        ("base-short-kaplan-standard", 0.604),
    ],
)
def test_porians_settings_give_the_published_exponents(
    capsys: pytest.CaptureFixture[str], setting: str, exponent: float
) -> None:
    table = str(IMPACT / "porian_isoflops.csv")
    found = fit(capsys, table, "--law", "isoflop", "--where", f"setting={setting}")
    assert found["parameters"]["a"] == pytest.approx(exponent, abs=0.04)


@published
@pytest.mark.parametrize("size", ["1m", "60m"])
def test_regmix_ranks_mixtures_that_it_has_not_seen(capsys: pytest.CaptureFixture[str], size: str) -> None:
    def tables(part: str) -> list[str]:
        return [str(IMPACT / f"regmix_{part.replace('*', kind)}.csv") for kind in ("mixture", "pile_loss")]

    columns = "weights=train_*,loss=metric/the_pile_pile_cc_val_loss"
    options = ["--law", "mixture", "--columns", columns, "--resamples", "20"]
    found = fit(capsys, *tables("train_*_1m"), *options, "--held-out", *tables(f"test_*_{size}"))
    assert found["held_out"]["spearman"][found["best_regression"]] >= 0.96
    # The README's figures of other regressions, by another implementation.
    readme = {"1m": {"linear": 0.902, "exponential": 0.966}, "60m": {"linear": 0.893, "exponential": 0.960}}
    for name, rank in readme[size].items():
        assert found["held_out"]["spearman"][name] == pytest.approx(rank, abs=0.01)
    assert max(found["best_mixture"], key=found["best_mixture"].get) == "train_the_pile_pile_cc"
    assert found["predicted_gain"]["interval"][0] > 0


@published
def test_the_repetition_law_explains_muennighoffs_runs(capsys: pytest.CaptureFixture[str]) -> None:
    table = [str(IMPACT / "muennighoff_c4_losses.csv"), "--law", "repetition", "--resamples", "50"]
    found = fit(capsys, *table, "--max-epochs", "64")
    assert found["r2_of_the_published_law"] >= 0.8
    assert found["r2"] > found["r2_of_the_published_law"]
    few = fit(capsys, *table, "--max-epochs", "8")
    assert 8 <= few["parameters"]["R_D*"] <= 20
    assert few["r2"] > 0.98
    worth = [few["worth_of_epoch"][k]["value"] for k in ("2", "4", "8", "16", "32", "64")]
    assert worth == sorted(worth, reverse=True)


def test_a_table_of_ones_own_is_fitted_by_its_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    header, _, rows = RUNS.partition("\n")
    assert header == "N,D,loss"
    (tmp_path / "mine.csv").write_text("größe,tok,val\n\n" + rows)
    columns = ["--columns", "N=größe,D=tok,loss=val"]
    found = fit(capsys, str(tmp_path / "mine.csv"), "--law", "chinchilla", *columns, "--resamples", "20")
    for name, value in {"E": 1.8, "A": 480, "B": 2000, "alpha": 0.35, "beta": 0.37}.items():
        assert found["parameters"][name] == pytest.approx(value, rel=0.02), name  # L-BFGS in a flat valley
    assert found["rows"] == list(range(3, 12))
    assert found["formula"] == "L = E + A/N^alpha + B/D^beta"


def test_parquet_and_csv_give_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t.csv").write_text(RUNS)
    names, *rows = (line.split(",") for line in RUNS.splitlines())
    columns = {name: [float(row[i]) for row in rows] for i, name in enumerate(names)}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    options = ["--law", "chinchilla", "--resamples", "20"]
    assert fit(capsys, str(tmp_path / "t.csv"), *options) == fit(capsys, str(tmp_path / "t.parquet"), *options)


def test_runs_without_a_loss_are_left_out_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t.csv").write_text(RUNS + "1e9,1e12,nan\n1e9,1e12,\n")
    options = [str(tmp_path / "t.csv"), "--law", "chinchilla", "--resamples", "20"]
    found = fit(capsys, *options)
    assert found["left_out"] == [{"row": 11, "why": "loss is nan"}, {"row": 12, "why": "loss is empty"}]
    assert found["runs"] == 9
    assert run(["study", "fit", *options]) == 0
    text = capsys.readouterr().out
    assert "9 runs, 2 left out" in text
    assert "row 11" in text


@pytest.mark.parametrize(
    ("change", "arguments", "said"),
    [
        (("1e7", "1e7"), ["--law", "chinchilla", "--predict", "N=7G"], "write C=1e24"),
        (("1e7", "1e7"), ["--law", "isoflop"], "needs the best size of two budgets"),
        (("1e7", "1e7"), ["--law", "repetition"], "--columns U=...: which column of"),
        (("1e7", "1e7"), ["--law", "mixture"], "--columns weights=weight_*: names 0 columns"),
        (("1e7", "1e7"), ["--law", "chinchilla", "--columns", "N=size"], "has no such column, but N, D, loss"),
        (("1e7", "1e7"), ["--law", "chinchilla", "--columns", "X=N"], "names are N, D, C, U, loss and weights"),
        (("1e7", "1e7"), ["--law", "chinchilla", "--where", "N=5"], "no row has it; the column holds"),
        (("loss", "perplexity"), ["--law", "chinchilla"], "--columns loss=...: which column of"),
        (("N,", "x,"), ["--law", "chinchilla"], "--columns N=..., or C=...: two of N"),
        (("D,", "N,"), ["--law", "chinchilla"], "the header names 'N' twice"),
    ],
)
def test_mistakes_are_named_with_what_mends_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: tuple[str, str], arguments: list[str], said: str
) -> None:
    (tmp_path / "t.csv").write_text(RUNS.replace(*change, 1))
    assert said in refused(capsys, str(tmp_path / "t.csv"), *arguments)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("1e9,lots,2.0", "row 11, column D: 'lots' is no number"),
        ("1e9,-5,2.0", "row 11, column D: -5 is not above 0"),
        ("1e9,1e9", "row 11: 2 fields, the header has 3"),
        ('1e9,"1e9,2.0', "cannot be read as CSV"),
    ],
)
def test_a_bad_cell_is_named_by_row_and_column(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], row: str, said: str
) -> None:
    (tmp_path / "t.csv").write_text(f"{RUNS}{row}\n")
    assert said in refused(capsys, str(tmp_path / "t.csv"), "--law", "chinchilla")


def test_too_few_runs_and_no_file_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t.csv").write_text("\n".join(RUNS.splitlines()[:5]))
    assert "4 runs are left, and the law needs 6" in refused(capsys, str(tmp_path / "t.csv"), "--law", "chinchilla")
    assert "no such file" in refused(capsys, str(tmp_path / "absent.csv"), "--law", "chinchilla")


def test_an_option_of_another_law_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t.csv").write_text(RUNS)
    with pytest.raises(SystemExit, match="2"):
        run(["study", "fit", str(tmp_path / "t.csv"), "--law", "chinchilla", "--max-epochs", "4"])
    assert "--max-epochs is not for --law chinchilla, but for repetition" in capsys.readouterr().err


def test_study_says_what_it_knows(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["study", "fitt"]) == 2
    assert "'fitt' is not an override" in capsys.readouterr().err


def test_held_out_runs_are_predicted_within_their_intervals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)

    def runs(sizes_of: list[float]) -> str:
        rows = [
            f"{n},{d},{(1.8 + 480 / n**0.35 + 2000 / d**0.37) * math.exp(0.005 * rng.standard_normal())}"
            for n in sizes_of
            for d in np.geomspace(1e9, 1e11, 6)
        ]
        return "N,D,loss\n" + "\n".join(rows)

    (tmp_path / "small.csv").write_text(runs(list(np.geomspace(1e7, 1e9, 6))))
    (tmp_path / "large.csv").write_text(runs([4e9, 8e9]))
    options = ["--law", "chinchilla", "--held-out", str(tmp_path / "large.csv"), "--resamples", "200"]
    held_out = fit(capsys, str(tmp_path / "small.csv"), *options)["held_out"]
    assert held_out["inside"] >= 9  # of 12; fewer by chance: .002 if they were independent
    assert stats.spearmanr(held_out["predicted"], held_out["loss"])[0] > 0.95


def test_runs_that_do_not_determine_the_law_are_called_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Losses that do not depend on the size at all, as of models too large for their few tokens."""
    rng = np.random.default_rng(0)
    rows = [
        f"{n},{d},{3 + 2000 / d**0.37 + 0.001 * rng.standard_normal()}"
        for n in (1e8, 1e9, 1e10)
        for d in np.geomspace(1e7, 1e9, 5)
    ]
    (tmp_path / "t.csv").write_text("N,D,loss\n" + "\n".join(rows))
    options = [str(tmp_path / "t.csv"), "--law", "chinchilla", "--resamples", "20"]
    assert fit(capsys, *options)["undetermined"] == ["A / N^alpha"]
    (tmp_path / "u.csv").write_text(RUNS)
    assert fit(capsys, str(tmp_path / "u.csv"), *options[1:])["undetermined"] == []
    assert run(["study", "fit", *options]) == 0
    assert "is not known: the fit is as good without A / N^alpha" in capsys.readouterr().out


def test_rows_are_chosen_as_numbers_or_text(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("kind,N\na,1e9\nb,1000000000\na,2e9\n")
    table = read_table([str(tmp_path / "t.csv")])
    choose(table, ["N=1e9"])
    assert table.column("kind") == ["a", "b"]
    choose(table, ["kind=b"])
    assert table.number == [3]
