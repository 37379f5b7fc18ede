"""LLaMA in plain torch, with Hugging Face parameter names. It knows nothing of ranks, data or files of training."""

from raypt.model.config import PRESETS, ModelConfig, RopeScaling
from raypt.model.generate import generate
from raypt.model.hf import export_hf, load_hf
from raypt.model.llama import KVCache, Llama, Targets

__all__ = ["PRESETS", "KVCache", "Llama", "ModelConfig", "RopeScaling", "Targets", "export_hf", "generate", "load_hf"]
