"""A word to people when a run ends, fails or stands still: a command that is run, or a URL that gets a POST.

Nothing depends on it: what cannot be told is logged, within `TIMEOUT_S`.
"""

import json
import logging
import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

from pydantic import field_validator

from raypt.errors import Terminated, UserError
from raypt.outside import redact
from raypt.settings import Settings

log = logging.getLogger("raypt")

TIMEOUT_S = 30.0
Event = Literal["done", "failed", "stopped", "stalled"]


class NotifyConfig(Settings):
    """Who is told when a run ends, fails or stands still."""

    command: str | None = None
    """A shell command: it gets a JSON object {event, run, job, text, ...} on its standard input, and the event and the
    run directory as RAYPT_EVENT and RAYPT_RUN."""
    url: str | None = None
    """Where the same object is posted (its `text` is what Slack, Mattermost and ntfy show). A webhook's path is its
    password: `$NAME` takes the URL from that environment variable, and no file of the run shows it."""
    on: tuple[Event, ...] = ("done", "failed", "stopped", "stalled")
    """Of what: done; failed (also by a mistake that showed after the start); stopped by a signal; stalled, whenever
    training has stood still for train.stall_warning_s."""

    @field_validator("url")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://", "$")):
            raise ValueError("use http://, https://, or $NAME of an environment variable that holds the URL")
        return value


def event_of(e: BaseException | None) -> Event:
    """What the end of a block comes to."""
    if e is None:
        return "done"
    return "stopped" if isinstance(e, Terminated | KeyboardInterrupt) else "failed"


_tell: Callable[[Event, str], None] | None = None


def tell(event: Event, text: str) -> None:
    """Send a word of the run that is open in this process, if it has somebody to tell."""
    if _tell is not None:
        _tell(event, text)


@contextmanager
def notifying(config: NotifyConfig, run_uri: str, job: str) -> Iterator[None]:
    """Tell how the block ends, and what `tell` is called with in it.

    Raises:
        UserError: the URL is to come from an environment variable that is not set.
    """
    global _tell
    url = _url(config.url)

    def send(event: Event, text: str) -> None:
        if event in config.on:
            said = f"raypt {job} {event}: {redact(run_uri)}" + (f"\n{redact(text)}" if text else "")
            _send(config.command, url, {"event": event, "run": redact(run_uri), "job": job, "text": said})

    if config.command is None and url is None:
        yield
        return
    _tell, ending = send, None
    try:
        yield
    except BaseException as e:
        ending = e
        raise
    finally:
        _tell = None
        send(event_of(ending), _last_line(ending))


def _url(said: str | None) -> str | None:
    if said is None or not said.startswith("$"):
        return said
    url = os.environ.get(said[1:])
    if not url:
        raise UserError(f"run.notify.url={said}: there is no such environment variable")
    return url


def _last_line(e: BaseException | None) -> str:
    if e is None:
        return ""
    lines = str(e).strip().splitlines() or [""]
    return f"{type(e).__name__}: {lines[-1]}"[-500:]


def _send(command: str | None, url: str | None, message: dict[str, Any]) -> None:
    body = json.dumps(message, ensure_ascii=False).encode()
    if command is not None:
        environment = os.environ | {"RAYPT_EVENT": message["event"], "RAYPT_RUN": message["run"]}
        try:
            done = subprocess.run(
                command, shell=True, input=body, env=environment, timeout=TIMEOUT_S, capture_output=True, check=False
            )
            if done.returncode:
                said = done.stderr.decode(errors="replace").strip()[-300:]
                log.warning("run.notify.command ended with %d: %s", done.returncode, said)
        except (OSError, subprocess.TimeoutExpired) as e:
            log.warning("run.notify.command: %s", type(e).__name__)
    if url is not None:
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S):
                pass
        except (OSError, ValueError) as e:
            reason = f"status {e.code}" if isinstance(e, urllib.error.HTTPError) else type(e).__name__
            log.warning("run.notify.url did not take the message: %s", reason)  # without the URL, which is a password
