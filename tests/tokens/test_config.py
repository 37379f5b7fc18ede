import pytest
from pydantic import ValidationError

from raypt.tokens.config import TokensConfig


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"packing": {"add_bos": True}, "tokenizer": {"bos_token": None}}, "packing.add_bos needs tokenizer.bos_token"),
        ({"tokenizer": {"eos_token": None}}, "packing.add_eos needs tokenizer.eos_token"),
        ({"stream": {"fetchers": [3, 2]}}, "1 <= least <= most"),
        ({"mixture": {"weights": {"a": -1, "b": 2}}}, "weights must be >= 0"),
        ({"mixture": {"weights": {"a": 0}}}, "not all 0"),
        (
            {"mixture": {"curriculum": [{"at_tokens": 9, "weights": {"a": 1}}, {"at_tokens": 9, "weights": {"a": 2}}]}},
            "at_tokens must increase",
        ),
    ],
)
def test_a_contradiction_is_refused_in_words(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TokensConfig.model_validate(values)


def test_a_tokenizer_of_ones_own_may_name_its_document_tokens_itself() -> None:
    TokensConfig.model_validate({"tokenizer": {"path": "tokenizer.json", "eos_token": None}})
