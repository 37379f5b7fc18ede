"""The perplexity stage in a run: models trained from the reference sources, made once, asked by language."""

import json
import random
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from raypt import storage
from raypt.config_io import validate
from raypt.run.config import RunConfig
from raypt.run.curate import curate
from raypt.run.open import open_run

pytestmark = pytest.mark.fast

TEXT = "the harbour keeper wrote of ships and storms that came in from the north sea over a long summer night"
WORDS = TEXT.split()


def lines(count: int, seed: int, words: list[str]) -> list[str]:
    chosen = random.Random(seed)
    return [" ".join(chosen.choices(words, k=30)) + "." for _ in range(count)]


def write(path: Path, texts: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))


def config_of(root: Path) -> RunConfig:
    return validate(
        RunConfig,
        {
            "run": {"dir": str(root / "run")},
            "corpus": {"sources": [{"name": "text", "paths": str(root / "in.jsonl")}]},
            "curation": {
                "stages": ["language", "perplexity"],
                "language": {"score_min": None},
                "perplexity": {
                    "reference": [{"name": "good", "paths": str(root / "good.jsonl")}],
                    "per_token_max": 200,
                },
            },
        },
    )


def test_text_unlike_the_reference_goes_and_a_second_start_keeps_the_model(tmp_path: Path) -> None:
    shuffled = [word[::-1] for word in WORDS]
    good, bad = lines(40, 1, WORDS), [f"{text} that is not it" for text in lines(10, 2, shuffled)]
    write(tmp_path / "good.jsonl", lines(200, 3, WORDS))
    write(tmp_path / "in.jsonl", good + bad)
    config = config_of(tmp_path)
    with open_run(config, "test") as run:
        ledger = curate(config, run, in_process=True).ledger
        tagged = pq.read_table(run.tagged(0))
        made = storage.read_bytes(run.path("perplexity", "card.json"))
    of = dict(zip(tagged["text"].to_pylist(), tagged.flatten()["perplexity.per_token"].to_pylist(), strict=True))
    assert max(of[text] for text in good) < min(value for text in bad if (value := of[text]) is not None)
    english = [
        text
        for text, lang in zip(tagged["text"].to_pylist(), tagged["lang"].to_pylist(), strict=True)
        if lang == "en" and text in bad
    ]
    removed = ledger.stages["perplexity"].removed["perplexity.per_token_max"].documents
    assert removed == sum(of[text] > 200 for text in english) > 0
    with open_run(config, "test") as run:
        curate(config, run, in_process=True)
        assert storage.read_bytes(run.path("perplexity", "card.json")) == made
