"""BOS in training and in use: the one must be as the other.

A model that never saw BOS as an input knows nothing of what follows it, and one whose documents began with it is far
off without. So what is used, a tokenizer, says what was trained: the exported one puts BOS before a text if documents
began with it, and evaluation and generation do as the tokenizer does.
"""

import json
from typing import Any

import tokenizers

from raypt import storage
from raypt.tokens.config import PackingConfig
from raypt.tokens.tokenizer.tokenizer import CONFIG_FILE, TOKENIZER_FILE, Tokenizer


def adds_bos(tokenizer: Tokenizer) -> bool:
    """Whether the tokenizer, used as its files say, begins a text with BOS."""
    ids = tokenizer.backend.encode("", add_special_tokens=True).ids
    return tokenizer.bos_id is not None and ids[:1] == [tokenizer.bos_id]


def as_it_is_used(packing: PackingConfig, tokenizer: Tokenizer) -> PackingConfig:
    """Where nothing is said of BOS, documents begin with it if the tokenizer, brought along, puts it before a text."""
    if "add_bos" in packing.model_fields_set or not adds_bos(tokenizer):
        return packing
    return packing.model_copy(update={"add_bos": True})


def save_as_used(tokenizer: Tokenizer, uri: str, *, add_bos: bool, max_length: int) -> None:
    """The tokenizer's files for a trained model: with the BOS that it was trained with, and only then, with the padding
    token and the longest context.
    """
    tokenizer.save(uri)
    if add_bos != adds_bos(tokenizer):
        backend: dict[str, Any] = json.loads(tokenizer.backend.to_str())
        backend["post_processor"] = _with_bos(tokenizer) if add_bos else _without(backend["post_processor"])
        storage.write_json(storage.join(uri, TOKENIZER_FILE), backend)
    path = storage.join(uri, CONFIG_FILE)
    config: dict[str, Any] = storage.read_json(path)
    config |= {"model_max_length": max_length, "add_bos_token": add_bos, "add_eos_token": False}
    if "pad_token" not in config and (token := tokenizer.backend.id_to_token(tokenizer.pad_id)) is not None:
        config["pad_token"] = token
    storage.write_json(path, config)


def _with_bos(tokenizer: Tokenizer) -> dict[str, Any]:
    """A post-processor that puts BOS before a text, and before each of a pair."""
    bos = tokenizer.bos
    assert bos is not None, "documents began with BOS in training"
    backend = tokenizers.Tokenizer(tokenizers.models.BPE())
    backend.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1", special_tokens=[(bos, tokenizer.bos_id)]
    )
    return dict(json.loads(backend.to_str())["post_processor"])


def _without(processor: dict[str, Any] | None) -> dict[str, Any] | None:
    """A post-processor less the templates that add tokens; what only trims the offsets of byte-level tokens stays."""
    if processor is None or processor["type"] == "ByteLevel":
        return processor
    if processor["type"] != "Sequence":
        return None
    kept = [p for p in map(_without, processor["processors"]) if p is not None]
    return {"type": "Sequence", "processors": kept} if kept else None
