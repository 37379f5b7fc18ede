import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from raypt import storage
from raypt.dedup import DedupConfig, deduplicate
from raypt.dedup.config import ContaminationConfig, SentenceConfig
from raypt.dedup.contamination import build_evaluation, find_contaminated
from raypt.dedup.samples import SAMPLES, read_samples
from raypt.errors import UserError
from tests.dedup.reference import documents, removed_keys, write_shards

QUESTION = "If a train leaves the station at noon and travels at sixty miles an hour, when does it arrive in the city?"
CHINESE = "小明从家里出发去学校，每分钟走六十米，走了十五分钟才到，请问他家离学校有多远？"


def find(texts: list[str], samples: list[str], **options: Any) -> list[dict[str, Any]]:
    config = ContaminationConfig(**options)
    names = [str(i) for i in range(len(samples))]
    table = pa.table([["f"] * len(samples), names, samples], schema=SAMPLES)
    return find_contaminated(documents(texts), build_evaluation(table, config), config).to_pylist()


def filler(seed: int) -> str:
    return " ".join(f"w{x}" for x in np.random.default_rng(seed).integers(0, 10**6, 60))


def test_a_document_that_quotes_a_sample_is_found_with_the_matched_words() -> None:
    texts = [filler(1), f"{filler(2)} {QUESTION.upper()} {filler(3)}", f"{filler(4)}{CHINESE}{filler(5)}"]
    found = find(texts, [CHINESE, QUESTION])
    assert [(row["doc_key"], row["sample"], row["coverage"]) for row in found] == [(1, "1", 1.0), (2, "0", 1.0)]
    assert found[0]["ngram"] in QUESTION
    assert len(found[0]["ngram"].split()) == 8
    assert found[1]["ngram"] in CHINESE


def test_one_shared_n_gram_is_not_enough() -> None:
    shared = " ".join(QUESTION.split()[:10])
    assert find([f"{filler(1)} {shared} {filler(2)}"], [QUESTION]) == []
    (row,) = find([f"{filler(1)} {shared} {filler(2)}"], [QUESTION], min_coverage=0.1)
    assert row["coverage"] == pytest.approx(3 / 15)


def test_coverage_counts_distinct_n_grams_of_the_sample_once() -> None:
    shared = " ".join(QUESTION.split()[:10])
    (row,) = find([" ".join([shared] * 5)], [QUESTION], min_coverage=0.1)
    assert row["coverage"] == pytest.approx(3 / 15)


def test_the_sample_covered_most_is_named() -> None:
    (row,) = find([QUESTION], [QUESTION + " " + filler(1), QUESTION], min_coverage=0.1)
    assert (row["sample"], row["coverage"]) == ("1", 1.0)


def test_samples_below_the_length_limit_are_not_looked_for() -> None:
    assert find(["What is the capital of France? Paris of course"], ["What is the capital of France?"], ngram=3) == []


