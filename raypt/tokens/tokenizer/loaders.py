"""Load a tokenizer from the files that models come with."""

from collections.abc import Callable
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from raypt import storage
from raypt.errors import UserError
from raypt.tokens.config import TokenizerConfig
from raypt.tokens.tokenizer import sentencepiece
from raypt.tokens.tokenizer.tokenizer import CONFIG_FILE, TOKENIZER_FILE, Tokenizer, backend_from_json, named_tokens


def load_any(uri: str, config: TokenizerConfig | None = None) -> Tokenizer:
    """A tokenizer from a tokenizer.json, or a directory with tokenizer.json, vocab.json + merges.txt (GPT-2), vocab.txt
    (BERT) or tokenizer.model (SentencePiece).

    BOS, EOS and pad are what the files name; else those of `config` that the vocabulary has; else GPT-2's, BERT's and
    LLaMA's usual ones that it has.
    """
    if uri.endswith(".json") and not uri.endswith("vocab.json"):
        backend = backend_from_json(_read(uri), uri)
        parent = uri.rsplit("/", 1)[0] if "/" in uri else "."
        return _named(backend, _config(parent), config)
    for suffix in ("vocab.json", "merges.txt", "vocab.txt", "tokenizer.model"):
        if uri.endswith(suffix):
            uri = uri.rsplit("/", 1)[0] if "/" in uri else "."
            break
    names = storage.listdir(uri)
    for needed, loader in _LOADERS:
        if all(n in names for n in needed):
            return _named(loader(uri), _config(uri), config)
    raise UserError(
        f"tokens.tokenizer.path: {uri} has no tokenizer.json, vocab.json + merges.txt, vocab.txt or tokenizer.model"
    )


def _read(uri: str) -> bytes:
    try:
        return storage.read_bytes(uri)
    except OSError as e:
        raise UserError(f"tokens.tokenizer.path: cannot read {uri}: {e}") from None


def _config(directory: str) -> dict[str, Any]:
    file = storage.join(directory, CONFIG_FILE)
    return dict(storage.read_json(file)) if storage.exists(file) else {}


_USUAL: dict[str, tuple[str, ...]] = {
    "bos": ("<|begin_of_text|>", "<s>", "[CLS]", "<|endoftext|>"),
    "eos": ("<|end_of_text|>", "</s>", "[SEP]", "<|endoftext|>"),
    "pad": ("<pad>", "[PAD]"),
    "unk": ("<unk>", "[UNK]"),
}


def _named(backend: tokenizers.Tokenizer, files: dict[str, Any], config: TokenizerConfig | None) -> Tokenizer:
    found = named_tokens(files)
    for name, usual in _USUAL.items():
        wanted = getattr(config, f"{name}_token", None) if config else None
        candidates = [found.get(name), wanted, *usual]
        found[name] = next((t for t in candidates if t is not None and backend.token_to_id(t) is not None), None)
    return Tokenizer(backend, **found)


def _tokenizer_json(uri: str) -> tokenizers.Tokenizer:
    file = storage.join(uri, TOKENIZER_FILE)
    return backend_from_json(_read(file), file)


def _gpt2(uri: str) -> tokenizers.Tokenizer:
    """Byte-level BPE of vocab.json and merges.txt, pre-tokenized by GPT-2's pattern."""
    vocab: dict[str, int] = storage.read_json(storage.join(uri, "vocab.json"))
    lines = _read(storage.join(uri, "merges.txt")).decode().split("\n")
    merges: list[tuple[str, str]] = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or (number == 1 and line.startswith("#version")):
            continue
        pair = line.rstrip("\r").split(" ")
        if len(pair) != 2:
            raise UserError(f"{uri}/merges.txt line {number}: expected two tokens, found {len(pair)}")
        merges.append((pair[0], pair[1]))
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    backend.decoder = decoders.ByteLevel()
    special = [t for t in ("<|endoftext|>",) if t in vocab]
    backend.add_special_tokens(special)
    return backend


def _bert(uri: str) -> tokenizers.Tokenizer:
    """WordPiece of vocab.txt; lower-cased as BERT's uncased models when no entry has an upper-case letter."""
    lines = _read(storage.join(uri, "vocab.txt")).decode().split("\n")
    vocab = {token: i for i, token in enumerate(line.rstrip("\r") for line in lines) if token}
    plain = [t for t in vocab if not (t.startswith("[") and t.endswith("]"))]
    uncased = not any(t != t.lower() for t in plain)
    backend = tokenizers.Tokenizer(models.WordPiece(vocab, unk_token="[UNK]", max_input_chars_per_word=100))
    backend.normalizer = normalizers.BertNormalizer(lowercase=uncased)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    backend.add_special_tokens([t for t in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]") if t in vocab])
    return backend


def _sentencepiece(uri: str) -> tokenizers.Tokenizer:
    file = storage.join(uri, "tokenizer.model")
    return sentencepiece.to_backend(sentencepiece.parse(_read(file), file), file)


_LOADERS: tuple[tuple[tuple[str, ...], Callable[[str], tokenizers.Tokenizer]], ...] = (
    ((TOKENIZER_FILE,), _tokenizer_json),
    (("vocab.json", "merges.txt"), _gpt2),
    (("vocab.txt",), _bert),
    (("tokenizer.model",), _sentencepiece),
)
