"""A tokenizer: text to ids and back, with explicit document tokens and a fingerprint.

It wraps a Hugging Face `tokenizers.Tokenizer`, and for SentencePiece models that library's own encoder. Text from
outside is data: a special token's string inside it is encoded as text, never as the control token. No template adds
tokens behind one's back: `bos`/`eos` are arguments. What its users' programs add (the post-processor of the file) is
`adds_bos`, so that training can do the same.
"""

import functools
import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import tokenizers
import xxhash
from tokenizers import normalizers, processors

from raypt import storage
from raypt.errors import UserError
from raypt.text.buffers import string_buffers
from raypt.tokens.tokenizer.byte_level import Unsupported, parse
from raypt.tokens.tokenizer.fast_bpe import FastBPE
from raypt.tokens.tokenizer.sentencepiece import SentencePieceEncoder

TOKENIZER_FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"
MODEL_FILE = "tokenizer.model"
TEMPLATE_FILE = "chat_template.jinja"
_OURS = "raypt"
"""Key of tokenizer_config.json under which raypt keeps what only it reads."""
_KEPT = ("chat_template", "model_max_length", "padding_side", "truncation_side", "additional_special_tokens")
"""Keys of a hub's tokenizer_config.json that a tokenizer made from it keeps. `auto_map`, for one, names code to run."""

_WORTH_TABLES = 1 << 16
"""Bytes of text from which on the fast encoder is worth its tables."""

Ids = npt.NDArray[np.uint32]
UNKNOWN, BYTE = 1, 2


