import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from pydantic import ValidationError
from tokenizers import models, pre_tokenizers

from raypt.errors import UserError
from raypt.tokens.config import TokenizerConfig
from raypt.tokens.tokenizer.patterns import pattern
from raypt.tokens.tokenizer.tokenizer import Tokenizer
from raypt.tokens.tokenizer.trainer import prepare_tokenizer, train
from tests.tokens.helpers import WORDS

TEXTS = [" ".join(WORDS[i:] + WORDS[:i]) * 5 for i in range(len(WORDS))]


def config(**values: object) -> TokenizerConfig:
    return TokenizerConfig.model_validate({"vocab_size": 400, **values})


@pytest.mark.parametrize("algorithm", ["bpe", "wordpiece", "unigram"])
def test_the_same_texts_give_the_same_tokenizer(algorithm: str) -> None:
    a, b = (train(TEXTS, config(algorithm=algorithm)) for _ in range(2))
    assert a.fingerprint == b.fingerprint


@pytest.mark.parametrize("algorithm", ["bpe", "unigram"])
def test_no_text_is_unknown_to_byte_tokens(algorithm: str) -> None:
    tokenizer = train(TEXTS, config(algorithm=algorithm, vocab_size=600))
    text = "unseen: ๛ 🎈 ß"
    assert tokenizer.unk_id is None
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("values", [{"algorithm": "wordpiece"}, {"algorithm": "unigram", "byte_fallback": False}])
def test_others_have_an_unknown_token(values: dict[str, object]) -> None:
    tokenizer = train(TEXTS, config(**values))
    assert tokenizer.unk_id in tokenizer.encode("the ๛ ship")


@pytest.mark.parametrize("algorithm", ["bpe", "wordpiece", "unigram"])
def test_control_tokens_spelt_out_in_a_text_stay_text(algorithm: str) -> None:
    tokenizer = train([*TEXTS, "<|end_of_text|> <0x0A> <|unknown|> " * 20], config(algorithm=algorithm, vocab_size=600))
    ids = tokenizer.encode("the <|end_of_text|><|begin_of_text|> <0x0A> <|unknown|> ship")
    control = [tokenizer.backend.token_to_id(t) for t in ("<|end_of_text|>", "<|begin_of_text|>", "<0x0A>")]
    assert not set(ids) & {i for i in control if i is not None}


def test_every_byte_has_a_token_even_if_the_sample_lacks_it() -> None:
    tokenizer = train(["aaaa"], config())
    assert tokenizer.decode(tokenizer.encode("中")) == "中"


def test_special_tokens_come_first_and_can_be_added() -> None:
    tokenizer = train(TEXTS, config(pad_token="<pad>", extra_special_tokens=["<a>", "<b>"]))
    assert [tokenizer.backend.token_to_id(t) for t in ("<pad>", "<a>", "<b>")] == [2, 3, 4]
    assert tokenizer.pad_id == 2


def test_without_pad_token_padding_is_the_end_of_text() -> None:
    tokenizer = train(TEXTS, config())
    assert tokenizer.pad_id == tokenizer.eos_id


@pytest.mark.parametrize(
    ("algorithm", "split", "pieces"),
    [("bpe", "individual", 6), ("bpe", "triples", 2), ("unigram", "individual", 7)],  # unigram: a space stands before
)
def test_numbers_are_split_as_asked(algorithm: str, split: str, pieces: int) -> None:
    tokenizer = train(["123456 " * 50] * 3, config(split_digits=split, algorithm=algorithm))
    ids = tokenizer.encode("123456")
    assert len(ids) == pieces
    assert tokenizer.decode(ids) == "123456"


@pytest.mark.parametrize(("split", "pieces"), [("gpt2", 1), ("llama3", 2), ("cl100k", 2), ("o200k", 2), (None, 2)])
def test_numbers_merge_as_the_split_has_it(split: str | None, pieces: int) -> None:
    assert len(train(["123456 " * 50], config(split=split)).encode("123456")) == pieces


@pytest.mark.parametrize("split", ["gpt2", "llama3", "cl100k", "o200k"])
@pytest.mark.parametrize("digits", [None, "individual"])
def test_the_vocabulary_is_that_of_tokenizers_with_the_same_pattern(split: Any, digits: str | None) -> None:
    texts = [*TEXTS, "HTMLParser's 12345 don'T\r\n\r\n  == a/b ==\n" * 40]
    backend = tokenizers.Tokenizer(models.BPE())
    steps: list[Any] = [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=split == "gpt2")]
    if split != "gpt2":
        expression = pattern(split).replace("{1,3}", "" if digits else "{1,3}")
        steps.insert(0, pre_tokenizers.Split(tokenizers.Regex(expression), "isolated"))
    elif digits:
        steps.insert(0, pre_tokenizers.Digits(individual_digits=True))
    backend.pre_tokenizer = pre_tokenizers.Sequence(steps)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=500,
        min_frequency=2,
        special_tokens=["<|begin_of_text|>", "<|end_of_text|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    ours = train(texts, config(vocab_size=500, split=split, split_digits=digits))
    assert ours.backend.get_vocab() == backend.get_vocab()
    assert json.loads(ours.backend.to_str())["model"]["merges"] == json.loads(backend.to_str())["model"]["merges"]
    assert ours.slow_because is None
    for text in texts[-3:]:
        assert ours.encode(text) == backend.encode(text).ids


@pytest.mark.parametrize(
    "values", [{"algorithm": "unigram", "split_digits": "triples"}, {"algorithm": "wordpiece", "split": "llama3"}]
)
def test_settings_that_an_algorithm_lacks_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=r"split"):
        config(**values)


