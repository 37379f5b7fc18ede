"""A tokenizer: text to ids and back, with explicit document tokens and a fingerprint.

It wraps a Hugging Face `tokenizers.Tokenizer`. Text from outside is data: a special token's string inside it is encoded
as text, never as the control token. No template adds tokens behind one's back: `bos`/`eos` are arguments.
"""

import functools
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import tokenizers
import xxhash

from raypt import storage
from raypt.errors import UserError
from raypt.text.buffers import string_buffers
from raypt.tokens.tokenizer.byte_level import Unsupported, parse
from raypt.tokens.tokenizer.fast_bpe import FastBPE

TOKENIZER_FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"

_WORTH_TABLES = 1 << 16
"""Bytes of text from which on the fast encoder is worth its tables."""

Ids = npt.NDArray[np.uint32]


class Tokenizer:
    """`bos`, `eos`, `pad` and `unk` are the strings of those tokens, None where there is none."""

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        *,
        bos: str | None = None,
        eos: str | None = None,
        pad: str | None = None,
        unk: str | None = None,
    ) -> None:
        self.backend = backend
        self.backend.no_padding()
        self.backend.no_truncation()
        self.backend.encode_special_tokens = True
        self.bos, self.eos, self.pad, self.unk = bos, eos, pad, unk
        for name, token in (("bos", bos), ("eos", eos), ("pad", pad), ("unk", unk)):
            if token is not None and backend.token_to_id(token) is None:
                raise UserError(f"tokenizer: the {name} token {token!r} is not in the vocabulary")

    def _id(self, token: str | None) -> int | None:
        return None if token is None else self.backend.token_to_id(token)

    @property
    def bos_id(self) -> int | None:
        return self._id(self.bos)

    @property
    def eos_id(self) -> int | None:
        return self._id(self.eos)

    @property
    def unk_id(self) -> int | None:
        return self._id(self.unk)

    @property
    def pad_id(self) -> int:
        """The pad token, else EOS, else 0: padding is masked, any id serves."""
        return next((i for i in (self._id(self.pad), self.eos_id) if i is not None), 0)

    @functools.cached_property
    def vocab_size(self) -> int:
        """One more than the largest id (a vocabulary may have holes)."""
        return max(self.backend.get_vocab(with_added_tokens=True).values()) + 1

    @property
    def dtype(self) -> np.dtype[Any]:
        """The smallest of uint16 and uint32 that holds every id."""
        return np.dtype(np.uint16 if self.vocab_size <= 1 << 16 else np.uint32)

    @functools.cached_property
    def fingerprint(self) -> str:
        """Changes whenever any text could be encoded differently."""
        # Parsed and dumped again: the order of keys in the file says nothing.
        model = json.dumps(json.loads(self.backend.to_str()), sort_keys=True, ensure_ascii=False)
        return xxhash.xxh3_64_hexdigest("\x1f".join([model, str(self.bos), str(self.eos), str(self.pad)]).encode())

    @functools.cached_property
    def _fast(self) -> FastBPE | str:
        """The fast encoder, or why this tokenizer has none."""
        try:
            return FastBPE(parse(self.backend.to_str()))
        except Unsupported as e:
            return str(e)

    @property
    def slow_because(self) -> str | None:
        """Why `tokenizers` itself has to encode, None if the fast encoder serves. The ids are the same either way."""
        return self._fast if isinstance(self._fast, str) else None

    def encode_batch(
        self, texts: Sequence[str] | pa.Array, *, bos: bool = False, eos: bool = False
    ) -> tuple[Ids, npt.NDArray[np.int64]]:
        """(ids uint32[total], offsets int64[n + 1]): text i is `ids[offsets[i]:offsets[i + 1]]`.

        `texts` is a list of strings or an Arrow string array (the fastest). With `bos`/`eos`, that token stands
        before/after each text, empty ones too.
        """
        before = self._document_token("bos", self.bos_id) if bos else None
        after = self._document_token("eos", self.eos_id) if eos else None
        # The tables of the fast encoder take a moment to build: a few words alone are not worth it.
        known = "_fast" in self.__dict__
        if (known or _size(texts) >= _WORTH_TABLES) and isinstance(self._fast, FastBPE):
            return self._fast.encode(*self._utf8(texts), before, after)
        strings = texts.to_pylist() if isinstance(texts, pa.Array) else list(texts)
        encoded = self.backend.encode_batch_fast(strings, add_special_tokens=False)
        offsets = np.zeros(len(encoded) + 1, np.int64)
        np.cumsum([len(e.ids) + int(bos) + int(eos) for e in encoded], out=offsets[1:])
        ids = np.empty(offsets[-1], np.uint32)
        for e, first, end in zip(encoded, offsets, offsets[1:], strict=False):
            ids[first + int(bos) : end - int(eos)] = e.ids
        if bos:
            ids[offsets[:-1]] = before
        if eos:
            ids[offsets[1:] - 1] = after
        return ids, offsets

    def _utf8(self, texts: Sequence[str] | pa.Array) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        """(UTF-8 bytes, offsets int64[n + 1]) of the normalised texts; no copy where they are in Arrow already."""
        if self.backend.normalizer is not None:
            normalizer = self.backend.normalizer
            texts = [normalizer.normalize_str(t) for t in (texts.to_pylist() if isinstance(texts, pa.Array) else texts)]
        array = pa.array(texts, pa.large_string()) if not isinstance(texts, pa.Array) else texts.cast(pa.large_string())
        return string_buffers(array)

    def _document_token(self, name: str, token_id: int | None) -> int:
        if token_id is None:
            raise UserError(f"tokens.packing.add_{name}: the tokenizer has no {name.upper()} token; set it to false")
        return token_id

    def encode(self, text: str, *, bos: bool = False, eos: bool = False) -> list[int]:
        return [int(i) for i in self.encode_batch([text], bos=bos, eos=eos)[0]]

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        return str(self.backend.decode([int(i) for i in ids], skip_special_tokens=skip_special_tokens))

    def save(self, uri: str) -> None:
        """Write `tokenizer.json` and `tokenizer_config.json` into a directory, for `transformers.AutoTokenizer`."""
        storage.write_bytes(storage.join(uri, TOKENIZER_FILE), self.backend.to_str(pretty=True).encode())
        config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
        for name in ("bos", "eos", "pad", "unk"):
            if getattr(self, name) is not None:
                config[f"{name}_token"] = getattr(self, name)
        # Last: a directory with it is whole.
        storage.write_json(storage.join(uri, CONFIG_FILE), config)

    @classmethod
    def load(cls, uri: str) -> "Tokenizer":
        """Load what `save` wrote, or any directory with a tokenizer.json (and its tokenizer_config.json, if any)."""
        file = storage.join(uri, TOKENIZER_FILE)
        if not storage.exists(file):
            raise UserError(f"{file}: there is no tokenizer here")
        config_file = storage.join(uri, CONFIG_FILE)
        config = storage.read_json(config_file) if storage.exists(config_file) else {}
        return cls(backend_from_json(storage.read_bytes(file), file), **named_tokens(config))


def _size(texts: Sequence[str] | pa.Array) -> int:
    return texts.nbytes if isinstance(texts, pa.Array) else sum(map(len, texts))


def backend_from_json(data: bytes, where: str) -> tokenizers.Tokenizer:
    try:
        return tokenizers.Tokenizer.from_buffer(data)
    except Exception as e:
        raise UserError(
            f"{where}: not a tokenizer.json that `tokenizers` {tokenizers.__version__} reads: {e}"
        ) from None


def named_tokens(config: dict[str, Any]) -> dict[str, str | None]:
    """bos, eos, pad, unk of a tokenizer_config.json, where each is a string or an object with `content`."""
    out: dict[str, str | None] = {}
    for name in ("bos", "eos", "pad", "unk"):
        token = config.get(f"{name}_token")
        out[name] = token.get("content") if isinstance(token, dict) else token
    return out


@functools.lru_cache(maxsize=2)
def load_tokenizer(uri: str) -> Tokenizer:
    """The tokenizer of a directory, kept in this process from task to task."""
    return Tokenizer.load(uri)
