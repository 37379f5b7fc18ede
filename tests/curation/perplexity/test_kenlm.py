"""KenLM's binary files: the values are those of the ARPA file they were built from, and what is damaged is refused.

The files in `kenlm/` were built of `tiny.arpa` (which `raypt.curation.perplexity.train` wrote) by KenLM's own
`build_binary`, from the sources of the package kenlm 0.3.0: `build_binary -s [-q 8] [-a 4] [probing|trie] tiny.arpa OUT`.
"""

import hashlib
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
TEXTS = ["the cat sat on the mat", "unseen dog\nunseen\n\nran on", "我们很好 a", "the", "好 好 好 好 好 好 好", "zebra " * 9]
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


def test_a_trie_that_leads_kenlm_astray_ends_a_child_process_and_not_this_one(tmp_path: Path) -> None:
    pytest.importorskip("kenlm", reason="kenlm is not installed: pip install 'raypt[kenlm]'")
    raw = bytearray((FILES / "trie.bin").read_bytes())
    words = check(str(FILES / "trie.bin")).ngrams[0]
    first = (COUNTS + 8 * 5 + 7) // 8 * 8 + 8 * (words + 1)  # after the sorted hashes of the words
    for i in range(words + 2):  # f32 log10, f32 back-off, u64 next: where the n-grams of two words begin
        raw[first + 16 * i + 8 : first + 16 * i + 16] = struct.pack("<Q", 1 << 56)
    path = tmp_path / "astray.bin"
    path.write_bytes(raw)
    check(str(path))  # pointers are not followed
    child = [sys.executable, "-m", "raypt.curation.perplexity.kenlm_child", str(path)]
    assert subprocess.run(child, capture_output=True, timeout=120).returncode != 0
    with pytest.raises(UserError, match=r"models.en: KenLM cannot use .*astray.bin: "):
        look(Perplexity(models={"en": str(path)}))


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
