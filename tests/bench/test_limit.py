"""The limit server: it does next to nothing, but all that the others are compared with it for, and rightly."""

import contextlib
import fcntl
import http.client
import itertools
import os
import select
import socket
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import clients, loads, running
from bench.loads import LOADS, Load, pattern
from tests.servers import PATIENCE, read_all, read_exactly, sending, wait_for
from tests.unit.examples import examples

SPOKEN = ("http", "tcp", "ws")


def of(protocol: str) -> list[Load]:
    return [each for each in LOADS.values() if each.protocol == protocol]


@pytest.fixture(scope="module", params=["unix socket", "TCP"])
def servers(
    limit_server: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[dict[str, running.Server]]:
    """One each, by what they speak."""
    folder = tmp_path_factory.mktemp("limit")
    where = {each: str(folder / each) if request.param == "unix socket" else running.free_port() for each in SPOKEN}
    cpus = os.sched_getaffinity(0)
    with contextlib.ExitStack() as stack:
        yield {
            each: stack.enter_context(
                running.Server(each, [limit_server, where[each], each], where[each], cpus, folder)
            )
            for each in SPOKEN
        }


@pytest.fixture(scope="module")
def http_server(servers: dict[str, running.Server]) -> running.Server:
    return servers["http"]


def connect(server: running.Server) -> socket.socket:
    connection = server.connect()
    connection.settimeout(PATIENCE)
    if connection.family == socket.AF_INET and connection.type == socket.SOCK_STREAM:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # pieces are sent as they are
    return connection


def head(content_type: bytes, length: int, *fields: bytes) -> bytes:
    """Of its response."""
    lines = [
        b"HTTP/1.1 200 OK", b"Server: limit-server", b"Date: Mon, 01 Jan 2024 00:00:00 GMT",
        b"X-Content-Type-Options: nosniff", b"Content-Type: " + content_type, b"Content-Length: %d" % length, *fields,
    ]  # fmt: skip
    return b"\r\n".join([*lines, b"", b""])


def echo(content: bytes, *fields: bytes) -> bytes:
    return head(b"application/octet-stream", len(content), *fields) + content


# --- http.client, which knows nothing of it ---------------------------------------------------------------------------


@pytest.fixture
def oracle(http_server: running.Server) -> Iterator[http.client.HTTPConnection]:
    client = http.client.HTTPConnection("localhost")
    client.sock = connect(http_server)
    yield client
    client.close()


def asked(
    client: http.client.HTTPConnection, method: str, content: bytes | None = None, **fields: str
) -> tuple[str, bytes]:
    """The response's type and content; checked for the rest."""
    client.request(method, "/where", content, fields)
    answer = client.getresponse()
    assert (answer.status, answer.reason, answer.version) == (200, "OK", 11)
    read = answer.read()
    assert answer.getheader("Content-Length") == str(len(read))
    assert answer.getheader("Transfer-Encoding") is None
    return answer.getheader("Content-Type") or "", read


BINARY = "application/octet-stream"


def test_content_comes_back(oracle: http.client.HTTPConnection) -> None:
    for size in (64, 0, 5 << 10, 64, 300 << 10, 64, 2 << 20, 2 << 20, 0, 64):
        assert asked(oracle, "POST", pattern(size)) == (BINARY, pattern(size)), size
    assert asked(oracle, "PUT", pattern(7)) == (BINARY, pattern(7))


def test_without_content_the_header_section_comes_back(oracle: http.client.HTTPConnection) -> None:
    for _ in range(2):
        kind, content = asked(oracle, "GET", X="y")
        assert kind == "text/plain"
        assert content.split(b"\r\n") == [
            b"GET /where HTTP/1.1", b"Host: localhost", b"Accept-Encoding: identity", b"X: y", b"", b"",
        ]  # fmt: skip
        assert asked(oracle, "POST", pattern(64)) == (BINARY, pattern(64))


def test_chunked_content_comes_back_with_its_length(oracle: http.client.HTTPConnection) -> None:
    """Each chunk is sent by itself."""
    for sizes in [(64,), (), (1, 2, 3), (5000, 300_000, 64), ()]:
        parts = [pattern(size) for size in sizes]
        oracle.putrequest("POST", "/")
        oracle.putheader("Transfer-Encoding", "chunked")
        oracle.endheaders(parts, encode_chunked=True)
        answer = oracle.getresponse()
        assert answer.read() == b"".join(parts)
        assert answer.getheader("Content-Length") == str(sum(sizes))


@pytest.mark.parametrize("size", [64, 2 << 20])
def test_connection_close(http_server: running.Server, oracle: http.client.HTTPConnection, size: int) -> None:
    """The end comes after the answer, and without being asked for by a FIN."""
    field = b"Connection: close"
    oracle.request("POST", "/", pattern(size), {"Connection": "close"})
    answer = oracle.getresponse()
    assert answer.will_close
    assert answer.read() == pattern(size)
    with connect(http_server) as connection:
        connection.sendall(loads.request(field, content=pattern(size)))
        assert read_all(connection) == echo(pattern(size), field)


@pytest.mark.parametrize("load", of("http"), ids=lambda each: each.name)
def test_what_the_bench_sends_is_echoed(http_server: running.Server, load: Load) -> None:
    clients.check(load, http_server)


# --- many requests, in pieces -----------------------------------------------------------------------------------------


def get(path: str) -> tuple[bytes, bytes]:
    """A request, and its answer."""
    request = b"GET /%b HTTP/1.1\r\nHost: localhost\r\n\r\n" % path.encode()
    return request, head(b"text/plain", len(request)) + request


def post(size: int) -> tuple[bytes, bytes]:
    content = pattern(size)
    return b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (size, content), echo(content)


def chunks(*sizes: int) -> tuple[bytes, bytes]:
    parts = [pattern(size) for size in sizes]
    coded = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (*parts, b""))
    return b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" + coded, echo(b"".join(parts))


