"""Small JSON files that notice any change of any of their bytes, and reads that do not take an outage for a loss.

The first line holds the checksum of all that follows it:

    {"checksum": "0123...",
     "format": 2, ...}
"""

import json
import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar

import xxhash

from raypt.errors import UserError

log = logging.getLogger("raypt")

Result = TypeVar("Result")

_START, _DIGITS, _END = b'{"checksum": "', 32, b'",\n'
_FIRST_LINE = len(_START) + _DIGITS + len(_END)
PAUSES_S = (0.5, 2.0, 8.0)
"""Before what the storage failed to give is asked for again: together longer than a fail-over or a lost packet."""


class Damaged(UserError):
    """Bytes of a checkpoint that are not those that were written, or that are no longer there."""


def seal(value: dict[str, Any]) -> bytes:
    """`value`, which has at least one key, as a sealed file."""
    rest = b" " + json.dumps(value, ensure_ascii=False, indent=1).encode().removeprefix(b"{\n ") + b"\n"
    return _START + xxhash.xxh3_128_hexdigest(rest).encode() + _END + rest


def unseal(data: bytes, path: str) -> dict[str, Any]:
    """What was sealed. Raises Damaged, naming `path`, if a byte is not as it was written."""
    line, rest = data[:_FIRST_LINE], data[_FIRST_LINE:]
    if line != _START + xxhash.xxh3_128_hexdigest(rest).encode() + _END:
        raise Damaged(f"{path}: its checksum is not that of its content")
    return dict(json.loads(b"{" + rest))


def carefully(read: Callable[[], Result]) -> Result:
    """What `read` returns. An error of the storage is waited out, up to some 10 s; what is missing or damaged is read a
    second time before it is believed.

    Raises:
        OSError: the storage still fails. This says nothing about what is stored.
        FileNotFoundError, Damaged: twice.
    """
    doubted = False
    for pause in (*PAUSES_S, None):
        try:
            return read()
        except (FileNotFoundError, Damaged) as e:
            if doubted or pause is None:
                raise
            doubted = True
            log.warning("%s; reading it once more", e)
        except OSError as e:
            if pause is None:
                raise
            log.warning("the storage fails (%s): trying again in %g s", e, pause)
        if pause is not None:
            time.sleep(pause)
    raise AssertionError("the last attempt returns or raises")
