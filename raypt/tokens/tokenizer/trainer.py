"""Train a tokenizer on a seeded sample of the curated text, or load one from any of the usual files."""

import functools
import io
import json
import logging
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import sentencepiece as library
import tokenizers
import xxhash
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from raypt import storage
from raypt.artefact import Identity, Output, Verify, make
from raypt.errors import UserError
from raypt.tasks import run_tasks
from raypt.tokens.config import TokenizerConfig
from raypt.tokens.parts import PartSummary, summarize_part
from raypt.tokens.tokenizer import CARD_FILE, bpe_learning, patterns, sentencepiece
from raypt.tokens.tokenizer.bpe_learning import Learned
from raypt.tokens.tokenizer.bpe_words import WordCounts, WordTable, summed
from raypt.tokens.tokenizer.byte_level import Splitting, Unsupported, splitting_of
from raypt.tokens.tokenizer.loaders import load_any
from raypt.tokens.tokenizer.sample import count_part, plan_sample, sample_part
from raypt.tokens.tokenizer.tiktoken_file import byte_level
from raypt.tokens.tokenizer.tokenizer import FORMS, MODEL_FILE, Tokenizer, keep_loaded

log = logging.getLogger("raypt")

UNKNOWN_TOKEN = "<|unknown|>"
FORMAT = 1
"""Raise it when the same text and settings train another tokenizer."""
DEFAULT_SPLIT: patterns.Split = "llama3"
_SENTENCEPIECE_THREADS = 8


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


def _word_pieces(config: TokenizerConfig, model: Any) -> tokenizers.Tokenizer:
    """A tokenizer of whole words around a WordPiece model."""
    backend = tokenizers.Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.BertPreTokenizer(), *_digits(config)])
    backend.decoder = decoders.WordPiece()
    normalizer = _normalizer(config)
    if normalizer is not None:
        backend.normalizer = normalizer
    return backend


def _byte_level(config: TokenizerConfig) -> Any:
    split = config.split or DEFAULT_SPLIT
    steps = _digits(config)
    if split == "gpt2" and steps:
        return pre_tokenizers.Sequence([*steps, byte_level(patterns.GPT2)])
    digits = {None: None, "individual": 1, "triples": 3}[config.split_digits]
    return byte_level(patterns.pattern(split, digits))


def _bpe_backend(config: TokenizerConfig, model: Any) -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer(model)
    backend.pre_tokenizer = _byte_level(config)
    backend.decoder = decoders.ByteLevel()
    normalizer = _normalizer(config)
    if normalizer is not None:
        backend.normalizer = normalizer
    return backend


def splitting(config: TokenizerConfig) -> Splitting | None:
    """How words are counted for BPE; None: `tokenizers` has to split the text itself."""
    if config.algorithm != "bpe" or config.normalization or config.sample_bytes > bpe_learning.MOST_COUNTED:
        return None
    try:
        return splitting_of(json.loads(_bpe_backend(config, models.BPE()).to_str())["pre_tokenizer"])
    except Unsupported:
        return None


def _learn(parts: Sequence[WordCounts], config: TokenizerConfig) -> Learned:
    """What the words of parts of a text come to, split as `splitting` says."""
    return bpe_learning.learn(summed(parts), config.vocab_size, config.min_frequency, special_tokens(config))


def bpe_from(learned: Learned, config: TokenizerConfig) -> Tokenizer:
    """The BPE tokenizer that was learned."""
    return _named(_bpe_backend(config, models.BPE(learned.vocabulary, learned.merges)), config)


def _train_bpe(texts: Sequence[str], config: TokenizerConfig) -> Tokenizer:
    if (split := splitting(config)) is None:
        return bpe_by_tokenizers(texts, config)
    table = WordTable()
    table.add_text(pa.array(texts, pa.large_string()), split)
    return bpe_from(_learn([table.counts()], config), config)


def bpe_by_tokenizers(texts: Sequence[str], config: TokenizerConfig) -> Tokenizer:
    """The same by `tokenizers` itself, whatever the settings."""
    backend = _bpe_backend(config, models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size,
        min_frequency=config.min_frequency,
        special_tokens=special_tokens(config),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer, length=len(texts))
    return _named(backend, config)


def _train_wordpiece(texts: Sequence[str], config: TokenizerConfig) -> Tokenizer:
    """Twice: `tokenizers` numbers the "##x" characters in the order of a hash map, and breaks ties by number. The first
    training only collects them; the second is given them in order, so that it is reproducible.
    """
    special = special_tokens(config)

    def vocabulary(size: int, first: list[str]) -> dict[str, int]:
        backend = _word_pieces(config, models.WordPiece(unk_token=UNKNOWN_TOKEN))
        trainer = trainers.WordPieceTrainer(
            vocab_size=size, min_frequency=config.min_frequency, special_tokens=first, show_progress=False
        )
        backend.train_from_iterator(texts, trainer, length=len(texts))
        return backend.get_vocab()

    characters = sorted(set(vocabulary(1, special)) - set(special))
    vocab = vocabulary(config.vocab_size, special + characters)
    model = models.WordPiece(vocab, unk_token=UNKNOWN_TOKEN, max_input_chars_per_word=100)
    return _named(_word_pieces(config, model), config, unk=UNKNOWN_TOKEN)