def wait_until_read(connection: socket.socket) -> None:
    """Until a unix socket's other side has read all (unix(7), SIOCOUTQ). Over TCP nobody can tell."""
    while (
        connection.family == socket.AF_UNIX
        and struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)))[0]
    ):
        time.sleep(0)


def exchange(connection: socket.socket, exchanges: Sequence[tuple[bytes, bytes]], cuts: Sequence[int] = ()) -> None:
    """Send requests, cut into pieces, and fail where what comes back is not all that should, or more."""
    sent, expected = (b"".join(each) for each in zip(*exchanges, strict=True))
    bounds = sorted({0, len(sent), *(cut % len(sent) for cut in cuts)})

    def send() -> None:
        for start, end in itertools.pairwise(bounds):
            connection.sendall(sent[start:end])
            wait_until_read(connection)
        connection.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    got = read_all(connection)
    sender.join(PATIENCE)
    assert got == expected


one = st.one_of(
    st.sampled_from(["", "x", 5000 * "x"]).map(get),
    st.sampled_from([0, 1, 64, 4096, 4097, 70_000, 262_000, 300_000]).map(post),
    st.lists(st.sampled_from([1, 64, 4097, 70_000, 300_000]), max_size=3).map(lambda sizes: chunks(*sizes)),
)


def test_mixtures(http_server: running.Server) -> None:
    @given(st.lists(one, min_size=1, max_size=8), st.lists(st.integers(0, 1 << 20), max_size=8))
    @examples(60)
    def mixed(exchanges: Sequence[tuple[bytes, bytes]], cuts: Sequence[int]) -> None:
        with connect(http_server) as connection:
            exchange(connection, exchanges, cuts)
        with connect(http_server) as connection:
            exchange(connection, exchanges)

    mixed()


SMALL = [get("x"), post(64), chunks(64), post(0), chunks(), chunks(1, 33), post(64), post(1), get("")]


