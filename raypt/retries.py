"""Requests to a remote storage: tried again where trying again helps, and one clear error where it does not.

The clients try by themselves first (botocore five times, s3fs five times more where the server asks for less): some
tens of seconds. What is left for here is a server that answers with an error of its own for longer, and errors in 10^7
requests that their five attempts do not reach. A storage that is away altogether is given up after about two minutes.
"""

import errno
import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

from raypt.errors import UserError
from raypt.outside import redact

log = logging.getLogger("raypt")

Result = TypeVar("Result")

WAITS_S = (1.0, 4.0, 15.0)
"""Before the second, third and fourth attempt; each is drawn between half and one and a half of it."""
PASSING = frozenset({None, errno.EIO, errno.EBUSY, errno.EREMOTEIO, errno.EAGAIN, errno.ETIMEDOUT, errno.EPIPE})
"""Numbers of an OSError that may be another a second later: s3fs has EIO, EBUSY and EREMOTEIO for 5xx (it does not try
again where a HEAD got one, whose answer has no words), None for what it does not know. Refused and reset connections
are classes of their own."""
_PASSING_NAMES = (
    "Timeout",
    "Connection",
    "Connector",
    "Disconnected",
    "Endpoint",
    "IncompleteRead",
    "Payload",
    "HttpError",
)
"""Parts of the names of what clients raise that is no OSError."""
_DENIED_NAMES = ("Credential", "Token", "Forbidden", "Unauthorized")
_DENIED_CODES = frozenset({"InvalidToken", "TokenRefreshRequired", "CredentialsNotSupported", "400"})
"""What S3 says of credentials it does not take, where s3fs makes an OSError of it that could mean anything. 400 is all
that the answer to a HEAD says of a token that is wrong or has run out."""


class StorageError(OSError):
    """A storage did not do what it was asked to. The message names the file and what the storage said."""


class StorageDenied(StorageError, PermissionError):
    """The storage knows this user and refuses, or does not know him."""


ANSWERS = (FileNotFoundError, NotADirectoryError, IsADirectoryError, FileExistsError, UserError)
"""What a storage says when all is well with it."""


def asked(uri: str, request: Callable[[], Result]) -> Result:
    """`request()`, to the storage of `uri`; it must be one that may be made twice.

    Raises:
        StorageError: it failed for good. Errors that say what is there (`ANSWERS`) are passed on as they are.
    """
    for wait in (*WAITS_S, None):
        try:
            return request()
        except ANSWERS:
            raise
        except Exception as e:  # each client has its own
            if wait is None or not may_pass(e):
                raise named(uri, e) from e
            log.warning("%s; trying again", named(uri, e))
            time.sleep(wait * random.uniform(0.5, 1.5))
    raise AssertionError("unreachable")


def may_pass(e: Exception) -> bool:
    """Whether the same request may be answered a second later."""
    if isinstance(e, ConnectionError | TimeoutError):
        return True
    if _denied(e):
        return False
    if isinstance(e, OSError):
        return e.errno in PASSING
    return any(name in kind.__name__ for kind in type(e).__mro__ for name in _PASSING_NAMES)


def _denied(e: Exception) -> bool:
    answer = getattr(e.__cause__, "response", None)  # botocore's
    code = answer.get("Error", {}).get("Code") if isinstance(answer, dict) else None
    names = any(name in type(e).__name__ for name in _DENIED_NAMES)
    return isinstance(e, PermissionError) or names or code in _DENIED_CODES


def named(uri: str, e: Exception) -> StorageError:
    """An error as it is shown: with the file, and without what gives access to it."""
    if isinstance(e, StorageError):
        return e
    said = str(e) or type(e).__name__
    if not isinstance(e, OSError):
        said = f"{type(e).__name__}: {said}"
    return (StorageDenied if _denied(e) else StorageError)(f"{redact(uri)}: {redact(said)}")
