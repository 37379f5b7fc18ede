"""The fast encoder against `tokenizers`: the same ids for any text."""

import json
import unicodedata

import numpy as np
import pyarrow as pa
import pytest
import tokenizers
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers

from raypt.text.buffers import string_buffers
from raypt.tokens.config import TokenizerConfig
from raypt.tokens.tokenizer import fast_bpe, patterns
from raypt.tokens.tokenizer.byte_level import CL100K, Unsupported, character_classes, parse
from raypt.tokens.tokenizer.fast_bpe import FastBPE
from raypt.tokens.tokenizer.loaders import load_any
from raypt.tokens.tokenizer.tokenizer import Tokenizer
from raypt.tokens.tokenizer.trainer import train
from tests.tokens.helpers import CORPORA, WORDS, corpus_texts

TRAINING = [" ".join(WORDS[i:] + WORDS[:i]) * 3 + " I'll 've DON'T  12345 ==== a\n\n b\r\n" for i in range(len(WORDS))]


def byte_level(pre: object) -> tokenizers.Tokenizer:
    """A small BPE trained on the same text behind another pre-tokenizer."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre
    backend.decoder = decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=420, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False
    )
    backend.train_from_iterator(TRAINING, trainer)
    return backend


def split(pattern: str) -> object:
    isolate = pre_tokenizers.Split(Regex(pattern), "isolated")
    return pre_tokenizers.Sequence([isolate, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def digits(*, regex: bool) -> object:
    cut = (
        pre_tokenizers.Split(Regex(r"\p{N}{1,3}"), "isolated")
        if regex
        else pre_tokenizers.Digits(individual_digits=True)
    )
    return pre_tokenizers.Sequence([cut, pre_tokenizers.ByteLevel(add_prefix_space=False)])


BACKENDS = {
    "gpt2": byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False)),
    "digits": byte_level(digits(regex=False)),
    "triples": byte_level(digits(regex=True)),
    "llama3": byte_level(split(patterns.llama3())),
    "qwen2": byte_level(split(patterns.llama3(1))),
    "cl100k": byte_level(split(patterns.llama3(end_spaces=True))),
    "o200k": byte_level(split(patterns.o200k())),
    "tekken": byte_level(split(patterns.o200k(1, contractions=False))),
}
ENCODERS = {name: FastBPE(parse(backend.to_str())) for name, backend in BACKENDS.items()}

# What the patterns treat apart: apostrophes, spaces and newlines of all kinds, digits, letters, marks, symbols.
characters = st.sampled_from(
    "''''  \t\n\r\u00a0\u3000\u2028asStTmdDrRevVEl lL1239½Ⅷ٣é中文かŉſßΣİǅʰ\u0301\u200d🎈=-_.,!/\x00\u1680\ufeff"
)
texts = st.one_of(st.text(characters, max_size=60), st.text(max_size=30))


def fast(name: str, text: str) -> list[int]:
    data = np.frombuffer(text.encode(), np.uint8)
    ids, _ = ENCODERS[name].encode(data, np.array([0, data.size]), None, None)
    return ids.tolist()


@pytest.mark.parametrize("name", list(BACKENDS))
@given(text=texts)
@example(text="")
@example(text="'ſ 'S I'LL we'Ve '")
@example(text="a  1  2 3.14 \n 12345  ")
@example(text=" \n\n \r\n x \n")
@example(text="x\n \t")
@example(text="HTMLParser's ABC'll ǅabʰC \u0301A\u0301bC!/\n/")
@settings(max_examples=300, deadline=None)
def test_any_text_has_the_ids_of_tokenizers(name: str, text: str) -> None:
    assert fast(name, text) == BACKENDS[name].encode(text).ids


@pytest.mark.parametrize("length", [39, 40, 41, 255, 256, 257, 5000])
def test_words_of_any_length_merge_alike(length: int) -> None:
    rng = np.random.default_rng(length)
    for letters in ("ab", "theofsea", "中文распозн"):
        text = "".join(rng.choice(list(letters), length))
        assert fast("gpt2", text) == BACKENDS["gpt2"].encode(text).ids
        assert fast("gpt2", text) == BACKENDS["gpt2"].encode(text).ids  # from the table of words, where it is kept


def test_a_longer_word_anywhere_in_a_batch_has_its_memory_and_what_is_before_it_comes_once() -> None:
    backend = BACKENDS["gpt2"]
    encoder = FastBPE(parse(backend.to_str()))
    texts = ["x" * 3000, "the ship", "a b " + "house" * 2000 + " the ship", "", "z" * 90_000, "y" * 300_000]
    array = pa.array(texts, pa.large_string())
    data, offsets = string_buffers(array)
    ids, ends = encoder.encode(data, offsets, 7, 8)
    expected = [[7, *encoding.ids, 8] for encoding in backend.encode_batch(texts, add_special_tokens=False)]
    assert ids.tolist() == [i for document in expected for i in document]
    assert np.diff(ends).tolist() == [len(document) for document in expected]
    assert encoder._work[0].size <= fast_bpe._MOST_WORK


def test_a_whole_word_in_the_vocabulary_needs_no_merging_where_merges_are_ignored() -> None:
    model = json.loads(BACKENDS["gpt2"].to_str())
    model["model"]["ignore_merges"] = True
    model["model"]["vocab"]["qz"] = 5000
    backend = tokenizers.Tokenizer.from_str(json.dumps(model))
    encoder = FastBPE(parse(json.dumps(model)))
    for text in ("qz", "a qz", "qzqz the ship"):
        data = np.frombuffer(text.encode(), np.uint8)
        assert encoder.encode(data, np.array([0, data.size]), None, None)[0].tolist() == backend.encode(text).ids


def test_the_table_of_words_may_be_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raypt.tokens.tokenizer.fast_bpe._MAX_WORDS", 3)
    encoder = FastBPE(parse(BACKENDS["gpt2"].to_str()))
    text = " ".join(WORDS) * 2
    data = np.frombuffer(text.encode(), np.uint8)
    for _ in range(2):
        ids, _ = encoder.encode(data, np.array([0, data.size]), None, None)
        assert ids.tolist() == BACKENDS["gpt2"].encode(text).ids


def test_classes_of_characters_are_those_of_the_pattern_engine() -> None:
    classes = character_classes()
    for c in "aé中かא":
        assert classes[ord(c)] & 7 == 1
    for c in "1٣½Ⅷ":
        assert classes[ord(c)] & 7 == 2
    for c in " \n\u3000\u00a0":
        assert classes[ord(c)] & 7 == 4
    assert classes[ord("_")] == classes[0x301] & 7 == 0
    assert [int(classes[ord(c)]) >> 3 for c in "Aa中\u0301ǅ1"] == [1, 2, 3, 3, 1, 0]  # UPPER, LOWER, both
    known = [c for c in range(0x110000) if unicodedata.category(chr(c)) in ("Lu", "Ll", "Lo", "Lt", "Lm")]
    assert (classes[known] & 1).mean() > 0.999


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: t["model"].update(dropout=0.1), "dropout"),
        (lambda t: t["model"].update(end_of_word_suffix="</w>"), "end_of_word_suffix"),
        (lambda t: t["model"].update(byte_fallback=True), "byte_fallback"),
        (lambda t: t["pre_tokenizer"].update(add_prefix_space=True), "space before"),
        (lambda t: t.update(pre_tokenizer={"type": "Whitespace"}), "ByteLevel"),
        (lambda t: t["model"]["vocab"].pop("Ċ"), "lacks the byte 'Ċ'"),
        (lambda t: t["model"].update(type="Unigram"), "Unigram"),
    ],
)
def test_what_the_fast_encoder_lacks_is_named(change: object, reason: str) -> None:
    tokenizer = json.loads(BACKENDS["gpt2"].to_str())
    change(tokenizer)  # type: ignore[operator]
    with pytest.raises(Unsupported, match=reason):
        parse(json.dumps(tokenizer))


def test_another_pattern_falls_back_to_tokenizers_and_says_so() -> None:
    backend = byte_level(split(r"\s+|\w+|[^\w\s]+"))
    tokenizer = Tokenizer(backend)
    long = ["the ship, 12 " * 6000]
    assert tokenizer.slow_because == "its pre-tokenizer splits by another pattern"
    assert tokenizer.encode_batch(long)[0].tolist() == backend.encode(long[0]).ids


def test_an_added_token_that_is_not_special_falls_back() -> None:
    backend = tokenizers.Tokenizer.from_str(BACKENDS["gpt2"].to_str())
    backend.add_tokens(["sea ship"])
    tokenizer = Tokenizer(backend)
    assert "'sea ship'" in (tokenizer.slow_because or "")
    assert backend.token_to_id("sea ship") in tokenizer.encode("the sea ship " * 6000)


def test_a_normalizer_applies_before_the_fast_encoder() -> None:
    backend = tokenizers.Tokenizer.from_str(BACKENDS["gpt2"].to_str())
    backend.normalizer = normalizers.NFC()
    text = "nai\u0308ve " * 9000
    tokenizer = Tokenizer(backend)
    assert tokenizer.slow_because is None
    assert tokenizer.encode(text) == backend.encode(text).ids


def test_long_texts_are_encoded_like_short_ones(tokenizer_uri: str) -> None:
    tokenizer = Tokenizer.load(tokenizer_uri)
    texts = ["the sea ship <|end_of_text|> 中文 " * 4000, "", "naïve"]
    expected = [tokenizer.backend.encode(t).ids for t in texts]
    for given_as in (texts, pa.array(texts), pa.array(["x", *texts])[1:], pa.array(texts, pa.large_string())):
        ids, offsets = tokenizer.encode_batch(given_as, bos=True, eos=True)
        for i, plain in enumerate(expected):
            assert ids[offsets[i] : offsets[i + 1]].tolist() == [tokenizer.bos_id, *plain, tokenizer.eos_id]


def test_our_own_tokenizers_are_all_served() -> None:
    for values in ({}, {"split_digits": "individual"}, {"split_digits": "triples"}, {"normalization": "nfc"}):
        config = TokenizerConfig.model_validate({"vocab_size": 320, **values})
        assert train(TRAINING, config).slow_because is None
    assert ENCODERS["llama3"]._model.splitting.family == CL100K


@pytest.mark.skipif(not CORPORA.exists(), reason="shared/corpora is absent: GPT-2 on real text in many languages")
def test_gpt2_has_the_same_ids_on_real_text_in_many_languages() -> None:
    tokenizer = load_any(str(CORPORA / "tokenizers" / "gpt2"))
    docs = corpus_texts()
    ids, offsets = tokenizer.encode_batch(docs)
    assert tokenizer.slow_because is None
    for i, encoding in enumerate(tokenizer.backend.encode_batch_fast(docs, add_special_tokens=False)):
        assert ids[offsets[i] : offsets[i + 1]].tolist() == encoding.ids
