"""PROXY protocol before all that is echoed: as a proxy sends it, torn, wrong, late, and with HAProxy in front.

Modules: layers.proxy, transport.layer, worker.entries, transport.origin.
"""

import contextlib
import itertools
import json
import os
import signal
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from echoserver.wire.proxy_preamble import crc32c
from tests.certificates import Certificates
from tests.process.processes import Group, exchange, ping, samples
from tests.programs import find, needs
from tests.servers import PATIENCE, HttpClient, read_all, read_exactly, request, wait_for

CLIENT = ("203.0.113.7", 4711)
V1 = b"PROXY TCP4 203.0.113.7 198.51.100.1 4711 80\r\n"
V1_IPV6 = b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 80\r\n"
GET = request("GET / HTTP/1.1")
_NUMBERS = itertools.count()
_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def v2(command: int = 1, family: int = 0x11, addresses: bytes | None = None, vectors: bytes = b"") -> bytes:
    """A v2 preamble."""
    if addresses is None:
        addresses = socket.inet_aton(CLIENT[0]) + socket.inet_aton("198.51.100.1") + struct.pack("!HH", CLIENT[1], 80)
    rest = addresses + vectors
    return _SIGNATURE + bytes([0x20 | command, family]) + struct.pack("!H", len(rest)) + rest


def vector(kind: int, value: bytes) -> bytes:
    return struct.pack("!BH", kind, len(value)) + value


def with_checksum(*vectors: bytes, wrong: bool = False) -> bytes:
    """A v2 preamble with a CRC32c behind its other TLVs."""
    blank = v2(vectors=b"".join(vectors) + vector(3, bytes(4)))
    return blank[:-4] + (crc32c(blank) ^ wrong).to_bytes(4, "big")


LOCAL = v2(command=0, family=0, addresses=b"")
GOOD = {
    "v1": (V1, CLIENT),
    "v1 IPv6": (V1_IPV6, ("2001:db8::7", 4711)),
    "v1 unknown": (b"PROXY UNKNOWN\r\n", None),
    "v2": (v2(), CLIENT),
    "v2 IPv6": (
        v2(family=0x21, addresses=socket.inet_pton(socket.AF_INET6, "2001:db8::7") * 2 + struct.pack("!HH", 4711, 80)),
        ("2001:db8::7", 4711),
    ),
    "v2 unix": (v2(family=0x31, addresses=bytes(216)), None),
    "v2 TLVs": (v2(vectors=vector(1, b"h2") + vector(5, b"id" * 60) + vector(4, b"\0" * 9)), CLIENT),
    "v2 checksum": (with_checksum(vector(1, b"http/1.1")), CLIENT),
    "v2 large": (v2(vectors=vector(0xE0, b"x" * 16000)), CLIENT),
    "LOCAL": (LOCAL, None),
    "LOCAL, with what is to be skipped": (v2(command=0, family=0, addresses=b"skip me" * 9), None),
}
BAD = {
    "no preamble": GET,
    "TLS": b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
    "another signature": _SIGNATURE[:-1] + b"X" + v2()[12:] + GET,
    "v1 too long": b"PROXY UNKNOWN " + b"x" * 100 + b"\r\n" + GET,
    "v1 without an end": b"PROXY TCP4 " + b"1" * 200,
    "v1 of another protocol": b"PROXY UDP4 203.0.113.7 198.51.100.1 4711 80\r\n" + GET,
    "v1 with a wrong address": b"PROXY TCP4 203.0.113.777 198.51.100.1 4711 80\r\n" + GET,
    "v2 too long": _SIGNATURE + b"\x21\x11\xff\xff" + b"x" * 65535,
    "v2 of version 3": v2().replace(b"\n\x21", b"\n\x31") + GET,
    "v2 too short": v2(addresses=b"1234") + GET,
    "v2 with a TLV that is cut off": v2(vectors=b"\x01\0\x09h2") + GET,
    "v2 with a wrong checksum": with_checksum(wrong=True) + GET,
}


