"""How many requests the data side makes of an object store for each shard; in this process, so that it is the same
each time; and what the storage does to make them few. `python -m tests.jobs.requests_on_s3` counts the whole job.
"""

import json
from collections import Counter
from collections.abc import Iterator

import pytest

from raypt import storage
from raypt.config_io import load
from raypt.run.config import RunConfig
from raypt.run.curate import curate
from raypt.run.open import open_run
from tests.jobs.requests_on_s3 import sorted_out, told
from tests.s3 import S3Server, s3_server

pytest.importorskip("s3fs")
pytest.importorskip("moto.server")


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        for shard in range(8):
            lines = [
                json.dumps({"text": f"The river number {shard} of page {i} moves slowly. " * 8}) for i in range(20)
            ]
            storage.write_bytes(server.uri("in", f"{shard}.jsonl"), "\n".join(lines).encode())
        yield server


def test_the_data_side_asks_for_no_size_before_it_reads_and_at_most_52_times_a_shard(s3: S3Server) -> None:
    options = [
        f"corpus.sources=[{{name: in, paths: {s3.uri('in')}}}]",
        f"run.dir={s3.uri('runs', 'a')}",
        "curation.stages=[language]",
        "corpus.shard_bytes=2k",
    ]
    config = load(RunConfig, None, options)
    s3.requests()
    with open_run(config, "curate") as run:
        shards = len(curate(config, run, in_process=True).manifest.shards)
    found = sorted_out(s3.asked(), s3.bucket)
    assert shards == 32
    # 51.2 (71.6 before what is read came with its size), of which the start and the page are 3.9 whatever the number of
    # shards. Deduplication asks for 33: with so few shards each has a group of its own, whose files few others read.
    assert len(found) / shards <= 52, told(found, shards)
    for stage in ("decide", "write"):
        of_shards = Counter(a.operation for a in found if a.stage == stage and ".parquet" in a.place)
        assert of_shards["HEAD"] == of_shards["LIST"] == 0, told(found, shards)


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
