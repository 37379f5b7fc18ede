"""How many requests the data side makes of an object store for each shard; in this process, so that it is the same
each time; and what the storage does to make them few. `python -m tests.jobs.requests_on_s3` counts the whole job.
"""

import json
import random
from collections import Counter
from collections.abc import Iterator
from functools import partial
from urllib.parse import unquote, urlsplit

import pytest

from raypt import storage, tasks
from raypt.config_io import load
from raypt.corpus.formats.raw import RawFile, etag_of
from raypt.corpus.listing import list_files
from raypt.errors import UserError
from raypt.run import live_page
from raypt.run.config import RunConfig
from raypt.run.curate import curate
from raypt.run.open import open_run
from raypt.run.report import build_report
from raypt.run.stream import measuring, planned_stream, with_heldout
from raypt.tokens.store.files import collection
from raypt.tokens.stream.producer import tokenize_heldout_parts, tokenize_parts
from raypt.tokens.stream.reader import SampleReader
from raypt.training.entropy import unigram_entropy
from raypt.training.heldout import Heldout
from tests.faulty import Faults, faulty
from tests.jobs.requests_on_s3 import Asked, growth, made_up, sorted_out, told, write_texts
from tests.s3 import S3Server, s3_server

pytest.importorskip("s3fs")
pytest.importorskip("moto.server")


MOST_A_SHARD = 7.5
"""6.9: its input 1, curated text and what was removed 2, the text read for the tokenizer and for its tokens 2, its
tokens written and read 2."""


MOST_A_LARGE_SHARD = 12
"""11.5 of 1 MB: those of a small one, and tagged text written and read twice; the others are shared."""


MOST_A_SHARE = 18
"""17 of 4 MB, of which a task has four or five, as it has of those of 16 MB in a run of many GB (up to 128 MB)."""


MOST_OF_A_FULL_TASK = 13
"""12.0: those of a large one, and an eighth of a task's. One of 64 MB is read by one request more (32 MiB each)."""


MOST_A_PAGE = 22
"""Requests, 20 at 32 shards as at 64 for who has written nothing of the run: a page comes every five minutes while a
run goes on."""