class Proxied(Group):
    """A server that wants a preamble, on all its listeners, with its access log in a file."""

    def __init__(self, folder: Path, certificates: Certificates, *options: str) -> None:
        self.log = folder / "access.log"
        self.certificates = certificates
        with open(self.log, "w", encoding="ascii") as file:
            super().__init__(
                "--proxy-protocol", "on", "--admin", "127.0.0.1:0", "--https", "0", "--tls", "0",
                *certificates.options, "--access-log", "json", *options, output=file.fileno(),
            )  # fmt: skip

    def entries(self) -> list[dict[str, Any]]:
        """The whole lines of the access log so far."""
        return [
            json.loads(line)
            for line in self.log.read_text(encoding="ascii").splitlines(keepends=True)
            if line[-1] == "\n"
        ]

    def so_far(self) -> int:
        """How many lines the access log has when all that has ended is in it: a request of our own comes after that."""
        target = f"/{next(_NUMBERS)}"
        wait_for(lambda: self.counted('echoserver_connections_open{protocol="tcp"}') == 0, "the others' end")
        with self.connect() as connection:
            connection.sendall(V1 + request(f"GET {target} HTTP/1.1"))
            assert HttpClient(connection).answer().status == 200
        wait_for(lambda: any(entry.get("target") == target for entry in self.entries()), "our line")
        return len(self.entries())

    def counted(self, name: str) -> float:
        with HttpClient(self.connect("admin")) as client:
            return samples(client.ask(request("GET /metrics HTTP/1.1")).content.decode()).get(name, 0)

    @property
    def bad(self) -> float:
        return self.counted('echoserver_errors_total{reason="proxy_protocol"}')

    def exchange(self, protocol: str, preamble: bytes, send: Callable[[socket.socket, bytes], None]) -> tuple[str, int]:
        """A preamble, and something that is echoed; returns the connection's own address."""
        with self.connect(protocol) as connection:
            own: tuple[str, int] = connection.getsockname()
            secure = protocol in ("https", "tls")
            web = protocol in ("http", "https")
            data = (
                request("POST / HTTP/1.1", "Content-Length: 5", "Connection: close", content=b"hello")
                if web
                else b"hello"
            )
            send(connection, preamble if secure else preamble + data)
            with contextlib.ExitStack() as stack:
                if secure:
                    trusting = self.certificates.trusting()
                    stream = stack.enter_context(trusting.wrap_socket(connection, server_hostname="localhost"))
                    stream.sendall(data)
                else:
                    stream = connection  # type: ignore[assignment]  # either will do
                if web:
                    assert HttpClient(stream).answer("POST").content == b"hello"
                else:
                    assert read_exactly(stream, 5) == b"hello"
        return own


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def proxied(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, certificates: Certificates
) -> Iterator[Proxied]:
    with Proxied(tmp_path_factory.mktemp("log"), certificates, "--loop", request.param) as server:
        yield server


def whole(connection: socket.socket, data: bytes) -> None:
    connection.sendall(data)


def torn(connection: socket.socket, data: bytes) -> None:
    for position in range(len(data)):
        connection.sendall(data[position : position + 1])


def in_two(connection: socket.socket, data: bytes) -> None:
    connection.sendall(data[:20])
    connection.sendall(data[20:])


PROTOCOLS = ("http", "https", "tcp", "tls")


