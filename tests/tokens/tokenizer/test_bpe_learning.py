"""Merges learned by the kernels against those of `tokenizers`: the same tokenizer, to the byte of its file."""

import random

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raypt.tokens.config import TokenizerConfig
from raypt.tokens.tokenizer import bpe_words
from raypt.tokens.tokenizer.bpe_words import WordTable, summed
from raypt.tokens.tokenizer.byte_level import CL100K, Splitting
from raypt.tokens.tokenizer.trainer import bpe_by_tokenizers, splitting, train
from tests.tokens.helpers import CORPORA, WORDS, corpus_texts

TEXTS = [
    " ".join(WORDS[i:] + WORDS[:i]) * 5 + f" I'll {i}12345 ====== --- a\n\n b\r\n 中文，标点" for i in range(len(WORDS))
]
LLAMA3 = Splitting(CL100K, 3)


def config(**values: object) -> TokenizerConfig:
    return TokenizerConfig.model_validate({"vocab_size": 600, **values})


def assert_same(texts: list[str], of: TokenizerConfig) -> None:
    assert splitting(of) is not None, "this is about what the kernels learn"
    assert train(texts, of).backend.to_str() == bpe_by_tokenizers(texts, of).backend.to_str()


@pytest.mark.parametrize("split", ["gpt2", "llama3", "cl100k", "o200k"])
@pytest.mark.parametrize("digits", [None, "individual", "triples"])
def test_every_way_of_splitting(split: str, digits: str | None) -> None:
    assert_same(TEXTS, config(split=split, split_digits=digits))


@pytest.mark.parametrize(
    "values",
    [
        {"vocab_size": 300},
        {"vocab_size": 100_000, "min_frequency": 1},
        {"vocab_size": 100_000, "min_frequency": 7},
        {"bos_token": "==", "eos_token": "=", "extra_special_tokens": ["th", "a", "中"]},
    ],
    ids=["few merges", "all merges", "the frequent", "special tokens that the text spells"],
)
def test_every_setting(values: dict[str, object]) -> None:
    assert_same(TEXTS, config(**values))


@given(st.lists(st.text(alphabet="ab -=\n中", max_size=40), min_size=1, max_size=8), st.integers(1, 3))
@settings(max_examples=150, deadline=None)
def test_any_text(texts: list[str], min_frequency: int) -> None:
    # Long runs of few characters: pairs that overlap, tokens that come about in two ways, equal counts.
    assert_same(texts * 2, config(vocab_size=400, min_frequency=min_frequency))


@pytest.mark.skipif(not CORPORA.exists(), reason="needs ../shared/corpora")
def test_real_text_of_many_languages() -> None:
    assert_same(corpus_texts(), config(vocab_size=8000))


def test_what_the_kernels_do_not_split_is_left_to_tokenizers() -> None:
    for values in ({"normalization": "nfc"}, {"algorithm": "unigram"}, {"sample_bytes": 1 << 32}):
        assert splitting(config(**values)) is None
    assert train(["a ﬁne ship"] * 9, config(normalization="nfkc")).backend.token_to_id("fi") is not None


def test_parts_add_up_whatever_their_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    def counted(texts: list[str]) -> WordTable:
        table = WordTable()
        table.add_text(pa.array(texts), LLAMA3)
        return table

    def as_dict(table: WordTable) -> dict[bytes, int]:
        found = table.counts()
        data, ends = found.data.tobytes(), found.bounds.tolist()
        return {data[a:b]: n for a, b, n in zip(ends, ends[1:], found.counts.tolist(), strict=False)}

    whole = as_dict(counted(TEXTS))
    assert whole[b" the"] > 1 and sum(len(word) * n for word, n in whole.items()) == len("".join(TEXTS).encode())
    monkeypatch.setattr(bpe_words, "CHUNK_BYTES", 7)
    assert as_dict(counted(TEXTS)) == whole
    shuffled = random.Random(0).sample(TEXTS, len(TEXTS))
    parts = [counted(shuffled[i : i + 3]).counts() for i in range(0, len(shuffled), 3)]
    table = WordTable()
    table.add(summed(parts))
    assert as_dict(table) == whole
