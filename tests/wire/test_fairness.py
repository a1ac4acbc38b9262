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


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def one_worker(request: pytest.FixtureRequest, certificates: Certificates) -> Iterator[Server]:
    """A server that nobody else uses meanwhile."""
    with Server("--loop", request.param, "--https", "0", *certificates.options) as running:
        yield running


def paths(count: int) -> bytes:
    return b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in range(count))


def flood(unit: bytes, before: bytes = b"") -> bytes:
    """So much that the kernel can't take all of it in advance, nor the server in a few turns of its loop."""
    return before + unit * ((64 << 20) // len(unit))


GREEDY = {
    "GETs of the same path": flood(request("GET / HTTP/1.1")),
    "GETs of other paths": flood(paths(1000)),
    "chunks of one byte": flood(b"1\r\nx\r\n", request("POST / HTTP/1.1", "Transfer-Encoding: chunked")),
    "GET /metrics": flood(request("GET /metrics HTTP/1.1")),
    "empty WebSocket frames": flood(frame(BINARY), upgrade()),
    "WebSocket pings": flood(frame(PING), upgrade()),
}


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


@pytest.mark.parametrize("sent", GREEDY.values(), ids=GREEDY)
def test_fairness_an_honest_client_is_served_between(one_worker: Server, sent: bytes) -> None:
    check(one_worker, one_worker.connect(), sent)


def test_fairness_an_honest_client_is_served_between_over_tls(one_worker: Server, certificates: Certificates) -> None:
    plain = one_worker.connect("https")
    check(
        one_worker,
        certificates.trusting().wrap_socket(plain, server_hostname="localhost"),
        GREEDY["GETs of other paths"],
    )


def check(server: Server, greedy: socket.socket, sent: bytes) -> None:
    with HttpClient(server.connect()) as honest, greedy:
        assert honest.ask(POST).content == b"hello"
        with read_and_dropped(greedy), sending(greedy, sent) as sender:
            for _ in range(ROUND_TRIPS):
                assert honest.ask(POST).content == b"hello"
            assert sender.is_alive(), "all that the greedy client had to send was taken before"
            greedy.shutdown(socket.SHUT_RDWR)
