"""The result is the same to the byte whatever the number of workers, and whoever dies when."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import ray

from raypt import storage
from raypt.dedup import DedupConfig, DedupResult, DedupShard, deduplicate
from raypt.dedup.config import BloomConfig, SentenceConfig, SubstringConfig, UrlConfig
from raypt.tasks import run_tasks
from tests.dedup.reference import documents, split, write_shards
from tests.dedup.test_pipeline import NOTICE, mutated_corpus

CONFIG = DedupConfig(
    url=UrlConfig(enabled=True),
    bloom=BloomConfig(enabled=True, unit="paragraph", min_words=5),
    sentences=SentenceConfig(enabled=True),
    substring=SubstringConfig(enabled=True, length=12),
    partitions=4,
    task_bytes=1,
    keep_intermediate=True,
)
FILES = ["shards", "plan.json", "urls", "older", "url-removed"]
FILES += ["keys", "attributes", "forest-0", "forest-1", "labels", "members", "elected"]
FILES += ["clusters-removed", "bloom-keys", "bloom-known", "bloom-filters", "bloom-cuts", "bloom-removed"]
FILES += ["spans", "repeats", "sentences-cuts", "sentences-removed"]
FILES += ["anchors", "candidates", "own-copies", "contexts", "frequent", "copies", "longest", "substring-cuts"]
FILES += ["substring-removed", "edits", "removed"]
FILES += ["clusters.parquet", "index.json", "report.json"]
"""What a run writes, in this order; the directory's name where there is a file a task."""
LAST_OF_A_TASK = ["urls", "older", "url-removed"]
LAST_OF_A_TASK += ["attributes", "forest-0", "forest-1", "labels", "members", "elected", "clusters-removed"]
LAST_OF_A_TASK += [
    "bloom-keys",
    "bloom-filters",
    "bloom-removed",
    "spans",
    "repeats",
    "sentences-removed",
    "anchors",
    "candidates",
    "contexts",
    "copies",
    "substring-removed",
]
LAST_OF_A_TASK += ["removed"]
"""The files with which a task is done: it never runs again."""


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> list[DedupShard]:
    texts = [f"{text}. {NOTICE} {text[:40]}\n\n{NOTICE}" for text in mutated_corpus(400, seed=4)]
    urls = [None if i % 9 == 0 else f"https://www.site.org/{i % 360}?utm_source={i}" for i in range(len(texts))]
    dates = [None if i % 7 == 0 else f"20{10 + i * 7 % 13}-05-01" for i in range(len(texts))]
    table = documents(texts, url=pa.array(urls), date=pa.array(dates))
    return write_shards(tmp_path_factory.mktemp("documents"), split(table, 4))


def run(shards: Sequence[DedupShard], directory: Path, runner: Callable[..., list[Any]] = run_tasks) -> None:
    config = CONFIG.model_copy(update={"index": str(directory / "index")})
    deduplicate(shards, config, str(directory / "work"), str(directory / "out"), runner=runner)


def outputs(directory: Path) -> dict[str, bytes]:
    """Every file that is a result, by its path; what a killed process left under a temporary name is none."""
    kinds = ("work/removed", "work/edits", "out", "index")
    files = [path for kind in kinds for path in sorted((directory / kind).rglob("*")) if path.is_file()]
    return {str(p.relative_to(directory)): p.read_bytes() for p in files if not p.name.startswith(".tmp-")}