def test_a_small_mixture_byte_by_byte(http_server: running.Server) -> None:
    with connect(http_server) as connection:
        exchange(connection, SMALL, range(100_000))


def test_a_thousand_pipelined(http_server: running.Server) -> None:
    with connect(http_server) as connection:
        exchange(connection, SMALL * 120)


@pytest.mark.parametrize("piece", [b"", b"0"])
def test_old_bytes_behind_a_head_are_no_chunk(http_server: running.Server, piece: bytes) -> None:
    """A zero that another request has left in the buffer, or the first half of the last chunk, ends no content."""
    zeros = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500\r\n\r\n" + 500 * b"0"
    request, answer = chunks() if piece else chunks(64)
    cut = request.index(b"\r\n\r\n") + 4 + len(piece)
    with connect(http_server) as before, connect(http_server) as connection:
        before.sendall(zeros)
        assert read_exactly(before, len(echo(500 * b"0"))) == echo(500 * b"0")
        connection.sendall(request[:cut])
        wait_until_read(connection)
        before.sendall(zeros)  # answered, so the server has read what was sent before
        assert read_exactly(before, len(echo(500 * b"0"))) == echo(500 * b"0")
        connection.sendall(request[cut:])
        assert read_exactly(connection, len(answer)) == answer
        request, answer = post(64)
        connection.sendall(request)
        assert read_exactly(connection, len(answer)) == answer


# --- more than the kernel takes ---------------------------------------------------------------------------------------


MUCH = 8 << 20


def exchange_late(connection: socket.socket, sent: bytes, expected: bytes) -> None:
    """Read nothing before nothing more can be sent; fail where what comes back is not what should."""
    sender = threading.Thread(target=connection.sendall, args=(sent,), daemon=True)
    sender.start()

    def stuck() -> bool:
        return not sender.is_alive() or not select.select([], [connection], [], 0)[1]

    wait_for(stuck, "the server to read no more")
    got = read_exactly(connection, len(expected))
    sender.join(PATIENCE)
    connection.shutdown(socket.SHUT_WR)
    assert got + read_all(connection) == expected


@pytest.mark.parametrize("size", [64, 5000, 300_000, MUCH])
def test_a_client_that_does_not_read_at_once(http_server: running.Server, size: int) -> None:
    """Answers wait in their order, whole."""
    request, answer = post(size)
    number = max(1, MUCH // len(request))
    with connect(http_server) as connection:
        exchange_late(connection, number * request, number * answer)


def test_raw_echo(servers: dict[str, running.Server]) -> None:
    for size in (1, 64, 4096, 262_144, 262_145, 1 << 20):
        with connect(servers["tcp"]) as connection, sending(connection, pattern(size), fin=True):
            assert read_all(connection) == pattern(size)


def test_raw_echo_to_a_client_that_does_not_read_at_once(servers: dict[str, running.Server]) -> None:
    with connect(servers["tcp"]) as connection:
        exchange_late(connection, pattern(3 * MUCH), pattern(3 * MUCH))


@pytest.mark.parametrize("load", of("tcp"), ids=lambda each: each.name)
def test_what_the_bench_sends_comes_back(servers: dict[str, running.Server], load: Load) -> None:
    clients.check(load, servers["tcp"])


# --- WebSocket --------------------------------------------------------------------------------------------------------


WELCOME = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
    + loads.ACCEPT + b"\r\n\r\n"
)  # fmt: skip
HANDSHAKE = (loads.HANDSHAKE, WELCOME)


def framed(size: int) -> tuple[bytes, bytes]:
    """A message, and its echo."""
    sent, content = loads.frame(pattern(size)), pattern(size)
    head = sent[: -size - 4] if size else sent[:-4]
    return sent, bytes([head[0], head[1] & 0x7F]) + head[2:] + content


