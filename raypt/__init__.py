"""raypt: raw text to a trained LLaMA on a Ray cluster, in one job."""

__version__ = "0.1.0"
