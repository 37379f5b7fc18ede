"""What comes from outside, as it may be shown."""

import pytest

from raypt.outside import redact, shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain 名字 é", "plain 名字 é"),
        ("\x1b[2J\n12:00:00 I ledger: all fine", r"\x1b[2J\n12:00:00 I ledger: all fine"),
        ("a\u202eb\u2028c\ud800", r"a\u202eb\u2028c\ud800"),
        ("tab\tand\x9b", r"tab\tand\x9b"),
    ],
)
def test_what_is_not_printable_is_escaped(text: str, expected: str) -> None:
    assert shown(text) == expected


@pytest.mark.parametrize("text", ["x" * 10_000, "\n" * 10_000, "\x1b" * 201])
def test_long_names_are_bounded(text: str) -> None:
    assert len(shown(text)) <= 200
    assert len(shown(text, 30)) <= 30


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://user:secret@host/a.jsonl", "http://***@host/a.jsonl"),
        ("https://ghp_token@host/a", "https://***@host/a"),
        ("ftp://u:p@ss@host/a", "ftp://***@host/a"),
        ("cannot open 'http://u:p@host/a': http://v:q@host", "cannot open 'http://***@host/a': http://***@host"),
        (
            "https://b.s3.amazonaws.com/k?X-Amz-Credential=AK%2F1&X-Amz-Signature=00ff&X-Amz-Date=1",
            "https://b.s3.amazonaws.com/k?X-Amz-Credential=***&X-Amz-Signature=***&X-Amz-Date=1",
        ),
        ("https://a.blob.core.windows.net/c/f?sv=2&sig=abc%3D", "https://a.blob.core.windows.net/c/f?sv=2&sig=***"),
        ("simplecache::https://u:p@h/a", "simplecache::https://***@h/a"),
    ],
)
def test_what_gives_access_is_hidden(url: str, expected: str) -> None:
    assert redact(url) == expected


@pytest.mark.parametrize(
    "url", ["s3://bucket/key", "hf://datasets/org/set@main/data/a.parquet", "http://h/a?page=2", "/data/me@home/a:b"]
)
def test_other_addresses_stay_as_they_are(url: str) -> None:
    assert redact(url) == url
