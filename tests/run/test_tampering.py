"""A finished run in which a file is deleted, cut, or changed by a few bytes: named, and remade or refused, never used.

The data side and the tokens of a run are made once, in this process. Then, in a copy each, one file is tampered with
and the same run is started again with `run.verify=full`: either it ends with a message that names the file, or
everything is as it was.
"""

import json
import logging
import random
import shutil
from pathlib import Path

import pytest

from raypt.config_io import validate
from raypt.errors import UserError
from raypt.run.config import RunConfig
from raypt.run.curate import curate
from raypt.run.open import open_run
from raypt.run.stream import start_stream
from raypt.run_dir import RunDir

KINDS = {
    "configuration": "config.yaml",
    "manifest": "manifest.json",
    "tagged documents": "work/tagged/shard-00001.parquet",
    "card of tagged documents": "work/tagged/00001.json",
    "index of tagged documents": "work/tagged/index.zst",
    "quarantine": "quarantine/part-00002.jsonl",
    "decisions": "work/decided/shard-00000.parquet",
    "index of decisions": "work/decided/index.zst",
    "duplicates of a shard": "work/dedup/removed/shard-00001.parquet",
    "edits of a shard": "work/dedup/edits/shard-00001.parquet",
    "clusters": "dedup/clusters.parquet",
    "report of deduplication": "dedup/report.json",
    "curated documents": "curated/part-00001.parquet",
    "removed documents": "removed/part-00000.parquet",
    "index of curated documents": "work/curated/index.zst",
    "ledger": "ledger.json",
    "measures of curated documents": "work/measured/index.zst",
    "tokenizer": "tokenizer/tokenizer.json",
    "configuration of the tokenizer": "tokenizer/tokenizer_config.json",
    "card of the tokenizer": "tokenizer/tokenizer.card.json",
    "identity of the token store": "tokens/store.json",
    "token shard": "tokens/shard-00002.tok",
    "card of a token shard": "tokens/shard-00002.json",
    "index of the token store": "tokens/index.zst",
    "held-out token shard": "tokens/heldout/shard-00000.tok",
}
HOW = ("delete", "cut", "flip", "flip again")
TIMES = {"seconds", "cpu_s", "started"}
"""What differs between two makings of one thing."""


WORDS = "the ferry crossed a bay at noon and people on that pier waved to those who had come with it from far"


def config_of(root: Path) -> RunConfig:
    return validate(
        RunConfig,
        {
            "run": {"dir": str(root / "run"), "verify": "full"},
            "corpus": {"sources": [{"name": "text", "paths": str(root / "in" / "*.jsonl")}], "shard_bytes": 70_000},
            "curation": {"stages": ["language", "gopher_quality"], "language": {"score_min": None}},
            "dedup": {"sentences": {"enabled": True}, "max_removed_fraction": 0.9},
            "tokens": {
                "tokenizer": {"vocab_size": 400, "sample_bytes": 100_000},
                "packing": {"sequence_length": 64},
                "heldout": {"fraction": 0.1},
                "stream": {"ahead_shards": None},
            },
            "train": {"global_batch_tokens": 1024, "micro_batch_size": 4, "workers": 1, "steps": 2},
        },
    )


def write_inputs(folder: Path) -> None:
    folder.mkdir(parents=True)
    rng = random.Random(5)
    words = WORDS.split()
    notice = "All of this was written down by the keeper of the harbour in the summer of that year, and kept. " * 2
    for shard in range(3):
        rows = []
        for i in range(60):
            text = notice + " ".join(" ".join(rng.choices(words, k=12)) + "." for _ in range(16))
            rows.append({"id": f"{shard}-{i}", "text": text if i % 7 else rows[-1]["text"] if rows else text})
        lines = [json.dumps(row) for row in rows]
        if shard == 2:
            lines.insert(5, '{"text": broken')
        (folder / f"{shard}.jsonl").write_text("\n".join(lines) + "\n")


def make(root: Path) -> None:
    """The data side and the tokens of the run under `root`."""
    config = config_of(root)
    with open_run(config, "test") as run:
        curated = curate(config, run, in_process=True)
        _, _, tokenizing = start_stream(config, run, curated, [1])
        tokenizing.wait()


def timeless(value: object) -> object:
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if k not in TIMES}
    return [timeless(v) for v in value] if isinstance(value, list) else value


def contents(root: Path) -> dict[str, object]:
    """What the run holds, besides how long things took, by path. Cards and indexes, which are how a run knows what it
    holds, are left out: what counts is what it then does."""
    out: dict[str, object] = {}
    for path in sorted((root / "run").rglob("*")):
        name = path.relative_to(root / "run").as_posix()
        card = path.suffix == ".json" and (path.stem.isdigit() or path.stem.startswith("shard-") or ".card" in name)
        if (
            path.is_dir()
            or card
            or path.suffix == ".zst"
            or "/stages/" in name
            or "wanted" in name
            or "passes" in name
            or "lease" in name
            or "work/diary" in name
            or name in ("work/now.json", "report.html")
        ):
            continue
        if path.suffix == ".json":
            out[name] = timeless(json.loads(path.read_bytes()))
        else:
            out[name] = path.read_bytes()
    return out


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("finished")
    write_inputs(root / "in")
    make(root)
    return root


def tamper(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    rng = random.Random(f"{path.name}{how}")
    if how == "delete":
        path.unlink()
    elif how == "cut":
        path.write_bytes(data[: rng.randrange(1, len(data))])
    else:
        for _ in range(8):
            data[rng.randrange(len(data))] ^= rng.randrange(1, 256)
        path.write_bytes(data)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("kind", KINDS)
def test_a_tampered_file_is_named_and_remade_or_refused(
    finished: Path, kind: str, how: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = finished  # in place: the manifest names its inputs by their absolute paths
    keep = tmp_path / "keep"
    shutil.copytree(root / "run", keep)
    expected = contents(root)
    path = root / "run" / KINDS[kind]
    tamper(path, how)
    try:
        with caplog.at_level(logging.INFO, "raypt"):
            make(root)
    except UserError as e:
        assert path.name in str(e), e
    else:
        found = contents(root)
        assert [name for name in expected if found.get(name) != expected[name]] == []
        if how != "delete":
            # A card beside a whole index is not looked at.
            assert path.name in caplog.text or kind.startswith("card of "), caplog.text
    finally:
        shutil.rmtree(root / "run")
        shutil.copytree(keep, root / "run")


def test_a_manifest_without_one_of_its_shards_is_refused(finished: Path, tmp_path: Path) -> None:
    run = RunDir(str(finished / "run"))
    path = Path(run.manifest)
    whole = path.read_bytes()
    value = json.loads(whole)
    last = value["shards"]["pieces"].pop()
    value["shards"]["source"].pop()
    for column in value["pieces"].values():
        del column[-last:]
    path.write_text(json.dumps(value))
    try:
        with pytest.raises(UserError, match=r"manifest\.json is damaged"):
            make(finished)
    finally:
        path.write_bytes(whole)
