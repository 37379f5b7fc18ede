"""A manifest believes no byte that was not written."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raypt.tokens.stream.cursor import Cursor
from raypt.training.checkpoint.manifest import MANIFEST, CheckpointInfo, Progress, read_info
from raypt.training.checkpoint.sealed import Damaged, seal, unseal


def info(files: int = 2, uri: str = "runs/r/checkpoints/step-00000012-abc") -> CheckpointInfo:
    progress = Progress(12, 11, 4096, Cursor(96, "print"), 2.5, (1.5, 2.25))
    entry = {"size": 1_640_625_000, "header": 1_048_576, "xxh3": 2**64 - 1}
    named = {f"rank-{rank:05d}.safetensors": entry for rank in range(files)}
    pieces = {"size": 12_000_000, "xxh3": "0" * 32}
    return CheckpointInfo(
        uri, progress, named, pieces, {"step": 11.0}, {"model": {"hidden_size": 8}, "world_size": files}
    )


def test_what_is_written_is_read_back() -> None:
    assert CheckpointInfo.from_bytes(info().to_bytes(), info().uri) == info()


DATA = info().to_bytes()


@settings(max_examples=500, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.one_of(
        st.tuples(st.just("flip"), st.integers(0, len(DATA) - 1), st.integers(1, 255)),
        st.tuples(
            st.just("replace"), st.integers(0, len(DATA) - 1), st.sampled_from(b'0123456789abcdef"{}[],:.- \nxE')
        ),
        st.tuples(st.just("delete"), st.integers(0, len(DATA) - 1), st.integers(1, 40)),
        st.tuples(st.just("insert"), st.integers(0, len(DATA)), st.sampled_from(b'0 \n,"}1e')),
        st.tuples(st.just("cut"), st.integers(0, len(DATA) - 1), st.just(0)),
    )
)
def test_no_mutation_is_believed(mutation: tuple[str, int, int]) -> None:
    kind, at, value = mutation
    data = bytearray(DATA)
    if kind == "flip":
        data[at] ^= value
    elif kind == "replace":
        data[at] = value
    elif kind == "delete":
        del data[at : at + value]
    elif kind == "insert":
        data[at:at] = bytes([value])
    else:
        del data[at:]
    if bytes(data) == DATA:
        return
    with pytest.raises(Damaged, match=f"step-00000012-abc/{MANIFEST}"):
        CheckpointInfo.from_bytes(bytes(data), info().uri)


def test_every_byte_of_it_matters() -> None:
    """Each with one bit flipped: digits of progress and of hashes, names, quotes, white space."""
    for at in range(len(DATA)):
        data = bytearray(DATA)
        data[at] ^= 1
        with pytest.raises(Damaged):
            CheckpointInfo.from_bytes(bytes(data), "u")


def test_a_manifest_of_512_ranks_is_small() -> None:
    assert len(info(files=512).to_bytes()) < 100_000


def test_a_directory_without_one_has_none(tmp_path: Path) -> None:
    assert read_info(str(tmp_path)) is None


@given(
    st.dictionaries(st.text(), st.none() | st.floats(allow_nan=False) | st.text() | st.lists(st.integers()), min_size=1)
)
def test_what_is_sealed_is_unsealed(value: dict[str, object]) -> None:
    assert unseal(seal(value), "p") == value
