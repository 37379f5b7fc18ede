"""Presets against the published code's own reading of the recipes: at least 98 % equal decisions on real documents.

DCLM's and EvalWeb's rules are written down again in `readings/`; what datatrove 0.10.1 (FineWeb, C4) and zhconv say of
the same documents was recorded with the packages themselves (`readings/record.py`).
"""

import re
from collections import Counter
from typing import Any

import pyarrow as pa
import pytest

from raypt.curation.config import CurationConfig
from raypt.curation.decide import decide
from raypt.curation.language import LanguageConfig, identify
from raypt.curation.segmenters import INSTALL, PACKAGES
from raypt.curation.tagger import Tagger
from raypt.text.buffers import TextBatch
from tests.curation.figures import report
from tests.curation.readings import dclm, evalweb
from tests.curation.readings.record import recorded
from tests.curation.text_sets import CORPORA

pytestmark = pytest.mark.skipif(not CORPORA.exists(), reason="the real corpora beside the checkout are absent")

LEAST = 0.98


def written_in(documents: list[str], language: str) -> list[bool]:
    """Which documents are in a language by FineWeb's rule: lid.176 at 0.65."""
    lang, score = identify(TextBatch.from_arrow(pa.array(documents)), LanguageConfig())
    return [found == language and sure >= 0.65 for found, sure in zip(lang.to_pylist(), score, strict=True)]


def decisions(preset: str, stages: list[str], documents: list[str], language: str, **more: Any) -> list[str | None]:
    """Of a preset's stages without those that ask for lists, a classifier or the language."""
    config = CurationConfig.model_validate({"preset": preset, "stages": stages, **more})
    n = len(documents)
    docs = pa.table({"doc_key": range(n), "text": documents, "lang": [language] * n})
    reasons: list[str | None] = decide(Tagger(config).tag(docs), config).to_pylist()
    return reasons


def check(name: str, ours: list[str | None], theirs: list[str | None], enough: int = 300) -> None:
    same = sum((a is None) == (b is None) for a, b in zip(ours, theirs, strict=True))
    classes = Counter((a, b) for a, b in zip(ours, theirs, strict=True) if (a is None) != (b is None))
    report(f"{name}: equal decisions {same} of {len(ours)} ({same / len(ours):.4f}); else {classes.most_common(3)}")
    assert len(ours) > enough
    assert same >= LEAST * len(ours)


def stages_of(preset: str) -> list[str]:
    return [str(stage) for stage in CurationConfig.model_validate({"preset": preset}).stages]


@pytest.mark.parametrize(
    ("label", "segmenter", "far"),
    [("cmn_Hani", "jieba", 0.2), ("jpn_Jpan", "sudachi", 0.2), ("tha_Thai", "pythainlp", 0.1)],
)
def test_with_a_segmenters_words_decisions_are_datatroves(label: str, segmenter: str, far: float) -> None:
    """And with a character a word they are not."""
    for package in PACKAGES[segmenter]:
        pytest.importorskip(package, reason=INSTALL)
    ours: dict[str, list[str | None]] = {"segmenter": [], "character": []}
    theirs: list[str | None] = []
    for file, (documents, kept) in recorded("fineweb2").items():
        if file.startswith(label):
            for kind, segmenters in (("segmenter", {label: segmenter}), ("character", {})):
                words = {"segmenters": segmenters}
                stages = ["gopher_repetition", "fineweb", "gopher_quality"]
                ours[kind] += decisions("fineweb2", stages, documents, label, words=words)
            theirs += [None if keep else "datatrove" for keep in kept]
    check(f"fineweb2 {label}", ours["segmenter"], theirs, 200)
    apart = sum((a is None) != (b is None) for a, b in zip(ours["character"], theirs, strict=True))
    report(f"fineweb2 {label} with a character a word: {apart} of {len(theirs)} decided otherwise")
    assert apart > far * len(theirs)


@pytest.mark.parametrize("preset", ["fineweb", "c4"])
def test_decisions_are_datatroves(preset: str) -> None:
    stages = [stage for stage in stages_of(preset) if stage not in ("url", "language", "bad_words", "pii")]
    ours: list[str | None] = []
    theirs: list[str | None] = []
    for documents, kept in recorded(preset).values():
        english = written_in(documents, "en")
        found = decisions(preset, stages, documents, "en")
        ours += [reason for reason, wanted in zip(found, english, strict=True) if wanted]
        theirs += [None if k else "removed" for k, wanted in zip(kept, english, strict=True) if wanted]
    check(preset, ours, theirs)


def test_decisions_are_dclms() -> None:
    stages = [stage for stage in stages_of("dclm") if stage not in ("url", "language", "quality")]
    ours: list[str | None] = []
    theirs: list[str | None] = []
    for documents, _ in recorded("fineweb").values():
        english = written_in(documents, "en")
        some = [text for text, wanted in zip(documents, english, strict=True) if wanted][::3]
        ours += decisions("dclm", stages, some, "en")
        theirs += [dclm.decide(text) for text in some]
    check("dclm", ours, theirs)


def test_decisions_are_evalwebs() -> None:
    stages = [stage for stage in stages_of("chinese") if stage not in ("url", "language", "bad_words", "quality")]
    ours: list[str | None] = []
    theirs: list[str | None] = []
    for documents, simplified in recorded("simplified").values():
        chinese = written_in(documents, "zh")
        found = decisions("chinese", stages, documents, "zh")
        ours += [reason for reason, wanted in zip(found, chinese, strict=True) if wanted]
        rows = zip(documents, simplified, chinese, strict=True)
        theirs += [evalweb.decide(text, simplified=s) for text, s, wanted in rows if wanted]
    check("chinese (EvalWeb)", ours, theirs)


def test_the_oracles_words_are_unicodes() -> None:
    """UAX #29 joins letters and digits over an apostrophe, a full stop and an underscore, and over nothing else."""
    text = "The dog's well-known 3.14 U.S. don't e-mail a_b@c.org http://a.b/c-d?e=f #1 — x"
    assert dclm.unicode_words(text) == re.findall(r"[A-Za-z0-9]+(?:['._][A-Za-z0-9]+)*", text)
