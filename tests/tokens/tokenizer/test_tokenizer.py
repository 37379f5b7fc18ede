import json
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from tokenizers import models, processors

from raypt.errors import UserError
from raypt.tokens.tokenizer.loaders import load_any
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


def hub(tokenizer: Tokenizer, directory: Path, config: dict[str, object], template: str | None) -> Tokenizer:
    """What is loaded from a hub's files: the tokenizer with a post-processor and a tokenizer_config.json."""
    backend = tokenizers.Tokenizer.from_str(tokenizer.backend.to_str())
    if template is not None:
        special = [(t, backend.token_to_id(t)) for t in ("<|begin_of_text|>", "<|end_of_text|>")]
        backend.post_processor = processors.TemplateProcessing(single=template, special_tokens=special)
    directory.mkdir(exist_ok=True)
    backend.save(str(directory / "tokenizer.json"))
    names = {"bos_token": "<|begin_of_text|>", "eos_token": {"__type": "AddedToken", "content": "<|end_of_text|>"}}
    (directory / "tokenizer_config.json").write_text(json.dumps({**names, **config}))
    return load_any(str(directory))


@pytest.mark.parametrize(
    ("config", "template", "adds"),
    [
        ({}, None, False),
        ({}, "<|begin_of_text|> $A", True),
        ({}, "$A <|end_of_text|>", False),
        ({"add_bos_token": True}, None, False),  # transformers 5: the post-processor alone decides
        ({"add_bos_token": False}, "<|begin_of_text|> $A", True),
    ],
)
def test_a_tokenizer_adds_bos_where_transformers_does(
    tokenizer: Tokenizer, tmp_path: Path, config: dict[str, object], template: str | None, adds: bool
) -> None:
    from transformers import AutoTokenizer

    ours = hub(tokenizer, tmp_path / "hub", config, template)
    theirs = AutoTokenizer.from_pretrained(str(tmp_path / "hub"))
    assert ours.adds_bos == (theirs("the")["input_ids"][0] == ours.bos_id) == adds
    assert ours.encode("the") == tokenizer.encode("the")  # arguments alone add tokens here
    ours.save(str(tmp_path / "saved"))
    again = AutoTokenizer.from_pretrained(str(tmp_path / "saved"))
    assert again("the ship")["input_ids"] == theirs("the ship")["input_ids"]
    assert Tokenizer.load(str(tmp_path / "saved")).adds_bos == adds


@pytest.mark.parametrize("template", [None, "<|begin_of_text|> $A", "<|begin_of_text|> $A <|end_of_text|>"])
@pytest.mark.parametrize("bos", [True, False])
def test_what_programs_add_can_be_set(tokenizer: Tokenizer, tmp_path: Path, template: str | None, bos: bool) -> None:
    from transformers import AutoTokenizer

    loaded = hub(tokenizer, tmp_path / "hub", {}, template)
    loaded.with_added(bos=bos).save(str(tmp_path / "saved"), max_length=77)
    theirs = AutoTokenizer.from_pretrained(str(tmp_path / "saved"))
    ends = template is not None and template.endswith("<|end_of_text|>")
    plain = tokenizer.encode("the ship")
    assert theirs("the ship")["input_ids"] == [tokenizer.bos_id] * bos + plain + [tokenizer.eos_id] * ends
    assert theirs.model_max_length == 77
    assert loaded.with_added(bos=loaded.adds_bos) is loaded


def test_bos_that_is_not_there_cannot_be_added(tokenizer: Tokenizer) -> None:
    with pytest.raises(UserError, match="no BOS token"):
        Tokenizer(tokenizer.backend, eos=tokenizer.eos).with_added(bos=True)


@pytest.mark.parametrize("separate", [True, False])
def test_a_hubs_chat_template_and_maximum_length_are_kept(tokenizer: Tokenizer, tmp_path: Path, separate: bool) -> None:
    from transformers import AutoTokenizer

    template = "{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %}"
    config: dict[str, object] = {"model_max_length": 4096, "padding_side": "left", "auto_map": {"AutoTokenizer": "x.Y"}}
    (tmp_path / "hub").mkdir()
    if separate:
        (tmp_path / "hub" / "chat_template.jinja").write_text(template)
    else:
        config["chat_template"] = template
    hub(tokenizer, tmp_path / "hub", config, None).save(str(tmp_path / "once"))
    Tokenizer.load(str(tmp_path / "once")).save(str(tmp_path / "twice"))
    theirs = AutoTokenizer.from_pretrained(str(tmp_path / "twice"))
    assert theirs.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False) == "[user] hi"
    assert (theirs.model_max_length, theirs.padding_side) == (4096, "left")
    assert "auto_map" not in (tmp_path / "twice" / "tokenizer_config.json").read_text()  # it names code to run
