"""Tensor parallelism (Shoeybi et al. 2019), applied to a model from outside."""
