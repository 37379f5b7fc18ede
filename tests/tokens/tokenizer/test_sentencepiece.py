"""SentencePiece models read without SentencePiece give the ids that SentencePiece gives."""

import io
from pathlib import Path
from typing import Any

import pytest

from raypt.errors import UserError
from raypt.tokens.tokenizer.loaders import load_any
from raypt.tokens.tokenizer.tokenizer import Tokenizer
from tests.tokens.helpers import WORDS

TRAINING = [" ".join(WORDS[i:] + WORDS[:i]) * 3 for i in range(len(WORDS))]
TEXTS = [
    "the ship",
    "  two  spaces ",
    "中文 文本 unseen: ๛ 🎈",
    "",
    "a\nb\tc",
    "ﬁne ① naïve",
    "распознавание 2024!",
    " ",
    "x",
]


def trained(directory: Path, **options: Any) -> tuple[Any, Tokenizer]:
    """SentencePiece's own processor of a small model, and ours of the same file."""
    library = pytest.importorskip("sentencepiece", reason="sentencepiece is not installed: parity with its ids")
    out = io.BytesIO()
    library.SentencePieceTrainer.train(
        sentence_iterator=iter(TRAINING),
        model_writer=out,
        vocab_size=400,
        minloglevel=2,
        hard_vocab_limit=False,
        **options,
    )
    (directory / "tokenizer.model").write_bytes(out.getvalue())
    return library.SentencePieceProcessor(model_proto=out.getvalue()), load_any(str(directory))


LLAMA = {
    "byte_fallback": True,
    "normalization_rule_name": "identity",
    "remove_extra_whitespaces": False,
    "split_digits": True,
}


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
@pytest.mark.parametrize("options", [{}, {"byte_fallback": True}, LLAMA, {"add_dummy_prefix": False}])
def test_the_ids_are_those_of_sentencepiece(tmp_path: Path, kind: str, options: dict[str, Any]) -> None:
    theirs, ours = trained(tmp_path, model_type=kind, **options)
    for text in TEXTS:
        assert ours.encode(text) == theirs.encode(text), text


def test_control_and_byte_tokens_spelt_out_in_a_text_stay_text(tmp_path: Path) -> None:
    theirs, ours = trained(tmp_path, model_type="unigram", byte_fallback=True)
    for text in ("a </s> b", "<s>", "<0x0A>", "<unk>"):
        assert ours.encode(text) == theirs.encode(text)


def test_document_tokens_are_the_usual_ones(tmp_path: Path) -> None:
    _, ours = trained(tmp_path, model_type="bpe", **LLAMA)
    assert (ours.bos, ours.eos, ours.unk) == ("<s>", "</s>", "<unk>")
    assert ours.decode(ours.encode("the ship")) == "the ship"


@pytest.mark.parametrize("data", [b"", b"not a model", b"\x0a\xff\xff\xff\x0f"])
def test_a_file_that_is_no_model_is_refused_by_name(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "tokenizer.model").write_bytes(data)
    with pytest.raises(UserError, match=r"tokenizer\.model: not a SentencePiece model"):
        load_any(str(tmp_path))
