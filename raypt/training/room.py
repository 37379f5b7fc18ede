"""Whether one process can hold a whole model that it is to score files with."""

import psutil
import torch

from raypt.model.hf import stored_bytes

_BESIDES = 1.2
"""What computing with a model needs beside its weights, at least: caches of keys and values, activations."""


def too_large(model_uri: str, dtype: torch.dtype | None, device: torch.device | str) -> str | None:
    """Why the model of a Hugging Face directory does not fit in the device's free memory, in `dtype` (None: as stored);
    None if it does.
    """
    needed, free = round(_BESIDES * stored_bytes(model_uri, dtype)), free_bytes(torch.device(device))
    if needed <= free:
        return None
    return (
        f"the model of {model_uri} needs {needed / 1e9:.3g} GB in one process, where {free / 1e9:.3g} GB are free; use "
        "a program that spreads a model over several devices (vLLM, lm-eval on transformers with device_map=auto)"
    )


def free_bytes(device: torch.device) -> int:
    """Memory that is free on a GPU, or on this machine."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)
