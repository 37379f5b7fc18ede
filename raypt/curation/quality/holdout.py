"""Which training texts are held out: whole groups, so that nothing that is measured has its like among what is learnt.

A site's pages share a template and a tone, and near copies share their words: a classifier recognises both, whatever
the label. So the texts of one host, their near copies, and what these connect, are held out together or not at all.
What is too big for that (it would be more than half of all that is measured) is split more finely, and counted.
"""

import logging
from dataclasses import dataclass
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import xxhash

from raypt.curation.quality.copies import groups_of, joined
from raypt.text.hashing import degski64_all

log = logging.getLogger("raypt")

SPLIT = "hosts and near copies together"
"""How held-out text is chosen; part of the identity of a model."""
_SALT = 0x7E57


@dataclass(frozen=True)
class Split:
    """What is held out, and how far it could be kept apart from what is learnt."""

    heldout: np.ndarray
    """bool[n]."""
    figures: dict[str, int]
    """Texts and hosts; texts that are `without_host`; `in_big_hosts`, split by near copies; `in_big_groups`, split text
    by text."""


def mix(hashes: np.ndarray, seed: int, salt: int) -> np.ndarray:
    """Pseudo-random uint64 for each hash, one sequence for each (seed, salt)."""
    key = np.uint64(xxhash.xxh3_64_intdigest(f"{seed}:{salt}".encode()))
    return np.asarray(degski64_all(hashes ^ key), np.uint64)


def host_of(url: str | None) -> str | None:
    """The host of a URL, in small letters, without `www.`; None if it has none."""
    if not url:
        return None
    try:
        host = urlsplit(url if "//" in url else f"//{url}").hostname
    except ValueError:
        return None
    return (host or "").removeprefix("www.").rstrip(".") or None


def hold_out(
    lines: pa.Array, hashes: np.ndarray, hosts: list[str | None], fraction: float, seed: int, what: str
) -> Split:
    """Choose about `fraction` of the texts. `lines` are normalised, words between spaces; `hashes`: uint64[n],
    theirs; `what` is trained, for a warning. Depends on no order.

    A group is chosen by the least hash of its texts. A host of more than half of what is to be held out connects
    nothing; what near copies and the other hosts connect to that size is split by near copies, and near copies text by
    text.
    """
    n = len(hashes)
    limit = max(fraction * n / 2, 2)
    copies = groups_of(lines)
    site = np.arange(n)
    first: dict[str, int] = {}
    for i, host in enumerate(hosts):
        if host is not None:
            site[i] = first.setdefault(host, i)
    crowded = _sizes(site) > limit
    whole = joined(copies, np.where(crowded, np.arange(n), site))
    finer = _sizes(whole) > limit
    group = np.where(finer, copies, whole)
    big_copies = finer & (_sizes(copies) > limit)
    if big_copies.any():
        log.warning(
            "%s: %d of %d texts are near copies of each other in groups too big to be held out together; the held-out "
            "figures are too good by what they share",
            what,
            big_copies.sum(),
            n,
        )
    chooses = np.where(big_copies, hashes, _least(hashes, group))
    figures = {
        "texts": n,
        "hosts": len(first),
        "without_host": sum(host is None for host in hosts),
        "in_big_hosts": int(((crowded | finer) & ~big_copies).sum()),
        "in_big_groups": int(big_copies.sum()),
    }
    return Split(mix(chooses, seed, _SALT) < np.uint64(fraction * 2.0**64), figures)


def _sizes(group: np.ndarray) -> np.ndarray:
    """int64[n]: how many have the group of each."""
    sizes: np.ndarray = np.bincount(group, minlength=len(group))[group]
    return sizes


def _least(hashes: np.ndarray, group: np.ndarray) -> np.ndarray:
    """uint64[n]: the least hash in the group of each."""
    least = np.full(len(group), np.uint64(2**64 - 1))
    np.minimum.at(least, group, hashes)
    found: np.ndarray = least[group]
    return found
