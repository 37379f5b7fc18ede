"""A SentencePiece model gives the ids that SentencePiece gives, for any text, or is refused by name."""

import importlib.util
import io
import json
import random
import struct
from pathlib import Path
from typing import Any

import pytest
import sentencepiece as library

from raypt.errors import UserError
from raypt.tokens.tokenizer import sentencepiece
from raypt.tokens.tokenizer.loaders import load_any
from raypt.tokens.tokenizer.tokenizer import Tokenizer
from tests.tokens.helpers import WORDS, corpus_texts

TRAINING = [" ".join(WORDS[i:] + WORDS[:i]) * 3 + " パン ガス ｶﾞｽ か\u3099 x  y   z" for i in range(len(WORDS))]
TEXTS = [
    *(
        "the ship",
        "  two  spaces ",
        "中文 文本 unseen: ๛ 🎈",
        "",
        "a\nb\tc",
        "ﬁne ① naïve",
        "распознавание 2024!",
        " ",
        "x",
    ),
    *("ｶﾞｽ ﾊﾟﾝ", "か\u3099は\u309a ﾊﾞ", "e\u0301a\u0323\u0302", "\u1112\u1161\u11ab", "▁a▁ ▁", "\u00a0 x\u3000"),
    *("[REF]", "a[REF]b", "[REF][REF] the [RE", "the [REF] ship ", "<s> </s> <unk> <0x0A>"),
    *(" " * n + "the" + " " * (n % 7) for n in range(1, 80, 3)),
]
LETTERS = "  \t\n\u00a0\u3000ｶﾞﾊﾟはか\u3099\u309ae\u0301a\u0323\u1112\u1161\u11abﬁ①中文▁[]REF<>/s0xthip🎈\u200d\ufeff"


def adversarial(n: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return ["".join(rng.choice(LETTERS) for _ in range(rng.randint(1, 40))) for _ in range(n)]


def trained(directory: Path, **options: Any) -> tuple[Any, Tokenizer]:
    """SentencePiece's own processor of a small model, and ours of the same file."""
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
OPTIONS: dict[str, dict[str, Any]] = {
    "nmt_nfkc": {},
    "byte_fallback": {"byte_fallback": True},
    "llama": LLAMA,
    "no_prefix": {"add_dummy_prefix": False},
    "identity": {"normalization_rule_name": "identity"},
    "folded": {"normalization_rule_name": "nmt_nfkc_cf"},
    "symbols": {**LLAMA, "user_defined_symbols": ["[REF]", "[REF", "▁▁", "\n"]},
    "symbols_nfkc": {"user_defined_symbols": ["[REF]", "①"]},
}


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
@pytest.mark.parametrize("options", list(OPTIONS))
def test_the_ids_are_those_of_sentencepiece(tmp_path: Path, kind: str, options: str) -> None:
    theirs, ours = trained(tmp_path, model_type=kind, **OPTIONS[options])
    texts = [*TEXTS, *adversarial(300)]
    ids, offsets = ours.encode_batch(texts)
    for i, text in enumerate(texts):
        assert ids[offsets[i] : offsets[i + 1]].tolist() == theirs.encode(text), text
        assert ours.decode(theirs.encode(text)) == theirs.decode(theirs.encode(text))


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
@pytest.mark.parametrize("options", ["llama", "no_prefix", "identity"])
def test_the_pipeline_for_other_programs_has_the_same_ids(tmp_path: Path, kind: str, options: str) -> None:
    theirs, ours = trained(tmp_path, model_type=kind, **OPTIONS[options])
    # Without names of control tokens, which other programs read as those tokens.
    for text in (t for t in TEXTS if "<unk>" not in t):
        assert ours.backend.encode(text, add_special_tokens=False).ids == theirs.encode(text), text


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_kana_have_the_same_ids_in_the_pipeline_for_other_programs(tmp_path: Path, kind: str) -> None:
    theirs, ours = trained(tmp_path, model_type=kind)
    for text in ("ｶﾞｽ ﾊﾟﾝ", "か\u3099は\u309a ﾊﾞ", "ガス", "e\u0301 naïve"):
        assert ours.backend.encode(text, add_special_tokens=False).ids == theirs.encode(text), text


def with_tied_spaces(model: bytes, lengths: tuple[int, ...]) -> bytes:
    """The model with pieces of that many spaces, all of one score, the lowest: as Mistral's."""

    def message(number: int, content: bytes) -> bytes:
        return bytes([number << 3 | 2, len(content)]) + content

    pieces = [message(1, ("▁" * n).encode()) + bytes([2 << 3 | 5]) + struct.pack("<f", -1e9) for n in lengths]
    return model + b"".join(message(1, p) for p in pieces)


@pytest.mark.parametrize("lengths", [(2, 3, 4, 5), (2, 4, 8, 16), (2, 4, 8, 5, 16, 6, 12, 13, 10, 14, 3, 9, 7, 11)])
def test_tied_scores_merge_the_leftmost_pair(tmp_path: Path, lengths: tuple[int, ...]) -> None:
    trained(tmp_path, model_type="bpe", **LLAMA)
    data = with_tied_spaces((tmp_path / "tokenizer.model").read_bytes(), lengths)
    (tmp_path / "tokenizer.model").write_bytes(data)
    theirs, ours = library.SentencePieceProcessor(model_proto=data), load_any(str(tmp_path))
    for n in range(1, 80):
        for text in (" " * n, " " * n + "the ship", f"a{' ' * n}b{' ' * (n // 2)}"):
            assert ours.encode(text) == theirs.encode(text)
            assert ours.backend.encode(text).ids == theirs.encode(text)


def test_white_space_as_suffix_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"tokenizer\.model: a SentencePiece model with treat_whitespace_as_suffix"):
        trained(tmp_path, model_type="bpe", treat_whitespace_as_suffix=True)


