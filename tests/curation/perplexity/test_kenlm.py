"""KenLM's binary files: the values are those of the ARPA file they were built from, and what is damaged is refused.

The files in `kenlm/` were built of `tiny.arpa` (which `raypt.curation.perplexity.train` wrote) by KenLM's own
`build_binary`, from the sources of the package kenlm 0.3.0: `build_binary [-q 8 -b 8] [-a 4] [probing|trie] tiny.arpa
OUT`; `rest.bin` with `-r` and the lower orders of the same file.
"""

import hashlib
import random
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from raypt.curation.config import CurationConfig
from raypt.curation.perplexity.config import Perplexity
from raypt.curation.perplexity.files import look
from raypt.curation.perplexity.kenlm_file import KINDS, Malformed, check
from raypt.curation.perplexity.model import NGramModel
from raypt.curation.perplexity.prepare import prepare
from raypt.curation.perplexity.sentences import sentences
from raypt.curation.tagger import Tagger
from raypt.errors import UserError
from raypt.run_dir import RunDir
from tests.curation.helpers import table

pytestmark = pytest.mark.fast

FILES = Path(__file__).parent / "kenlm"
ARPA = FILES / "tiny.arpa"
BUILT = sorted(FILES.glob("*.bin"))
TEXTS = ["the cat sat on the mat", "unseen dog\nunseen\n\nran on", "我们很好 a", "the", "好 好 好 好 好", "zebra " * 9]
HEAD = 88
"""Bytes before the order."""


def scores(path: Path) -> Any:
    pytest.importorskip("kenlm", reason="kenlm is not installed: pip install 'raypt[kenlm]'")
    from raypt.curation.perplexity.kenlm_model import KenlmModel

    return KenlmModel.load(str(path), "key").score(sentences(pa.array(TEXTS), "words-v1", 1000), len(TEXTS))


@pytest.mark.parametrize("path", BUILT, ids=lambda p: p.stem)
def test_values_are_those_of_the_arpa_file(path: Path) -> None:
    found = scores(path)
    wanted = NGramModel.load(str(ARPA)).score(sentences(pa.array(TEXTS), "words-v1", 1000), len(TEXTS))
    assert found.tokens.tolist() == wanted.tokens.tolist()
    assert found.unknown.tolist() == wanted.unknown.tolist()
    np.testing.assert_allclose(found.log10 / found.tokens, wanted.log10 / wanted.tokens, rtol=0, atol=1e-4)


def test_every_kind_is_told_by_its_head() -> None:
    found = {check(str(path)).kind for path in BUILT}
    assert found == set(KINDS)
    sizes = {check(str(path)).ngrams for path in BUILT}
    assert len(sizes) == 1 and len(sizes.pop()) == 5


def test_documents_are_measured_as_with_the_arpa_file() -> None:
    pytest.importorskip("kenlm", reason="kenlm is not installed: pip install 'raypt[kenlm]'")
    values = []
    for path in (ARPA, FILES / "trie.bin"):
        config = CurationConfig.model_validate({"stages": ["perplexity"], "perplexity": {"models": {"en": str(path)}}})
        docs = table(TEXTS)
        tagged = Tagger(config).tag(docs.set_column(docs.column_names.index("lang"), "lang", pa.array(["en"] * 6)))
        values.append(tagged.flatten()["perplexity.per_token"].to_pylist())
    assert values[0] == pytest.approx(values[1], rel=3e-4)  # 1e-4 of log10 a token


def changed(tmp_path: Path, name: str, at: int, data: bytes) -> Path:
    raw = bytearray((FILES / name).read_bytes())
    raw[at : at + len(data)] = data
    path = tmp_path / name
    path.write_bytes(raw)
    return path


ORDER, MULTIPLIER, KIND, VERSION, COUNTS = HEAD, HEAD + 4, HEAD + 8, HEAD + 16, HEAD + 20


@pytest.mark.parametrize(
    ("at", "data", "said"),
    [
        (0, b"x", "does not start"),
        (49, b"4", "does not start"),
        (60, b"\1", "other numbers"),
        (ORDER, b"\0", "have 0 words"),
        (ORDER, b"\7", "have 7 words"),
        (MULTIPLIER, struct.pack("<f", 0.5), "multiplier"),
        (MULTIPLIER, struct.pack("<f", float("nan")), "multiplier"),
        (KIND, struct.pack("<i", 6), "kind 6"),
        (VERSION, struct.pack("<I", 9), "version 9"),
        (COUNTS, struct.pack("<Q", 1 << 60), "1-grams in"),
        (COUNTS + 8, struct.pack("<Q", 0), "0 2-grams"),
    ],
)
def test_a_damaged_head_is_refused(tmp_path: Path, at: int, data: bytes, said: str) -> None:
    with pytest.raises(Malformed, match=said):
        check(str(changed(tmp_path, "probing.bin", at, data)))


