"""UDP echo over real sockets; and IPv6, for all protocols, where the machine has it."""

import os
import socket
from collections.abc import Iterator

import pytest

from tests.servers import PATIENCE, HttpClient, Server, read_all, request

LOOPS = ["uvloop", "asyncio"]


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


HOSTS = ["127.0.0.1", "::1"] if has_ipv6() else ["127.0.0.1"]


def datagrams(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """A client bound to an address."""
    client = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    client.settimeout(PATIENCE)
    client.bind((host, port))
    return client


def assert_echo(client: socket.socket, data: bytes, host: str, port: int) -> None:
    """The same datagram comes back, and from where it was sent to."""
    client.sendto(data, (host, port))
    received, source = client.recvfrom(65535)
    assert received == data
    assert source[:2] == (host, port)


@pytest.fixture(scope="module", params=LOOPS)
def everywhere(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server that is bound to all IPv4 addresses."""
    with Server("--loop", request.param, "--udp", "0.0.0.0:0") as running:
        yield running


@pytest.mark.parametrize("size", [0, 1, 1400, 65507])
def test_a_datagram_comes_back(server: Server, size: int) -> None:
    with datagrams() as client:
        for _ in range(3):
            assert_echo(client, os.urandom(size), "127.0.0.1", server.udp)


def test_a_burst_comes_back_whole_and_in_order(server: Server) -> None:
    sent = [b"%d %b" % (number, os.urandom(number)) for number in range(200)]
    with datagrams() as client:
        for data in sent:
            client.sendto(data, ("127.0.0.1", server.udp))
        assert [client.recv(65535) for _ in sent] == sent


def test_each_client_gets_its_own(server: Server) -> None:
    clients = [datagrams() for _ in range(20)]
    try:
        for turn in range(5):
            for number, client in enumerate(clients):
                client.sendto(b"%d %d" % (turn, number), ("127.0.0.1", server.udp))
        for turn in range(5):
            for number, client in enumerate(clients):
                assert client.recv(100) == b"%d %d" % (turn, number)
    finally:
        for client in clients:
            client.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "127.7.8.9"])
@pytest.mark.parametrize("size", [0, 5, 65507])
def test_the_answer_comes_from_the_address_that_was_asked(everywhere: Server, host: str, size: int) -> None:
    with datagrams() as client:
        assert_echo(client, os.urandom(size), host, everywhere.udp)


@pytest.mark.parametrize("loop", LOOPS)
def test_the_answer_comes_from_the_address_that_was_asked_on_all_families(loop: str) -> None:
    host = "[::]" if "::1" in HOSTS else "0.0.0.0"
    with Server("--loop", loop, "--udp", f"{host}:0") as server:
        for asked in (*HOSTS, "127.0.0.2"):
            with datagrams("::1" if ":" in asked else "127.0.0.1") as client:
                assert_echo(client, b"hello", asked, server.udp)


def assert_silence(server: Server, host: str, port: int, asked: str) -> None:
    """What comes from there gets no answer, and others still get one. The second shows that the first was read."""
    with datagrams(host, port) as reflector, datagrams() as client:
        for _ in range(3):
            reflector.sendto(b"no answer to this", (asked, server.udp))
            assert_echo(client, b"hello", asked, server.udp)
        reflector.setblocking(False)
        with pytest.raises(BlockingIOError):
            reflector.recv(100)


def may_bind(port: int) -> bool:
    try:
        with datagrams("127.0.0.3", port):
            return True
    except PermissionError:
        return False


@pytest.mark.parametrize("port", [port for port in (7, 13, 19, 37, 53, 123) if may_bind(port)] or [None])
def test_no_answer_to_a_reflector(server: Server, everywhere: Server, port: int | None) -> None:
    """Where the well-known ports may not be bound, the server's own stands for them: another echo server's."""
    assert_silence(server, "127.0.0.3", port or server.udp, "127.0.0.1")
    if port is not None:
        assert_silence(everywhere, "127.0.0.3", port, "127.0.0.2")


def test_no_answer_to_a_server_of_its_kind(server: Server) -> None:
    assert_silence(server, "127.0.0.3", server.udp, "127.0.0.1")


def test_two_servers_do_not_keep_each_other_busy() -> None:
    """A datagram that claims to come from another echo server is answered once at most, not for ever."""
    with Server() as one, Server("--udp", f"127.0.0.2:{one.udp}") as other:
        assert_silence(one, "127.0.0.3", other.udp, "127.0.0.1")


def test_a_client_that_is_gone_disturbs_nobody(server: Server) -> None:
    """What the kernel reports of an answer that nobody received ends no one's service."""
    with datagrams() as client:
        for _ in range(20):
            with datagrams() as gone:
                gone.sendto(b"bye", ("127.0.0.1", server.udp))
            assert_echo(client, b"hello", "127.0.0.1", server.udp)


@pytest.mark.covers("--http", "--tcp", "--udp")
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("host", HOSTS)
def test_every_protocol_on(host: str, loop: str) -> None:
    where = f"[{host}]:0" if ":" in host else f"{host}:0"
    with Server("--loop", loop, "--http", where, "--tcp", where, "--udp", where) as server:
        with socket.create_connection((host, server.tcp), PATIENCE) as client:
            client.sendall(b"hello")
            client.shutdown(socket.SHUT_WR)
            assert read_all(client) == b"hello"
        with HttpClient(socket.create_connection((host, server.http), PATIENCE)) as asking:
            get = request("GET / HTTP/1.1")
            assert asking.ask(get).content == get
        with datagrams(host) as sender:
            assert_echo(sender, b"hello", host, server.udp)
