"""Train a tokenizer on a seeded sample of the curated text, or load one from any of the usual files."""

import functools
import json
import logging
from collections.abc import Sequence
from typing import Any

import tokenizers
import xxhash
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from raypt.artefact import Identity, Output, Verify, make
from raypt.errors import UserError
from raypt.tasks import run_tasks
from raypt.tokens.config import TokenizerConfig
from raypt.tokens.parts import PartSummary, summarize_part
from raypt.tokens.tokenizer.loaders import load_any
from raypt.tokens.tokenizer.sample import sample_part, sample_rates
from raypt.tokens.tokenizer.sentencepiece import control_guard
from raypt.tokens.tokenizer.tokenizer import CONFIG_FILE, TOKENIZER_FILE, Tokenizer

log = logging.getLogger("raypt")

UNKNOWN_TOKEN = "<|unknown|>"
CARD_FILE = "tokenizer.card.json"
FORMAT = 1
"""Raise it when the same text and settings train another tokenizer."""


def special_tokens(config: TokenizerConfig) -> list[str]:
    named = [config.bos_token, config.eos_token, config.pad_token]
    if config.algorithm != "bpe":
        named.insert(0, UNKNOWN_TOKEN)
    tokens = [t for t in named if t is not None]
    return list(dict.fromkeys([*tokens, *config.extra_special_tokens]))


def _normalizer(config: TokenizerConfig) -> Any:
    steps: list[Any] = []
    if config.normalization:
        steps.append({"nfc": normalizers.NFC, "nfkc": normalizers.NFKC}[config.normalization]())
    if config.algorithm == "wordpiece":
        steps.append(normalizers.BertNormalizer(lowercase=config.lowercase))
    return normalizers.Sequence(steps) if steps else None


def _digits(config: TokenizerConfig) -> list[Any]:
    if config.split_digits == "individual":
        return [pre_tokenizers.Digits(individual_digits=True)]
    if config.split_digits == "triples":
        return [pre_tokenizers.Split(tokenizers.Regex(r"\p{N}{1,3}"), "isolated")]
    return []


def _pieces_pipeline(config: TokenizerConfig, model: Any) -> tokenizers.Tokenizer:
    """A tokenizer of whole words around a WordPiece or Unigram model."""
    backend = tokenizers.Tokenizer(model)
    if config.algorithm == "wordpiece":
        backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.BertPreTokenizer(), *_digits(config)])
        backend.decoder = decoders.WordPiece()
    else:
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [*_digits(config), pre_tokenizers.Metaspace(prepend_scheme="first")]
        )
        backend.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
    normalizer = _normalizer(config)
    if normalizer is not None:
        backend.normalizer = normalizer
    return backend


def _train_bpe(texts: Sequence[str], config: TokenizerConfig) -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer(models.BPE())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    steps = _digits(config)
    backend.pre_tokenizer = pre_tokenizers.Sequence([*steps, byte_level]) if steps else byte_level
    backend.decoder = decoders.ByteLevel()
    normalizer = _normalizer(config)
    if normalizer is not None:
        backend.normalizer = normalizer
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size,
        min_frequency=config.min_frequency,
        special_tokens=special_tokens(config),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer, length=len(texts))
    return backend


def _train_wordpiece(texts: Sequence[str], config: TokenizerConfig) -> tokenizers.Tokenizer:
    """Twice: `tokenizers` numbers the "##x" characters in the order of a hash map, and breaks ties by number. The first
    training only collects them; the second is given them in order, so that it is reproducible.
    """
    special = special_tokens(config)

    def vocabulary(size: int, first: list[str]) -> dict[str, int]:
        backend = _pieces_pipeline(config, models.WordPiece(unk_token=UNKNOWN_TOKEN))
        trainer = trainers.WordPieceTrainer(
            vocab_size=size, min_frequency=config.min_frequency, special_tokens=first, show_progress=False
        )
        backend.train_from_iterator(texts, trainer, length=len(texts))
        return backend.get_vocab()

    characters = sorted(set(vocabulary(1, special)) - set(special))
    vocab = vocabulary(config.vocab_size, special + characters)
    model = models.WordPiece(vocab, unk_token=UNKNOWN_TOKEN, max_input_chars_per_word=100)
    return _pieces_pipeline(config, model)


