"""Vocabularies of ranked byte strings: tiktoken's files (LLaMA 3's `tokenizer.model` is one) and Mistral's tekken.json.

A tiktoken file holds base64 and a rank a line, neither pattern nor special tokens: those belong to the model that
published it, which is recognised by the file's hash. The pipeline has tiktoken's ids: merges inside a token's span are
those of the token alone, so that one merge completes each token, and the lowest rank, leftmost first, is both programs'
order; a word that is a token as it is needs no merging.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tokenizers
from tokenizers import Regex, decoders, models, pre_tokenizers

from raypt.errors import UserError
from raypt.tokens.config import TokenizerConfig
from raypt.tokens.tokenizer import patterns
from raypt.tokens.tokenizer.byte_level import characters_of_bytes


@dataclass(frozen=True)
class Named:
    """A pipeline and the tokens that its publisher names."""

    backend: tokenizers.Tokenizer
    names: dict[str, str]
    """bos, eos, pad, unk -> token, where there is one."""


@dataclass(frozen=True)
class _Published:
    """What a publisher says of a file beside its ranks."""

    name: str
    pattern: str
    special: Callable[[int], dict[str, int]]
    """Number of ranks -> token -> id."""
    names: Mapping[str, str]


def _after(tokens: Sequence[str]) -> Callable[[int], dict[str, int]]:
    """Special tokens that follow the ranks."""
    return lambda ranks: {token: ranks + i for i, token in enumerate(tokens)}


def _fixed(ids: dict[str, int]) -> Callable[[int], dict[str, int]]:
    return lambda ranks: ids


def _numbered(text: str, count: int, first: int = 0) -> list[str]:
    return [f"<|{text}_{i}|>" for i in range(first, first + count)]


_LLAMA3 = [
    *("<|begin_of_text|>", "<|end_of_text|>", *_numbered("reserved_special_token", 2), "<|finetune_right_pad_id|>"),
    *("<|step_id|>", "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>", "<|python_tag|>"),
    *("<|image|>", *_numbered("reserved_special_token", 244, 2)),
]
_LLAMA4_TEXT = [
    *("<|header_start|>", "<|header_end|>", "<|eom|>", "<|eot|>", "<|step|>"),
    *_numbered("text_post_train_reserved_special_token", 6),
    *("<|python_start|>", "<|python_end|>", "<|finetune_right_pad|>"),
    *_numbered("text_post_train_reserved_special_token", 61, 8),
]
_LLAMA4_VISION = [
    *("<|image_start|>", "<|image_end|>", *_numbered("vision_reserved_special_token", 2), "<|tile_x_separator|>"),
    *("<|tile_y_separator|>", *_numbered("vision_reserved_special_token", 4, 2), "<|image|>"),
    *("<|vision_reserved_special_token_6|>", "<|patch|>", *_numbered("vision_reserved_special_token", 1041, 7)),
]
_LLAMA4_REASONING = [
    *_numbered("reasoning_reserved_special_token", 8),
    *("<|reasoning_thinking_start|>", "<|reasoning_thinking_end|>"),
]
_LLAMA4_NAMED = [
    *("<|begin_of_text|>", "<|end_of_text|>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"),
    *(*_LLAMA4_TEXT, *_LLAMA4_VISION, *_LLAMA4_REASONING),
]
_LLAMA4 = [*_LLAMA4_NAMED, *_numbered("reserved_special_token", 2048 - len(_LLAMA4_NAMED))]
_QWEN = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *_numbered("extra", 205)]
_GPT = {"eos": "<|endoftext|>"}
_CL100K = {"<|endoftext|>": 100257, "<|fim_prefix|>": 100258, "<|fim_middle|>": 100259, "<|fim_suffix|>": 100260}
_BY_SHA256 = {
    "82e9d31979e92ab929cd544440f129d9ecd797b69e327f80f17e1c50d5551b55": _Published(
        "LLaMA 3",
        patterns.llama3(),
        _after(_LLAMA3),
        {"bos": "<|begin_of_text|>", "eos": "<|end_of_text|>", "pad": "<|finetune_right_pad_id|>"},
    ),
    "d0bdbaf59b0762c8c807617e2d8ea51420eb1b1de266df2495be755c8e0ed6ed": _Published(
        "LLaMA 4",
        patterns.o200k(),
        _after(_LLAMA4),
        {"bos": "<|begin_of_text|>", "eos": "<|end_of_text|>", "pad": "<|finetune_right_pad|>"},
    ),
    "b2b1b8dfb5cc5f024bafc373121c6aba3f66f9a5a0269e243470a1de16a33186": _Published(
        "Qwen", patterns.llama3(1), _after(_QWEN), _GPT
    ),
    "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930": _Published(
        "r50k_base", patterns.GPT2, _fixed({"<|endoftext|>": 50256}), _GPT
    ),
    "94b5ca7dff4d00767bc256fdd1b27e5b17361d7b8a5f968547f9f23eb70d2069": _Published(
        "p50k_base", patterns.GPT2, _fixed({"<|endoftext|>": 50256}), _GPT
    ),
    "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7": _Published(
        "cl100k_base", patterns.llama3(end_spaces=True), _fixed({**_CL100K, "<|endofprompt|>": 100276}), _GPT
    ),
    "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d": _Published(
        "o200k_base", patterns.o200k(), _fixed({"<|endoftext|>": 199999, "<|endofprompt|>": 200018}), _GPT
    ),
}
"""sha256 of a file -> its publisher's pattern and special tokens (llama_models, tokenization_qwen.py, tiktoken)."""

