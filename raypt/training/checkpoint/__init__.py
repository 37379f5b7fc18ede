"""Checkpoints: pieces of state under global names, and the manifest that makes them whole."""
