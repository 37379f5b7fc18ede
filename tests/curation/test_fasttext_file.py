"""raypt.curation.fasttext_file: what fastText wrote loads, what it did not is refused before its C++ sees it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from raypt.curation import fasttext_file, outside_file
from raypt.curation.fasttext_file import Expected, Malformed, check, load
from raypt.curation.language import BUILTIN_MODEL, BUILTIN_SHA256, LanguageConfig, load_model
from raypt.curation.quality.fit import fit
from raypt.errors import UserError

LINES = [f"__label__{'abc'[i % 3]} {' '.join(f'{w}{(i * k) % 17}' for k, w in enumerate('éx中'))}" for i in range(300)]
KINDS = {
    "words.bin": {"bucket": 1},
    "ngrams.bin": {"wordNgrams": 2, "bucket": 500},
    "subwords.bin": {"minn": 2, "maxn": 3, "bucket": 500, "loss": "hs"},
    "quantised.ftz": {"wordNgrams": 2, "bucket": 2000, "quantize": {"cutoff": 600, "qnorm": True, "retrain": False}},
    "unpruned.ftz": {"minn": 2, "maxn": 3, "bucket": 700, "loss": "ova", "quantize": {"qnorm": False}},
}
MUTATIONS_A_MODEL = 60
HEADER = 8 + 12 * 4 + 8
"""Magic, version and arguments."""
HASHING = {8 + 4 * i for i in (5, 6, 8, 9, 10)}
"""Offsets of wordNgrams, loss, bucket, minn, maxn: with other values the file is another, well-formed model."""
SURVIVOR = """
import json, sys, fasttext
from raypt.curation.fasttext_child import PROBES
for path in json.load(sys.stdin):
    predict = fasttext.load_model(path).f.predict
    print(json.dumps([predict(p + "\\n", -1, 0.0, "strict") for p in PROBES]), flush=True)
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    where = tmp_path_factory.mktemp("models")
    (where / "train.txt").write_text("\n".join(LINES) + "\n")
    for name, options in KINDS.items():
        fit(str(where / "train.txt"), str(where / name), dim=6, epoch=2, minCount=1, **options)
    return {name: where / name for name in KINDS} | {"lid.176.ftz": BUILTIN_MODEL}


@dataclass(frozen=True)
class Mutation:
    """A changed file, and whether nothing but its structure was changed."""

    what: str
    data: bytes
    structural: bool


