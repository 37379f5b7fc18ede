"""A token store of Megatron-LM's .bin/.idx files: ids as they are, packed and held out as the configuration says.

A pair of files is a shard. Documents keep the end token that they were written with; none is added.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import xxhash

from raypt import storage
from raypt.errors import UserError
from raypt.tasks import run_tasks
from raypt.tokens.config import TokensConfig
from raypt.tokens.formats import megatron
from raypt.tokens.parts import PartSummary, is_heldout
from raypt.tokens.store.shards import (
    HELDOUT,
    SectionIds,
    SectionKey,
    TokenAccount,
    heldout_identity,
    make_shard,
    packing_identity,
)
from raypt.tokens.stream.reader import INDEX_FILE
from raypt.tokens.stream.spec import PLAN_FILE, StorePlan
from raypt.tokens.tokenizer.tokenizer import Tokenizer, load_tokenizer


def _read(
    prefix: str,
    tokenizer: Tokenizer,
    config: TokensConfig,
    seed: int,
    *,
    heldout: bool,
    ledger: TokenAccount,
    source: str,
) -> dict[SectionKey, SectionIds]:
    """The documents of a pair of files that are held out, or of those that are not; counts them."""
    documents = megatron.read(prefix, source)
    if documents.ids.size and int(documents.ids.max()) >= tokenizer.vocab_size:
        raise UserError(
            f"{prefix}.bin: holds the token {int(documents.ids.max())}, and tokens.tokenizer.path has a vocabulary of "
            f"{tokenizer.vocab_size}: it is the files' tokenizer no more than these are its files"
        )
    held = is_heldout(_keys(ledger.shard, len(documents)), config.heldout.fraction, seed)
    chosen = np.flatnonzero(held if heldout else ~held)
    ledger.heldout_documents = int(held.sum())
    lengths = documents.lengths[chosen]
    ledger.documents, ledger.text_tokens = chosen.size, int(lengths.sum())
    if not chosen.size:
        return {}
    ids = np.concatenate([documents.ids[documents.offsets[i] : documents.offsets[i + 1]] for i in chosen])
    ledger.by_source = {source: {"text": int(ids.size), "unknown": 0, "byte_fallback": 0}}
    section = SectionIds()
    section.add(ids.astype(tokenizer.dtype), lengths)
    return {(source, None): section}


def _keys(shard: int, documents: int) -> "np.ndarray[Any, np.dtype[np.int64]]":
    """doc_keys, as a curated part of the same number would have them."""
    return (np.int64(shard) << 32) + np.arange(documents, dtype=np.int64)


def _summary(item: tuple[int, str, str], heldout: float, seed: int) -> PartSummary:
    shard, source, prefix = item
    documents = megatron.read(prefix, source)
    held = int(is_heldout(_keys(shard, len(documents)), heldout, seed).sum())
    size = int(documents.ids.nbytes)
    content = xxhash.xxh3_64_hexdigest(documents.ids.tobytes() + documents.offsets.tobytes())
    counts = {source: len(documents)}
    return PartSummary(counts, {source: size}, {source: {"": size}}, {source: len(documents) - held}, content)


def _shard(
    item: tuple[int, str, str],
    *,
    contents: Sequence[str],
    tokenizer_uri: str,
    config: TokensConfig,
    uri: str,
    seed: int,
) -> TokenAccount:
    shard, source, prefix = item
    tokenizer, account = load_tokenizer(tokenizer_uri), None
    for heldout, root in ((True, storage.join(uri, HELDOUT)), (False, uri)):
        if heldout and not config.heldout.fraction:
            continue
        read = functools.partial(_read, source=source)
        account = make_shard(prefix, shard, tokenizer, config, root, seed, contents[shard], heldout=heldout, read=read)
    assert account is not None
    return account


def import_megatron(
    prefixes: Mapping[str, Sequence[str]], tokenizer_uri: str, config: TokensConfig, store_uri: str, seed: int
) -> tuple[StorePlan, list[TokenAccount]]:
    """Make the token store of pairs of files (source -> prefixes), as Ray tasks where Ray runs.

    Returns its plan, from which `plan_stream` makes a stream, and the accounts of its training shards. Raises UserError
    for files that are none, ids that the tokenizer lacks, and a store there of other inputs.
    """
    items = [
        (i, source, prefix) for i, (source, prefix) in enumerate((s, p) for s in sorted(prefixes) for p in prefixes[s])
    ]
    tokenizer = load_tokenizer(tokenizer_uri)
    summarise = functools.partial(_summary, heldout=config.heldout.fraction, seed=seed)
    parts = tuple(run_tasks(summarise, items, name="measure token files"))
    content = xxhash.xxh3_64_hexdigest("".join(p.content for p in parts).encode())
    identity = {
        "manifest": f"megatron shards={len(parts)} content={content}",
        "tokenizer": f"vocabulary={tokenizer.vocab_size} hash={tokenizer.fingerprint}",
        "packing": packing_identity(config.packing),
        "heldout": heldout_identity(config.heldout, seed),
    }
    file = storage.join(store_uri, PLAN_FILE)
    if storage.exists(file) and storage.read_json(file)["identity"] != identity:
        raise UserError(f"{store_uri}: the token store was made of other inputs; give this one its own run.dir")
    storage.write_json(file, {"identity": identity, "seed": seed, "parts": [asdict(p) for p in parts]})
    task = functools.partial(
        _shard,
        contents=[p.content for p in parts],
        tokenizer_uri=tokenizer_uri,
        config=config,
        uri=store_uri,
        seed=seed,
    )
    accounts = run_tasks(task, items, name="import token files", num_cpus=config.stream.tokenizer_cpus)
    storage.write_json(storage.join(store_uri, INDEX_FILE), {a.shard: a.sections for a in accounts})
    uris = tuple(prefix for _, _, prefix in items)
    return StorePlan(store_uri, uris, parts, identity, tokenizer.dtype.name, seed), accounts
