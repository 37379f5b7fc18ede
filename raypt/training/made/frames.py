"""From frames of pairs to equally many of each phenomenon, none twice."""

import random
from collections.abc import Callable, Mapping
from typing import Any

Frame = Callable[[random.Random], tuple[str, str]]
"""Draws words and gives (good, bad)."""
TRIES = 200
"""Draws of a frame in a row that give nothing new before it is taken for exhausted."""


def draw(frames: Mapping[str, Frame], count: int, seed: int) -> list[dict[str, Any]]:
    """`count` pairs, the frames in turn; fewer where all words are used up."""
    rng = random.Random(seed)
    seen: set[tuple[str, str]] = set()
    out: list[dict[str, Any]] = []
    live = dict(frames)
    while live and len(out) < count:
        for phenomenon, frame in list(live.items()):
            for _ in range(TRIES):
                pair = frame(rng)
                if pair not in seen:
                    break
            else:
                del live[phenomenon]
                continue
            seen.add(pair)
            assert pair[0] != pair[1], pair
            out.append({"good": pair[0], "bad": pair[1], "phenomenon": phenomenon})
    return out[:count]
