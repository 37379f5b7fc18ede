"""L = E + A / N^alpha + B / D^beta (Hoffmann et al. 2022, approach 3, corrected by Besiroglu et al. 2024).

N: parameters, D: training tokens, L: loss in nats a token (any unit: E, A and B are in it). Training FLOP: C = 6 N D.
"""

import itertools
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from raypt.run.study.laws.robust import Array, Columns

FLOPS_PER_TOKEN_PARAMETER = 6.0
"""Training FLOP of a token a parameter: 2 forward, 4 backward (Kaplan et al. 2020)."""
EXPONENTS = (0.2, 0.4, 0.8)
"""Of the starts, for alpha and for beta: published fits lie between .07 (Kaplan et al. 2020) and .8."""
LEAST_SHARE = 0.01
"""Of the loss of the median run: what a start gives each term at least, since a term of 0 has no gradient."""
LEAST_TERM = 0.002
"""Of the loss of the median run: a term below it is within the noise between seeds (.002 at the least)."""


def power_terms(columns: tuple[Array, ...], theta_BP: Array) -> tuple[Array, Array, list[Array]]:
    """log(e^e + sum of e^(a_i - alpha_i * column_i)): its value, the share of e^e, the shares of the others.

    `theta_BP` holds the logarithms a_i, then e, then the exponents; the columns are logarithms.
    """
    count = len(columns)
    parts = [theta_BP[:, i, None] - theta_BP[:, count + 1 + i, None] * x for i, x in enumerate(columns)]
    floor = np.broadcast_to(theta_BP[:, count, None], parts[0].shape)
    top = np.maximum.reduce([floor, *parts])
    exps = [np.exp(p - top) for p in (floor, *parts)]
    total = np.add.reduce(exps)
    return top + np.log(total), exps[0] / total, [p / total for p in exps[1:]]


@dataclass(frozen=True)
class Chinchilla:
    """The law; parameters are fitted as log A, log B, log E, alpha, beta. Columns: N, D."""

    names = ("log A", "log B", "log E", "alpha", "beta")

    def log_loss(self, theta_BP: Array, x: Columns) -> tuple[Array, Array]:
        n, d = np.log(x["N"]), np.log(x["D"])
        value, of_e, (of_n, of_d) = power_terms((n, d), theta_BP)
        return value, np.stack([of_n, of_d, of_e, -of_n * n, -of_d * d], -1)


def projected(theta: Array, n: Array, d: Array, loss: Array) -> Array:
    """The start with these exponents whose E, A and B are the best (non-negative least squares of relative errors).

    A start whose terms are of the wrong size by orders of magnitude has no gradient in them, and L-BFGS stays in a law
    that lacks a term; so does one whose term vanishes, so that none is less than a share of the median loss. n, d: log
    N and log D.
    """
    middle = np.median(n), np.median(d)
    alpha, beta = theta[3:]
    design = np.stack([np.exp(-alpha * (n - middle[0])), np.exp(-beta * (d - middle[1])), np.ones_like(n)], -1)
    sizes, _ = nnls(design / loss[:, None], np.ones_like(loss))
    a, b, e = np.log(np.maximum(sizes, LEAST_SHARE * np.median(loss)))
    return np.array([a + alpha * middle[0], b + beta * middle[1], e, alpha, beta])


def starts(x: Columns, loss: Array) -> list[Array]:
    """A grid over the exponents; the other three follow from them (`projected`)."""
    n, d = np.log(x["N"]), np.log(x["D"])
    return [projected(np.array([0, 0, 0, a, b]), n, d, loss) for a, b in itertools.product(EXPONENTS, EXPONENTS)]


def named(theta_BP: Array) -> dict[str, Array]:
    """The parameters under the paper's names, and what follows from them.

    a, b: exponents of N*(C) and D*(C); G: N* = G (C/6)^a, D* = (C/6)^b / G.
    """
    log_a, log_b, log_e, alpha, beta = theta_BP.T
    total = alpha + beta
    with np.errstate(all="ignore"):
        return {
            "E": np.exp(log_e),
            "A": np.exp(log_a),
            "B": np.exp(log_b),
            "alpha": alpha,
            "beta": beta,
            "a": beta / total,
            "b": alpha / total,
            "G": np.exp((np.log(alpha) + log_a - np.log(beta) - log_b) / total),
        }


def vanishing(theta: Array, x: Columns, loss: Array) -> list[str]:
    """Which of E, A / N^alpha and B / D^beta the law could do without: less than `LEAST_TERM` of the median run's loss,
    or not changing by as much over the runs. What belongs to such a term may then have any value, and no resample says
    so.
    """
    p = {name: float(v[0]) for name, v in named(theta[None]).items()}
    terms = {
        "E": np.full(len(loss), p["E"]),
        "A / N^alpha": np.exp(theta[0] - p["alpha"] * np.log(x["N"])),
        "B / D^beta": np.exp(theta[1] - p["beta"] * np.log(x["D"])),
    }
    least = LEAST_TERM * np.median(loss)
    return [name for name, t in terms.items() if np.median(t) < least or (name != "E" and np.ptp(t) < least)]


def optimum(theta_BP: Array, flop: float) -> tuple[Array, Array, Array]:
    """N*, D* and the loss there, of the best model that `flop` FLOP can train."""
    p = named(theta_BP)
    size = p["G"] * (flop / FLOPS_PER_TOKEN_PARAMETER) ** p["a"]
    tokens = flop / FLOPS_PER_TOKEN_PARAMETER / size
    with np.errstate(all="ignore"):
        loss = p["E"] + p["A"] / size ** p["alpha"] + p["B"] / tokens ** p["beta"]
    return size, tokens, loss