def _train_unigram(texts: Sequence[str], config: TokenizerConfig) -> Tokenizer:
    """By SentencePiece itself, on text kept as it is (no white space removed, identity normalisation).

    Its sums are added up thread by thread, in a fixed number of threads: the same model on any machine.
    """
    special = special_tokens(config)
    if config.normalization is not None:
        form = FORMS[config.normalization]()
        texts = [form.normalize_str(text) for text in texts]
    out = io.BytesIO()
    try:
        library.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=out,
            model_type="unigram",
            vocab_size=config.vocab_size,
            hard_vocab_limit=False,
            byte_fallback=config.byte_fallback,
            split_digits=config.split_digits == "individual",
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            max_sentence_length=1 << 30,
            train_extremely_large_corpus=sum(map(len, texts)) > 1 << 28,
            unk_id=special.index(UNKNOWN_TOKEN),
            unk_piece=UNKNOWN_TOKEN,
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            control_symbols=[t for t in special if t != UNKNOWN_TOKEN],
            num_threads=_SENTENCEPIECE_THREADS,
            minloglevel=2,
        )
    except RuntimeError as e:
        raise UserError(f"tokens.tokenizer: SentencePiece cannot train a unigram model: {e}") from None
    data = out.getvalue()
    backend = sentencepiece.to_backend(sentencepiece.parse(data, "the trained model"), "the trained model")
    if config.normalization is not None:
        form = FORMS[config.normalization]()
        backend.normalizer = normalizers.Sequence([form, backend.normalizer])
    unk = None if config.byte_fallback else UNKNOWN_TOKEN
    return _named(backend, config, unk=unk, model=data, form=config.normalization)


def _named(backend: tokenizers.Tokenizer, config: TokenizerConfig, **more: Any) -> Tokenizer:
    backend.add_special_tokens(special_tokens(config))
    return Tokenizer(backend, bos=config.bos_token, eos=config.eos_token, pad=config.pad_token, **more)


_ALGORITHMS = {"bpe": _train_bpe, "wordpiece": _train_wordpiece, "unigram": _train_unigram}


def train(texts: Sequence[str], config: TokenizerConfig) -> Tokenizer:
    """Train on these texts. The same texts in the same order give the same tokenizer."""
    return _ALGORITHMS[config.algorithm](texts, config)


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
    new: bool = False,
) -> Tokenizer:
    """The run's tokenizer, saved in directory `out_uri`: loaded from `config.path` or trained on a sample of the parts.

    If `out_uri` already holds the tokenizer of the same settings, seed and text, it is loaded; one of others is refused
    (UserError) unless `replace`: the tokens of a run must not change under it. `summaries` saves measuring the parts
    again; `new`: there is nothing in `out_uri`.
    """
    if config.path is None and summaries is None:
        summaries = run_tasks(summarize_part, curated_uris, name="measure curated text")
    identity = _identity(summaries or () if config.path is None else (), config, seed)

    def maker(output: Output) -> None:
        tokenizer = load_any(config.path, config) if config.path is not None else _train(curated_uris, summaries or ())
        if tokenizer.slow_because is not None:
            log.info("tokenizer: encoding by %s, not by the fast encoder", tokenizer.encoder)
        files = tokenizer.files()
        if MODEL_FILE not in files and not new:
            storage.remove_file(storage.join(out_uri, MODEL_FILE))  # another tokenizer's
        for name, data in files.items():
            output.write_bytes(name, data)

    def _train(curated_uris: Sequence[str], summaries: Sequence[PartSummary]) -> Tokenizer:
        sample = plan_sample(summaries, config, seed)
        uris = [curated_uris[i] for i in sample.parts]
        if (split := splitting(config)) is not None:
            count = functools.partial(count_part, rates=sample.rates, seed=seed, splitting=split)
            counted = run_tasks(count, uris, name="words for the tokenizer")
            documents = sum(n for n, _ in counted)
            # In a task, whose process has the compiler; the driver needs none.
            learn = functools.partial(_learn, config=config)
            found = run_tasks(learn, [[words for _, words in counted]] if documents else [], name="learn the tokenizer")
            made = [bpe_from(learned, config) for learned in found]
        else:
            sampled = run_tasks(
                functools.partial(sample_part, rates=sample.rates, seed=seed), uris, name="sample for the tokenizer"
            )
            texts = [t for part in sampled for t in part]
            documents = len(texts)
            made = [train(texts, config)] if texts else []
        if not made:
            raise UserError("tokens.tokenizer: the curated text is empty; there is nothing to train a tokenizer on")
        vocabulary = made[0].vocab_size
        log.info("tokenizer: trained %s on %d documents, %d tokens", config.algorithm, documents, vocabulary)
        return made[0]

    refuse = f"choose another run.dir, or set tokens.tokenizer.path={out_uri} to keep it"
    make(identity, out_uri, CARD_FILE, maker, verify=verify, refuse=None if replace else refuse, new=new)
    # What runs is what was saved: a fresh run and a resumed one must encode alike.
    keep_loaded(out_uri, tokenizer := Tokenizer.load(out_uri))
    return tokenizer
