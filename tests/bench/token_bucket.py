"""A path between two processes that lets so many bytes a second through: a proxy with a token bucket."""

import contextlib
import socket
import threading
import time

from raypt.bench.pairs import Address


class TokenBucket:
    """Bytes may pass at `rate` a second, and `burst` of them at once."""

    def __init__(self, rate: float, burst: int) -> None:
        self.rate, self.burst = rate, burst
        self._tokens, self._at = float(burst), time.monotonic()

    def take(self, count: int) -> None:
        assert count <= self.burst
        while True:
            now = time.monotonic()
            self._tokens = min(self.burst, self._tokens + (now - self._at) * self.rate)
            self._at = now
            if self._tokens >= count:
                self._tokens -= count
                return
            time.sleep((count - self._tokens) / self.rate)


def slowed(to: Address, rate: float) -> Address:
    """The address of a proxy to another one, which passes on what comes at `rate` bytes a second."""
    server = socket.create_server((to[0], 0))

    def serve() -> None:
        while True:
            near, _ = server.accept()
            far = socket.create_connection(to)
            for s in (near, far):
                s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=_pass, args=(near, far, TokenBucket(rate, 1 << 16)), daemon=True).start()
            threading.Thread(target=_pass, args=(far, near, None), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    address: Address = server.getsockname()
    return address


def _pass(source: socket.socket, target: socket.socket, bucket: TokenBucket | None) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            if bucket is not None:
                bucket.take(len(data))
            target.sendall(data)
    for s in (source, target):
        with contextlib.suppress(OSError):
            s.shutdown(socket.SHUT_RDWR)
