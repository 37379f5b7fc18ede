"""Weights alone on a mesh."""