_TEKKEN_SPECIAL = [
    *("<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]"),
    *("[/TOOL_RESULTS]", "[TOOL_CALLS]", "[IMG]", "<pad>", "[IMG_BREAK]", "[IMG_END]", "[PREFIX]", "[MIDDLE]"),
    *("[SUFFIX]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CONTENT]"),
]
"""Of tekken files up to version 7, which do not list them."""


def looks_like(data: bytes) -> bool:
    """Whether the file begins as a tiktoken file does: base64, a space, a number."""
    try:
        _entry(data[:4096].split(b"\n", 1)[0])
    except (ValueError, binascii.Error):
        return False
    return True


def _entry(line: bytes) -> tuple[bytes, int]:
    token, rank = line.split()
    return base64.b64decode(token, validate=True), int(rank)


def parse(data: bytes, where: str) -> dict[bytes, int]:
    """The ranks of a tiktoken file, in order. Raises UserError, naming the line, if it is not one."""
    tokens: dict[int, bytes] = {}
    for number, line in enumerate(data.split(b"\n"), 1):
        if line.strip():
            try:
                token, rank = _entry(line)
            except (ValueError, binascii.Error):
                raise UserError(f"{where} line {number}: expected base64 and a rank, as tiktoken writes them") from None
            if rank in tokens:
                raise UserError(f"{where} line {number}: rank {rank} is there twice")
            tokens[rank] = token
    ranks = {tokens[rank]: rank for rank in sorted(tokens)}
    if len(ranks) != len(tokens):
        raise UserError(f"{where}: a token is there twice, with different ranks")
    return ranks


def load_tiktoken(data: bytes, where: str, config: TokenizerConfig | None = None) -> Named:
    """The pipeline of a tiktoken file: a published one, or of the split that the configuration names.

    Raises UserError for a file that is neither: its ids would depend on a guess.
    """
    ranks = parse(data, where)
    published = _BY_SHA256.get(hashlib.sha256(data).hexdigest())
    if published is not None:
        return Named(build(ranks, published.pattern, published.special(len(ranks)), where), dict(published.names))
    holes = set(range(len(ranks))) - set(ranks.values())
    if holes:
        raise UserError(f"{where}: no token has the rank {min(holes)}: which special token belongs there is not known")
    if config is None or config.split is None:
        known = ", ".join(p.name for p in _BY_SHA256.values())
        raise UserError(
            f"{where}: a tiktoken file of {len(ranks)} tokens that raypt does not know (it knows {known}); say by "
            "tokens.tokenizer.split which pattern it splits text by, and its special tokens by bos_token, eos_token, "
            "pad_token and extra_special_tokens, in the order of their ids"
        )
    if config.split == "gpt2" and config.split_digits is not None:
        raise UserError("tokens.tokenizer.split_digits: GPT-2's pattern, for a tiktoken file, has no digits to split")
    digits = {None: None, "individual": 1, "triples": 3}[config.split_digits]
    named = {n: getattr(config, f"{n}_token") for n in ("bos", "eos", "pad")}
    special = dict.fromkeys(t for t in (*named.values(), *config.extra_special_tokens) if t is not None)
    backend = build(ranks, patterns.pattern(config.split, digits), _after(list(special))(len(ranks)), where)
    return Named(backend, {n: t for n, t in named.items() if t is not None})