@pytest.mark.parametrize("send", [whole, torn, in_two], ids=["whole", "torn", "in two"])
@pytest.mark.parametrize("name", GOOD)
def test_proxy_protocol__what_follows_is_echoed_and_the_log_says_who_it_was(
    proxied: Proxied, send: Callable[[socket.socket, bytes], None], name: str
) -> None:
    preamble, source = GOOD[name]
    before = proxied.so_far()
    expected = {}
    for protocol in PROTOCOLS:
        own = proxied.exchange(protocol, preamble, send)
        expected[protocol] = source or own
    wait_for(lambda: len(proxied.entries()) >= before + len(PROTOCOLS), "the lines of the access log")
    found = proxied.entries()[before:]
    assert sorted(entry["protocol"] for entry in found) == sorted(PROTOCOLS)
    for entry in found:
        assert (entry["client"], entry["port"]) == expected[entry["protocol"]]
        assert (entry["bytes_in"], entry["bytes_out"]) == (5, 5)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", BAD)
def test_proxy_protocol__what_is_no_preamble_is_not_answered(proxied: Proxied, protocol: str, name: str) -> None:
    before = proxied.bad
    with proxied.connect(protocol) as client:
        with contextlib.suppress(ConnectionError):
            client.sendall(BAD[name])
        with contextlib.suppress(ConnectionResetError):
            assert read_all(client) == b""
    assert proxied.bad == before + 1


def test_an_end_before_the_preamble_is_complete(proxied: Proxied) -> None:
    before = proxied.bad
    for part in (b"", V1[:9], v2()[:20]):
        with proxied.connect() as client:
            client.sendall(part)
            client.shutdown(socket.SHUT_WR)
            assert read_all(client) == b""
    assert proxied.bad == before, "whoever checks that a port is open does no wrong"


def test_bytes_after_the_preamble_are_content_even_if_they_look_like_one(proxied: Proxied) -> None:
    with proxied.connect("tcp") as client:
        client.sendall(V1 + V1 + v2())
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == V1 + v2()


def test_much_in_the_segment_of_the_preamble(proxied: Proxied) -> None:
    content = os.urandom(150_000)
    with proxied.connect() as client, HttpClient(client) as http:
        http.send(V1 + request("POST / HTTP/1.1", f"Content-Length: {len(content)}", content=content))
        assert http.answer("POST").content == content
        assert http.ask(GET).status == 200


def test_proxy_protocol__udp_and_the_admin_listener_need_none(proxied: Proxied) -> None:
    assert ping(proxied.udp)
    assert exchange(proxied.connect("admin"), request("GET /healthz HTTP/1.1"))[0] == 200
    with proxied.connect("admin") as client:
        client.sendall(V1 + GET)
        assert read_all(client).startswith(b"HTTP/1.1 4")


def test_log_level__refusals_are_said_at_the_level_of_debugging(tmp_path: Path, certificates: Certificates) -> None:
    with Proxied(tmp_path, certificates, "--log-level", "debug") as server, server.connect() as client:
        own = client.getsockname()
        client.sendall(GET)
        with contextlib.suppress(ConnectionResetError):
            assert read_all(client) == b""
        expected = f"127.0.0.1:{own[1]}: PROXY protocol: begins with neither the v1 nor the v2 signature"
        wait_for(lambda: server.said(expected), "the line")


@pytest.mark.parametrize("part", [b"", V1[:10], v2()[:-1]], ids=["nothing", "v1", "v2"])
def test_header_timeout__a_preamble_that_comes_late(tmp_path: Path, certificates: Certificates, part: bytes) -> None:
    with Proxied(tmp_path, certificates, "--header-timeout", "300ms") as server:
        for protocol in ("http", "tcp", "https", "tls"):
            with server.connect(protocol) as client:
                client.sendall(part)
                with contextlib.suppress(ConnectionResetError):
                    assert read_all(client) == b""
        assert server.counted('echoserver_timeouts_total{deadline="proxy_protocol"}') == 4
        assert server.bad == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_drain_with_preambles_that_have_not_come(tmp_path: Path, certificates: Certificates, workers: str) -> None:
    with Proxied(tmp_path, certificates, "--workers", workers) as server, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.connect(each)) for each in ("http", "tcp", "https", "tls")]
        for client in clients:
            client.sendall(V1[:10])
        with server.connect() as last:
            last.sendall(V1 + GET)
            assert last.recv(5) == b"HTTP/"
        server.send_signal()
        for client in clients:
            with contextlib.suppress(ConnectionResetError):
                assert read_all(client) == b""
        assert server.wait() == 0


