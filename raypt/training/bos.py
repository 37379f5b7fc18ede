"""BOS in training and in use: the one must be as the other.

A model that never saw BOS as an input knows nothing of what follows it, and one whose documents began with it is far
off without. So what is used, a tokenizer, says what was trained: the exported one puts BOS before a text if documents
began with it, and evaluation and generation do as the tokenizer does.
"""

import json
from typing import Any

from raypt import storage
from raypt.tokens.config import PackingConfig
from raypt.tokens.tokenizer.tokenizer import CONFIG_FILE, Tokenizer


def as_it_is_used(packing: PackingConfig, tokenizer: Tokenizer) -> PackingConfig:
    """Where nothing is said of BOS, documents begin with it if the tokenizer, brought along, puts it before a text."""
    if "add_bos" in packing.model_fields_set or not tokenizer.adds_bos:
        return packing
    return packing.model_copy(update={"add_bos": True})


def save_as_used(tokenizer: Tokenizer, uri: str, *, add_bos: bool, max_length: int) -> None:
    """The tokenizer's files for a trained model, in a directory that has none of another: with the BOS that it was
    trained with, and only then, with the padding token and the longest context.
    """
    files = tokenizer.with_added(bos=add_bos).files(max_length=max_length)
    config: dict[str, Any] = json.loads(files[CONFIG_FILE])
    config |= {"add_bos_token": add_bos, "add_eos_token": False}
    if "pad_token" not in config and (token := tokenizer.backend.id_to_token(tokenizer.pad_id)) is not None:
        config["pad_token"] = token
    for name, data in {**files, CONFIG_FILE: storage.json_bytes(config)}.items():
        storage.write_bytes(storage.join(uri, name), data)