class Tokenizer:
    """`bos`, `eos`, `pad` and `unk` are the strings of those tokens, None where there is none.

    `model` is the SentencePiece file that encodes (None: the backend does), `form` the Unicode form a text gets before
    it. `kept` are entries of the tokenizer_config.json it came with that go into every file saved from it.
    """

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        *,
        bos: str | None = None,
        eos: str | None = None,
        pad: str | None = None,
        unk: str | None = None,
        model: bytes | None = None,
        form: Literal["nfc", "nfkc"] | None = None,
        kept: Mapping[str, Any] | None = None,
    ) -> None:
        self.backend = backend
        self.backend.no_padding()
        self.backend.no_truncation()
        self.backend.encode_special_tokens = True
        self.bos, self.eos, self.pad, self.unk = bos, eos, pad, unk
        self.kept = dict(kept or {})
        self._model, self._form = model, form
        self._sentencepiece = None if model is None else SentencePieceEncoder(model, MODEL_FILE)
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
        if self._model is not None:
            what = f"{xxhash.xxh3_64_hexdigest(self._model)} {self._form} {self._added()}"
        else:
            # Parsed and dumped again: the order of keys in the file says nothing.
            what = json.dumps(json.loads(self.backend.to_str()), sort_keys=True, ensure_ascii=False)
        return xxhash.xxh3_64_hexdigest("\x1f".join([what, str(self.bos), str(self.eos), str(self.pad)]).encode())

    def _added(self) -> tuple[bool, bool]:
        """Whether the backend's post-processor puts BOS before a text, EOS after it."""
        plain, used = (self.backend.encode("a", add_special_tokens=special).ids for special in (False, True))
        return (
            self.bos_id is not None and used[:1] == [self.bos_id] != plain[:1],
            self.eos_id is not None and used[-1:] == [self.eos_id] != plain[-1:],
        )

    @functools.cached_property
    def token_kinds(self) -> npt.NDArray[np.uint8] | None:
        """uint8[vocab_size]: UNKNOWN for the unknown token, BYTE for bytes of characters that the vocabulary lacks.

        None where a tokenizer emits neither (byte-level BPE).
        """
        model = json.loads(self.backend.to_str())["model"]
        if model["type"] == "BPE" and model.get("unk_token") is None and not model.get("byte_fallback"):
            return None
        kinds = np.zeros(self.vocab_size, np.uint8)
        unknown = model["vocab"][model["unk_id"]][0] if model.get("unk_id") is not None else model.get("unk_token")
        if (unknown_id := self._id(unknown)) is not None:
            kinds[unknown_id] = UNKNOWN
        if model.get("byte_fallback"):
            kinds[[i for b in range(256) if (i := self._id(f"<0x{b:02X}>")) is not None]] = BYTE
        return kinds

    @property
    def adds_bos(self) -> bool:
        """Whether programs that load the files of this tokenizer put BOS before each text."""
        return self._added()[0]

    def with_added(self, *, bos: bool, eos: bool | None = None) -> "Tokenizer":
        """This tokenizer, such that programs that load it put BOS before a text, or not, and EOS after it, or not.

        `eos` None leaves it as it is. Raises UserError if the tokenizer lacks the token to add.
        """
        adds_bos, adds_eos = self._added()
        eos = adds_eos if eos is None else eos
        if (adds_bos, adds_eos) == (bos, eos):
            return self
        tokens = {}
        for name, token, wanted in (("bos", self.bos, bos), ("eos", self.eos, eos)):
            if wanted:
                tokens[str(token)] = self._document_token(name, self._id(token))
        first, last = (f"{self.bos} " if bos else ""), (f" {self.eos}" if eos else "")
        raw: dict[str, Any] = json.loads(self.backend.to_str())
        raw["post_processor"] = _less_added(raw["post_processor"])
        copy = tokenizers.Tokenizer.from_str(json.dumps(raw))
        if tokens:
            template = processors.TemplateProcessing(
                single=f"{first}$A{last}",
                pair=f"{first}$A{last} {first}$B:1{last}",
                special_tokens=list(tokens.items()),
            )
            kept = copy.post_processor
            copy.post_processor = template if kept is None else processors.Sequence([kept, template])
        names = {n: getattr(self, n) for n in ("bos", "eos", "pad", "unk")}
        return Tokenizer(copy, **names, model=self._model, form=self._form, kept=self.kept)

    @functools.cached_property
    def _fast(self) -> FastBPE | str:
        """The fast encoder, or why this tokenizer has none."""
        if self._model is not None:
            return "SentencePiece encodes its own models"
        try:
            return FastBPE(parse(self.backend.to_str()))
        except Unsupported as e:
            return str(e)

    @property
    def slow_because(self) -> str | None:
        """Why the fast encoder does not serve, None if it does. The ids are the same either way."""
        return self._fast if isinstance(self._fast, str) else None

    @property
    def encoder(self) -> str:
        """Who encodes, for messages."""
        if self._model is not None:
            return "SentencePiece"
        return "the fast encoder" if self.slow_because is None else f"`tokenizers` ({self.slow_because})"

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
        encoded = self._encode_each(texts.to_pylist() if isinstance(texts, pa.Array) else list(texts))
        offsets = np.zeros(len(encoded) + 1, np.int64)
        np.cumsum([len(e) + int(bos) + int(eos) for e in encoded], out=offsets[1:])
        ids = np.empty(offsets[-1], np.uint32)
        for e, first, end in zip(encoded, offsets, offsets[1:], strict=False):
            ids[first + int(bos) : end - int(eos)] = e
        if bos:
            ids[offsets[:-1]] = before
        if eos:
            ids[offsets[1:] - 1] = after
        return ids, offsets

    def _encode_each(self, texts: list[str]) -> Sequence[Sequence[int] | Ids]:
        if self._sentencepiece is None:
            return [e.ids for e in self.backend.encode_batch_fast(texts, add_special_tokens=False)]
        if self._form is not None:
            form = FORMS[self._form]()
            texts = [form.normalize_str(t) for t in texts]
        return self._sentencepiece.encode(texts)

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
        plain = [int(i) for i in ids]
        if self._sentencepiece is not None and skip_special_tokens:
            return self._sentencepiece.decode(plain)
        return str(self.backend.decode(plain, skip_special_tokens=skip_special_tokens))

    def files(self, *, max_length: int | None = None) -> dict[str, bytes]:
        """The tokenizer's files by name, for `Tokenizer.load` and for `transformers.AutoTokenizer`.

        `tokenizer.json`, for a SentencePiece model `tokenizer.model`, and last `tokenizer_config.json`: a directory
        with it is whole. `max_length` is the most tokens that the model takes (None: what the files said that it came
        from).
        """
        out = {TOKENIZER_FILE: self.backend.to_str(pretty=True).encode()}
        config: dict[str, Any] = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
            **self.kept,
        }
        if max_length is not None:
            config["model_max_length"] = max_length
        for name in ("bos", "eos", "pad", "unk"):
            if getattr(self, name) is not None:
                config[f"{name}_token"] = getattr(self, name)
        if self._model is not None:
            out[MODEL_FILE] = self._model
            config[_OURS] = {"encoder": MODEL_FILE, "form": self._form}
        return {**out, CONFIG_FILE: storage.json_bytes(config)}

    def save(self, uri: str, *, max_length: int | None = None) -> None:
        """Write the tokenizer's `files` into a directory."""
        files = self.files(max_length=max_length)
        if MODEL_FILE not in files:
            storage.remove_file(storage.join(uri, MODEL_FILE))  # another tokenizer's
        for name, data in files.items():
            storage.write_bytes(storage.join(uri, name), data)

    @classmethod
    def load(cls, uri: str) -> "Tokenizer":
        """Load what `save` wrote, or any directory with a tokenizer.json (and its tokenizer_config.json, if any)."""
        return cls.of(read_files(uri), uri)

    @classmethod
    def of(cls, files: Mapping[str, bytes], uri: str) -> "Tokenizer":
        """Of what `read_files` found in the directory `uri`."""
        config = _config_of(files, uri)
        model, form = None, None
        if ours := config.get(_OURS):
            model, form = files[ours["encoder"]], ours["form"]
        backend = backend_from_json(files[TOKENIZER_FILE], storage.join(uri, TOKENIZER_FILE))
        return cls(backend, **named_tokens(config), model=model, form=form, kept=kept_entries(config))


