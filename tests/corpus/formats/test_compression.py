"""Compressed files: what is whole comes out whole, what is broken is kept up to the break and counted behind it."""

import bz2
import gzip
import lzma
import random
import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from raypt.corpus.formats.compression import (
    PIECE_BYTES,
    codec_of,
    open_decompressed,
    sniff,
    unpack,
    without_compression,
)
from raypt.corpus.formats.raw import BrokenStream, RawFile
from raypt.corpus.limits import UnpackLimits

WORDS = ["the", "river", "rose", "twice", "before", "mill", "and", "ran", "straight", "to", "lake", "河水", "在磨坊前"]


def text(nbytes: int, seed: int = 0) -> bytes:
    rng = random.Random(seed)
    return "".join(rng.choice(WORDS) + " " for _ in range(nbytes // 4)).encode()[:nbytes]


def zstd_with_checksum(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True, write_content_size=False).compress(data)


CODECS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("x.gz", lambda data: gzip.compress(data, mtime=0)),
    "bzip2": ("x.bz2", bz2.compress),
    "xz": ("x.xz", lambda data: lzma.compress(data, preset=1)),
    "zstd": ("x.zst", zstd_with_checksum),
}


def unpacked(path: Path, codec: str, limits: UnpackLimits | None = None) -> tuple[bytes, BrokenStream | None]:
    """The bytes that came out, and what broke."""
    out = []
    with RawFile(str(path)) as raw:
        try:
            for piece in unpack(raw, codec, limits or UnpackLimits()):
                out.append(piece)
        except BrokenStream as e:
            return b"".join(out), e
    return b"".join(out), None


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("sizes", [(0,), (1,), (100,), (700_000,), (300_000, 0, 5, 1_200_000)])
def test_one_and_several_streams_come_out_as_they_went_in(tmp_path: Path, codec: str, sizes: tuple[int, ...]) -> None:
    name, compress = CODECS[codec]
    parts = [text(n, seed) for seed, n in enumerate(sizes)]
    (tmp_path / name).write_bytes(b"".join(map(compress, parts)))
    assert unpacked(tmp_path / name, codec) == (b"".join(parts), None)
    with open_decompressed(str(tmp_path / name)) as f:
        assert f.read() == b"".join(parts)


@pytest.mark.parametrize("codec", CODECS)
def test_a_stream_that_is_cut_anywhere_gives_a_prefix_and_an_error(tmp_path: Path, codec: str) -> None:
    name, compress = CODECS[codec]
    data = text(400_000)
    packed = compress(data)
    for cut in sorted({1, 5, len(packed) // 3, len(packed) // 2, len(packed) - 300, len(packed) - 1}):
        (tmp_path / name).write_bytes(packed[:cut])
        out, error = unpacked(tmp_path / name, codec)
        assert error is not None, f"cut at {cut} of {len(packed)}"
        assert data.startswith(out)
        assert 0 <= error.unread <= cut


@pytest.mark.parametrize("codec", CODECS)
def test_what_stands_before_damage_is_kept_and_the_bytes_behind_it_are_counted(tmp_path: Path, codec: str) -> None:
    name, compress = CODECS[codec]
    parts = [text(600_000, seed) for seed in range(3)]
    packed = [compress(p) for p in parts]
    damaged = bytearray(packed[1])
    middle = len(damaged) // 2
    damaged[middle : middle + 8] = bytes(b ^ 0x5A for b in damaged[middle : middle + 8])
    (tmp_path / name).write_bytes(packed[0] + damaged + packed[2])
    out, error = unpacked(tmp_path / name, codec)
    assert error is not None
    assert out.startswith(parts[0])
    # What the damage made of the second stream may have come out before its checksum said so; the third never counts
    # as read.
    assert len(packed[2]) <= error.unread <= len(packed[1]) + len(packed[2])


@pytest.mark.parametrize("codec", CODECS)
def test_something_else_behind_a_stream_is_an_error_with_its_size(tmp_path: Path, codec: str) -> None:
    name, compress = CODECS[codec]
    (tmp_path / name).write_bytes(compress(b"document\n" * 100) + b"this is no stream" * 10)
    out, error = unpacked(tmp_path / name, codec)
    assert out == b"document\n" * 100
    assert error is not None
    assert error.unread == 170


def test_a_broken_later_stream_of_bzip2_is_no_trailing_rubbish(tmp_path: Path) -> None:
    first, second = bz2.compress(b"a\n" * 1000), bz2.compress(b"b\n" * 1000)
    (tmp_path / "x.bz2").write_bytes(first + second[:4] + bytes(6) + second[10:])
    out, error = unpacked(tmp_path / "x.bz2", "bzip2")
    assert out == b"a\n" * 1000
    assert error is not None
    assert error.unread == len(second)


@pytest.mark.parametrize("codec", ["gzip", "xz"])
def test_zero_bytes_behind_a_stream_are_padding(tmp_path: Path, codec: str) -> None:
    name, compress = CODECS[codec]
    (tmp_path / name).write_bytes(compress(b"one ") + bytes(512) + compress(b"two") + bytes(1024))
    assert unpacked(tmp_path / name, codec) == (b"one two", None)


def test_a_zstd_skippable_frame_is_skipped(tmp_path: Path) -> None:
    skippable = struct.pack("<II", 0x184D2A53, 300_000) + bytes(300_000)
    (tmp_path / "x.zst").write_bytes(skippable + zstandard.compress(b"text") + skippable)
    assert unpacked(tmp_path / "x.zst", "zstd") == (b"text", None)


def zstd_frame(blocks: list[tuple[int, int, bytes]], window_log: int) -> bytes:
    """A frame (RFC 8878) of (type, size, content) blocks that declares a window of 2^window_log bytes."""
    out = b"\x28\xb5\x2f\xfd" + bytes([0x00, (window_log - 10) << 3])
    for i, (kind, size, content) in enumerate(blocks):
        out += (size << 3 | kind << 1 | (i == len(blocks) - 1)).to_bytes(3, "little") + content
    return out


@pytest.mark.parametrize("window_log", [27, 28, 30, 31])
def test_zstd_windows_up_to_2_31_are_read_and_a_smaller_bound_refuses_them(tmp_path: Path, window_log: int) -> None:
    (tmp_path / "x.zst").write_bytes(zstd_frame([(0, 5, b"hello")], window_log))
    assert unpacked(tmp_path / "x.zst", "zstd") == (b"hello", None)
    out, error = unpacked(tmp_path / "x.zst", "zstd", UnpackLimits(max_window_bytes=1 << 26))
    assert out == b""
    assert "corpus.max_window_bytes" in str(error)


def bomb(codec: str, nbytes: int) -> bytes:
    if codec == "zstd":  # blocks of one repeated byte: four bytes for 128 KiB
        return zstd_frame([(1, 128 << 10, b"a")] * (nbytes >> 17), 20)
    if codec == "gzip":
        packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    else:
        packer = bz2.BZ2Compressor() if codec == "bzip2" else lzma.LZMACompressor(preset=0)  # type: ignore[assignment]
    out = b"".join(packer.compress(bytes(1 << 20)) for _ in range(nbytes >> 20))
    return out + packer.flush()


@pytest.mark.parametrize("codec", ["zstd", "gzip", "bzip2"])
def test_a_bomb_is_unpacked_in_pieces_and_given_up_at_the_ratio(tmp_path: Path, codec: str) -> None:
    name, _ = CODECS[codec]
    data = bomb(codec, 300 << 20)
    (tmp_path / name).write_bytes(data)
    largest = total = 0
    tracemalloc.start()
    with RawFile(str(tmp_path / name)) as raw, pytest.raises(BrokenStream, match=r"corpus\.max_unpack_ratio=900"):
        for piece in unpack(raw, codec, UnpackLimits(max_unpack_ratio=900.0)):
            largest, total = max(largest, len(piece)), total + len(piece)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert largest <= PIECE_BYTES + (128 << 10)
    assert total <= 257 << 20
    assert peak < 8 << 20


def test_an_absolute_bound_holds_for_any_ratio(tmp_path: Path) -> None:
    data = text(3_000_000)
    (tmp_path / "x.gz").write_bytes(gzip.compress(data))
    out, error = unpacked(tmp_path / "x.gz", "gzip", UnpackLimits(max_unpacked_bytes=1_000_000))
    assert data.startswith(out)
    assert len(out) <= 1_000_000
    assert "corpus.max_unpacked_bytes=1000000" in str(error)


def test_many_empty_streams_and_blocks_take_time_in_proportion_to_their_bytes(tmp_path: Path) -> None:
    (tmp_path / "x.gz").write_bytes(gzip.compress(b"") * 20_000)  # 400 kB
    (tmp_path / "x.zst").write_bytes(zstd_frame([(0, 0, b"")] * 200_000, 20))  # 600 kB
    start = time.process_time()
    assert unpacked(tmp_path / "x.gz", "gzip") == (b"", None)
    assert unpacked(tmp_path / "x.zst", "zstd") == (b"", None)
    # 0.4 s here; a step quadratic in the file would take minutes.
    assert time.process_time() - start < 10


@pytest.mark.parametrize(
    ("name", "codec", "without"),
    [
        ("a.jsonl.GZ", "gzip", "a.jsonl"),
        ("a.jsonl.zstd", "zstd", "a.jsonl"),
        ("a.warc.bz2", "bzip2", "a.warc"),
        ("a.TGZ", "gzip", "a.tar"),
        ("a.txt.lzma", "xz", "a.txt"),
        ("a.jsonl", None, "a.jsonl"),
    ],
)
def test_suffixes_in_any_case(name: str, codec: str | None, without: str) -> None:
    assert codec_of(name) == codec
    assert without_compression(name) == without


@pytest.mark.parametrize("codec", CODECS)
def test_a_compression_is_known_by_its_first_bytes(codec: str) -> None:
    assert sniff(CODECS[codec][1](b"x" * 100)) == codec
    assert sniff(b'{"text": "BZh9 is no magic number"}') is None