def _train_unigram(texts: Sequence[str], config: TokenizerConfig) -> tokenizers.Tokenizer:
    special = special_tokens(config)
    if config.byte_fallback:
        special += [f"<0x{b:02X}>" for b in range(256)]
    backend = _pieces_pipeline(config, models.Unigram())
    trainer = trainers.UnigramTrainer(
        vocab_size=config.vocab_size, special_tokens=special, unk_token=UNKNOWN_TOKEN, show_progress=False
    )
    backend.train_from_iterator(texts, trainer, length=len(texts))
    pieces = [(p, s) for p, s in json.loads(backend.to_str())["model"]["vocab"] if p not in special]
    vocab = [(t, 0.0) for t in special] + _reproducible(pieces)
    backend = _pieces_pipeline(config, models.Unigram(vocab, special.index(UNKNOWN_TOKEN), config.byte_fallback))
    backend.pre_tokenizer = pre_tokenizers.Sequence([backend.pre_tokenizer, control_guard(special)])
    return backend


def _reproducible(pieces: list[tuple[str, float]]) -> list[tuple[str, float]]:
    """Unigram pieces with what depends on the order of `tokenizers`' hash maps taken out.

    The last digits of the scores (sums in another order) are rounded off. Characters that must be kept without a score
    of their own get the lowest score plus 0, 1, 2, ... times 0.0001, in hash order: they get them in character order.
    """
    lowest = min(score for _, score in pieces)
    steps = {p: (score - lowest) / 1e-4 for p, score in pieces if len(p) == 1}
    required = sorted(p for p, n in steps.items() if abs(n - round(n)) < 1e-4 and n < len(pieces))
    given = dict(zip(required, sorted(steps[p] * 1e-4 + lowest for p in required), strict=True))
    rounded = [(p, round(given.get(p, score), 6)) for p, score in pieces]
    return sorted(rounded, key=lambda x: (-x[1], x[0]))


_ALGORITHMS = {"bpe": _train_bpe, "wordpiece": _train_wordpiece, "unigram": _train_unigram}


def train(texts: Sequence[str], config: TokenizerConfig) -> Tokenizer:
    """Train on these texts. The same texts in the same order give the same tokenizer."""
    backend = _ALGORITHMS[config.algorithm](texts, config)
    backend.add_special_tokens(special_tokens(config))
    emits_unknown = config.algorithm == "wordpiece" or (config.algorithm == "unigram" and not config.byte_fallback)
    unk = UNKNOWN_TOKEN if emits_unknown else None
    return Tokenizer(backend, bos=config.bos_token, eos=config.eos_token, pad=config.pad_token, unk=unk)


def _identity(curated: Sequence[PartSummary], config: TokenizerConfig, seed: int) -> Identity:
    content = xxhash.xxh3_64_hexdigest("".join(s.content for s in curated).encode())
    settings = {"config": config.model_dump(mode="json"), "seed": seed}
    return Identity("tokenizer", FORMAT, {"content": content}, settings)


def prepare_tokenizer(
    curated_uris: Sequence[str],
    config: TokenizerConfig,
    out_uri: str,
    seed: int,
    summaries: Sequence[PartSummary] | None = None,
    verify: Verify = "sizes",
    *,
    replace: bool = False,
) -> Tokenizer:
    """The run's tokenizer, saved in directory `out_uri`: loaded from `config.path` or trained on a sample of the parts.

    If `out_uri` already holds the tokenizer of the same settings, seed and text, it is loaded; one of others is refused
    (UserError) unless `replace`: the tokens of a run must not change under it. `summaries` saves measuring the parts
    again.
    """
    if config.path is None and summaries is None:
        summaries = run_tasks(summarize_part, curated_uris, name="measure curated text")
    identity = _identity(summaries or () if config.path is None else (), config, seed)

    def maker(output: Output) -> None:
        tokenizer = load_any(config.path, config) if config.path is not None else _train(curated_uris, summaries or ())
        if tokenizer.slow_because is not None:
            log.info("tokenizer: encoding by `tokenizers`, not by the fast encoder: %s", tokenizer.slow_because)
        tokenizer.save(out_uri)
        for name in (TOKENIZER_FILE, CONFIG_FILE):
            output.add(name)

    def _train(curated_uris: Sequence[str], summaries: Sequence[PartSummary]) -> Tokenizer:
        rates = sample_rates(summaries, config)
        parts = run_tasks(
            functools.partial(sample_part, rates=rates, seed=seed), curated_uris, name="sample for the tokenizer"
        )
        texts = [t for part in parts for t in part]
        if not texts:
            raise UserError("tokens.tokenizer: the curated text is empty; there is nothing to train a tokenizer on")
        tokenizer = train(texts, config)
        log.info("tokenizer: trained %s on %d documents, %d tokens", config.algorithm, len(texts), tokenizer.vocab_size)
        return tokenizer

    refuse = f"choose another run.dir, or set tokens.tokenizer.path={out_uri} to keep it"
    make(identity, out_uri, CARD_FILE, maker, verify=verify, refuse=None if replace else refuse)
    # What runs is what was saved: a fresh run and a resumed one must encode alike.
    return Tokenizer.load(out_uri)
