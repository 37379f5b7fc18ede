"""Bytes that a rank sends in a step, by strategy: what the planner counts with, and what tests count.

A ring moves (n - 1) / n of what is gathered or scattered over n ranks, and twice that of what is reduced to all: each
rank sends as much, and receives as much, whatever n (Patarasuk and Yuan 2009).
"""

from dataclasses import dataclass


def ring(ranks: int) -> float:
    """What of a gathered or scattered buffer each rank sends."""
    return (ranks - 1) / ranks


def zero_bytes(
    parameters: float,
    ranks: int,
    stage: int,
    *,
    weight: float,
    gradient: float,
    whole: float = 0.0,
    live: float = 0.0,
    scatters: bool = True,
) -> tuple[float, float]:
    """(bytes a micro-batch, bytes a step) that a rank sends, and receives, for raypt's ZeRO stages; `weight` and
    `gradient` are bytes a value on the way. Stages 0 and 1 sum the step's gradients, 2 and 3 each micro-batch's:
    reduced to all at 0, 2 and, where not `scatters` (gloo, or bf16 on the way), 1. Stage 3 gathers weights for the
    forward pass, and for the backward pass those that were released in between. `whole`: parameters that stay whole at
    stage 3 and are gathered after the update; `live`: those that may stay whole from the forward to the backward pass.
    """
    share = ring(ranks)
    match stage:
        case 0:
            return 0.0, share * 2 * gradient * parameters
        case 1:
            return 0.0, share * ((1 if scatters else 2) * gradient + weight) * parameters
        case 2:
            return share * 2 * gradient * parameters, share * weight * parameters
        case _:
            cut_up = parameters - whole
            gathered = cut_up + max(0.0, cut_up - live)
            return share * (gradient * parameters + weight * gathered), share * weight * whole


@dataclass(frozen=True)
class ServerTraffic:
    """Bytes of one step of a parameter server, synchronous or not (asynchronous: of as many steps as workers)."""

    worker_sends: float
    """The gradient of every parameter."""
    worker_receives: float
    """Every weight."""
    server_sends: float
    """One server: its slice of the weights to each worker."""
    server_receives: float
    """One server: its slice of each worker's gradient. What limits the step, unless servers are as many as workers."""


def parameter_server_bytes(
    parameters: float, workers: int, servers: int, *, weight: float, gradient: float
) -> ServerTraffic:
    """The weights are cut evenly over `servers`; every worker pulls all of them and pushes all gradients."""
    slices = parameters * workers / servers
    return ServerTraffic(gradient * parameters, weight * parameters, weight * slices, gradient * slices)


def local_sgd_bytes(parameters: float, ranks: int, inner_steps: int, *, value: float) -> float:
    """Bytes a rank sends an inner step, on average: the outer gradient is reduced to all once in `inner_steps`, whole
    or one fragment after the other. `value`: bytes of one of its elements on the way (0.5 with 4 bits).
    """
    return ring(ranks) * 2 * value * parameters / inner_steps
