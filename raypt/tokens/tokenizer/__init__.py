"""Tokenizers: training, loading, the fast encoder with identical ids, fertility."""