def read_files(uri: str) -> dict[str, bytes]:
    """The files of a tokenizer's directory that `Tokenizer.of` makes one of, by name.

    Raises:
        UserError: there is no tokenizer.json.
    """
    file = storage.join(uri, TOKENIZER_FILE)
    if (data := storage.read_if_there(file)) is None:
        raise UserError(f"{file}: there is no tokenizer here")
    found = {TOKENIZER_FILE: data, **_read_config_files(uri)}
    if ours := _config_of(found, uri).get(_OURS):
        found[ours["encoder"]] = storage.read_bytes(storage.join(uri, ours["encoder"]))
    return found


FORMS = {"nfc": normalizers.NFC, "nfkc": normalizers.NFKC}


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


def read_config(directory: str) -> dict[str, Any]:
    """tokenizer_config.json of a directory, with the chat template that may lie beside it; {} if there is none."""
    return _config_of(_read_config_files(directory), directory)


def _read_config_files(directory: str) -> dict[str, bytes]:
    found = {}
    if (data := storage.read_if_there(storage.join(directory, CONFIG_FILE))) is not None:
        found[CONFIG_FILE] = data
    if "chat_template" in _config_of(found, directory):
        return found
    if (data := storage.read_if_there(storage.join(directory, TEMPLATE_FILE))) is not None:
        found[TEMPLATE_FILE] = data
    return found


def _config_of(files: Mapping[str, bytes], directory: str) -> dict[str, Any]:
    config: dict[str, Any] = {}
    if (data := files.get(CONFIG_FILE)) is not None:
        config = dict(storage.json_of(data, storage.join(directory, CONFIG_FILE)))
    if (template := files.get(TEMPLATE_FILE)) is not None:
        config["chat_template"] = template.decode()
    return config


def kept_entries(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: config[key] for key in _KEPT if key in config}


def is_own(config: Mapping[str, Any]) -> bool:
    """Whether raypt itself wrote this tokenizer_config.json, with entries that only `Tokenizer.load` understands."""
    return _OURS in config


_loaded: "OrderedDict[str, Tokenizer]" = OrderedDict()
"""Tokenizers that this process keeps, by their directories: the one it uses, and one more."""


def load_tokenizer(uri: str) -> Tokenizer:
    """The tokenizer of a directory, kept in this process from task to task."""
    if uri not in _loaded:
        keep_loaded(uri, Tokenizer.load(uri))
    return _loaded[uri]


def keep_loaded(uri: str, tokenizer: Tokenizer) -> None:
    """For `load_tokenizer`: what the directory holds from now on."""
    _loaded.pop(uri, None)
    while len(_loaded) > 1:
        _loaded.popitem(last=False)
    _loaded[uri] = tokenizer


def _less_added(processor: dict[str, Any] | None) -> dict[str, Any] | None:
    """A post-processor less the templates that add tokens; what only trims the offsets of byte-level tokens stays."""
    if processor is None or processor["type"] == "ByteLevel":
        return processor
    if processor["type"] != "Sequence":
        return None
    kept = [p for p in map(_less_added, processor["processors"]) if p is not None]
    return {"type": "Sequence", "processors": kept} if kept else None