def test_a_reload_with_a_preamble_that_has_not_come(tmp_path: Path, certificates: Certificates) -> None:
    with Proxied(tmp_path, certificates, "--workers", "2") as server, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(8)]
        for client in clients:
            client.sendall(V1[:10])
        server.reload()
        for client in clients:
            client.sendall(V1[10:] + GET)
            assert HttpClient(client).answer().status == 200


def test_max_connections__those_without_a_preamble_are_counted(tmp_path: Path, certificates: Certificates) -> None:
    with Proxied(tmp_path, certificates, "--max-connections", "2") as server, contextlib.ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(server.connect()).sendall(V1[:10])
        with server.connect() as client:
            client.sendall(V1 + GET)
            assert HttpClient(client).answer().status == 503
        with server.connect("tcp") as client, contextlib.suppress(ConnectionError):
            client.sendall(V1 + b"ping")
            assert client.recv(4) == b""
        stack.close()

        def served() -> bool:
            with server.connect() as again, contextlib.suppress(ConnectionError):
                again.sendall(V1 + GET)
                return again.recv(12) == b"HTTP/1.1 200"
            return False

        wait_for(served, "room")


# --- HAProxy ----------------------------------------------------------------------------------------------------------

HAPROXY = find("haproxy")


@contextlib.contextmanager
def haproxy(folder: Path, server: Group, how: str) -> Iterator[dict[str, tuple[str, int]]]:
    """HAProxy in front of a server's http and tcp listeners; yields where its own clients connect, by protocol.

    Its sockets are passed to it, bound by the test: no port to pick.
    """
    fronts = {name: socket.create_server(("127.0.0.1", 0)) for name in ("http", "tcp")}
    lines = ["defaults", "  mode tcp", "  timeout connect 5s", "  timeout client 20s", "  timeout server 20s"]
    for name, front in fronts.items():
        lines += [f"listen {name}", f"  bind fd@{front.fileno()}", f"  server it 127.0.0.1:{server.port(name)} {how}"]
    (folder / "haproxy.cfg").write_text("\n".join([*lines, ""]), encoding="ascii")
    process = subprocess.Popen(
        [str(HAPROXY), "-db", "-f", str(folder / "haproxy.cfg")], stderr=subprocess.PIPE,
        pass_fds=[front.fileno() for front in fronts.values()],
    )  # fmt: skip
    try:
        yield {name: front.getsockname() for name, front in fronts.items()}
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE)
        for front in fronts.values():
            front.close()


@needs("haproxy")
@pytest.mark.parametrize(
    "how", ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id", "send-proxy-v2-ssl-cn"]
)
@pytest.mark.parametrize("workers", ["1", "2"])
def test_proxy_protocol__behind_haproxy(tmp_path: Path, certificates: Certificates, how: str, workers: str) -> None:
    with Proxied(tmp_path, certificates, "--workers", workers) as server, haproxy(tmp_path, server, how) as fronts:
        expected = []
        for _ in range(4):
            with socket.create_connection(fronts["http"], PATIENCE) as client:
                expected.append(("http", *client.getsockname()))
                client.sendall(request("POST / HTTP/1.1", "Content-Length: 5", content=b"hello"))
                assert HttpClient(client).answer("POST").content == b"hello"
            with socket.create_connection(fronts["tcp"], PATIENCE) as client:
                expected.append(("tcp", *client.getsockname()))
                client.sendall(b"hello")
                assert read_exactly(client, 5) == b"hello"
        wait_for(lambda: len(server.entries()) >= len(expected), "the lines of the access log")
        found = [(entry["protocol"], entry["client"], entry["port"]) for entry in server.entries()]
        assert sorted(found) == sorted(expected)
        assert server.bad == 0