def test_a_cut_file_and_damaged_hash_tables_are_refused(tmp_path: Path) -> None:
    raw = (FILES / "probing.bin").read_bytes()
    ngrams = check(str(FILES / "probing.bin")).ngrams
    words = (COUNTS + 8 * len(ngrams) + 7) // 8 * 8 + 8
    (multiplier,) = struct.unpack_from("<f", raw, MULTIPLIER)
    slots = np.frombuffer(raw, np.dtype([("key", "<u8"), ("value", "<u4")]), int(multiplier * ngrams[0]), words)
    free, taken = np.flatnonzero(slots["key"] == 0), int(np.flatnonzero(slots["key"])[0])
    short = tmp_path / "short.bin"
    short.write_bytes(raw[: len(raw) // 2])
    with pytest.raises(Malformed, match="it ends within"):
        check(str(short))
    with pytest.raises(Malformed, match="number beyond"):
        check(str(changed(tmp_path, "probing.bin", words + 12 * taken + 8, b"\xff\xff\0\0")))
    full = bytearray(raw)
    for i in free.tolist():
        full[words + 12 * i] = 1
    (tmp_path / "full.bin").write_bytes(full)
    with pytest.raises(Malformed, match="no free slot"):
        check(str(tmp_path / "full.bin"))
    unigrams = words + slots.nbytes
    with pytest.raises(Malformed, match="1-grams hold a number that is none"):
        check(str(changed(tmp_path, "probing.bin", unigrams, struct.pack("<f", float("nan")))))


TRIES = ["trie.bin", "quantised.bin", "array.bin", "quantised_array.bin"]
CHILD = [sys.executable, "-m", "raypt.curation.perplexity.kenlm_child"]


def unigrams_at(name: str) -> int:
    """Where the (f32 log10, f32 back-off, u64 next) of words begin."""
    words = check(str(FILES / name)).ngrams[0]
    quantiser = 8 + 4 * (3 * (256 + 256) + 256) if "quantised" in name else 0
    return (COUNTS + 8 * 5 + 7) // 8 * 8 + 8 * (words + 1) + quantiser


def test_pointers_that_lead_kenlm_out_of_its_memory_are_refused(tmp_path: Path) -> None:
    first, raw = unigrams_at("trie.bin"), bytearray((FILES / "trie.bin").read_bytes())
    for i in range(check(str(FILES / "trie.bin")).ngrams[0] + 2):
        raw[first + 16 * i + 8 : first + 16 * i + 16] = struct.pack("<Q", i << 50)
    path = tmp_path / "astray.bin"
    path.write_bytes(raw)
    with pytest.raises(Malformed, match="a pointer of its 1-grams points beyond"):
        check(str(path))
    pytest.importorskip("kenlm", reason="kenlm is not installed: pip install 'raypt[kenlm]'")
    assert subprocess.run([*CHILD, str(path)], capture_output=True, timeout=120).returncode < 0  # it died of a signal


@pytest.mark.parametrize("name", TRIES)
def test_pointers_between_ngrams_are_followed(tmp_path: Path, name: str) -> None:
    """A byte that is turned over among the entries of two to four words is of a word, a value or a pointer."""
    first = unigrams_at(name)
    raw = (FILES / name).read_bytes()
    ngrams = check(str(FILES / name)).ngrams
    seen = 0
    for at in range(first + 16 * (ngrams[0] + 2), len(raw) - 1200, 7):
        path = changed(tmp_path, name, at, bytes([raw[at] ^ 0xFF]))
        try:
            check(str(path))
        except Malformed as e:
            seen += "leads astray" in str(e) or "do not ascend" in str(e)
    assert seen > 20


def test_what_passes_keeps_kenlm_alive(tmp_path: Path) -> None:
    """Files with a few flipped bytes that the walk lets through are answered from without a crash."""
    pytest.importorskip("kenlm", reason="kenlm is not installed: pip install 'raypt[kenlm]'")
    chosen = random.Random(0)
    passed = []
    for name in [path.name for path in BUILT]:
        raw = (FILES / name).read_bytes()
        for i in range(40):
            damaged = bytearray(raw)
            for _ in range(3):
                damaged[chosen.randrange(len(raw))] = chosen.randrange(256)
            path = tmp_path / f"{i}-{name}"
            path.write_bytes(damaged)
            try:
                check(str(path))
                passed.append(str(path))
            except Malformed:
                path.unlink()
    code = (
        "import sys\n"
        "from raypt.curation.perplexity.kenlm_model import loaded\n"
        "for path in sys.argv[1:]:\n"
        "    try:\n"
        "        model = loaded(path)\n"
        "    except OSError:\n"
        "        continue\n"
        f"    for text in {TEXTS!r}:\n"
        "        list(model.full_scores(text))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *passed], capture_output=True, text=True, timeout=300)
    assert len(passed) > 20
    assert done.returncode == 0, done.stderr[-500:]


def test_the_file_must_be_the_one_that_is_expected(tmp_path: Path) -> None:
    path = tmp_path / "m.arpa"
    path.write_bytes(ARPA.read_bytes())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    named = {"models": {"en": str(path)}}
    settings = Perplexity.model_validate({**named, "models_sha256": {"en": digest}})
    run = RunDir(str(tmp_path / "run"))
    artefact, fingerprint = prepare(run, settings, None, None, 0, "sizes")  # type: ignore[arg-type]  # of training
    assert settings.load(artefact).model("en").order == 5
    with pytest.raises(UserError, match=r"not the file that curation.perplexity.models_sha256.en names"):
        look(Perplexity.model_validate({**named, "models_sha256": {"en": "0" * 64}}))
    path.write_bytes(ARPA.read_bytes() + b"\n")
    with pytest.raises(UserError, match="not the file that this run started with"):
        settings.load(artefact).model("en")
    _, other = prepare(run, Perplexity.model_validate(named), None, None, 0, "sizes")  # type: ignore[arg-type]
    assert other != fingerprint


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kenlm", None)
    with pytest.raises(UserError, match=r"models.en: .* pip install 'raypt\[kenlm\]'"):
        look(Perplexity(models={"en": str(FILES / "probing.bin")}))
