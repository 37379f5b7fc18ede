"""A server between S3's clients and a real one, that fails as storages do: slow down, errors of its own, cut bodies."""

import http.client
import os
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

from tests.s3 import S3Server, forget_clients

Fault = Literal["slow down", "internal", "reset", "cut"]
KINDS: tuple[Fault, ...] = ("slow down", "internal", "reset", "cut")
ERRORS = {
    "slow down": (503, "SlowDown", "Please reduce your request rate."),
    "internal": (500, "InternalError", "We encountered an internal error. Please try again."),
}


@dataclass
class Faults:
    """What goes wrong: a share of the requests, or the next `count` of them."""

    kind: Fault | None = "slow down"
    """None: each kind by turns."""
    share: float = 0.0
    count: int = 0
    latency_s: float = 0.0
    seed: int = 0
    done: Counter[str] = field(default_factory=Counter)
    log: list[tuple[str, str, int]] = field(default_factory=list)
    """(method, path with its query, bytes of the body) of the answers, in order."""

    def __post_init__(self) -> None:
        self._rng, self._lock = random.Random(self.seed), threading.Lock()

    def now(self) -> Fault | None:
        """What this request gets, if anything."""
        with self._lock:
            self.done["requests"] += 1
            if self.count > 0:
                self.count -= 1
            elif self._rng.random() >= self.share:
                return None
            self.done["faults"] += 1
            return self.kind or KINDS[self.done["faults"] % len(KINDS)]


@contextmanager
def faulty(server: S3Server, faults: Faults) -> Iterator[Faults]:
    """For the length of the block, clients of this process (and its children) go through `faults`."""
    backend = urlsplit(server.endpoint).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            pass

        def _pass(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            time.sleep(faults.latency_s)
            fault = faults.now()
            if fault is not None and fault in ERRORS:
                status, code, message = ERRORS[fault]
                said = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
                self._answer(status, {"Content-Type": "application/xml"}, said, len(said))
                return
            if fault == "reset":
                self._hang_up()
                return
            connection = http.client.HTTPConnection(backend, timeout=60)
            connection.request(self.command, self.path, body, dict(self.headers))
            response = connection.getresponse()
            data = response.read()
            connection.close()
            faults.log.append((self.command, self.path, len(data)))
            headers = {k: v for k, v in response.getheaders() if k.lower() not in ("connection", "transfer-encoding")}
            length = int(headers.pop("Content-Length", len(data)))
            if fault == "cut" and self.command == "GET" and len(data) > 1:
                self._answer(response.status, headers, data[: len(data) // 2], length)
                self._hang_up()
            else:
                self._answer(response.status, headers, data, length)

        def _answer(self, status: int, headers: dict[str, str], data: bytes, length: int) -> None:
            self.send_response_only(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def _hang_up(self) -> None:
            self.wfile.flush()
            # Closed with a reset, as a load balancer does that loses its node.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _pass

    between = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    between.daemon_threads = True
    thread = threading.Thread(target=between.serve_forever, daemon=True)
    thread.start()
    before = os.environ["AWS_ENDPOINT_URL"]
    os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{between.server_address[1]}"
    forget_clients()
    try:
        yield faults
    finally:
        os.environ["AWS_ENDPOINT_URL"] = before
        forget_clients()
        between.shutdown()
        between.server_close()