def test_samples_are_read_from_each_format_and_named_by_id_or_row(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(
        gzip.compress(json.dumps({"id": 7, "q": "xx", "choices": ["yy", "zz"], "n": 3}).encode())
    )
    (tmp_path / "b.txt").write_text("one\ntwo\n")
    storage.write_parquet(str(tmp_path / "c.parquet"), pa.table({"q": ["pp"], "a": ["rr"]}))
    paths = tuple(str(tmp_path / name) for name in ("a.jsonl.gz", "b.txt", "c.parquet"))
    rows = read_samples(ContaminationConfig(paths=paths)).to_pylist()
    assert [(r["sample"], r["text"].strip()) for r in rows] == [
        ("7", "xx\nyy\nzz"),
        ("1", "one"),
        ("2", "two"),
        ("1", "pp\nrr"),
    ]
    named = read_samples(ContaminationConfig(paths=paths[2:], fields=("a",))).to_pylist()
    assert named[0]["text"] == "rr"


def test_a_broken_row_or_a_missing_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text('{"q": "x"}\n{"q": \n')
    with pytest.raises(UserError, match=r"bad\.jsonl, row 2: not JSON"):
        read_samples(ContaminationConfig(paths=(str(tmp_path / "bad.jsonl"),)))
    with pytest.raises(UserError, match=r"contamination\.paths: .*none\.jsonl: no such file"):
        read_samples(ContaminationConfig(paths=(str(tmp_path / "none.jsonl"),)))


NESTED = [{"id": 1, "messages": [{"role": "user", "content": QUESTION}]}, {"id": 2, "messages": []}]


@pytest.mark.parametrize("fields", [(), ("messages[].content",), ("messages.content",)])
def test_a_sample_in_nested_fields_is_looked_for(tmp_path: Path, fields: tuple[str, ...]) -> None:
    path = tmp_path / "eval.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in NESTED))
    storage.write_parquet(str(tmp_path / "eval.parquet"), pa.Table.from_pylist(NESTED[:1]))
    for name in ("eval.jsonl", "eval.parquet"):
        options: dict[str, Any] = {"paths": (str(tmp_path / name),), "fields": fields}
        config = ContaminationConfig(**options, min_coverage=0.5)
        evaluation = build_evaluation(read_samples(config), config)
        (row,) = find_contaminated(documents([filler(1), QUESTION]), evaluation, config).to_pylist()
        assert (row["doc_key"], row["sample"]) == (1, "1")


def test_what_numbers_the_choices_is_no_part_of_a_sample(tmp_path: Path) -> None:
    choices = [
        {"text": f"{word} choice", "label": label} for word, label in zip(["ab", "cd", "ef"], "A2C", strict=True)
    ]
    (tmp_path / "arc.jsonl").write_text(json.dumps({"id": "q", "question": {"stem": "Which one?", "choices": choices}}))
    (row,) = read_samples(ContaminationConfig(paths=(str(tmp_path / "arc.jsonl"),))).to_pylist()
    assert row["text"].split("\n") == ["Which one?", "ab choice", "cd choice", "ef choice"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (("mesages[].content",), r"eval\.jsonl holds no text in mesages\[\]\.content .*text is in messages\[\]\.role"),
        (("messages.content", "answer"), r"fields: answer: no such text in any row of .*eval\.jsonl"),
    ],
)
def test_a_field_that_yields_no_text_is_named(tmp_path: Path, fields: tuple[str, ...], message: str) -> None:
    path = tmp_path / "eval.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in NESTED))
    with pytest.raises(UserError, match=message):
        read_samples(ContaminationConfig(paths=(str(path),), fields=fields))


@pytest.mark.parametrize("content", ["", "{}\n", '{"n": 3, "q": null}\n', '{"q": " "}\n'])
def test_a_set_without_text_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "eval.jsonl").write_text(content)
    with pytest.raises(UserError, match=r"eval\.jsonl holds no text to look for"):
        read_samples(ContaminationConfig(paths=(str(tmp_path / "eval.jsonl"),)))


def test_a_field_that_only_one_of_several_sets_has_is_no_mistake(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"question": QUESTION}))
    (tmp_path / "b.jsonl").write_text(json.dumps({"choices": {"text": [CHINESE]}}))
    config = ContaminationConfig(paths=(str(tmp_path / "*.jsonl"),), fields=("question", "choices.text"))
    assert read_samples(config)["text"].to_pylist() == [QUESTION, CHINESE]


def test_contaminated_documents_are_removed_logged_and_keep_nobody_out(tmp_path: Path) -> None:
    (tmp_path / "eval.jsonl").write_text(json.dumps({"id": "q1", "question": QUESTION}) + "\n{}\n")
    quoted = f"{filler(1)} {QUESTION}"
    docs = documents([quoted, filler(1), filler(2)])
    config = DedupConfig(
        contamination=ContaminationConfig(paths=(str(tmp_path / "eval.jsonl"),)), sentences=SentenceConfig(enabled=True)
    )
    shards = write_shards(tmp_path, [docs])
    result = deduplicate(shards, config, str(tmp_path / "work"), str(tmp_path / "out"))
    assert removed_keys(tmp_path / "work", shards) == {0: "dedup.contamination"}
    assert result.removed == {"dedup.contamination": 1}
    assert result.documents == 3
    (row,) = storage.read_parquet(str(tmp_path / "out" / "contamination.parquet")).to_pylist()
    assert (row["id"], row["sample"], row["coverage"]) == ("0-0", "q1", 1.0)
    (entry,) = result.report["contamination"]
    assert (entry["samples"], entry["too_short"], entry["found"], entry["documents_removed"]) == (2, 1, 1, 1)