@pytest.fixture(autouse=True)
def _no_page_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked for as time goes by is counted by itself: else a slow machine would ask for more."""
    monkeypatch.setattr(live_page, "APART_S", 1e6)


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        for shard in range(16):
            lines = [
                json.dumps({"text": f"The river number {shard} of page {i} moves slowly. " * 8}) for i in range(20)
            ]
            storage.write_bytes(server.uri("in", f"{shard}.jsonl"), "\n".join(lines).encode())
        yield server


@pytest.mark.parametrize(
    ("files", "task_bytes", "shards", "most"),
    [
        # 4.1 (18.4 before small shards shared their cards and files), of which 1 whatever the number of shards: start,
        # page, the passes of deduplication. 64 is what `corpus.shard_bytes` cuts by itself at least.
        ("*", None, 64, 5),
        # 17.2, of which 3 whatever the number: a shard that is a group of deduplication by itself takes 10 more.
        ("[0-7]", 1, 32, 18),
    ],
    ids=["small shards", "a task a shard"],
)
def test_the_data_side_asks_for_no_size_before_it_reads_and_at_most_so_often_a_shard(
    s3: S3Server, files: str, task_bytes: int | None, shards: int, most: int
) -> None:
    options = [
        f"corpus.sources=[{{name: in, paths: '{s3.uri('in', files)}.jsonl'}}]",
        f"run.dir={s3.uri('runs', str(shards))}",
        "curation.stages=[language]",
        "corpus.shard_bytes=2k",
        *([] if task_bytes is None else [f"dedup.task_bytes={task_bytes}"]),
    ]
    config = load(RunConfig, None, options)
    s3.requests()
    with open_run(config, "curate") as run:
        assert len(curate(config, run, in_process=True).manifest.shards) == shards
    found = sorted_out(s3.asked(), s3.bucket)
    assert len(found) / shards <= most, told(found, shards)
    for stage in ("curate", "decide", "dedup", "write"):
        there = [a for a in found if a.stage == stage and not a.place.startswith("work/lease")]  # asked as time goes by
        of_shards = Counter(a.operation for a in there if a.place.startswith(("in/", "work/")))
        assert of_shards["HEAD"] <= 3, told(found, shards)
    for stage in ("decide", "write"):
        of_files = Counter(a.operation for a in found if a.stage == stage and ".parquet" in a.place)
        assert of_files["HEAD"] == of_files["LIST"] == 0, told(found, shards)
    s3.requests()
    build_report(run, "a page", running=True)
    assert sum(s3.requests().values()) <= MOST_A_PAGE


def whole_way(
    s3: S3Server,
    files: str,
    shards: int,
    *options: str,
    shard_bytes: str = "2k",
    batch: tuple[int, int] = (64, 4),
    each: int = 2,
) -> list[Asked]:
    """What a run asks for that trains on its tokens (`each` steps a shard, all of them if it has 2 kB, of batches of so
    many samples of so many tokens), and judges and exports nothing: without Ray, and read as by a trainer while
    tokenizing goes on.
    """
    length, samples = batch
    settings = [
        f"corpus.sources=[{{name: in, paths: '{s3.uri('in', files)}.jsonl'}}]",
        f"run.dir={s3.uri('runs', f'whole-{shards}-{shard_bytes}')}",
        "curation.stages=[language]",
        f"corpus.shard_bytes={shard_bytes}",
        "tokens.tokenizer.vocab_size=300",
        f"tokens.packing.sequence_length={length}",
        "tokens.heldout.fraction=0.1",
        f"train.global_batch_tokens={length * samples}",
        "train.micro_batch_size=4",
        f"train.steps={each * shards}",
        *options,
    ]
    config = load(RunConfig, None, settings)
    s3.requests()
    with open_run(config, "pretrain") as run:
        curated = curate(config, run, in_process=True, measure=partial(measuring, config, run))
        config = with_heldout(config, curated.documents)
        assert len(curated.manifest.shards) == shards
        spec, _, store, tokens = planned_stream(config, run, curated, [1])
        tokenize_heldout_parts(store, tokens, run.tokenizer)
        tokenize_parts(store, tokens, run.tokenizer, spec)
        index = storage.read_bytes(collection(run.token_store).index_uri)
        storage.remove_file(collection(run.token_store).index_uri)  # what is there while shards are being made
        read = set()
        for block in SampleReader(spec).rank_blocks(0, 1):
            read |= set(block["sample_index"].tolist())
        assert len(read) == each * samples * shards
        storage.write_bytes(collection(run.token_store).index_uri, index)
        heldout = Heldout(f"{run.token_store}/heldout", max_samples=None, micro_batch_size=4)
        heldout.load()
        assert len(heldout) and list(heldout.batches(0, 1))
        assert unigram_entropy(run.token_store) > 0
    return sorted_out(s3.asked(), s3.bucket)


def test_a_small_shard_more_costs_a_whole_run_so_many_requests(s3: S3Server) -> None:
    few, many = (whole_way(s3, files, shards) for files, shards in (("[0-3]", 16), ("*", 64)))
    assert (len(many) - len(few)) / (64 - 16) <= MOST_A_SHARD, growth(few, many, (16, 64))


LARGE = ("tokens.heldout.fraction=0.01", "tokens.tokenizer.vocab_size=1000")


def large_inputs(s3: S3Server, name: str, few: int, many: int, megabytes: int) -> None:
    """Shards `<name>-a<n>` and, those of `many` that are not of `few`, `<name>-b<n>`: each has some clusters' copies,
    whose texts the report and the S-curve want.
    """
    rng = random.Random(0)
    common = made_up(rng, 4)
    for shard in range(many):
        write_texts(s3, f"{name}-{'a' if shard < few else 'b'}{shard}", [*common, *made_up(rng, 290 * megabytes)])


def test_a_shard_of_a_megabyte_more_costs_a_whole_run_at_most_20_requests(s3: S3Server) -> None:
    large_inputs(s3, "mega", 16, 32, 1)
    few, many = (
        whole_way(s3, files, shards, *LARGE, shard_bytes="1M", batch=(256, 64), each=14)
        for files, shards in (("mega-a*", 16), ("mega-*", 32))
    )
    assert (len(many) - len(few)) / (32 - 16) <= MOST_A_LARGE_SHARD, growth(few, many, (16, 32), 60)


def test_so_does_one_of_four_megabytes(s3: S3Server) -> None:
    large_inputs(s3, "four", 8, 16, 4)
    few, many = (
        whole_way(s3, files, shards, *LARGE, shard_bytes="4M", batch=(256, 64), each=56)
        for files, shards in (("four-a*", 8), ("four-*", 16))
    )
    assert (len(many) - len(few)) / (16 - 8) <= MOST_A_SHARE, growth(few, many, (8, 16), 60)


def test_so_do_those_of_which_eight_fill_a_task(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    # As shards of 64 MB do from 4 GiB on: all of it is a 64th, and there are as few tasks of tokens as of the others.
    monkeypatch.setattr(tasks, "TOGETHER_BYTES", tasks.TOGETHER_BYTES // 64)
    monkeypatch.setattr(tasks, "STEADY_TASKS", tasks.LEAST_TASKS)
    large_inputs(s3, "full", 64, 96, 1)
    few, many = (
        whole_way(s3, files, shards, *LARGE, "dedup.task_bytes=128k", shard_bytes="1M", batch=(256, 64), each=14)
        for files, shards in (("full-a*", 64), ("full-*", 96))
    )
    assert (len(many) - len(few)) / (96 - 64) <= MOST_OF_A_FULL_TASK, growth(few, many, (64, 96), 60)


TIMES_WANTED = {
    "in/": 1,
    # Its text by deduplication, for its hashes, and by writing. (Of what decides, and of a few examples, not all.)
    "work/tagged/shard": 2,
    # What the tokenizer learns from; what is trained on.
    "curated/": 2,
    # By training and for the entropy. Of those of this test's shards that training has no steps for, once.
    "tokens/shard": 2,
    "tokens/heldout/": 1,
}
"""How often the bytes of a kind of files are wanted in a whole run."""


def test_a_whole_run_reads_little_more_than_the_bytes_that_it_wants(s3: S3Server) -> None:
    rng = random.Random(0)
    for file in range(2):
        write_texts(s3, f"big-{file}", made_up(rng, 250))
    with faulty(s3, Faults(None)) as passed:
        whole_way(s3, "big-*", 4, shard_bytes="400k")
    fs, bucket = storage.filesystem(s3.uri())
    run, inputs = f"{bucket}/runs/whole-4-400k/", f"{bucket}/in/big-"
    sizes = {name: int(info["size"]) for name, info in fs.find(bucket, detail=True).items()}
    wanted = {
        kind: times * sum(n for name, n in sizes.items() if name.startswith(inputs if kind == "in/" else run + kind))
        for kind, times in TIMES_WANTED.items()
    }
    got: Counter[str] = Counter()
    for method, target, nbytes in passed.log:
        key = unquote(urlsplit(target).path).removeprefix(f"/{s3.bucket}/")
        place = key if key.startswith("in/") else key.partition("/")[2].partition("/")[2]
        if method == "GET":
            got[next((kind for kind in wanted if place.startswith(kind)), "other")] += nbytes
    assert min(wanted.values()) > 0
    assert got.total() <= 1.2 * sum(wanted.values()), (got, wanted)


def test_a_directory_is_removed_by_a_listing_and_a_request(s3: S3Server) -> None:
    for name in ("d/a", "d/b/c", "dd"):
        storage.write_bytes(s3.uri("remove", name), b"x")
    s3.requests()
    storage.remove(s3.uri("remove", "d"))
    assert s3.requests() == {"GET": 1, "POST": 1}
    assert storage.listdir(s3.uri("remove")) == ["dd"]
    s3.requests()
    storage.remove(s3.uri("remove", "d"))
    storage.remove(s3.uri("remove", "none"))
    assert s3.requests() == {"GET": 2, "POST": 2}


def test_files_of_a_directory_are_removed_by_one_request(s3: S3Server) -> None:
    for name in ("a", "b", "c"):
        storage.write_bytes(s3.uri("some", name), b"x")
    s3.requests()
    storage.remove_files(s3.uri("some"), ["a", "c", "none"])
    assert s3.requests() == {"POST": 1}
    assert storage.listdir(s3.uri("some")) == ["b"]
    s3.requests()
    storage.remove_files(s3.uri("some"), [])
    assert not s3.requests()


def test_a_file_among_others_of_like_names_is_removed_alone(s3: S3Server) -> None:
    for name in ("part-1", *(f"part-1{i}" for i in range(9))):
        storage.write_bytes(s3.uri("alike", name), b"x")
    s3.requests()
    storage.remove(s3.uri("alike", "part-1"))
    assert s3.requests() == {"GET": 1, "POST": 1}
    assert len(storage.listdir(s3.uri("alike"))) == 9


def test_an_input_file_that_is_another_is_refused_without_asking_for_it_first(s3: S3Server) -> None:
    uri = s3.uri("input", "a.jsonl")
    storage.write_bytes(uri, b"x" * 1000)
    etag = etag_of(storage.info(uri) or {})
    s3.requests()
    with RawFile(uri, 1000, etag) as file:
        assert file.read(2000) == b"x" * 1000
    assert s3.requests() == {"GET": 1}
    storage.write_bytes(uri, b"y" * 1000)
    with pytest.raises(UserError, match="was changed since"), RawFile(uri, 1000, etag) as file:
        file.read(10)
    storage.remove(uri)
    with pytest.raises(UserError, match="is gone since"), RawFile(uri, 1000, etag) as file:
        file.read(10)


def test_an_object_is_read_in_parts_from_its_end_on(s3: S3Server) -> None:
    data = bytes(range(256)) * 1024
    storage.write_bytes(s3.uri("parts", "big.bin"), data)
    storage.write_bytes(s3.uri("parts", "small.bin"), data[:1000])
    storage.write_bytes(s3.uri("parts", "empty.bin"), b"")
    s3.requests()
    with storage.open_ranges(s3.uri("parts", "small.bin")) as f:
        assert f.read() == data[:1000]
    assert s3.requests() == {"GET": 1}
    with storage.open_ranges(s3.uri("parts", "big.bin")) as f:
        assert f.seek(-100, 2) == len(data) - 100
        assert f.read(1000) == data[-100:]
        assert s3.requests() == {"GET": 1}
        f.seek(len(data) - storage.TAIL_BYTES - 10)  # half of it lies before what came with the size
        assert f.read(20) == data[-storage.TAIL_BYTES - 10 : -storage.TAIL_BYTES + 10]
        f.seek(5)
        assert f.read(7) == data[5:12]
        assert s3.requests() == {"GET": 2}
        f.seek(0)
        assert f.read() == data
    with storage.open_ranges(s3.uri("parts", "empty.bin")) as f:
        assert f.read() == b""
    with pytest.raises(FileNotFoundError):
        storage.open_ranges(s3.uri("parts", "none.bin"))


def test_a_file_is_told_from_none_by_one_request(s3: S3Server) -> None:
    storage.write_bytes(s3.uri("one", "file.bin"), b"x")
    s3.requests()
    assert storage.is_file(s3.uri("one", "file.bin"))
    assert not storage.is_file(s3.uri("one", "none.bin"))
    assert not storage.is_file(s3.uri("one"))
    assert s3.requests() == {"HEAD": 3}


def test_a_directory_of_inputs_is_listed_by_one_request(s3: S3Server) -> None:
    for name in ("listed/a.jsonl", "listed/b.jsonl", "plain"):
        storage.write_bytes(s3.uri(name), b"{}")
    s3.requests()
    assert [name for name, _ in list_files(s3.uri("listed", "a.jsonl")).files] == ["a.jsonl"]
    assert s3.requests() == {"HEAD": 1}
    assert [name for name, _ in list_files(s3.uri("listed")).files] == ["a.jsonl", "b.jsonl"]
    assert s3.requests() == {"GET": 1}
    assert [name for name, _ in list_files(s3.uri("plain")).files] == ["plain"]
    assert list_files(s3.uri("none")).files == []


def test_a_directory_is_listed_by_one_request_also_where_there_is_none(s3: S3Server) -> None:
    storage.write_bytes(s3.uri("there", "sub", "a"), b"x")
    storage.write_bytes(s3.uri("there", "b"), b"xy")
    s3.requests()
    assert storage.listdir(s3.uri("there")) == ["b", "sub"]
    assert storage.list_sizes(s3.uri("there")) == {"b": 2}
    assert storage.listdir(s3.uri("there", "b")) == storage.listdir(s3.uri("nowhere")) == []
    assert s3.requests() == {"GET": 4}
    assert "there" in storage.listdir(s3.uri())