def test_websocket_mixtures(servers: dict[str, running.Server]) -> None:
    sizes = st.sampled_from([0, 1, 2, 3, 5, 64, 125, 126, 127, 4096, 65535, 65536, 262_000, 300_001])

    @given(st.lists(sizes.map(framed), min_size=1, max_size=8), st.lists(st.integers(0, 1 << 20), max_size=8))
    @examples(60)
    def mixed(exchanges: Sequence[tuple[bytes, bytes]], cuts: Sequence[int]) -> None:
        with connect(servers["ws"]) as connection:
            exchange(connection, [HANDSHAKE, *exchanges], cuts)
        with connect(servers["ws"]) as connection:
            exchange(connection, [HANDSHAKE, *exchanges])

    mixed()


def test_small_messages_byte_by_byte(servers: dict[str, running.Server]) -> None:
    with connect(servers["ws"]) as connection:
        exchange(connection, [HANDSHAKE, *map(framed, (64, 0, 1, 3, 126, 5, 0, 200))], range(100_000))


@pytest.mark.parametrize("size", [64, 5000, 300_000, MUCH])
def test_a_websocket_client_that_does_not_read_at_once(servers: dict[str, running.Server], size: int) -> None:
    request, answer = framed(size)
    number = max(1, MUCH // len(request))
    with connect(servers["ws"]) as connection:
        exchange_late(connection, loads.HANDSHAKE + number * request, WELCOME + number * answer)


@pytest.mark.parametrize("load", of("ws"), ids=lambda each: each.name)
def test_what_the_bench_sends_comes_back_over_websocket(servers: dict[str, running.Server], load: Load) -> None:
    clients.check(load, servers["ws"])


def test_one_that_resets_its_connection_leaves_the_others_alone(http_server: running.Server) -> None:
    request, answer = post(64)
    with connect(http_server) as staying:
        for sent in (b"", b"POST", request, post(MUCH)[0][:MUCH]):
            with connect(http_server) as leaving:
                leaving.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                leaving.sendall(sent)
            staying.sendall(request)
            assert read_exactly(staying, len(answer)) == answer


# --- UDP --------------------------------------------------------------------------------------------------------------


def test_datagrams(limit_server: str, tmp_path: Path) -> None:
    """Each goes back whole to whom it came from, also an empty one and the longest."""
    where = running.free_port(udp=True)
    words = [limit_server, where, "udp"]
    with running.Server("limit", words, where, os.sched_getaffinity(0), tmp_path, udp=True) as server:
        for load in of("udp"):
            assert clients.check(load, server) == clients.Same(load.content or 0)
        with connect(server) as one, connect(server) as other:
            for size in (64, 0, 1, 1400, 65_507, 64):
                one.send(pattern(size))
                other.send(pattern(size)[::-1])
                assert one.recv(1 << 16) == pattern(size)
                assert other.recv(1 << 16) == pattern(size)[::-1]
        with socket.socket(type=socket.SOCK_DGRAM) as taken:
            taken.bind(("127.0.0.1", 0))
            done = subprocess.run(
                [limit_server, str(taken.getsockname()[1]), "udp"], capture_output=True, text=True, check=False,
                timeout=PATIENCE,
            )  # fmt: skip
        assert (done.returncode, done.stderr) == (3, "limit: Address already in use\n")


# --- its start --------------------------------------------------------------------------------------------------------


def test_it_says_why_it_does_not_start(limit_server: str, tmp_path: Path) -> None:
    def start(*words: str) -> tuple[int, str]:
        done = subprocess.run([limit_server, *words], capture_output=True, text=True, check=False, timeout=PATIENCE)
        assert done.stdout == ""
        return done.returncode, done.stderr

    usage = (2, "usage: limit PORT|PATH tcp|http|ws, or PORT udp\n")
    assert start() == start("1") == start("1", "http", "x") == start(f"{tmp_path}/s", "udp") == usage
    assert start(f"{tmp_path}/no/s", "tcp") == (3, "limit: No such file or directory\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert start(str(taken.getsockname()[1]), "http") == (3, "limit: Address already in use\n")
