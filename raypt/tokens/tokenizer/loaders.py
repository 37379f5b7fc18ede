"""Load a tokenizer from the files that models come with."""

import fnmatch
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from raypt import storage
from raypt.errors import UserError
from raypt.tokens.config import TokenizerConfig
from raypt.tokens.tokenizer import patterns, sentencepiece, tiktoken_file
from raypt.tokens.tokenizer.tokenizer import (
    TOKENIZER_FILE,
    Tokenizer,
    backend_from_json,
    is_own,
    kept_entries,
    named_tokens,
    read_config,
)

log = logging.getLogger("raypt")


def load_any(uri: str, config: TokenizerConfig | None = None) -> Tokenizer:
    """A tokenizer from a file or a directory as `tokens.tokenizer.path` describes them.

    BOS, EOS and pad are what the files name; else those of `config` that the vocabulary has; else GPT-2's, BERT's and
    LLaMA's usual ones that it has. A SentencePiece model is encoded by SentencePiece, and where the pipeline that other
    programs get in tokenizer.json would give other ids, that is logged.
    """
    name = uri.rsplit("/", 1)[-1]
    parent = uri.rsplit("/", 1)[0] if "/" in uri else "."
    if name in ("vocab.json", "merges.txt", "vocab.txt") or (name == TOKENIZER_FILE and is_own(read_config(parent))):
        uri, name = parent, ""
    if name.endswith((".json", ".model", ".tiktoken")):
        files, directory = [name], parent
    else:
        files, directory = storage.listdir(uri), uri
    files_config = read_config(directory)
    if is_own(files_config):
        return Tokenizer.load(directory)
    for pattern, loader in _LOADERS:
        found = [next((f for f in files if fnmatch.fnmatchcase(f, p)), None) for p in pattern]
        if all(found):
            loaded = loader(storage.join(directory, str(found[0])), config)
            return _as_used(_named(loaded, files_config, config), files_config, loaded)
    raise UserError(
        f"tokens.tokenizer.path: {uri} has no tokenizer.json, vocab.json + merges.txt, vocab.txt, tokenizer.model, "
        "*.tiktoken or tekken.json"
    )


def _as_used(tokenizer: Tokenizer, files: dict[str, Any], loaded: "_Loaded") -> Tokenizer:
    """The tokenizer that `transformers` makes of the files: where there is no tokenizer.json, whose post-processor
    decides, `add_bos_token` and `add_eos_token` of tokenizer_config.json do.
    """
    if loaded.pipeline_of_file:
        return tokenizer
    bos, eos = (bool(files.get(f"add_{name}_token")) for name in ("bos", "eos"))
    return tokenizer.with_added(bos=bos and tokenizer.bos is not None, eos=eos and tokenizer.eos is not None)


@dataclass(frozen=True)
class _Loaded:
    """What a file gives: a pipeline, the tokens that it names itself, the SentencePiece model that encodes."""

    backend: tokenizers.Tokenizer
    names: dict[str, str] = field(default_factory=dict)
    model: bytes | None = None
    pipeline_of_file: bool = False
    """The pipeline, and what it adds to a text, is the file's own."""


def _read(uri: str) -> bytes:
    try:
        return storage.read_bytes(uri)
    except OSError as e:
        raise UserError(f"tokens.tokenizer.path: cannot read {uri}: {e}") from None


_USUAL: dict[str, tuple[str, ...]] = {
    "bos": ("<|begin_of_text|>", "<s>", "[CLS]", "<|endoftext|>"),
    "eos": ("<|end_of_text|>", "</s>", "[SEP]", "<|endoftext|>"),
    "pad": ("<pad>", "[PAD]"),
    "unk": ("<unk>", "[UNK]"),
}


def _named(loaded: _Loaded, files: dict[str, Any], config: TokenizerConfig | None) -> Tokenizer:
    found = named_tokens(files)
    for name, usual in _USUAL.items():
        wanted = getattr(config, f"{name}_token", None) if config else None
        # A publisher that names its tokens has no others.
        candidates = [found.get(name), *([loaded.names.get(name)] if loaded.names else [wanted, *usual])]
        found[name] = next((t for t in candidates if t is not None and loaded.backend.token_to_id(t) is not None), None)
    bos, eos, pad, unk = (found[name] for name in ("bos", "eos", "pad", "unk"))
    return Tokenizer(loaded.backend, bos=bos, eos=eos, pad=pad, unk=unk, model=loaded.model, kept=kept_entries(files))


