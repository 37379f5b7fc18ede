"""Weights alone on a mesh, for those who judge a model."""
