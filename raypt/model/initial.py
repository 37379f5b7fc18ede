"""The first weights, drawn element by element.

A value depends on the seed, on the parameter's name and on the element's place in it, and on nothing else: any part of
any parameter is drawn by itself, bitwise as it would be in the whole. So each rank of a mesh draws what it holds.
"""

import math
import sys
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
import xxhash
from torch import Tensor

from raypt.model.config import ModelConfig

_PAIRS = 1 << 15
"""Pairs of values made at one time: their arrays stay in a core's cache."""
_SERIES_LOG = (1 / 9, 1 / 7, 1 / 5, 1 / 3, 1.0)
_SERIES_COS = (1 / 40320, -1 / 720, 1 / 24, -1 / 2, 1.0)
_SERIES_SIN = (1 / 362880, -1 / 5040, 1 / 120, -1 / 6, 1.0)
"""In the square of the argument, highest power first: what they leave out is below float32's rounding here."""


def draw(key: str, start: int, numel: int) -> Tensor:
    """Elements [start, start + numel) of an endless array of standard normal values that `key` names, float32."""
    out = np.empty(numel, np.float32)
    seed = xxhash.xxh3_128_intdigest(key.encode())
    # Philox's counter (Salmon et al. 2011) numbers the elements: it gives four words, and a word a pair of values.
    first, last = start // 8 * 8, start + numel
    for at in range(first, last, 2 * _PAIRS):
        pairs = min(_PAIRS, -(-(last - at) // 2))
        values = _normal(np.random.Philox(key=seed, counter=at // 8).random_raw(pairs)).reshape(-1)
        low, high = max(start, at), min(last, at + 2 * pairs)
        out[low - start : high - start] = values[low - at : high - at]
    return torch.from_numpy(out)


def _normal(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.float32]:
    """Two normal values of each 64 random bits, (words, 2), by Box and Muller's transform. Made of additions,
    products, quotients and roots alone, which every processor rounds alike, unlike the logarithms of libraries.
    """
    halves = words.view(np.uint32).reshape(-1, 2)
    if sys.byteorder == "big":
        halves = halves[:, ::-1]
    bits, angle = halves[:, 1], (halves[:, 0] >> np.uint32(8)).view(np.int32)
    uniform = ((bits >> np.uint32(8)).view(np.int32).astype(np.float32) + np.float32(0.5)) * np.float32(2.0**-24)
    radius = np.sqrt(np.float32(-2.0) * _log(uniform))
    phi = ((angle - 2**23).astype(np.float32) + np.float32(0.5)) * np.float32(math.pi * 2.0**-25)  # within pi / 4
    square = phi * phi
    along, across = _series(_SERIES_COS, square), phi * _series(_SERIES_SIN, square)
    x, y = along.view(np.uint32), across.view(np.uint32)
    x ^= bits << np.uint32(31)  # one random bit turns a quarter of the circle into half of it
    swapped = (x ^ y) & -((bits >> np.uint32(1)) & np.uint32(1))  # and one more into all
    x ^= swapped
    y ^= swapped
    out = np.empty((len(words), 2), np.float32)
    np.multiply(radius, along, out=out[:, 0])
    np.multiply(radius, across, out=out[:, 1])
    return out


def _log(x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Natural logarithm of positive normal numbers: the exponent's, and 2 artanh((m - 1) / (m + 1)) of the mantissa."""
    bits = x.view(np.int32)
    shifted = bits - np.int32(0x3F3504F3)  # of sqrt(1/2), where mantissas begin
    exponent = shifted >> np.int32(23)
    mantissa = (bits - (exponent << np.int32(23))).view(np.float32)
    s = (mantissa - np.float32(1)) / (mantissa + np.float32(1))
    return exponent.astype(np.float32) * np.float32(math.log(2)) + np.float32(2) * s * _series(_SERIES_LOG, s * s)


def _series(coefficients: tuple[float, ...], x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    out = np.full_like(x, coefficients[0])
    for c in coefficients[1:]:
        out *= x
        out += np.float32(c)
    return out


class InitialWeights:
    """The first weights of a model: normal matrices, ones for norms."""

    def __init__(self, config: ModelConfig, shapes: Mapping[str, torch.Size], seed: int) -> None:
        """`shapes` of the whole parameters, by name."""
        self.config, self.shapes, self.seed = config, shapes, seed

    def deviation(self, name: str) -> float:
        """Of a matrix. The output layer's, tied or not, is at most 0.5 / sqrt(hidden_size) (`ModelConfig.init_std`)."""
        config = self.config
        std = config.init_std
        if config.depth_scaled_init and name.endswith(("o_proj.weight", "down_proj.weight")):
            std /= math.sqrt(2 * config.num_layers)
        if name == ("model.embed_tokens.weight" if config.tie_embeddings else "lm_head.weight"):
            std = min(std, 0.5 / math.sqrt(config.hidden_size))
        return std

    def run(self, name: str, start: int, numel: int) -> Tensor:
        """Elements [start, start + numel) of a flattened parameter, float32."""
        if len(self.shapes[name]) == 1:
            return torch.ones(numel)
        return draw(f"{self.seed}/{name}", start, numel).mul_(self.deviation(name))
