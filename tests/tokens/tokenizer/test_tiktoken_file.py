"""Files of ranked byte strings give tiktoken's ids, for any text, or are refused by name."""

import base64
import hashlib
import importlib.util
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizers import models, pre_tokenizers

from raypt.errors import UserError
from raypt.tokens.config import TokenizerConfig
from raypt.tokens.tokenizer import patterns, tiktoken_file
from raypt.tokens.tokenizer.byte_level import characters_of_bytes
from raypt.tokens.tokenizer.loaders import load_any
from raypt.tokens.tokenizer.tokenizer import Tokenizer
from tests.tokens.helpers import WORDS, corpus_texts

tiktoken = pytest.importorskip("tiktoken", reason="tiktoken is not installed: parity with its ids")

TRAINING = [
    " ".join(WORDS[i:] + WORDS[:i]) * 3 + " I'll DON'T  12345 == HTMLParser\n\n b\r\n" for i in range(len(WORDS))
]
LETTERS = "'sStTllVEre  \n\r\t1239½aAbBtheshipǅʰ\u0301中文か-=/_.!🎈\u3000"
PUBLISHED = {
    "gpt2": r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s",
    "llama3": (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
        r"|\s+(?!\S)|\s+"
    ),
    "cl100k": (
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]"
        r"|\s+(?!\S)|\s"
    ),
    "o200k": (
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
        r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
        r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
}
"""As tiktoken 0.14 and LLaMA 3 have them."""


def adversarial(n: int) -> list[str]:
    rng = random.Random(1)
    return ["".join(rng.choice(LETTERS) for _ in range(rng.randint(0, 50))) for _ in range(n)]


