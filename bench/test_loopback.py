"""Round trips over loopback to a server that runs as users run it: what a client waits for, kernel and wake-ups too.

One client, which waits for each answer before it sends again. Where there are two CPUs, it has the second and the
server the first. The control is a process that does nothing but recv() and sendall().
"""

import os
import re
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import pytest

from bench.exchanges import Measure, answer, bytes_of, echo, undated
from bench.loads import LOADS, pattern, request

SMALL = pattern(64)
GET, POST, LAST_POST = (LOADS[name].sent for name in ("get", "post64", "close"))

_PATIENCE = 10  # seconds that an answer may take

_CONTROL = """
import socket
with socket.create_server(("127.0.0.1", 0)) as listener:
    print(listener.getsockname()[1], flush=True)
    connection = listener.accept()[0]
    while data := connection.recv(1 << 16):
        connection.sendall(data)
"""


def group(name: str) -> pytest.MarkDecorator:
    return pytest.mark.benchmark(group=f"over loopback: {name}")


# --- the server ---------------------------------------------------------------------------------------------------


class Server:
    """``python -m echoserver`` with one worker on one CPU; use it as a context manager, which checks how it ends."""

    def __init__(self, cpu: int, *options: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "echoserver", "--workers", "1", *options], stderr=subprocess.PIPE, text=True
        )
        os.sched_setaffinity(self._process.pid, {cpu})
        self._lines: list[str] = []

    def __enter__(self) -> Self:
        assert self._process.stderr is not None
        for line in self._process.stderr:  # until it is ready, or has ended
            self._lines.append(line)
            if line == "echoserver: ready\n":
                return self
        self._process.communicate()
        raise AssertionError(f"the server ended at its start: {self._lines}")

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        said = self._process.communicate()[1]
        assert (self._process.returncode, said) == (
            0, "echoserver: draining\nechoserver: drained: all connections have ended\n",
        )  # fmt: skip

    def port(self, protocol: str) -> int:
        """The port of a listener, as the start-up lines say."""
        found = re.search(rf"listening: {protocol} \S+:(\d+),", "".join(self._lines))
        assert found, self._lines
        return int(found[1])


@pytest.fixture(scope="module")
def cpu() -> Iterator[int]:
    """The server's CPU; the client is this process, and has another one meanwhile."""
    before = os.sched_getaffinity(0)
    first, *others = sorted(before)
    os.sched_setaffinity(0, others[:1] or before)
    yield first
    os.sched_setaffinity(0, before)


@pytest.fixture(scope="module")
def server(cpu: int) -> Iterator[Server]:
    with Server(cpu, "--http", "0", "--tcp", "0", "--udp", "0") as running:
        yield running


@pytest.fixture(scope="module")
def folder(cpu: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where a server has the unix sockets http and tcp."""
    folder = tmp_path_factory.mktemp("bench")
    with Server(cpu, "--http", f"unix:{folder}/http", "--tcp", f"unix:{folder}/tcp", "--udp", "off"):
        yield folder


# --- the client ---------------------------------------------------------------------------------------------------


def connected(where: int | Path, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
    """A blocking socket, connected to a port or a path.

    The kernel's own timeout, and not settimeout(), for which Python asks poll() before each call.
    """
    client = socket.socket(socket.AF_UNIX if isinstance(where, Path) else socket.AF_INET, kind)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", _PATIENCE, 0))
    client.connect(str(where) if isinstance(where, Path) else ("127.0.0.1", where))
    return client


def receive(client: socket.socket, buffer: bytearray) -> None:
    size = client.recv_into(buffer, 0, socket.MSG_WAITALL)
    assert size == len(buffer), f"{size} of {len(buffer)} bytes were answered"


def same(buffer: bytearray, expected: bytes) -> Callable[[int], None]:
    """A check: the buffer holds what is expected. It is cleared, so that the next answer is not this one.

    How many there were needs no count: an exchange fails without a whole answer.
    """

    def check(_: int) -> None:
        assert undated(bytes(buffer)) == expected
        buffer[:] = bytes(len(buffer))

    return check


def round_trips(measure: Measure, where: int | Path, sent: bytes, expected: bytes) -> None:
    """Measure the same exchange again and again on one connection, and see that nothing more comes after the last."""
    buffer = bytearray(len(expected))
    with connected(where) as client:

        def exchange() -> None:
            client.sendall(sent)
            receive(client, buffer)

        measure(exchange, same(buffer, expected))
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b"", "more was answered than was asked"


# --- TCP and UDP --------------------------------------------------------------------------------------------------


@group("TCP and UDP")
def test_control(measure: Measure, cpu: int) -> None:
    with subprocess.Popen([sys.executable, "-c", _CONTROL], stdout=subprocess.PIPE, text=True) as process:
        os.sched_setaffinity(process.pid, {cpu})
        assert process.stdout is not None
        round_trips(measure, int(process.stdout.readline()), SMALL, SMALL)
    assert process.returncode == 0


@group("TCP and UDP")
@pytest.mark.parametrize("size", [64, 4 << 10, 64 << 10], ids=bytes_of)
def test_tcp(measure: Measure, server: Server, size: int) -> None:
    round_trips(measure, server.port("tcp"), pattern(size), pattern(size))


@group("TCP and UDP")
def test_tcp_unix(measure: Measure, folder: Path) -> None:
    """64 B, as all that names no size."""
    round_trips(measure, folder / "tcp", SMALL, SMALL)


@group("TCP and UDP")
def test_udp(measure: Measure, server: Server) -> None:
    buffer = bytearray(len(SMALL))
    with connected(server.port("udp"), socket.SOCK_DGRAM) as client:

        def exchange() -> None:
            client.send(SMALL)
            size = client.recv_into(buffer, 0, socket.MSG_TRUNC)  # the datagram's own, were it longer
            assert size == len(SMALL)

        measure(exchange, same(buffer, SMALL))


# --- HTTP ---------------------------------------------------------------------------------------------------------


@group("HTTP")
def test_get(measure: Measure, server: Server) -> None:
    round_trips(measure, server.port("http"), GET, echo(GET))


@group("HTTP")
@pytest.mark.parametrize("size", [64, 64 << 10, 1 << 20], ids=bytes_of)
def test_post(measure: Measure, server: Server, size: int) -> None:
    content = pattern(size)
    round_trips(measure, server.port("http"), request(content=content), answer(content))


@group("HTTP")
def test_post_unix(measure: Measure, folder: Path) -> None:
    round_trips(measure, folder / "http", POST, answer(SMALL))


@group("HTTP")
def test_post_16_pipelined(measure: Measure, server: Server) -> None:
    """The time is that of all 16."""
    round_trips(measure, server.port("http"), POST * 16, answer(SMALL) * 16)


@group("HTTP")
def test_post_on_a_connection_each(measure: Measure, server: Server) -> None:
    """From connect() to the server's FIN."""
    port, expected = server.port("http"), answer(SMALL, connection=b"close")
    buffer = bytearray(len(expected))

    def exchange() -> None:
        with connected(port) as client:
            client.sendall(LAST_POST)
            receive(client, buffer)
            assert not client.recv(1)

    measure(exchange, same(buffer, expected))
