"""n-gram models: what training gives is a distribution, and look-ups are those of the ARPA file's own definition."""

import math
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from raypt.curation.config import CurationConfig
from raypt.curation.decide import decide
from raypt.curation.perplexity import arpa
from raypt.curation.perplexity.model import NGramModel
from raypt.curation.perplexity.sentences import sentences
from raypt.curation.perplexity.train import train
from raypt.curation.tagger import Tagger
from raypt.errors import UserError
from tests.curation.helpers import table

pytestmark = pytest.mark.fast

WORDS = ["the", "cat", "sat", "on", "a", "mat", "dog", "ran", "我", "们", "很", "好"]
QUESTIONS = ["the cat sat on the mat", "unseen dog unseen", "我 们 很 好 a", "the", "好 好 好 好 好 好 好"]
Entries = dict[tuple[str, ...], tuple[float, float]]


def texts(seed: int = 1) -> list[str]:
    chosen = random.Random(seed)
    return [" ".join(chosen.choices(WORDS, range(1, 13), k=chosen.randint(1, 15))) for _ in range(300)]


def written(path: Path, min_count: int = 1, lines: list[str] | None = None) -> Path:
    cut = sentences(pa.array(texts() if lines is None else lines), "words-v1", 1 << 16)
    with path.open("wb") as f:
        arpa.write(f, train(cut, 5, min_count, 10**6))
    return path


def entries(path: Path) -> Entries:
    """The file read line by line: an independent reader."""
    rows = [line.split("\t") for line in path.read_text().splitlines() if "\t" in line]
    return {tuple(r[1].split()): (float(r[0]), float(r[2]) if len(r) > 2 else 0.0) for r in rows}


def log10(model: Entries, history: tuple[str, ...], word: str) -> float:
    """The definition: the longest n-gram that there is, and the back-offs of the histories given up."""
    if (*history, word) in model:
        return model[*history, word][0]
    if not history:
        return model[("<unk>",)][0]
    return model.get(history, (0.0, 0.0))[1] + log10(model, history[1:], word)


def sentence(model: Entries, text: str) -> float:
    words = [w if (w,) in model else "<unk>" for w in text.split()]
    run = ["<s>", *words, "</s>"]
    return sum(log10(model, tuple(run[max(0, i - 4) : i]), run[i]) for i in range(1, len(run)))


@pytest.mark.parametrize("min_count", [1, 2, 4])
def test_probabilities_after_any_history_sum_to_one(tmp_path: Path, min_count: int) -> None:
    model = entries(written(tmp_path / "m.arpa", min_count))
    outcomes = [k[0] for k in model if len(k) == 1 and k != ("<s>",)]
    histories = [(), *(k for k in model if len(k) < 5 and "</s>" not in k and k != ("<unk>",))]
    for history in random.Random(0).sample(histories, 40):
        # float32 in the file: 1e-7 of each of a dozen terms
        assert sum(10 ** log10(model, history, word) for word in outcomes) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("min_count", [1, 2, 4])
def test_the_table_answers_as_the_definition_of_a_back_off_model(tmp_path: Path, min_count: int) -> None:
    path = written(tmp_path / "m.arpa", min_count)
    found = NGramModel.load(str(path)).score(sentences(pa.array(QUESTIONS), "words-v1", 1000), len(QUESTIONS))
    assert found.log10.tolist() == pytest.approx([sentence(entries(path), q) for q in QUESTIONS], abs=1e-4)
    assert found.unknown.tolist() == [0, 2, 0, 0, 0]


def test_scores_equal_kenlms(tmp_path: Path) -> None:
    kenlm: Any = pytest.importorskip("kenlm", reason="kenlm is not installed: the reading of the file stands for it")
    path = written(tmp_path / "m.arpa", 2)
    theirs = kenlm.Model(str(path))
    found = NGramModel.load(str(path)).score(sentences(pa.array(QUESTIONS), "words-v1", 1000), len(QUESTIONS))
    assert found.log10.tolist() == pytest.approx([theirs.score(q) for q in QUESTIONS], abs=1e-4)
    assert found.perplexity.tolist() == pytest.approx([theirs.perplexity(q) for q in QUESTIONS], rel=1e-4)


def test_words_end_at_white_space_however_much_there_is(tmp_path: Path) -> None:
    model = NGramModel.load(str(written(tmp_path / "m.arpa")))
    wide = [" the  cat\tsat\x0bon\r\n\n \x00the mat ", "the cat sat on\nthe mat"]
    found = model.score(sentences(pa.array(wide), "plain", 1000), 2)
    assert found.log10[0] == found.log10[1]
    assert found.tokens.tolist() == [8, 8] and found.unknown.tolist() == [0, 0]


def test_the_model_does_not_depend_on_the_order_of_the_text(tmp_path: Path) -> None:
    backwards = written(tmp_path / "b.arpa", 2, texts()[::-1])
    assert written(tmp_path / "a.arpa", 2).read_bytes() == backwards.read_bytes()


@pytest.mark.parametrize(
    "damage",
    [
        lambda s: s[: len(s) // 2],
        lambda s: s.replace("\\2-grams:", "\\3-grams:"),
        lambda s: s.replace("ngram 2=", "ngram 2=1"),
        lambda s: s.replace("-99", "nan", 1),
        lambda s: s.replace("\tthe cat\t", "\tthe zebra\t"),
        lambda s: "",
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, damage: Any) -> None:
    path = written(tmp_path / "m.arpa")
    path.write_text(damage(path.read_text()))
    with pytest.raises(arpa.MalformedArpa):
        NGramModel.load(str(path))


def test_documents_above_the_bound_go_and_those_not_measured_pass(tmp_path: Path) -> None:
    path = written(tmp_path / "m.arpa")
    config = CurationConfig.model_validate(
        {"stages": ["perplexity"], "perplexity": {"models": {"en": str(path)}, "per_token_max": 100}}
    )
    docs = table(["the cat sat on the mat\n\na dog ran", "zebra " * 9, "", "zebra " * 9])
    docs = docs.set_column(docs.column_names.index("lang"), "lang", pa.array(["en", "en", "en", "de"]))
    tagged = Tagger(config).tag(docs)
    values = [row["per_token"] for row in tagged["perplexity"].to_pylist()]
    assert values[0] < 100 < values[1]
    assert all(v is None or math.isnan(v) for v in values[2:])
    assert decide(tagged, config).to_pylist() == [None, "perplexity.per_token_max", None, None]


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    config = CurationConfig.model_validate(
        {"stages": ["perplexity"], "perplexity": {"models": {"en": str(tmp_path / "no.arpa")}}}
    )
    with pytest.raises(UserError, match=r"curation.perplexity.models.en: no file"):
        Tagger(config).tag(table(["a b"]))
