"""One greedy connection beside an honest one: who asks for little is not kept waiting for who asks for much.

No times are measured (bench fairness does that): the honest client has many answers while the greedy one, which began
before, still waits for its own.
"""

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from tests.certificates import Certificates
from tests.servers import HttpClient, Server, request, sending
from tests.websockets import BINARY, PING, frame, upgrade

ROUND_TRIPS = 30
POST = request("POST / HTTP/1.1", "Content-Length: 5", content=b"hello")


@pytest.fixture(scope="module", params=["uvloop", pytest.param("asyncio", marks=pytest.mark.slow)])
def one_worker(request: pytest.FixtureRequest, certificates: Certificates) -> Iterator[Server]:
    """A server that nobody else uses meanwhile."""
    with Server("--loop", request.param, "--https", "0", *certificates.options) as running:
        yield running


def paths(count: int) -> bytes:
    return b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in range(count))


GREEDY = {
    "GETs of the same path": (b"", request("GET / HTTP/1.1")),
    "GETs of other paths": (b"", paths(1000)),
    "chunks of one byte": (request("POST / HTTP/1.1", "Transfer-Encoding: chunked"), b"1\r\nx\r\n"),
    "GET /metrics": (b"", request("GET /metrics HTTP/1.1")),
    "empty WebSocket frames": (upgrade(), frame(BINARY)),
    "WebSocket pings": (upgrade(), frame(PING)),
}
"""What is sent first, and then over and over."""

ENOUGH = 48 << 20
"""Bytes: the kernel can't take all of them in advance, nor the server in a few turns of its loop."""


@contextlib.contextmanager
def read_and_dropped(connection: socket.socket) -> Iterator[None]:
    """What comes is read in a thread of its own."""

    def read() -> None:
        with contextlib.suppress(OSError):
            while connection.recv(1 << 20):
                pass

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    yield
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    reader.join()


@pytest.mark.parametrize(("first", "unit"), GREEDY.values(), ids=GREEDY)
def test_fairness_an_honest_client_is_served_between(one_worker: Server, first: bytes, unit: bytes) -> None:
    check(one_worker, one_worker.connect(), first + unit * (ENOUGH // len(unit)))


def test_fairness_an_honest_client_is_served_between_over_tls(one_worker: Server, certificates: Certificates) -> None:
    greedy = certificates.trusting().wrap_socket(one_worker.connect("https"), server_hostname="localhost")
    first, unit = GREEDY["GETs of other paths"]
    check(one_worker, greedy, first + unit * (ENOUGH // len(unit)))


def check(server: Server, greedy: socket.socket, sent: bytes) -> None:
    with HttpClient(server.connect()) as honest, greedy:
        assert honest.ask(POST).content == b"hello"
        with read_and_dropped(greedy), sending(greedy, sent) as sender:
            for _ in range(ROUND_TRIPS):
                assert honest.ask(POST).content == b"hello"
            assert sender.is_alive(), "all that the greedy client had to send was taken before"
            greedy.shutdown(socket.SHUT_RDWR)
