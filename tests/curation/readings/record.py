"""Record what published code decides on the shared corpora: `python -m tests.curation.readings.record`.

Needs `datatrove==0.10.1 spacy==3.8.18 zhconv` and the corpora, for `fineweb2` also raypt's extra `segment`; writes
recorded/*.json, a string a file with a digit a document: 1 kept (`fineweb`, `c4`, `fineweb2`) or left as it is by
zhconv (`simplified`). With a name as argument, that one alone.
"""

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.curation.text_sets import rows

RECORDED = Path(__file__).parent / "recorded"
ENGLISH = {
    "web/pages_text.dev.jsonl.gz": 1300,
    "web/docs_text.dev.jsonl.zst": 1200,
    "reference/novels_en.dev.jsonl.zst": 100,
    "quality/spam_ham.dev.jsonl.gz": 500,
    "reference/foldoc_en.dev.jsonl.gz": 300,
}
CHINESE = {
    "reference/wikipedia_zh.dev.jsonl.gz": 700,
    "reference/lctt_zh_ccbysa.dev.jsonl.zst": 500,
    "web/docs_text.dev.jsonl.zst": 3000,
    "quality/ref_vs_web.dev.jsonl.zst": 3000,
}
SEGMENTED = {
    "cmn_Hani web/docs_text.dev.jsonl.zst": 300,
    "cmn_Hani web/pages_text.dev.jsonl.gz": 100,
    "cmn_Hani reference/lctt_zh_ccbysa.dev.jsonl.zst": 50,
    "jpn_Jpan web/docs_text.dev.jsonl.zst": 300,
    "jpn_Jpan web/pages_text.dev.jsonl.gz": 100,
    "tha_Thai multilingual/xquad_parallel.jsonl.gz": 300,
}
CODES = {"cmn_Hani": "zh", "jpn_Jpan": "ja", "tha_Thai": "th"}
MOST_CHARS = 20_000
"""Of a document: the slow readings are asked about the start of long ones."""


def texts(name: str, limit: int) -> list[str]:
    """Of a file; after a language's label and a blank, those in this language."""
    label, _, file = name.rpartition(" ")
    if label:
        found = [row for row in rows(file, 10**9) if str(row.get("lid") or row.get("lang")).startswith(CODES[label])]
        return [row["text"][:MOST_CHARS] for row in found[:: max(1, len(found) // limit)][:limit]]
    return [row["text"][:MOST_CHARS] for row in rows(name, limit)]


def fingerprint(documents: list[str]) -> str:
    return hashlib.sha256("\0".join(documents).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def recorded(name: str) -> dict[str, tuple[list[str], list[bool]]]:
    """Documents and what was recorded of them, by file; files that are not those that were recorded are left out."""
    content = json.loads((RECORDED / f"{name}.json").read_text("utf-8"))
    out = {}
    for file, entry in content.items():
        documents = texts(file, entry["limit"])
        if fingerprint(documents) == entry["fingerprint"]:
            out[file] = (documents, [digit == "1" for digit in entry["kept"]])
    return out


def record(name: str, files: dict[str, int], keeps_of: Callable[[str], Callable[[str], bool]]) -> None:
    out: dict[str, Any] = {}
    for file, limit in files.items():
        documents, keeps = texts(file, limit), keeps_of(file)
        kept = "".join("01"[keeps(text)] for text in documents)
        out[file] = {"limit": limit, "fingerprint": fingerprint(documents), "kept": kept}
    (RECORDED / f"{name}.json").write_text(json.dumps(out, indent=1) + "\n", "utf-8")


def through(steps: list[Any]) -> Callable[[str], bool]:
    from datatrove.data import Document

    def keeps(text: str) -> bool:
        document = Document(text=text, id="0")
        return all((r := step.filter(document)) is True or (isinstance(r, tuple) and r[0]) for step in steps)

    return keeps


def fineweb2(label: str) -> list[Any]:
    """The filters of fineweb-2-pipeline.py with the thresholds of a language."""
    from datatrove.pipeline import filters as f

    from raypt.curation.fineweb2 import fineweb2 as published
    from raypt.curation.fineweb2 import segmented_stop_words

    values = published()["by_language"][label]
    repetition, quality, lines = (values[stage] for stage in ("gopher_repetition", "gopher_quality", "fineweb"))
    return [
        f.GopherRepetitionFilter(
            language=label,
            dup_para_frac=0,
            dup_line_char_frac=0,
            dup_para_char_frac=0,
            dup_line_frac=repetition["duplicate_line_fraction_max"],
            top_n_grams=[(n, repetition[f"top_{n}_gram_char_fraction_max"]) for n in range(2, 5)],
            dup_n_grams=[(n, repetition[f"duplicate_{n}_gram_char_fraction_max"]) for n in range(5, 11)],
        ),
        f.FineWebQualityFilter(
            language=label,
            short_line_thr=999,
            char_duplicates_ratio=0.1,
            line_punct_thr=lines["ended_line_fraction_min"],
            new_line_ratio=lines["newline_to_word_ratio_max"],
        ),
        f.GopherQualityFilter(
            language=label,
            max_avg_word_length=quality["mean_word_length_max"],
            min_avg_word_length=quality["mean_word_length_min"],
            max_non_alpha_words_ratio=quality["alpha_word_fraction_min"],
            stop_words=list(segmented_stop_words([label])[label]),
            min_stop_words=2,
        ),
    ]


def main(*names: str) -> None:
    if not names or "fineweb2" in names:
        filters = {label: through(fineweb2(label)) for label in CODES}
        record("fineweb2", SEGMENTED, lambda name: filters[name.partition(" ")[0]])
    if names:
        return
    from datatrove.pipeline import filters as f
    from zhconv import convert

    fineweb = [
        f.GopherRepetitionFilter(),
        f.GopherQualityFilter(),
        f.C4QualityFilter(filter_no_terminal_punct=False),
        f.FineWebQualityFilter(),
    ]
    c4 = [f.C4QualityFilter(min_num_sentences=3, min_words_per_line=5)]

    record("fineweb", ENGLISH, lambda _: through(fineweb))
    record("c4", ENGLISH, lambda _: through(c4))
    record("simplified", CHINESE, lambda _: lambda text: bool(text == convert(text, "zh-cn")))


if __name__ == "__main__":
    main(*sys.argv[1:])