def _tokenizer_json(file: str, config: TokenizerConfig | None) -> _Loaded:
    return _Loaded(backend_from_json(_read(file), file), pipeline_of_file=True)


def _gpt2(file: str, config: TokenizerConfig | None) -> _Loaded:
    """Byte-level BPE of vocab.json and merges.txt, pre-tokenized by GPT-2's pattern."""
    vocab: dict[str, int] = storage.read_json(file)
    merges_file = storage.join(file.rsplit("/", 1)[0], "merges.txt")
    merges: list[tuple[str, str]] = []
    for number, line in enumerate(_read(merges_file).decode().split("\n"), 1):
        if not line.strip() or (number == 1 and line.startswith("#version")):
            continue
        pair = line.rstrip("\r").split(" ")
        if len(pair) != 2:
            raise UserError(f"{merges_file} line {number}: expected two tokens, found {len(pair)}")
        merges.append((pair[0], pair[1]))
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=merges))
    backend.pre_tokenizer = tiktoken_file.byte_level(patterns.GPT2)
    backend.decoder = decoders.ByteLevel()
    special = [t for t in ("<|endoftext|>",) if t in vocab]
    backend.add_special_tokens(special)
    return _Loaded(backend)


def _bert(file: str, config: TokenizerConfig | None) -> _Loaded:
    """WordPiece of vocab.txt; lower-cased as BERT's uncased models when no entry has an upper-case letter."""
    lines = _read(file).decode().split("\n")
    vocab = {token: i for i, token in enumerate(line.rstrip("\r") for line in lines) if token}
    plain = [t for t in vocab if not (t.startswith("[") and t.endswith("]"))]
    uncased = not any(t != t.lower() for t in plain)
    backend = tokenizers.Tokenizer(models.WordPiece(vocab, unk_token="[UNK]", max_input_chars_per_word=100))
    backend.normalizer = normalizers.BertNormalizer(lowercase=uncased)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    backend.add_special_tokens([t for t in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]") if t in vocab])
    return _Loaded(backend)


def _model_file(file: str, config: TokenizerConfig | None) -> _Loaded:
    """A `.model` file is SentencePiece's, or tiktoken's under that name (LLaMA 3)."""
    data = _read(file)
    if tiktoken_file.looks_like(data):
        return _tiktoken(file, config)
    model = sentencepiece.parse(data, file)
    backend = sentencepiece.to_backend(model, file)
    encoder = sentencepiece.SentencePieceEncoder(data, file)
    if differing := sentencepiece.probe_differences(model, encoder, backend):
        log.warning(
            "tokenizer: %s is encoded by SentencePiece; the tokenizer.json for other programs gives other ids for "
            "%d of the probed texts, such as %s",
            *(file, len(differing), ", ".join(ascii(t) for t in differing[:3])),
        )
    return _Loaded(backend, model=data)


def _tiktoken(file: str, config: TokenizerConfig | None) -> _Loaded:
    named = tiktoken_file.load_tiktoken(_read(file), file, config)
    return _Loaded(named.backend, named.names)


def _tekken(file: str, config: TokenizerConfig | None) -> _Loaded:
    named = tiktoken_file.load_tekken(_read(file), file)
    return _Loaded(named.backend, named.names)


_LOADERS: tuple[tuple[tuple[str, ...], Callable[[str, TokenizerConfig | None], _Loaded]], ...] = (
    ((TOKENIZER_FILE,), _tokenizer_json),
    (("vocab.json", "merges.txt"), _gpt2),
    (("vocab.txt",), _bert),
    (("*.model",), _model_file),
    (("*.tiktoken",), _tiktoken),
    (("tekken*.json",), _tekken),
    (("*.json",), _tokenizer_json),
)
"""Files that a directory must have -> who reads the first of them; a file by itself is a directory of one."""
