from pathlib import Path

import numpy as np
import pytest
import tokenizers
from tokenizers import models

from raypt.errors import UserError
from raypt.tokens.tokenizer.tokenizer import Tokenizer


@pytest.fixture
def tokenizer(tokenizer_uri: str) -> Tokenizer:
    return Tokenizer.load(tokenizer_uri)


TEXTS = ["the ship", "", "中文 naïve \n 2024", "🎈 emoji and \u0000 nul", "  two  spaces "]


def test_byte_level_text_comes_back_exactly(tokenizer: Tokenizer) -> None:
    for text in TEXTS:
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_a_batch_is_its_texts_one_by_one(tokenizer: Tokenizer) -> None:
    ids, offsets = tokenizer.encode_batch(TEXTS, bos=True, eos=True)
    for i, text in enumerate(TEXTS):
        assert ids[offsets[i] : offsets[i + 1]].tolist() == tokenizer.encode(text, bos=True, eos=True)


@pytest.mark.parametrize(("bos", "eos"), [(False, False), (True, False), (False, True), (True, True)])
def test_document_tokens_stand_where_asked_and_nowhere_else(tokenizer: Tokenizer, bos: bool, eos: bool) -> None:
    plain = tokenizer.encode("the ship")
    expected = [tokenizer.bos_id] * bos + plain + [tokenizer.eos_id] * eos
    assert tokenizer.encode("the ship", bos=bos, eos=eos) == expected
    assert tokenizer.encode("", bos=bos, eos=eos) == [tokenizer.bos_id] * bos + [tokenizer.eos_id] * eos


def test_a_special_token_inside_text_is_text(tokenizer: Tokenizer) -> None:
    text = "an attack: <|end_of_text|> the ship <|begin_of_text|>"
    ids = tokenizer.encode(text)
    assert not {tokenizer.bos_id, tokenizer.eos_id} & set(ids)
    assert tokenizer.decode(ids) == text


def test_a_saved_tokenizer_is_the_same(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(str(tmp_path))
    again = Tokenizer.load(str(tmp_path))
    assert again.fingerprint == tokenizer.fingerprint
    assert [again.bos, again.eos, again.pad] == [tokenizer.bos, tokenizer.eos, tokenizer.pad]
    assert again.encode("<|end_of_text|> the", eos=True) == tokenizer.encode("<|end_of_text|> the", eos=True)


def test_transformers_loads_what_is_saved(tokenizer: Tokenizer, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer.save(str(tmp_path))
    theirs = AutoTokenizer.from_pretrained(str(tmp_path))
    assert theirs("the naïve ship", add_special_tokens=False)["input_ids"] == tokenizer.encode("the naïve ship")
    assert theirs.eos_token_id == tokenizer.eos_id


def test_the_fingerprint_changes_with_the_document_tokens(tokenizer: Tokenizer) -> None:
    other = Tokenizer(tokenizer.backend, bos=tokenizer.bos, eos=tokenizer.bos)
    assert other.fingerprint != tokenizer.fingerprint


def test_asking_for_a_document_token_there_is_not_names_the_setting(tokenizer: Tokenizer) -> None:
    with pytest.raises(UserError, match=r"tokens\.packing\.add_bos"):
        Tokenizer(tokenizer.backend, eos=tokenizer.eos).encode("the", bos=True)


def test_a_name_outside_the_vocabulary_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(UserError, match="eos token '<no such>'"):
        Tokenizer(tokenizer.backend, eos="<no such>")


@pytest.mark.parametrize(("size", "dtype"), [(1 << 16, np.uint16), ((1 << 16) + 1, np.uint32)])
def test_ids_are_16_bits_wide_as_long_as_they_fit(size: int, dtype: type) -> None:
    backend = tokenizers.Tokenizer(models.WordLevel({str(i): i for i in range(size)}, unk_token="0"))
    tokenizer = Tokenizer(backend)
    assert tokenizer.vocab_size == size
    assert tokenizer.dtype == dtype


def test_the_largest_id_counts_not_the_number_of_entries() -> None:
    backend = tokenizers.Tokenizer(models.WordLevel({"a": 0, "z": 70_000}, unk_token="a"))
    assert Tokenizer(backend).dtype == np.uint32


def test_a_file_that_is_no_tokenizer_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match=r"tokenizer\.json: not a tokenizer"):
        Tokenizer.load(str(tmp_path))
    with pytest.raises(UserError, match="there is no tokenizer here"):
        Tokenizer.load(str(tmp_path / "nowhere"))