@pytest.fixture(scope="module")
def expected(shards: list[DedupShard], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    directory = tmp_path_factory.mktemp("expected")
    run(shards, directory)
    result = DedupResult.of(storage.read_json(str(directory / "out/report.json")), "")
    assert result.account.edited["dedup.bloom"].documents and 10 < result.removed["dedup.url"] < 40
    found = outputs(directory)
    assert len(found) == 10 + 1 + 1 + 4 + 3 * 4  # with the card
    return found


@pytest.fixture
def cluster(request: pytest.FixtureRequest) -> Iterator[None]:
    ray.init(address="local", num_cpus=request.param, include_dashboard=False)
    yield
    ray.shutdown()


@pytest.mark.parametrize("cluster", [1, 2, 7], indirect=True)
def test_output_is_the_same_with_any_number_of_workers(
    cluster: None, shards: list[DedupShard], expected: dict[str, bytes], tmp_path: Path
) -> None:
    run(shards, tmp_path)
    assert outputs(tmp_path) == expected


def test_output_is_the_same_in_any_order_of_the_shards(
    shards: list[DedupShard], expected: dict[str, bytes], tmp_path: Path
) -> None:
    run([shards[i] for i in (2, 0, 3, 1)], tmp_path)
    assert outputs(tmp_path) == expected


def test_output_does_not_depend_on_the_number_of_partitions(
    shards: list[DedupShard], expected: dict[str, bytes], tmp_path: Path
) -> None:
    config = CONFIG.model_copy(update={"partitions": 17})
    deduplicate(shards, config, str(tmp_path / "work"), str(tmp_path / "out"))
    found = outputs(tmp_path)
    del found["out/report.json"], found["out/dedup.card.json"]  # they name the settings
    assert found.items() <= expected.items()


def dying_once(function: Callable[[Any], Any], marks: Path, name: str) -> Callable[[Any], Any]:
    """`function`, but the first worker that runs it is killed as it is about to give its file the final name."""

    def wrapped(item: Any) -> Any:
        try:
            (marks / name.replace(": ", "-")).touch(exist_ok=False)
        except FileExistsError:
            return function(item)
        os.replace = lambda *paths: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment]
        function(item)
        return os.kill(os.getpid(), signal.SIGKILL)

    return wrapped


@pytest.mark.parametrize("cluster", [2], indirect=True)
def test_output_survives_a_worker_killed_in_each_pass(
    cluster: None, shards: list[DedupShard], expected: dict[str, bytes], tmp_path: Path
) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()

    def killing(function: Callable[[Any], Any], items: Sequence[Any], *, name: str) -> list[Any]:
        return run_tasks(dying_once(function, marks, name), items, name=name)

    run(shards, tmp_path, killing)
    killed = {path.name for path in marks.iterdir()}
    passes = [
        "inspect",
        "addresses",
        "versions",
        "settle versions",
        "sign",
        "connect",
        "merge 1",
        "label",
        "join",
        "elect",
    ]
    passes += ["settle", "bloom keys", "bloom filters", "bloom", "spans", "repeats", "cut"]
    passes += [
        "anchors",
        "match",
        "contexts",
        "compare",
        "cut substrings",
        "finish",
        "S-curve",
        "index",
        "index attributes",
    ]
    assert killed == {f"dedup-{name}" for name in passes}
    assert outputs(tmp_path) == expected


def run_and_die(shards: Sequence[DedupShard], directory: Path, part: str) -> None:
    """Run until a file of this directory or name is about to get its final name; then be killed."""
    replace = os.replace

    def die(source: str, target: str) -> None:
        if part in Path(target).parts[-2:]:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)

    os.replace = die  # type: ignore[assignment]
    run(shards, directory)


def test_a_run_killed_in_each_pass_goes_on_to_the_same_output(
    shards: list[DedupShard], expected: dict[str, bytes], tmp_path: Path
) -> None:
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["tests.dedup.preloaded"])
    written: dict[Path, int] = {}
    for part in FILES:
        process = processes.Process(target=run_and_die, args=(shards, tmp_path, part))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL, f"nothing called {part} was written"
        again = [path for path, before in written.items() if path.stat().st_mtime_ns != before]
        assert again == [], f"finished tasks ran again after a kill at {part}"
        written = {
            p: p.stat().st_mtime_ns for kind in LAST_OF_A_TASK for p in (tmp_path / "work").rglob(f"{kind}/[!.]*")
        }
    run(shards, tmp_path)
    assert outputs(tmp_path) == expected