@pytest.mark.parametrize("kind", ["char", "word"])
def test_other_kinds_of_models_are_refused_by_name(tmp_path: Path, kind: str) -> None:
    with pytest.raises(UserError, match=r"tokenizer\.model: a SentencePiece model of kind"):
        trained(tmp_path, model_type=kind)


def test_control_and_byte_tokens_spelt_out_in_a_text_stay_text(tmp_path: Path) -> None:
    theirs, ours = trained(tmp_path, model_type="unigram", byte_fallback=True)
    for text in ("a </s> b", "<s>", "<0x0A>", "<unk>"):
        assert ours.encode(text) == theirs.encode(text)
        assert not {0, 1, 2} & set(ours.encode(text))


def test_a_saved_model_encodes_as_the_loaded_one_and_keeps_its_file(tmp_path: Path) -> None:
    theirs, ours = trained(tmp_path, model_type="bpe")
    ours.save(str(tmp_path / "saved"))
    for again in (Tokenizer.load(str(tmp_path / "saved")), load_any(str(tmp_path / "saved"))):
        assert again.fingerprint == ours.fingerprint
        assert again.encode("か\u3099 ｶﾞｽ  x") == theirs.encode("か\u3099 ｶﾞｽ  x")
    assert (tmp_path / "saved" / "tokenizer.model").read_bytes() == (tmp_path / "tokenizer.model").read_bytes()


def test_another_tokenizer_saved_there_leaves_no_model_behind(tmp_path: Path, tokenizer_uri: str) -> None:
    trained(tmp_path, model_type="bpe")[1].save(str(tmp_path / "saved"))
    Tokenizer.load(tokenizer_uri).save(str(tmp_path / "saved"))
    assert not (tmp_path / "saved" / "tokenizer.model").exists()
    assert Tokenizer.load(str(tmp_path / "saved")).fingerprint == Tokenizer.load(tokenizer_uri).fingerprint


@pytest.mark.parametrize("adds", [True, False])
def test_a_model_file_adds_bos_where_its_configuration_says_so(tmp_path: Path, adds: bool) -> None:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"add_bos_token": adds, "bos_token": "<s>"}))
    theirs, ours = trained(tmp_path, model_type="bpe", **LLAMA)
    ours.save(str(tmp_path / "saved"))
    assert ours.adds_bos == Tokenizer.load(str(tmp_path / "saved")).adds_bos == adds
    assert ours.encode("the") == theirs.encode("the")


def test_document_tokens_are_the_usual_ones(tmp_path: Path) -> None:
    _, ours = trained(tmp_path, model_type="bpe", **LLAMA)
    assert (ours.bos, ours.eos, ours.unk) == ("<s>", "</s>", "<unk>")
    assert ours.decode(ours.encode("the ship")) == "the ship"


@pytest.mark.parametrize("data", [b"", b"not a model", b"\x0a\xff\xff\xff\x0f"])
def test_a_file_that_is_no_model_is_refused_by_name(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "tokenizer.model").write_bytes(data)
    with pytest.raises(UserError, match=r"tokenizer\.model: not a SentencePiece model"):
        load_any(str(tmp_path))


def test_a_cut_model_is_refused_by_name(tmp_path: Path) -> None:
    trained(tmp_path, model_type="bpe")
    data = (tmp_path / "tokenizer.model").read_bytes()
    for size in range(10, len(data), len(data) // 40):
        (tmp_path / "tokenizer.model").write_bytes(data[:size])
        try:
            again = load_any(str(tmp_path))
        except UserError as e:
            assert "tokenizer.model" in str(e)
        else:  # cut between two pieces: a smaller model, and SentencePiece says the same
            assert again.encode("the ship") == library.SentencePieceProcessor(model_proto=data[:size]).encode(
                "the ship"
            )


def test_where_the_pipeline_differs_is_known(tmp_path: Path) -> None:
    trained(tmp_path, model_type="bpe", **LLAMA)
    data = (tmp_path / "tokenizer.model").read_bytes()
    model = sentencepiece.parse(data, "m")
    encoder, backend = sentencepiece.SentencePieceEncoder(data, "m"), sentencepiece.to_backend(model, "m")
    assert sentencepiece.probe_differences(model, encoder, backend) == []
    backend.normalizer = None
    assert " a" in sentencepiece.probe_differences(model, encoder, backend)


def mistral(name: str) -> Path | None:
    spec = importlib.util.find_spec("mistral_common")
    found = Path(spec.origin).parent / "data" / name if spec and spec.origin else None
    return found if found and found.exists() else None


@pytest.mark.parametrize("name", ["tokenizer.model.v1", "mistral_instruct_tokenizer_240323.model.v3"])
def test_mistrals_models_have_the_ids_of_sentencepiece(name: str, tmp_path: Path) -> None:
    file = mistral(name)
    if file is None:
        pytest.skip("mistral_common, which ships Mistral's models, is not installed")
    (tmp_path / "tokenizer.model").write_bytes(file.read_bytes())
    theirs, ours = library.SentencePieceProcessor(model_file=str(file)), load_any(str(tmp_path))
    texts = [*TEXTS, *adversarial(2000), *corpus_texts()]
    ids, offsets = ours.encode_batch(texts)
    pipeline = ours.backend.encode_batch_fast(texts, add_special_tokens=False)
    for i, (expected, encoding) in enumerate(zip(theirs.encode(texts), pipeline, strict=True)):
        assert ids[offsets[i] : offsets[i + 1]].tolist() == expected == encoding.ids, texts[i][:80]