def mutations(data: bytes, seed: int) -> Iterator[Mutation]:
    """Flipped bits (a third of them near the start, where the sizes are), absurd sizes, cuts and tails."""
    rng = np.random.default_rng(seed)
    entries = HEADER + 28
    for i in range(MUTATIONS_A_MODEL // 2):
        at = int(rng.integers(entries + 200) if i % 3 == 0 else rng.integers(len(data)))
        changed = bytearray(data)
        changed[at] ^= 1 << int(rng.integers(8))
        yield Mutation(f"bit of byte {at}", bytes(changed), False)
    sizes = [*range(0, HEADER - 8, 4), *range(HEADER, entries, 4)]
    for _ in range(MUTATIONS_A_MODEL // 4):
        at = int(rng.choice(sizes))
        value = int(rng.choice([0, -1, 1, 255, 1 << 20, (1 << 31) - 1, -(1 << 31)]))
        absurd = data[:at] + value.to_bytes(4, "little", signed=True) + data[at + 4 :]
        if absurd != data:
            yield Mutation(f"size at {at} = {value}", absurd, at not in HASHING)
    for _ in range(MUTATIONS_A_MODEL // 8):
        at = int(rng.integers(len(data)))
        yield Mutation(f"cut at {at}", data[:at], True)
    for _ in range(MUTATIONS_A_MODEL // 8):
        n = int(rng.integers(1, 3000))
        yield Mutation(f"{n} bytes more", data + rng.bytes(n), True)


def predictions(paths: list[str]) -> list[list[object]]:
    """What fastText itself says of the probes, one entry a file; asserts that it neither died nor hung."""
    done = subprocess.run(
        [sys.executable, "-c", SURVIVOR], input=json.dumps(paths), capture_output=True, text=True, timeout=120
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 0, f"fastText failed at {paths[len(lines)]}: {done.returncode} {done.stderr[-300:]}"
    return [json.loads(line) for line in lines]


def test_what_fasttext_wrote_is_accepted_and_described(models: dict[str, Path]) -> None:
    for name, path in models.items():
        found = check(str(path))
        assert found.quantised == name.endswith(".ftz")
        if name != "lid.176.ftz":
            assert set(found.labels) == {"__label__a", "__label__b", "__label__c"} and found.dimension == 6
        model, same = load(str(path), "key")
        assert same == found and tuple(model.get_labels()) == found.labels
        assert len(model.get_words(on_unicode_error="replace")) == found.words


@pytest.mark.parametrize("name", [*KINDS, "lid.176.ftz"])
def test_mutated_files_are_refused_by_name_or_predict_the_same(
    name: str, models: dict[str, Path], tmp_path: Path
) -> None:
    original = models[name].read_bytes()
    expected = Expected(check(str(models[name])).sha256, "the test names")
    (reference,) = predictions([str(models[name])])
    accepted: list[tuple[Mutation, str]] = []
    refused = 0
    for i, mutation in enumerate(mutations(original, len(name))):
        path = str(tmp_path / f"{i}{models[name].suffix}")
        Path(path).write_bytes(mutation.data)
        with pytest.raises(UserError, match=rf"^the\.key: .*{i}\.(bin|ftz) is not (a fastText model|the file that)"):
            load(path, "the.key", expected=expected)
        try:
            check(path)
            accepted.append((mutation, path))
        except Malformed:
            refused += 1
    # Without a hash a file may be another model (a flipped weight), but no file may hang or crash fastText, and one
    # whose structure alone was changed is the same model, or refused.
    for (mutation, _), found in zip(accepted, predictions([p for _, p in accepted]), strict=True):
        assert not mutation.structural or found == reference, mutation.what
    assert refused + len(accepted) >= MUTATIONS_A_MODEL * 0.8 and refused >= MUTATIONS_A_MODEL // 4


def test_there_are_hundreds_of_mutations() -> None:
    assert (len(KINDS) + 1) * MUTATIONS_A_MODEL * 0.8 >= 200


def test_values_that_crash_or_hang_fasttext_are_named(models: dict[str, Path], tmp_path: Path) -> None:
    good = models["ngrams.bin"].read_bytes()

    def refusal(at: int, value: bytes) -> str:
        (tmp_path / "m.bin").write_bytes(good[:at] + value + good[at + len(value) :])
        with pytest.raises(Malformed) as e:
            check(str(tmp_path / "m.bin"))
        return str(e.value)

    zero, many = bytes(4), (1 << 30).to_bytes(4, "little")
    assert refusal(0, zero) == "it does not start as one does"
    assert refusal(4, many) == f"its format version is {1 << 30}, not 11 or 12"
    assert refusal(8, many) == f"its vectors have {1 << 30} numbers"
    assert refusal(8 + 4 * 8, zero) == "it has 0 buckets for its n-grams"  # division by zero
    assert refusal(8 + 4 * 5, many) == f"its word n-grams go up to {1 << 30}"  # quadratic time
    assert "claims" in refusal(HEADER, many)  # memory
    assert "cut or no word" in refusal(HEADER + 28, b"\0")
    nan = np.array([np.nan], "<f4").tobytes()
    assert refusal(len(good) - 4, nan) == "its output matrix holds nan"


def test_the_shipped_model_is_pinned_by_its_hash(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert check(str(BUILTIN_MODEL)).sha256 == BUILTIN_SHA256
    changed = bytearray(BUILTIN_MODEL.read_bytes())
    changed[-1] ^= 1  # a weight
    (tmp_path / "lid.176.ftz").write_bytes(changed)
    monkeypatch.setattr("raypt.curation.language.BUILTIN_MODEL", tmp_path / "lid.176.ftz")
    with pytest.raises(UserError, match="is not the file that comes with raypt"):
        load_model(LanguageConfig())


def test_a_language_model_of_ones_own_can_be_pinned(models: dict[str, Path]) -> None:
    path, sha256 = str(models["subwords.bin"]), check(str(models["subwords.bin"])).sha256
    assert load_model(LanguageConfig(model=path, model_sha256=sha256)).get_labels()
    with pytest.raises(UserError, match=r"is not the file that curation\.language\.model_sha256 names"):
        load_model(LanguageConfig(model=path, model_sha256="0" * 64))


def test_a_file_that_kills_or_hangs_fasttext_is_refused_and_this_process_lives(
    models: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # As if `check` had a hole: fastText meets the files themselves, in the child.
    monkeypatch.setattr(fasttext_file, "check", lambda path: fasttext_file.FastTextFile(path, (), 0, 0, False))
    good = models["ngrams.bin"].read_bytes()
    buckets = 8 + 4 * 8
    (tmp_path / "dies.bin").write_bytes(good[:buckets] + bytes(4) + good[buckets + 4 :])  # division by zero
    with pytest.raises(UserError, match=r"^key: fastText cannot use .*dies\.bin: it died of signal 8"):
        load(str(tmp_path / "dies.bin"), "key")
    (tmp_path / "hangs.bin").write_bytes(good[: HEADER + 30])  # waits for the end of the word, past that of the file
    monkeypatch.setattr(outside_file, "_SECONDS", 1.0)
    with pytest.raises(UserError, match=r"^key: fastText did not load .*hangs\.bin within 1 s"):
        load(str(tmp_path / "hangs.bin"), "key")
