"""Datagrams are echoed in C as they are in Python.

Modules: protocols.udp.
"""

import socket
from collections.abc import Callable, Iterator

import pytest

from echoserver.config import compiled
from echoserver.observe.counters import COUNTERS
from echoserver.observe.counters import index as index_of
from echoserver.protocols import udp
from echoserver.protocols.udp import UdpEcho

HOSTS = ["127.0.0.1", "0.0.0.0", "::1", "::"]


@pytest.fixture(params=HOSTS)
def listener(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET6 if ":" in request.param else socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        try:
            made.bind((request.param, 0))
        except OSError:
            pytest.skip("there is no IPv6")
        yield made


@pytest.fixture(params=["in C", "in Python"])
def echo(request: pytest.FixtureRequest, listener: socket.socket) -> UdpEcho:
    if request.param == "in C" and compiled.functions is None:
        pytest.skip("not compiled")
    made = UdpEcho(listener, memoryview(bytearray(1 << 16)))
    made.readable = made.echo_in_c if request.param == "in C" else made.echo_in_python
    return made


@pytest.fixture
def connect(listener: socket.socket) -> Iterator[Callable[[], socket.socket]]:
    made: list[socket.socket] = []

    def connect(host: str = "") -> socket.socket:
        own, port, *_ = listener.getsockname()
        client = socket.socket(listener.family, socket.SOCK_DGRAM)
        made.append(client)
        client.settimeout(10)
        client.connect((host or {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(own, own), port))
        return client

    yield connect
    for client in made:
        client.close()


def test_each_goes_back_to_its_sender(echo: UdpEcho, connect: Callable[[], socket.socket]) -> None:
    sizes = [0, 1, 64, 1400, 1472, 9000, 40_000, 65_507 - 20]
    clients = [connect() for _ in sizes]
    for number, (client, size) in enumerate(zip(clients, sizes, strict=True)):
        client.send(bytes([number]) * size)
    for _ in sizes:  # a turn has a bound
        echo.readable()
    for number, (client, size) in enumerate(zip(clients, sizes, strict=True)):
        assert client.recv(1 << 16) == bytes([number]) * size
    counts = [0] * sum(len(each.values) for each in COUNTERS)
    echo.flush_counters(counts)
    of = {what: counts[index_of("datagrams", what)] for what in ("echoed", "not_answered")}
    assert of == {"echoed": len(sizes), "not_answered": 0}
    assert counts[index_of("received_bytes", "udp")] == counts[index_of("sent_bytes", "udp")] == sum(sizes)
    echo.flush_counters(counts)
    assert counts[index_of("received_bytes", "udp")] == sum(sizes)


def test_a_turn_has_a_bound_and_nothing_is_lost(echo: UdpEcho, connect: Callable[[], socket.socket]) -> None:
    client = connect()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    for number in range(200):
        client.send(b"%d" % number)
    turns = 0
    while echo.echoed < 200:
        before = echo.echoed
        echo.readable()
        assert 0 < echo.echoed - before <= 64
        turns += 1
        assert turns < 200
    assert [client.recv(99) for _ in range(200)] == [b"%d" % number for number in range(200)]


def test_a_port_that_is_not_answered(
    echo: UdpEcho, connect: Callable[[], socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    silent, others = connect(), [connect() for _ in range(3)]
    monkeypatch.setattr(udp, "REFLECTORS", frozenset({silent.getsockname()[1]}))
    chosen = UdpEcho(echo._socket, memoryview(bytearray(1 << 16)))
    readable = chosen.echo_in_c if echo.readable == echo.echo_in_c else chosen.echo_in_python
    for client in (others[0], silent, others[1], silent, others[2]):
        client.send(b"hello")
    for _ in range(5):
        readable()
    assert [client.recv(99) for client in others] == [b"hello"] * 3
    assert (chosen.echoed, chosen.ignored, chosen.received, chosen.sent) == (3, 2, 25, 15)
    silent.setblocking(False)
    with pytest.raises(BlockingIOError):
        silent.recv(99)


def test_who_has_gone_keeps_nobody_waiting(echo: UdpEcho, connect: Callable[[], socket.socket]) -> None:
    gone, other = connect(), connect()
    gone.send(b"hello")
    gone.close()
    echo.readable()  # the kernel's answer is an error, of the next call
    other.send(b"hello")
    for _ in range(3):
        echo.readable()
    assert other.recv(99) == b"hello"


def test_the_answer_comes_from_where_the_datagram_was_sent_to(
    echo: UdpEcho, listener: socket.socket, connect: Callable[[str], socket.socket]
) -> None:
    if listener.getsockname()[0] != "0.0.0.0":
        pytest.skip("that is one address")
    client = connect("127.0.0.2")  # connected: it takes nothing from elsewhere
    client.send(b"hello")
    echo.readable()
    assert client.recv(99) == b"hello"


@pytest.mark.skipif(compiled.functions is None, reason="not compiled")
def test_nothing_but_a_bit_for_each_port_is_taken_for_ports(listener: socket.socket) -> None:
    assert compiled.functions is not None
    with pytest.raises(ValueError, match="a bit for each port"):
        compiled.functions.echo_datagrams(listener.fileno(), b"", 64, 1 << 18)
