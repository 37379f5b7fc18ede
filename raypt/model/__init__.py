"""LLaMA in plain torch, with Hugging Face parameter names. It knows nothing of ranks, data or files of training.

What needs torch is imported when first asked for: the data stages read `ModelConfig` in a thousand processes that never
build a model.
"""

import importlib
from typing import TYPE_CHECKING, Any

from raypt.model.config import PRESETS, ModelConfig, RopeScaling

if TYPE_CHECKING:
    from raypt.model.generation import generate
    from raypt.model.hf import export_hf, load_hf
    from raypt.model.llama import KVCache, Llama, Targets

__all__ = ["PRESETS", "KVCache", "Llama", "ModelConfig", "RopeScaling", "Targets", "export_hf", "generate", "load_hf"]

_LAZY = {
    "export_hf": "hf",
    "generate": "generation",
    "load_hf": "hf",
    "KVCache": "llama",
    "Llama": "llama",
    "Targets": "llama",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(name)
    return getattr(importlib.import_module(f"raypt.model.{_LAZY[name]}"), name)
