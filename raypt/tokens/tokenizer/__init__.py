"""Tokenizers: training, loading, the fast encoder with identical ids, fertility."""

CARD_FILE = "tokenizer.card.json"
"""Of the artefact that a tokenizer is, beside its files."""
FERTILITY_FILE = "fertility.json"
"""How well it fits the text, where `raypt train-tokenizer` measured it."""
