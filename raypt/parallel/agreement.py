"""What ranks that step together agree on before each step."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from raypt.parallel import comm
from raypt.parallel.topology import Topology

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Offer:
    """What one rank brings to a step."""

    samples: Ints | None
    """Global indices of the samples at hand, equally many on every rank; None where there are not enough."""
    per_rank: int
    """How many a rank needs."""
    first: int
    """The step's first sample."""
    words: Ints
    """Further figures for the other ranks; the same length everywhere."""


@dataclass(frozen=True)
class Agreed:
    """What all that step together know."""

    words: Ints
    """A row a rank."""
    ready: bool
    """Every rank has its samples; otherwise they have ended."""


def agree_in_step(topology: Topology, offer: Offer, device: torch.device) -> Agreed:
    """One exchange of all ranks.

    Raises:
        RuntimeError: the replicas' samples together are not exactly those of the step, or the ranks of a replica do
            not have the same ones.
    """
    n = offer.words.size
    message = np.full(n + 1 + offer.per_rank, -1, np.int64)
    message[:n] = offer.words
    message[n] = offer.samples is not None
    if offer.samples is not None:
        message[n + 1 :] = offer.samples
    everyone = comm.all_gather_ints(message, device)
    words, has, samples = everyone[:, :n], everyone[:, n], everyone[:, n + 1 :]
    if not has.all():
        return Agreed(words, ready=False)
    members = np.array(list(topology.groups("pipeline", "context", "tensor")))  # (data, ranks of a replica)
    if (samples[members] != samples[members[:, :1]]).any():
        raise RuntimeError(f"the ranks of a replica do not train on the same samples at {offer.first}")
    got = np.sort(samples[members[:, 0]].ravel())
    if not np.array_equal(got, np.arange(offer.first, offer.first + got.size)):
        raise RuntimeError(
            f"this step must train on samples {offer.first} to {offer.first + got.size - 1}, but the stream gave "
            f"{int(got[0])} to {int(got[-1])}: the stream is not at the checkpoint's cursor"
        )
    return Agreed(words, ready=True)
