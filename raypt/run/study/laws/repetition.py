"""What repeated text is worth: the effective-data law of Muennighoff et al. 2023.

L = E + A / N'^alpha + B / D'^alpha, where of D training tokens only U are unique and

    D' = U + U R_D* (1 - exp(-(D/U - 1) / R_D*)),    N' = U_N + U_N R_N* (1 - exp(-(N/U_N - 1) / R_N*)),

with U_N = min(N, N_opt(U)), the parameters that U tokens alone ask for (Chinchilla's optimum). alpha = beta, as the
paper fits it. R_D*: the repetitions after which a token has given 1 - 1/e of all that it will.
"""

import itertools
from dataclasses import dataclass

import numpy as np

from raypt.run.study.laws.chinchilla import power_terms, projected
from raypt.run.study.laws.robust import Array, Columns

PUBLISHED = np.array([6.255414, 7.3049974, 0.6254804, 0.3526596, np.log(5.309743), np.log(15.387756)])
"""The authors' fit to C4 (E 1.87, A 521, B 1488, alpha .353, R_N* 5.31, R_D* 15.4)."""
EXPONENTS = (0.2, 0.35, 0.6)
LIMIT = 40.0
"""Of log R*: beyond it, repeats are worth nothing, or as much as fresh text, to all digits."""
RN_STARTS, RD_STARTS = (2.0, 10.0), (3.0, 15.0, 60.0)


def saturating(log_unique: Array, log_used: Array, log_rho: Array) -> tuple[Array, Array, Array]:
    """log of u + u rho (1 - exp(-(used/u - 1) / rho)), and its derivatives by log u and log rho."""
    repeats = np.maximum(np.expm1(np.minimum(log_used - log_unique, 700.0)), 0.0)
    rho = np.exp(np.clip(log_rho, -LIMIT, LIMIT))
    left = np.exp(-repeats / rho)
    gained = -rho * np.expm1(-repeats / rho)
    height = 1 + gained
    by_unique = np.where(repeats > 0, 1 - (repeats + 1) * left / height, 1.0)
    return log_unique + np.log(height), by_unique, (gained - repeats * left) / height


@dataclass(frozen=True)
class Repetition:
    """The law; fitted as log A, log B, log E, alpha, log R_N*, log R_D*. Columns: N, D, U (unique tokens)."""

    names = ("log A", "log B", "log E", "alpha", "log R_N*", "log R_D*")

    def log_loss(self, theta_BP: Array, x: Columns) -> tuple[Array, Array]:
        log_a, log_b, _, alpha, rn, rd = (theta_BP[:, i, None] for i in range(6))
        n, d = np.log(x["N"]), np.log(x["D"])
        u = np.log(np.minimum(x["U"], x["D"]))
        useful = (log_a - log_b) / alpha + u  # log N_opt(U); alpha = beta makes it proportional to U
        small = n <= useful
        n_eff, by_useful, by_rn = saturating(np.minimum(n, useful), n, rn)
        d_eff, _, by_rd = saturating(u, d, rd)
        powers = np.concatenate([theta_BP[:, :4], theta_BP[:, 3:4]], 1)
        value, of_e, (of_n, of_d) = power_terms((n_eff, d_eff), powers)
        moves = np.where(small, 0.0, by_useful)
        through = -alpha * of_n * moves  # d value / d log N_opt
        return value, np.stack(
            [
                of_n + through / alpha,
                of_d - through / alpha,
                of_e,
                -of_n * n_eff - of_d * d_eff - through * (log_a - log_b) / alpha**2,
                np.where(small, 0.0, -alpha * of_n * by_rn),
                -alpha * of_d * by_rd,
            ],
            -1,
        )


def starts(x: Columns, loss: Array) -> list[Array]:
    """A grid over alpha and the two R*; A, B and E follow from them."""
    n, d, u = np.log(x["N"]), np.log(x["D"]), np.log(np.minimum(x["U"], x["D"]))
    out = []
    for alpha, rn, rd in itertools.product(EXPONENTS, np.log(RN_STARTS), np.log(RD_STARTS)):
        effective, _, _ = saturating(u, d, rd)
        powers = projected(np.array([0, 0, 0, alpha, alpha]), n, effective, loss)
        out.append(np.array([*powers[:4], rn, rd]))
    return out


def named(theta_BP: Array) -> dict[str, Array]:
    """The parameters under the paper's names."""
    log_a, log_b, log_e, alpha, rn, rd = theta_BP.T
    with np.errstate(over="ignore"):
        values = [np.exp(log_e), np.exp(log_a), np.exp(log_b), alpha, alpha, np.exp(rn), np.exp(rd)]
    return dict(zip(("E", "A", "B", "alpha", "beta", "R_N*", "R_D*"), values, strict=True))


def effective_epochs(r_d: Array, epochs: float) -> Array:
    """D'/U: how many epochs of fresh text `epochs` epochs are worth."""
    return np.asarray(1 - r_d * np.expm1(-(epochs - 1) / r_d))


def worth_of_epoch(r_d: Array, k: int) -> Array:
    """What a token is worth the k-th time it is seen, against the first time: the mean over the k-th epoch."""
    return np.ones_like(r_d) if k == 1 else effective_epochs(r_d, k) - effective_epochs(r_d, k - 1)


def over_fitted(x: Columns, loss: Array) -> Array:
    """Which runs lost by having more: one with no more parameters, tokens and unique tokens did better.

    No law that falls in all three can say so; the authors leave such runs out too. Quadratic in the runs: few.
    """
    u = np.minimum(x["U"], x["D"])
    no_more = np.ones((len(loss), len(loss)), bool)
    for column in (x["N"], x["D"], u):
        no_more &= column[None, :] <= column[:, None]
    return np.asarray((no_more & (loss[None, :] < loss[:, None])).any(1))