def load_tekken(data: bytes, where: str) -> Named:
    """The pipeline of Mistral's tekken.json. Raises UserError if it is not one."""
    try:
        file = json.loads(data)
        settings, entries = file["config"], file["vocab"]
        reserved, size = int(settings["default_num_special_tokens"]), int(settings["default_vocab_size"])
        expression = str(settings["pattern"])
        listed: list[Any] | None = file.get("special_tokens")
        names = _TEKKEN_SPECIAL if listed is None else [str(t["token_str"]) for t in listed]
        used = entries[: size - reserved]
        ranks = {base64.b64decode(entry["token_bytes"], validate=True): i for i, entry in enumerate(used)}
        in_order = all(entry["rank"] == i for i, entry in enumerate(used))
    except (KeyError, TypeError, ValueError) as e:
        raise UserError(f"{where}: not a tekken.json: {e!r}") from None
    if not in_order or len(ranks) != size - reserved or len(names) > reserved:
        raise UserError(f"{where}: not a tekken.json: its ranks or its special tokens do not add up to {size}")
    names = [*names, *(f"<SPECIAL_{i}>" for i in range(len(names), reserved))]
    backend = build(ranks, expression, {t: i for i, t in enumerate(names)}, where, first_id=reserved)
    return Named(backend, {"bos": "<s>", "eos": "</s>", "pad": "<pad>", "unk": "<unk>"})


def build(
    ranks: Mapping[bytes, int], expression: str, special: Mapping[str, int], where: str, first_id: int = 0
) -> tokenizers.Tokenizer:
    """The pipeline of byte strings with their ranks, in order; the id of a rank is `first_id` more."""
    missing = [b for b in range(256) if bytes([b]) not in ranks]
    if missing:
        raise UserError(f"{where}: its vocabulary lacks the byte {missing[0]:#04x}")
    spelt = characters_of_bytes()
    texts = {token: "".join(spelt[b] for b in token) for token in ranks}
    vocab = {texts[token]: first_id + rank for token, rank in ranks.items()}
    clashing = sorted(set(special) & set(vocab))
    if clashing:
        raise UserError(f"{where}: {clashing[0]!r} is both a special token and a word of its vocabulary")
    merges = []
    for token in ranks:
        if len(token) > 1 and (last := _last_merge(token, ranks)) is not None:
            merges.append((texts[last[0]], texts[last[1]]))
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocab | dict(special), merges=merges, ignore_merges=True))
    backend.pre_tokenizer = byte_level(expression)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(sorted(special, key=lambda t: special[t]))
    return backend


def byte_level(expression: str) -> Any:
    """The pre-tokenizer that splits by an expression of `patterns` and spells bytes as characters."""
    if expression == patterns.GPT2:
        return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    isolate = pre_tokenizers.Split(Regex(expression), "isolated")
    return pre_tokenizers.Sequence([isolate, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def _last_merge(token: bytes, rank_of: Mapping[bytes, int]) -> tuple[bytes, bytes] | None:
    """The merge that completes a token spelt out by itself, None if merging never arrives there.

    Its parts may have higher ranks than itself, as those of LLaMA 3's later tokens have.
    """
    none = 1 << 40
    parts = [token[i : i + 1] for i in range(len(token))]
    while len(parts) > 2:
        best, at = none, -1
        for i in range(len(parts) - 1):
            rank = rank_of.get(parts[i] + parts[i + 1], none)
            if rank < best:
                best, at = rank, i
        if at < 0:
            return None
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts[0], parts[1]
