"""Python functions of the server that are entered for one read, in steady state: exact, where a benchmark is noisy.

Each way a byte takes is tried with the transports that users have: uvloop's over loopback. What is counted is each
call of a function of the package between the client's bytes and the whole response.
"""

import asyncio
import contextlib
import dataclasses
import socket
import ssl
import sys
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Self

import pytest
import uvloop

import echoserver
from echoserver.config import options as config
from echoserver.layers import tls_context as tls
from echoserver.observe.counters import SharedCounters
from echoserver.wire import ordinary
from echoserver.worker.shared import Shared
from echoserver.worker.worker import Worker
from tests.certificates import Certificates
from tests.unit.transport import over_loopback
from tests.websockets import BINARY, echo, frame, upgrade

PACKAGE = str(Path(echoserver.__file__).parent)

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"


class Calls(list[str]):
    """The names of functions of the package that were entered while it was active."""

    def _profile(self, frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
            self.append(frame.f_code.co_qualname)

    def __enter__(self) -> Self:
        sys.setprofile(self._profile)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)


class Client:
    """A socket to a connection of the worker's, both driven by one loop."""

    def __init__(self, worker: Worker, protocol: str) -> None:
        self.loop = worker.loop
        self._context = worker.context
        self.socket, transport = over_loopback(worker, protocol)
        for each in (self.socket, transport.get_extra_info("socket")):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)

    def run(self, what: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(what, 10))

    def send(self, data: bytes) -> None:
        """All of it is in the kernel before the server reads."""
        assert self.socket.send(data) == len(data)

    async def _receive(self, end: Callable[[bytes], bool]) -> bytes:
        received = b""
        while not end(received):
            received += await self.loop.sock_recv(self.socket, 4 << 20)
        return received

    def receive(self, end: Callable[[bytes], bool]) -> bytes:
        return bytes(self.run(self._receive(end)))

    def calls(self, data: bytes, end: Callable[[bytes], bool]) -> Calls:
        """What is called for data, until what comes back is all."""
        self.send(data)
        with Calls() as called:
            self.receive(end)
        return called

    def close(self) -> None:
        self.socket.close()
        self.run(self._closed())

    async def _closed(self) -> None:
        while self._context.connections:
            await asyncio.sleep(0.001)
        for _ in range(5):  # the loop closes the socket some turns later
            await asyncio.sleep(0)


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """uvloop's, for its transports are what is called."""
    running = uvloop.new_event_loop()
    yield running
    running.close()


@pytest.fixture
def worker(loop: asyncio.AbstractEventLoop, certificates: Certificates) -> Worker:
    texts = dict(zip(("tls_cert", "tls_key"), certificates.options[1::2], strict=True))
    settings = config.parse({"https": "0", **texts})
    return Worker(settings, loop, shared=Shared(SharedCounters(1), tls.contexts(settings)))


def ends_with(tail: bytes) -> Callable[[bytes], bool]:
    return lambda received: received.endswith(tail)


Connect = Callable[[str], Client]


@pytest.fixture
def connected(worker: Worker) -> Iterator[Connect]:
    clients: list[Client] = []

    def connect(protocol: str) -> Client:
        clients.append(Client(worker, protocol))
        return clients[-1]

    yield connect
    for each in clients:
        each.close()


def test_frames_of_tcp(connected: Connect) -> None:
    client = connected("tcp")
    for _ in range(3):
        client.calls(b"hello", ends_with(b"hello"))
    assert client.calls(b"hello", ends_with(b"hello")) == ["TcpEcho._counted"]


def test_frames_of_tcp_that_moves_much(connected: Connect) -> None:
    client = connected("tcp")
    client.calls(bytes(40_000), lambda received: len(received) == 40_000)
    again = client.calls(bytes(40_000), lambda received: len(received) == 40_000)
    assert again == ["Relay.get_buffer", "Relay.buffer_updated"]


@pytest.mark.parametrize(("request_bytes", "tail"), [(GET, GET), (POST, b"hello")], ids=["GET", "POST"])
def test_frames_of_the_same_request(connected: Connect, request_bytes: bytes, tail: bytes) -> None:
    client = connected("http")
    for _ in range(3):
        client.calls(request_bytes, ends_with(tail))
    assert client.calls(request_bytes, ends_with(tail)) == ["HttpConnection.data_received"]


def test_frames_of_an_ordinary_request(worker: Worker, connected: Connect) -> None:
    client = connected("http")
    client.calls(POST, ends_with(b"hello"))
    other = POST.replace(b"5\r\n\r\nhello", b"6\r\n\r\n!hello")
    assert client.calls(other, ends_with(b"!hello")) == [
        "HttpConnection.data_received", "HttpConnection._answer_ordinary", "RequestReader.answer",
        *([] if ordinary.scan_in_c else ["scan_in_python", "_lines_behind"]), "Connection.send",
    ]  # fmt: skip


def test_frames_of_large_content(connected: Connect) -> None:
    """In so many reads as the kernel has it ready; each is two functions, and one that holds it."""
    request = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n" + bytes(299_999) + b"!"
    client = connected("http")
    for _ in range(3):
        client.calls(request, ends_with(b"!"))
    called = client.calls(request, ends_with(b"!"))
    reads = called.count("Gathered.get_buffer")
    assert called.count("Gathered.buffer_updated") == reads
    assert len(called) - 2 * reads <= 12, called


def test_frames_of_content_that_is_relayed(worker: Worker, connected: Connect) -> None:
    worker.context.config = dataclasses.replace(worker.context.config, buffer_limit=1 << 16)
    client = connected("http")
    client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + bytes(100))
    client.receive(ends_with(bytes(100)))
    client.calls(bytes(1000), ends_with(bytes(1000)))
    assert client.calls(bytes(1000), ends_with(bytes(1000))) == [
        "RelayContent.get_buffer", "RelayContent.buffer_updated", "Relay.buffer_updated",
    ]  # fmt: skip


def test_frames_of_websocket(connected: Connect) -> None:
    client = connected("http")
    client.calls(upgrade(), ends_with(b"\r\n\r\n"))
    message, answer = frame(BINARY, bytes(64)), echo(BINARY, bytes(64))
    for _ in range(3):
        client.calls(message, ends_with(answer))
    assert client.calls(message, ends_with(answer)) == ["WebSocketEcho.data_received", "Connection.send"]


def test_frames_of_tls(connected: Connect, certificates: Certificates) -> None:
    client = connected("https")
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    secure = certificates.trusting().wrap_bio(incoming, outgoing, server_hostname="localhost")

    def shaken() -> bool:
        try:
            secure.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def exchange() -> Calls:
        secure.write(POST)
        content = bytearray()

        def complete(received: bytes) -> bool:
            incoming.write(received[taken[0] :])
            taken[0] = len(received)
            with contextlib.suppress(ssl.SSLWantReadError):
                content.extend(secure.read(1 << 16))
            return content.endswith(b"hello")

        taken = [0]
        return client.calls(outgoing.read(), complete)

    while not shaken():
        client.send(outgoing.read())
        incoming.write(client.receive(bool))
    client.send(outgoing.read())
    for _ in range(3):
        exchange()
    assert len(exchange()) == 13
