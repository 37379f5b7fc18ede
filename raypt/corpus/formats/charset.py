"""Bytes to text: which character set a page is in."""

from resiliparse.parse.encoding import bytes_to_str, detect_encoding


def decode(data: bytes, declared: str | None) -> str:
    """Text of bytes in the declared character set where there is such a set, else in the detected one (else UTF-8)."""
    if declared:
        try:
            return bytes_to_str(data, declared)
        except LookupError:
            pass
    return bytes_to_str(data, detect_encoding(data) or "utf-8")
