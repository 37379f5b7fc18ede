"""Curated parts to token-store shards: tokenize, pack, hold out, account. Each is an idempotent task.

A curated part `part-00007.parquet` and the store shard 7 are the same shard: it alone determines its samples.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raypt import storage
from raypt.artefact import Card, Identity, Output, make
from raypt.tokens.config import HeldoutConfig, PackingConfig, TokensConfig
from raypt.tokens.parts import BY_SOURCE, NO_EDGES, column, group_names, is_heldout, read_batches, wanted_columns
from raypt.tokens.store import files as store
from raypt.tokens.store.packing import Packed, pack
from raypt.tokens.tokenizer.tokenizer import BYTE, UNKNOWN, Tokenizer
from raypt.tokens.upsampling import Edges

HELDOUT = "heldout"
FORMAT = 1
"""Raise it when the same text and settings give other samples."""


@dataclass
class TokenAccount:
    """The account of one shard. Tokens in = tokens packed + tokens dropped; nothing else happens to them."""

    shard: int
    documents: int = 0
    heldout_documents: int = 0
    """Documents of the part that the held-out rule takes."""
    bytes: int = 0
    """UTF-8 bytes of the documents in the shard."""
    text_tokens: int = 0
    document_tokens: int = 0
    """BOS and EOS tokens added."""
    packed_tokens: int = 0
    dropped_tokens: dict[str, int] = field(default_factory=dict)
    """By rule; today no rule drops a token."""
    empty_documents: int = 0
    """Documents without a single token (no text, no BOS or EOS)."""
    split_documents: int = 0
    """Documents that lie in more than one segment."""
    samples: int = 0
    padding: int = 0
    """Slots of the samples that hold padding."""
    by_source: dict[str, dict[str, int]] = field(default_factory=dict)
    """Source -> its text tokens (`text`), of them the unknown token (`unknown`) and bytes of characters that the
    vocabulary lacks (`byte_fallback`)."""
    seconds: float = 0.0
    """Wall time of making the shard."""
    sections: list[dict[str, Any]] = field(default_factory=list)

    def check(self) -> None:
        assert self.text_tokens + self.document_tokens == self.packed_tokens + sum(self.dropped_tokens.values()), self

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "TokenAccount":
        return cls(**value)


def packing_identity(packing: PackingConfig) -> str:
    """The packing settings in words: they go into store headers and fingerprints."""
    return " ".join(f"{k}={v}" for k, v in packing.model_dump().items())


def heldout_identity(heldout: HeldoutConfig, seed: int) -> str:
    return f"fraction={heldout.fraction} seed={seed}" if heldout.fraction else "none"


def store_identity(tokenizer: Tokenizer, config: TokensConfig, seed: int) -> dict[str, str]:
    """What all shards of a store are made with."""
    return {
        "tokenizer": tokenizer.fingerprint,
        "packing": packing_identity(config.packing),
        "heldout": heldout_identity(config.heldout, seed),
        **groups_identity(config.mixture.by, config.mixture.edges),
    }


def groups_identity(by: Sequence[str], edges: Edges = NO_EDGES) -> dict[str, str]:
    """What names the groups of samples, where it is not the source alone."""
    if tuple(by) == BY_SOURCE and not edges:
        return {}
    return {"groups": "/".join(f"{name}{list(edges[name])}" if name in edges else name for name in by)}


def shard_identity(made_of: Mapping[str, str], content: str) -> Identity:
    """Of the store shard of one curated part: `made_of` names tokenizer, packing and held-out rule, `content` the hash
    of the part's documents.
    """
    return Identity("tokens", FORMAT, {"curated": content}, made_of)


TOKEN_COUNTS = ("text", "unknown", "byte_fallback")


def tokens_by_source(accounts: Sequence[TokenAccount]) -> dict[str, dict[str, int]]:
    """Source -> `TOKEN_COUNTS`, over all shards."""
    out: dict[str, dict[str, int]] = {}
    for account in accounts:
        for source, counts in account.by_source.items():
            _add(out, source, counts)
    return dict(sorted(out.items()))


def _add(to: dict[str, dict[str, int]], source: str, counts: Mapping[str, int]) -> None:
    entry = to.setdefault(source, dict.fromkeys(TOKEN_COUNTS, 0))
    for name, n in counts.items():
        entry[name] += n


def _count_kinds(ids: npt.NDArray[Any], kinds: npt.NDArray[np.uint8] | None) -> dict[str, int]:
    """How many of the tokens are of the kinds that `Tokenizer.token_kinds` tells."""
    if kinds is None:
        return {}
    found = np.bincount(kinds[ids], minlength=BYTE + 1)
    return {"unknown": int(found[UNKNOWN]), "byte_fallback": int(found[BYTE])}


class SectionIds:
    """Ids of the documents of one (source, lang), collected batch by batch."""

    def __init__(self) -> None:
        self.ids: list[npt.NDArray[Any]] = []
        self.lengths: list[npt.NDArray[np.int64]] = []

    def add(self, ids: npt.NDArray[Any], lengths: npt.NDArray[np.int64]) -> None:
        self.ids.append(ids)
        self.lengths.append(lengths)

    def pack(self, packing: PackingConfig, pad_id: int) -> Packed:
        return pack(
            np.concatenate(self.ids),
            np.concatenate([[0], np.cumsum(np.concatenate(self.lengths))]).astype(np.int64),
            width=packing.sequence_length + 1,
            pad_id=pad_id,
            strategy=packing.strategy,
            document_boundaries=packing.document_boundaries,
        )


SectionKey = tuple[str, str | None]
"""(group of the mixture, None), and of held-out documents (source, lang)."""
Reader = Callable[..., dict[SectionKey, SectionIds]]
"""What `_tokenize` is, for documents that come from elsewhere."""


def nothing(*_: object, **__: object) -> dict[SectionKey, SectionIds]:
    """A Reader of a part of which it is known that no document goes into the store: it is not opened."""
    return {}


def _tokenize(
    uri: str, tokenizer: Tokenizer, config: TokensConfig, seed: int, *, heldout: bool, ledger: TokenAccount
) -> dict[SectionKey, SectionIds]:
    """The ids of the documents that are held out, or of those that are not; counts documents and tokens."""
    packing = config.packing
    extra = int(packing.add_bos) + int(packing.add_eos)
    sections: dict[SectionKey, SectionIds] = {}
    by = config.mixture.by
    for whole in read_batches(uri, wanted_columns(by)):
        held = is_heldout(np.asarray(whole.column("doc_key").cast(pa.int64())), config.heldout.fraction, seed)
        ledger.heldout_documents += int(held.sum())
        batch = whole.filter(pa.array(held if heldout else ~held))
        if not batch.num_rows:
            continue
        lang, text = (column(batch, c) for c in ("lang", "text"))
        group = column(batch, "source") if heldout else group_names(batch, by, uri, config.mixture.edges)
        ids, offsets = tokenizer.encode_batch(text, bos=packing.add_bos, eos=packing.add_eos)
        ids, lengths = ids.astype(tokenizer.dtype), np.diff(offsets)
        groups: dict[SectionKey, list[int]] = {}
        for i, (s, code) in enumerate(zip(group.to_pylist(), lang.to_pylist(), strict=True)):
            groups.setdefault((s, (code or None) if heldout else None), []).append(i)
        for key, members in groups.items():
            whole_batch = len(members) == len(lengths)
            part = ids if whole_batch else np.concatenate([ids[offsets[i] : offsets[i + 1]] for i in members])
            sections.setdefault(key, SectionIds()).add(part, lengths[members])
            text_tokens = len(part) - extra * len(members)
            _add(ledger.by_source, key[0], {"text": text_tokens, **_count_kinds(part, tokenizer.token_kinds)})
        ledger.documents += len(lengths)
        ledger.bytes += int(np.asarray(pc.binary_length(text)).sum())
        ledger.text_tokens += int((lengths - extra).sum())
        ledger.document_tokens += extra * len(lengths)
        ledger.empty_documents += int((lengths == 0).sum())
    return sections


def make_shard(
    curated_uri: str,
    shard: int,
    tokenizer: Tokenizer,
    config: TokensConfig,
    root: str,
    seed: int,
    content: str,
    *,
    heldout: bool,
) -> Card:
    """Make the store shard of a curated part under `root` (see `tokenize_shard`), if it is not there."""
    identity, maker = shard_work(curated_uri, shard, tokenizer, config, seed, content, heldout=heldout)
    card_uri = store.collection(root).card_uri(shard)
    refuse = "use another store directory, or delete this one"
    return make(identity, root, card_uri.removeprefix(f"{root.rstrip('/')}/"), maker, refuse=refuse)


def shard_work(
    curated_uri: str,
    shard: int,
    tokenizer: Tokenizer,
    config: TokensConfig,
    seed: int,
    content: str,
    *,
    heldout: bool,
    read: Reader | None = None,
) -> tuple[Identity, Callable[[Output], dict[str, Any]]]:
    """What the store shard of a curated part, or of what `read` finds at `curated_uri`, is, and what makes it; its
    account is a TokenAccount.
    """
    made_of = store_identity(tokenizer, config, seed)
    identity = shard_identity(made_of, content)

    def maker(output: Output) -> dict[str, Any]:
        began = time.monotonic()
        account = TokenAccount(shard)
        by_key = (read or _tokenize)(curated_uri, tokenizer, config, seed, heldout=heldout, ledger=account)
        keys = sorted(by_key, key=lambda k: (k[0], k[1] or ""))
        packed = [(*key, by_key[key].pack(config.packing, tokenizer.pad_id)) for key in keys]
        width = config.packing.sequence_length + 1
        with output.open(store.shard_name(shard)) as f:
            placed = store.write_shard(f, packed, width=width, **made_of, content=content)
        account.sections = [vars(s) for s in placed]
        account.samples = sum(p.rows for _, _, p in packed)
        account.padding = sum(p.padding for _, _, p in packed)
        account.split_documents = sum(p.split_documents for _, _, p in packed)
        account.packed_tokens = sum(int(p.lengths.sum()) for _, _, p in packed)
        account.check()
        account.seconds = round(time.monotonic() - began, 4)
        return account.to_json()

    return identity, maker


def tokenize_shard(
    curated_uri: str,
    shard_index: int,
    tokenizer: Tokenizer,
    config: TokensConfig,
    store_uri: str,
    seed: int = 0,
    content: str = "",
) -> TokenAccount:
    """Tokenize and pack the training documents of a curated part into store shard `shard_index`.

    Does nothing if the shard is there already. `content` is the part's hash, kept in the card. Raises UserError if
    the shard there was made by other settings.
    """
    card = make_shard(curated_uri, shard_index, tokenizer, config, store_uri, seed, content, heldout=False)
    return TokenAccount.from_json(card.account)


def tokenize_heldout(
    curated_uri: str,
    shard_index: int,
    tokenizer: Tokenizer,
    config: TokensConfig,
    store_uri: str,
    seed: int = 0,
    content: str = "",
) -> TokenAccount:
    """The same for the held-out documents, into the store `<store_uri>/heldout`, one section a (source, lang)."""
    root = storage.join(store_uri, HELDOUT)
    card = make_shard(curated_uri, shard_index, tokenizer, config, root, seed, content, heldout=True)
    return TokenAccount.from_json(card.account)
