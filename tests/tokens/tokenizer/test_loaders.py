import json
from pathlib import Path

import pytest

from raypt.errors import UserError
from raypt.tokens.tokenizer.loaders import load_any
from tests.tokens.helpers import CORPORA

TOKENIZERS = CORPORA / "tokenizers"
VECTORS = TOKENIZERS / "llama_cpp_vectors"
needs_vectors = pytest.mark.skipif(not VECTORS.exists(), reason="shared/corpora/tokenizers is absent: parity vectors")


def vectors(name: str) -> list[tuple[str, list[int]]]:
    texts = (VECTORS / f"ggml-vocab-{name}.gguf.inp").read_text(encoding="utf-8").split("\n__ggml_vocab_test__\n")
    ids = (VECTORS / f"ggml-vocab-{name}.gguf.out").read_text(encoding="utf-8").split("\n")
    return [(text, [int(i) for i in line.split()]) for text, line in zip(texts, ids, strict=False)]


@needs_vectors
def test_gpt2_vocab_and_merges_match_every_vector() -> None:
    tokenizer = load_any(str(TOKENIZERS / "gpt2"))
    cases = vectors("gpt-2")
    assert len(cases) >= 46
    for text, ids in cases:
        assert tokenizer.encode(text) == ids, text
    assert tokenizer.eos_id == 50256


@needs_vectors
def test_bert_vocabulary_matches_every_vector() -> None:
    tokenizer = load_any(str(TOKENIZERS / "bert-base-uncased"))
    for text, ids in vectors("bert-bge"):
        assert tokenizer.encode(text) == ids, text


def test_a_directory_with_a_tokenizer_json_is_loaded(tokenizer_uri: str) -> None:
    assert load_any(tokenizer_uri).encode("the ship") == load_any(f"{tokenizer_uri}/tokenizer.json").encode("the ship")


def test_document_tokens_are_those_that_the_files_name(tokenizer_uri: str) -> None:
    assert load_any(tokenizer_uri).eos == "<|end_of_text|>"


def test_a_directory_without_a_tokenizer_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"tokens\.tokenizer\.path: .* has no tokenizer\.json"):
        load_any(str(tmp_path))


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read .*x\.json"):
        load_any(str(tmp_path / "x.json"))


def test_a_broken_merges_file_names_its_line(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text(json.dumps({"a": 0, "b": 1, "ab": 2}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b\na b c\n")
    with pytest.raises(UserError, match=r"merges\.txt line 3"):
        load_any(str(tmp_path))