@pytest.fixture(scope="module")
def ranks() -> dict[bytes, int]:
    """A trained vocabulary, with ranks shuffled as LLaMA 3's later ones are, and words that no merge reaches."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=600, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False
    )
    backend.train_from_iterator(TRAINING, trainer)
    byte_of = {c: b for b, c in enumerate(characters_of_bytes())}
    tokens = [bytes(byte_of[c] for c in t) for t, _ in sorted(backend.get_vocab().items(), key=lambda x: x[1])]
    tail = [*tokens[350:], b" whole-", b"qzqz"]
    random.Random(0).shuffle(tail)
    return {t: i for i, t in enumerate([*tokens[:350], *tail])}


def tiktoken_bytes(ranks: dict[bytes, int]) -> bytes:
    return b"".join(base64.b64encode(t) + f" {r}\n".encode() for t, r in ranks.items())


def same(ours: Tokenizer, theirs: Callable[[str], list[int]], texts: list[str]) -> None:
    """By the fast encoder and by the pipeline that is exported."""
    assert ours.slow_because is None
    ids, offsets = ours.encode_batch(texts)
    pipeline = ours.backend.encode_batch_fast(texts, add_special_tokens=False)
    for i, text in enumerate(texts):
        assert ids[offsets[i] : offsets[i + 1]].tolist() == theirs(text) == pipeline[i].ids, text[:80]


@pytest.mark.parametrize("split", list(PUBLISHED))
def test_a_tiktoken_file_of_a_named_split_has_tiktokens_ids(
    split: Any, ranks: dict[bytes, int], tmp_path: Path
) -> None:
    (tmp_path / "own.tiktoken").write_bytes(tiktoken_bytes(ranks))
    ours = load_any(str(tmp_path / "own.tiktoken"), TokenizerConfig(split=split, pad_token="<pad>"))
    theirs = tiktoken.Encoding("own", pat_str=PUBLISHED[split], mergeable_ranks=ranks, special_tokens={})
    same(ours, theirs.encode_ordinary, [*TRAINING, *adversarial(3000), "qzqz", " whole-", "aqzqz whole-x"])
    assert (ours.bos_id, ours.eos_id, ours.pad_id) == (len(ranks), len(ranks) + 1, len(ranks) + 2)


def test_a_published_file_is_known_by_its_hash_under_any_name(
    ranks: dict[bytes, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tiktoken_bytes(ranks)
    published = tiktoken_file._Published(
        "own", patterns.llama3(), tiktoken_file._after(["<b>", "<e>"]), {"bos": "<b>", "eos": "<e>"}
    )
    monkeypatch.setitem(tiktoken_file._BY_SHA256, hashlib.sha256(data).hexdigest(), published)
    (tmp_path / "tokenizer.model").write_bytes(data)  # as LLaMA 3's is called
    ours = load_any(str(tmp_path))
    assert (ours.bos, ours.eos, ours.vocab_size) == ("<b>", "<e>", len(ranks) + 2)
    theirs = tiktoken.Encoding("own", pat_str=PUBLISHED["llama3"], mergeable_ranks=ranks, special_tokens={})
    same(ours, theirs.encode_ordinary, adversarial(500))


def test_an_unknown_file_without_a_split_is_refused_by_name(ranks: dict[bytes, int], tmp_path: Path) -> None:
    (tmp_path / "own.tiktoken").write_bytes(tiktoken_bytes(ranks))
    with pytest.raises(UserError, match=r"own\.tiktoken: .*LLaMA 3.*say by tokens\.tokenizer\.split"):
        load_any(str(tmp_path), TokenizerConfig())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: [*lines[:7], b"!!! 7", *lines[8:]], "line 8: expected base64"),
        (lambda lines: [*lines, lines[3]], "rank 3 is there twice"),
        (lambda lines: [*lines[:300], *lines[301:]], "no token has the rank 300"),
        (lambda lines: [*lines[:40], b"Zm9vYmFy 40", *lines[41:]], "lacks the byte"),
        (lambda lines: [*lines, b"%b %d" % (lines[300].split()[0], len(lines))], "a token is there twice"),
    ],
)
def test_a_broken_file_names_what_is_wrong(
    change: Callable[[list[bytes]], list[bytes]], message: str, ranks: dict[bytes, int], tmp_path: Path
) -> None:
    lines = tiktoken_bytes(ranks).splitlines()
    (tmp_path / "own.tiktoken").write_bytes(b"\n".join(change(lines)))
    with pytest.raises(UserError, match=message):
        load_any(str(tmp_path), TokenizerConfig(split="llama3"))


def tekken(ranks: dict[bytes, int], **changes: Any) -> bytes:
    entries = [
        {"rank": r, "token_bytes": base64.b64encode(t).decode(), "token_str": None}
        for t, r in sorted(ranks.items(), key=lambda x: x[1])
    ]
    config = {
        "pattern": patterns.o200k(1, contractions=False),
        "num_vocab_tokens": len(ranks),
        "default_vocab_size": len(ranks) - 50 + 40,
        "default_num_special_tokens": 40,
        "version": "v3",
    }
    return json.dumps({"config": config, "vocab": entries, **changes}).encode()


def test_a_tekken_file_has_tiktokens_ids_after_its_special_tokens(ranks: dict[bytes, int], tmp_path: Path) -> None:
    (tmp_path / "tekken.json").write_bytes(tekken(ranks))
    ours = load_any(str(tmp_path))
    used = {t: r for t, r in ranks.items() if r < len(ranks) - 50}  # the vocabulary is cut to the size that it names
    theirs = tiktoken.Encoding(
        "own", pat_str=patterns.o200k(1, contractions=False), mergeable_ranks=used, special_tokens={}
    )
    same(ours, lambda text: [40 + i for i in theirs.encode_ordinary(text)], [*TRAINING, *adversarial(2000)])
    assert (ours.bos_id, ours.eos_id, ours.unk_id, ours.pad_id) == (1, 2, 0, 11)
    assert ours.backend.token_to_id("<SPECIAL_39>") == 39 and ours.vocab_size == len(ranks) - 10


def test_a_tekken_file_may_name_its_special_tokens(ranks: dict[bytes, int], tmp_path: Path) -> None:
    named = [{"rank": i, "token_str": t, "is_control": True} for i, t in enumerate(("<unk>", "<s>", "</s>"))]
    (tmp_path / "tekken.json").write_bytes(tekken(ranks, special_tokens=named))
    ours = load_any(str(tmp_path))
    assert ours.backend.token_to_id("<SPECIAL_3>") == 3 and ours.pad_id == ours.eos_id == 2


@pytest.mark.parametrize("data", [b"{}", b"[]", b"nonsense", b'{"config": {}, "vocab": []}'])
def test_what_is_no_tekken_file_is_refused_by_name(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "tekken.json").write_bytes(data)
    with pytest.raises(UserError, match=r"tekken\.json: not a tekken\.json"):
        load_any(str(tmp_path))


def packaged(package: str, *parts: str) -> Path | None:
    spec = importlib.util.find_spec(package)
    found = Path(spec.origin).parent.joinpath(*parts) if spec and spec.origin else None
    return found if found and found.exists() else None


@pytest.mark.parametrize(
    ("package", "parts", "pattern"),
    [
        ("llama_models", ("llama3", "tokenizer.model"), PUBLISHED["llama3"]),
        ("llama_models", ("llama4", "tokenizer.model"), PUBLISHED["o200k"]),
        ("dashscope", ("resources", "qwen.tiktoken"), PUBLISHED["llama3"].replace("{1,3}", "")),
        ("mistral_common", ("data", "tekken_240911.json"), None),
    ],
)
def test_published_files_have_tiktokens_ids(package: str, parts: tuple[str, ...], pattern: str | None) -> None:
    file = packaged(package, *parts)
    if file is None:
        pytest.skip(f"{package}, which ships {parts[-1]}, is not installed")
    ours, first = load_any(str(file)), 0
    if pattern is None:
        content = json.loads(file.read_bytes())
        size, first = content["config"]["default_vocab_size"], content["config"]["default_num_special_tokens"]
        ranks = {base64.b64decode(v["token_bytes"]): v["rank"] for v in content["vocab"][: size - first]}
        pattern = content["config"]["pattern"]
    else:
        ranks = tiktoken_file.parse(file.read_bytes(), str(file))
    theirs = tiktoken.Encoding("own", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    texts = [*corpus_texts(), *adversarial(3000)]
    same(ours, lambda text: [first + i for i in theirs.encode_ordinary(text)], texts)
