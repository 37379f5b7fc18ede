"""The perplexity stage in a run: models trained from the reference sources, made once, asked by language."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray

from raypt import storage
from raypt.config_io import validate
from raypt.curation.quality.fit import fit
from raypt.errors import UserError
from raypt.run.check import check
from raypt.run.config import RunConfig
from raypt.run.curate import curate
from raypt.run.open import open_run
from raypt.run.report import build_report
from raypt.run_dir import RunDir
from raypt.tokens.parts import part_uris, summarize_part

TEXT = "the harbour keeper wrote of ships and storms that came in from the north sea over a long summer night"
WORDS = TEXT.split()


def lines(count: int, seed: int, words: list[str]) -> list[str]:
    chosen = random.Random(seed)
    return [" ".join(chosen.choices(words, k=30)) + "." for _ in range(count)]


def write(path: Path, texts: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))


def config_of(root: Path, percentiles: dict[str, Any] | None = None, **more: Any) -> RunConfig:
    return validate(
        RunConfig,
        {
            "run": {"dir": str(root / "run")},
            "corpus": {"sources": [{"name": "text", "paths": str(root / "in*.jsonl")}], "shard_bytes": 8000},
            "curation": {
                "stages": ["language", "perplexity"],
                "language": {"score_min": None},
                "perplexity": {
                    "reference": [{"name": "good", "paths": str(root / "good.jsonl")}],
                    **({"per_token_max": 200} if percentiles is None else {"percentiles": percentiles}),
                },
            },
            **more,
        },
    )


def mixed(root: Path) -> int:
    """Text of rising disorder in several shards: the more words are replaced by others, the higher the perplexity."""
    chosen = random.Random(7)
    other = [f"{word}ly" for word in WORDS]
    texts = []
    for i in range(300):
        words = [chosen.choice(other if chosen.random() < i / 600 else WORDS) for _ in range(30)]
        texts.append(" ".join(words) + f" that is the end of the story {i}.")
    chosen.shuffle(texts)
    write(root / "good.jsonl", lines(200, 3, WORDS))
    for part in range(3):
        write(root / f"in{part}.jsonl", texts[part::3])
    return len(texts)


def all_tagged(run: RunDir) -> pa.Table:
    parts = sorted(name for name in storage.listdir(run.path("work", "tagged")) if name.endswith(".parquet"))
    return pa.concat_tables(pq.read_table(run.path("work", "tagged", name)) for name in parts)


def made_at(run: RunDir, kind: str) -> dict[str, int]:
    return {p.name: p.stat().st_mtime_ns for p in Path(run.path("work", kind)).glob("*.parquet")}


def kept_of(run: RunDir) -> dict[str, str]:
    """Text -> bucket of the curated documents."""
    table = pa.concat_tables(pq.read_table(uri) for uri in part_uris(run.path("curated")))
    return dict(zip(table["text"].to_pylist(), table.flatten()["perplexity.bucket"].to_pylist(), strict=True))


ASKED = {"max": 90, "buckets": [30, 60], "within": [], "min_documents": 100}
PLAIN: dict[str, Any] = {"dedup": {"enabled": False}}


def test_percentiles_decide_and_name_head_middle_and_tail(tmp_path: Path) -> None:
    count = mixed(tmp_path)
    config = config_of(tmp_path, ASKED, **PLAIN, tokens={"mixture": {"by": ["perplexity.bucket"]}})
    check(config)
    with open_run(config, "test") as run:
        found = curate(config, run, in_process=True)
        values = all_tagged(run).flatten()["perplexity.per_token"].drop_null().to_pylist()
        gone = found.ledger.stages["perplexity"].removed["perplexity.per_token_percentile_max"].documents
        groups: dict[str, int] = {}
        for uri in part_uris(run.path("curated")):
            for name, n in summarize_part(uri, by=("perplexity.bucket",)).documents.items():
                groups[name] = groups.get(name, 0) + n
        page = build_report(run, "test")
        shards = len(made_at(run, "tagged"))
    assert shards >= 3 and len(values) > 250
    # at most the asked share, and at most the documents of one bin fewer
    assert len(values) // 10 - 3 <= gone <= len(values) // 10
    assert found.documents == count - gone
    assert 0.27 * len(values) <= groups["head"] <= 0.3 * len(values)
    assert 0.57 * len(values) <= groups["head"] + groups["middle"] <= 0.6 * len(values)
    assert groups["tail"] == len(values) - gone - groups["head"] - groups["middle"]
    assert groups.get("", 0) == count - len(values)
    assert "Perplexity by language" in page and "perplexity.bucket" in page


def test_another_percentile_decides_again_and_measures_nothing_again(tmp_path: Path) -> None:
    mixed(tmp_path)
    with open_run(first := config_of(tmp_path, ASKED, **PLAIN), "test") as run:
        curate(first, run, in_process=True)
        tagged, decided, kept = made_at(run, "tagged"), made_at(run, "decided"), kept_of(run)
    with open_run(first, "test") as run:
        curate(first, run, in_process=True)
        assert (made_at(run, "tagged"), made_at(run, "decided")) == (tagged, decided)
    with open_run(other := config_of(tmp_path, {**ASKED, "buckets": [50, 60]}, **PLAIN), "test") as run:
        curate(other, run, in_process=True)
        assert made_at(run, "tagged") == tagged
        again = kept_of(run)
    assert again.keys() == kept.keys()
    heads = [{text for text, bucket in of.items() if bucket == "head"} for of in (kept, again)]
    assert heads[0] < heads[1]


def test_buckets_that_are_not_asked_for_are_no_groups_of_the_mixture(tmp_path: Path) -> None:
    write(tmp_path / "good.jsonl", lines(1, 3, WORDS))
    write(tmp_path / "in.jsonl", lines(1, 3, WORDS))
    with pytest.raises(UserError, match=r"no perplexity.bucket without buckets"):
        check(config_of(tmp_path, {"max": 90}, tokens={"mixture": {"by": ["perplexity.bucket"]}}))


def test_a_bound_that_no_document_is_measured_for_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "good.jsonl", lines(200, 3, WORDS))
    write(tmp_path / "in.jsonl", ["河上有一座老桥，每天早上人们从桥上走过，去对岸的市场买菜。"] * 3)
    with open_run(config := config_of(tmp_path, **PLAIN), "test") as run:
        assert curate(config, run, in_process=True).documents == 3
    assert "not one of 3 documents has what these rules look at" in caplog.text
    assert "perplexity.per_token_max" in caplog.text


def test_text_unlike_the_reference_goes_and_a_second_start_keeps_the_model(tmp_path: Path) -> None:
    shuffled = [word[::-1] for word in WORDS]
    good, bad = lines(40, 1, WORDS), [f"{text} that is not it" for text in lines(10, 2, shuffled)]
    write(tmp_path / "good.jsonl", lines(200, 3, WORDS))
    write(tmp_path / "in.jsonl", good + bad)
    config = config_of(tmp_path)
    with open_run(config, "test") as run:
        ledger = curate(config, run, in_process=True).ledger
        tagged = all_tagged(run)
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


Found = tuple[dict[str, str], Any]


def found_by(root: Path, actors: int) -> Found:
    """What a run makes of the documents with both kinds of models and their percentiles; without Ray if it has no
    actors."""
    mixed(root)
    config = config_of(root, ASKED, ray={"max_actors": max(actors, 1)}, **PLAIN)
    topics = {
        "models": {"order": {"model": classifier(root.parent)}},
        "decisions": {"order_harbour": {"percentile": 20}},
    }
    curation = {"stages": [*config.curation.stages, "classify"], "classify": topics}
    curation = config.curation.model_dump(mode="json", exclude_unset=True) | curation
    config = validate(RunConfig, config.model_dump(mode="json", exclude_unset=True) | {"curation": curation})
    with open_run(config, "test") as run:
        ledger = curate(config, run, in_process=not actors).ledger
        assert ledger.stages["classify"].removed["classify.order_harbour_percentile"].documents > 20
        return kept_of(run), storage.read_json(run.decisions)["distributions"]


def classifier(where: Path) -> str:
    """A fastText model that tells the words from the others, made once."""
    model = where / "order.bin"
    if not model.exists():
        found = [f"__label__harbour {text}" for text in lines(60, 5, WORDS)]
        found += [f"__label__other {text}" for text in lines(60, 6, [f"{word}ly" for word in WORDS])]
        (where / "labelled.txt").write_text("\n".join(found) + "\n")
        fit(str(where / "labelled.txt"), str(model), dim=2, epoch=5, lr=0.5, minCount=1)
    return str(model)


@pytest.fixture
def in_one_process(tmp_path: Path) -> Found:
    return found_by(tmp_path / "0", 0)


@pytest.fixture
def local_ray(in_one_process: Found) -> Iterator[None]:
    ray.init(address="local", num_cpus=2, include_dashboard=False)
    yield
    ray.shutdown()


def test_one_and_two_ray_actors_settle_the_same_as_one_process(
    tmp_path: Path, in_one_process: Found, local_ray: None
) -> None:
    for actors in (1, 2):
        assert found_by(tmp_path / str(actors), actors) == in_one_process