def test_unigram_is_trained_and_encoded_by_sentencepiece(tmp_path: Path) -> None:
    library = pytest.importorskip("sentencepiece")
    texts = [*TEXTS, "two\nlines and  two spaces 2024 " * 30]
    ours = train(texts, config(algorithm="unigram", vocab_size=600))
    ours.save(str(tmp_path))
    theirs = library.SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model"))
    again = Tokenizer.load(str(tmp_path))
    for text in [*texts, "", " ", "  x ", "unseen ๛ 🎈\n\n", "é"]:
        assert ours.encode(text) == again.encode(text) == theirs.encode(text)
        assert again.decode(again.encode(text)) == text
    assert again.fingerprint == ours.fingerprint and again.encoder == "SentencePiece"


def test_unigram_applies_its_unicode_form_before_training_and_encoding(tmp_path: Path) -> None:
    train(TEXTS, config(algorithm="unigram", vocab_size=600, normalization="nfkc")).save(str(tmp_path))
    tokenizer = Tokenizer.load(str(tmp_path))
    assert tokenizer.encode("ﬁne nai\u0308ve") == tokenizer.encode("fine naïve")
    assert tokenizer.backend.encode("ﬁne nai\u0308ve").ids == tokenizer.encode("fine naïve")


@pytest.mark.parametrize(("form", "same"), [("nfc", True), (None, False)])
def test_normalization_makes_composed_and_decomposed_text_the_same(form: str | None, same: bool) -> None:
    tokenizer = train(TEXTS, config(normalization=form))
    assert (tokenizer.encode("nai\u0308ve") == tokenizer.encode("naïve")) == same


def test_lower_case_wordpiece_ignores_case() -> None:
    tokenizer = train(TEXTS, config(algorithm="wordpiece", lowercase=True))
    assert tokenizer.encode("The SHIP") == tokenizer.encode("the ship")


def test_a_prepared_tokenizer_is_loaded_the_second_time(curated: list[str], tmp_path: Path) -> None:
    first = prepare_tokenizer(curated, config(), str(tmp_path), seed=0)
    before = (tmp_path / "tokenizer.json").stat().st_mtime_ns
    assert prepare_tokenizer(curated, config(), str(tmp_path), seed=0).fingerprint == first.fingerprint
    assert (tmp_path / "tokenizer.json").stat().st_mtime_ns == before


def test_one_seed_gives_one_tokenizer(curated: list[str], tmp_path: Path) -> None:
    a, b = (prepare_tokenizer(curated, config(), str(tmp_path / name), seed=3) for name in "ab")
    assert a.fingerprint == b.fingerprint


def test_another_configuration_seed_or_text_is_refused_by_name(curated: list[str], tmp_path: Path) -> None:
    prepare_tokenizer(curated, config(), str(tmp_path), seed=0)
    with pytest.raises(UserError, match=r"settings\.config\.vocab_size: was \d+, is 500"):
        prepare_tokenizer(curated, config(vocab_size=500), str(tmp_path), seed=0)
    with pytest.raises(UserError, match=r"settings\.seed: was 0, is 1"):
        prepare_tokenizer(curated, config(), str(tmp_path), seed=1)
    with pytest.raises(UserError, match=r"inputs\.content"):
        prepare_tokenizer(curated[:2], config(), str(tmp_path), seed=0)


def test_a_tokenizer_of_ones_own_is_loaded_and_none_is_trained(
    curated: list[str], tokenizer_uri: str, tmp_path: Path
) -> None:
    ours = prepare_tokenizer(curated, config(path=tokenizer_uri), str(tmp_path), seed=0)
    assert ours.fingerprint == Tokenizer.load(tokenizer_uri).fingerprint


def test_empty_curated_text_is_refused(tmp_path: Path) -> None:
    from tests.tokens.helpers import write_parts

    with pytest.raises(UserError, match="curated text is empty"):
        prepare_tokenizer(write_parts(tmp_path / "curated", [[]]), config(), str(tmp_path / "tok"), seed=0)
