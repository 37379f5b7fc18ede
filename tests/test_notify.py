"""raypt.notify: who is told, of what, and that nothing depends on it."""

import http.server
import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raypt import notify
from raypt.errors import Terminated, UserError
from raypt.notify import NotifyConfig, notifying, tell
from raypt.run.config import RunConfig, RunSection
from raypt.run.open import open_run


@pytest.fixture
def posted() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server and what was posted to it; to /no it answers 500."""
    messages: list[dict[str, Any]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(500 if self.path == "/no" else 200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}", messages
        httpd.shutdown()


ENDS = [
    (None, "done"),
    (ValueError("a\nlast line"), "failed"),
    (UserError("x"), "failed"),
    (Terminated("t"), "stopped"),
]


@pytest.mark.parametrize(("error", "event"), ENDS, ids=[str(e) for _, e in ENDS])
def test_the_end_is_posted_with_its_reason_and_the_error_goes_on(
    posted: tuple[str, list[dict[str, Any]]], error: BaseException | None, event: str
) -> None:
    url, messages = posted
    try:
        with notifying(NotifyConfig(url=url), "s3://b/runs/a", "pretrain"):
            if error is not None:
                raise error
    except BaseException as e:
        assert e is error
    (message,) = messages
    assert (message["event"], message["run"], message["job"]) == (event, "s3://b/runs/a", "pretrain")
    assert message["text"].startswith(f"raypt pretrain {event}: s3://b/runs/a")
    if isinstance(error, ValueError):
        assert message["text"].endswith("ValueError: last line")


def test_a_command_gets_the_message_and_a_stall_is_told_while_the_run_goes_on(tmp_path: Path) -> None:
    config = NotifyConfig(command=f'(echo "$RAYPT_EVENT"; cat; echo) >> {tmp_path}/told')
    with notifying(config, str(tmp_path), "pretrain"):
        tell("stalled", "rank 3 on node b")
    lines = (tmp_path / "told").read_text().splitlines()
    assert lines[::2] == ["stalled", "done"]
    assert json.loads(lines[1])["text"].endswith("rank 3 on node b")
    tell("stalled", "nobody is listening")
    assert len((tmp_path / "told").read_text().splitlines()) == 4


def test_only_what_was_asked_for_is_told(tmp_path: Path) -> None:
    with notifying(NotifyConfig(command=f"touch {tmp_path}/told", on=("failed",)), "r", "j"):
        tell("stalled", "x")
    assert not (tmp_path / "told").exists()


@pytest.mark.parametrize("where", ["command", "answer", "nobody"])
def test_what_cannot_be_told_is_logged_without_the_address_and_ends_nothing(
    posted: tuple[str, list[dict[str, Any]]], where: str, caplog: pytest.LogCaptureFixture
) -> None:
    config = {
        "command": NotifyConfig(command="echo no mail here >&2; exit 3"),
        "answer": NotifyConfig(url=f"{posted[0]}/no"),
        "nobody": NotifyConfig(url="http://127.0.0.1:9/hook-password"),
    }[where]
    with caplog.at_level(logging.WARNING, "raypt"), notifying(config, "r", "j"):
        pass
    (record,) = caplog.records
    assert "run.notify." in record.message
    assert "no mail here" in record.message or "http" not in record.message.lower().replace("httperror", "")
    assert "hook-password" not in record.message


def test_a_url_of_the_environment_is_in_no_file_of_the_run(
    posted: tuple[str, list[dict[str, Any]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK", f"{posted[0]}/hook-password")
    config = RunConfig(run=RunSection(dir=str(tmp_path / "run"), notify=NotifyConfig(url="$HOOK")))
    with open_run(config, "curate"):
        pass
    assert posted[1][0]["event"] == "done"
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or "hook-password" not in path.read_text()
    monkeypatch.delenv("HOOK")
    with pytest.raises(UserError, match=r"run\.notify\.url=\$HOOK"), open_run(config, "curate"):
        raise AssertionError("opened")


def test_a_hook_that_hangs_is_left_behind(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(notify, "TIMEOUT_S", 0.2)
    with notifying(NotifyConfig(command="exec sleep 20"), "r", "j"):
        pass
    assert "TimeoutExpired" in caplog.text
