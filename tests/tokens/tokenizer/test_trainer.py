from pathlib import Path

import pytest

from raypt.errors import UserError
from raypt.tokens.config import TokenizerConfig
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


def test_numbers_merge_freely_by_default() -> None:
    assert len(train(["123456 " * 50], config()).encode("123456")) == 1


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
