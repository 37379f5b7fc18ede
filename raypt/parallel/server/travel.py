"""Tensors as numpy arrays, for Ray's object store: one contiguous array a message, in fp32 or bf16."""

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Array = npt.NDArray[Any]


def packed(tensor: Tensor, dtype: torch.dtype) -> Array:
    """The values in `dtype`, on the host; a view where they are that already. numpy has no bf16: its bits as int16."""
    there = tensor.detach().to("cpu", dtype).contiguous()
    array: Array = there.view(torch.int16).numpy() if dtype == torch.bfloat16 else there.numpy()
    return array


def unpacked(array: Array) -> Tensor:
    """The tensor over a packed array. Not to be written to: Ray hands out read-only memory."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        tensor = torch.from_numpy(array)
    return tensor.view(torch.bfloat16) if array.dtype == np.int16 else tensor
