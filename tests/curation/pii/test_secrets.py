"""raypt.curation.pii.secrets: keys by their published form, PEM private keys."""

import pytest

from raypt.curation.pii.secrets import KEY_FORMS
from tests.curation.pii.found import values


def example(prefix: str, length: int) -> str:
    if prefix == "eyJ":
        return "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
    body = ("A1B2C3" if prefix.startswith(("AK", "AS", "AR", "AI", "AG", "AN")) else "a1b2c3") * 200
    return prefix + body[:length]


KEYS = [example(prefix, low) for _, prefixes, low, _, _ in KEY_FORMS for prefix in prefixes.split()]


@pytest.mark.parametrize("key", KEYS)
def test_a_key_of_every_form_is_found_whole_in_text(key: str) -> None:
    assert values(f"export KEY='{key}' # do not commit", "api_key") == [key]
    assert values(f"密钥：{key}。", "api_key") == [key]


@pytest.mark.parametrize(
    "text",
    [
        "AKIAIOSFODNN7EXAMPL",  # too short
        "AKIAIOSFODNN7EXAMPLEX",  # too long
        "sk-this-is-only-a-long-css-class-name",  # no digit
        "risk-0123456789abcdefghijABCD",  # inside a word
        "eyJhbGciOiJIUzI1NiJ9_and_no_other_part_0123",
        "ghp_short1",
    ],
)
def test_what_is_shorter_longer_or_inside_a_word_is_no_key(text: str) -> None:
    assert values(text, "api_key") == []


BLOCK = (
    "-----BEGIN {0} KEY-----\nProc-Type: 4,ENCRYPTED\n\nMIIEowIBAAKCAQEAx8Zk+/=\n"
    "abcdefghijklmnop==\n-----END {0} KEY-----"
)


@pytest.mark.parametrize("kind", ["PRIVATE", "RSA PRIVATE", "OPENSSH PRIVATE", "ENCRYPTED PRIVATE"])
def test_a_private_key_block_is_found_with_both_its_lines(kind: str) -> None:
    block = BLOCK.format(kind)
    assert values(f"key:\n{block}\nend", "private_key") == [block]
    assert values(block.replace("\n", "\\n"), "private_key") == [block.replace("\n", "\\n")]


def test_a_truncated_private_key_ends_with_its_key_material() -> None:
    text = BLOCK.format("RSA PRIVATE").split("\n-----END")[0]
    assert values(text + "\n\nand then we went home", "private_key") == [text]
    assert values('begins with "-----BEGIN PRIVATE KEY-----", they must', "private_key") == [
        "-----BEGIN PRIVATE KEY-----"
    ]


@pytest.mark.parametrize("kind", ["PUBLIC", "CERTIFICATE"])
def test_public_keys_and_certificates_are_left(kind: str) -> None:
    assert values(BLOCK.format(kind), "private_key") == []
