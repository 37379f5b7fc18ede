"""Record what published code decides on the shared corpora: `python -m tests.curation.readings.record`.

Needs `datatrove==0.10.1 spacy==3.8.18 zhconv` and the corpora; writes recorded/*.json, a string a file with a digit a
document: 1 kept (`fineweb`, `c4`) or left as it is by zhconv (`simplified`).
"""

import hashlib
import json
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
MOST_CHARS = 20_000
"""Of a document: the slow readings are asked about the start of long ones."""


def texts(name: str, limit: int) -> list[str]:
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


def record(name: str, files: dict[str, int], keeps: Callable[[str], bool]) -> None:
    out: dict[str, Any] = {}
    for file, limit in files.items():
        documents = texts(file, limit)
        kept = "".join("01"[keeps(text)] for text in documents)
        out[file] = {"limit": limit, "fingerprint": fingerprint(documents), "kept": kept}
    (RECORDED / f"{name}.json").write_text(json.dumps(out, indent=1) + "\n", "utf-8")


def main() -> None:
    from datatrove.data import Document
    from datatrove.pipeline import filters as f
    from zhconv import convert

    fineweb = [
        f.GopherRepetitionFilter(),
        f.GopherQualityFilter(),
        f.C4QualityFilter(filter_no_terminal_punct=False),
        f.FineWebQualityFilter(),
    ]
    c4 = [f.C4QualityFilter(min_num_sentences=3, min_words_per_line=5)]

    def through(steps: list[Any]) -> Callable[[str], bool]:
        def keeps(text: str) -> bool:
            document = Document(text=text, id="0")
            return all((r := step.filter(document)) is True or (isinstance(r, tuple) and r[0]) for step in steps)

        return keeps

    record("fineweb", ENGLISH, through(fineweb))
    record("c4", ENGLISH, through(c4))
    record("simplified", CHINESE, lambda text: text == convert(text, "zh-cn"))


if __name__ == "__main__":
    main()
