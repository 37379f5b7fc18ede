import pyarrow as pa
import xxhash

from raypt.dedup.exact import content_hashes

TEXTS = ["  Hello \t world\n", "中文　全角空格 测试", "", "\u2003", "a\u00a0b", "no-change", "naïve — 😀  x"]


def reference(text: str) -> list[int]:
    value = xxhash.xxh3_128_intdigest(text.encode())
    return [value >> 64, value & ((1 << 64) - 1)]


def test_hash_is_xxh3_128_of_the_text_with_white_space_collapsed() -> None:
    expected = [reference(" ".join(text.split())) for text in TEXTS]
    assert content_hashes(pa.array(TEXTS), "whitespace").tolist() == expected


def test_hash_without_normalisation_is_xxh3_128_of_the_text() -> None:
    assert content_hashes(pa.array(TEXTS), "none").tolist() == [reference(text) for text in TEXTS]
