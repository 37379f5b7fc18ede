import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from datasketch import MinHash
from hypothesis import given, settings
from hypothesis import strategies as st

from raypt.dedup.minhash import permutations
from raypt.dedup.shingles import sign
from raypt.dedup.tokenise import tokenise
from raypt.text.unicode import IDEOGRAPH, LAST_IDEOGRAPH, TABLE_SIZE, word_classes
from tests.dedup.reference import datasketch_signature, tokens, unspaced

TEXTS = [
    "The quick brown fox jumps over the lazy dog; the DOG sleeps.",
    "深入学习是机器学习的分支，使用 GPU 训练。",
    "東京タワーは日本のランドマークです。ｶﾀｶﾅも。",
    "ภาษาไทยไม่มีช่องว่าง และ English",
    "한국어는 띄어쓰기가 있는 언어이다 정말로",
    "हिन्दी में मात्राएँ शब्द के भीतर रहती हैं",
    "ÀÉÎ éàü ŒUVRE naïve café _under_score_ v1.2.3",
    "ΑΣ İstanbul Straße 𝔘𝔫𝔦 𠀀𠀁 emoji 😀 word",
    "a b",
    "one",
]


def signatures(texts: list[str], ngram: int = 5, num_perm: int = 112, unit: str = "word") -> np.ndarray:
    found, _, _ = sign(
        tokenise(pa.array(texts, pa.string()), unit),
        ngram=ngram,
        permutations=permutations(num_perm, 1),
        bands=num_perm // 8,
        rows=8,
    )
    return found


@pytest.mark.parametrize("unit", ["word", "character"])
@pytest.mark.parametrize("ngram", [1, 3, 5])
def test_signatures_equal_datasketch_bit_for_bit(ngram: int, unit: str) -> None:
    ours = signatures(TEXTS, ngram, unit=unit)
    theirs = np.stack([datasketch_signature(t, ngram, 112, unit=unit) for t in TEXTS])
    assert ours.dtype == theirs.dtype == np.uint32
    assert (ours == theirs).all()


def test_signatures_of_documents_longer_than_a_hash_block_equal_datasketch() -> None:
    text = " ".join(f"word{i % 700} 字" for i in range(3000))
    assert (signatures([text])[0] == datasketch_signature(text, 5, 112)).all()


def test_the_characters_that_are_words_by_themselves_are_those_of_unspaced_scripts() -> None:
    classes = word_classes()
    for code in range(0x110000):
        category = unicodedata.category(chr(code))
        if category[0] in "LN" and code <= LAST_IDEOGRAPH:
            alone = code >= TABLE_SIZE or classes[code] == IDEOGRAPH
            assert alone == unspaced(chr(code)), f"U+{code:04X} {unicodedata.name(chr(code), '')}"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cn"]), max_size=60), min_size=1, max_size=4))
def test_signatures_equal_datasketch_for_any_text(texts: list[str]) -> None:
    ours = signatures(texts, 2, 16)
    for text, row in zip(texts, ours, strict=True):
        if tokens(text):
            assert (row == datasketch_signature(text, 2, 16)).all()


def test_permutations_are_those_of_datasketch() -> None:
    assert (permutations(256, 7) == MinHash(num_perm=256, seed=7).permutations).all()


def count_tokens(text: str) -> int:
    _, _, found = sign(tokenise(pa.array([text])), ngram=5, permutations=permutations(8, 1), bands=1, rows=8)
    return int(found[0])


def test_a_chinese_character_counts_as_a_word_and_a_korean_one_does_not() -> None:
    assert count_tokens("我爱北京") == 4
    assert count_tokens("한국어 문장") == 2


def test_case_and_punctuation_do_not_change_a_signature() -> None:
    a, b = signatures(["Hello, World! This is -- a TEST of it.", "hello world\n\nthis is a test of it"])
    assert (a == b).all()


def test_a_document_without_words_has_no_tokens() -> None:
    _, _, found = sign(
        tokenise(pa.array(["", " \n", "?!—…", "😀"])), ngram=5, permutations=permutations(8, 1), bands=1, rows=8
    )
    assert found.tolist() == [0, 0, 0, 0]


def test_a_sliced_and_chunked_array_signs_like_its_texts() -> None:
    chunked = pa.chunked_array([pa.array(["x", *TEXTS[:3]])[1:], pa.array(TEXTS[3:], pa.string())])
    found, _, _ = sign(tokenise(chunked), ngram=5, permutations=permutations(112, 1), bands=14, rows=8)
    assert (found == signatures(TEXTS)).all()


def test_equal_rows_of_a_signature_give_equal_bands_and_bands_differ_from_each_other() -> None:
    _, bands, _ = sign(
        tokenise(pa.array([TEXTS[0], TEXTS[0].upper(), TEXTS[1]])),
        ngram=5,
        permutations=permutations(112, 1),
        bands=14,
        rows=8,
    )
    assert (bands[0] == bands[1]).all()
    assert not (bands[0] == bands[2]).any()
    assert len(np.unique(bands[0])) == 14
