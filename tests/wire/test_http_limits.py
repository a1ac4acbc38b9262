"""Deadlines, limits and memory, as real clients run into them.

Modules: transport.buffers, transport.connection, transport.context.
"""

import contextlib
import os
import pathlib
import re
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping

import pytest

from tests.servers import (
    PATIENCE,
    HttpClient,
    Server,
    chunks,
    let_read,
    read_all,
    read_exactly,
    request,
    sending,
    wait_for,
)

KIB, MIB = 1 << 10, 1 << 20
LOOPS = ["uvloop", "asyncio"]
GET = request("GET / HTTP/1.1")

on_each_loop = pytest.mark.parametrize("loop", LOOPS)


def each_on_a_loop(cases: Mapping[str, object], on_both: str) -> list[object]:
    """Parameters: all cases on uvloop, by default only one of them on asyncio too."""
    return [
        pytest.param(loop, case, id=f"{name}-{loop}", marks=[pytest.mark.slow] if seldom else [])
        for name, case in cases.items()
        for loop in LOOPS
        for seldom in [loop == "asyncio" and name != on_both]
    ]


def post(size: int, content: bytes = b"", *fields: str) -> bytes:
    return request("POST / HTTP/1.1", f"Content-Length: {size}", *fields, content=content)


def assert_refused(client: HttpClient, status: int) -> None:
    answer = client.answer()
    assert (answer.status, answer["connection"]) == (status, "close")
    assert answer.content.startswith(b"%d " % status)
    assert answer.content.count(b"\n") == 1
    assert client.rest() == b""


def assert_echo(client: HttpClient, sent: bytes, content: bytes) -> None:
    with sending(client.socket, sent):
        answer = client.answer()
    assert answer.status == 200
    assert answer.content == content


@contextlib.contextmanager
def connections(server: Server, count: int) -> Iterator[list[socket.socket]]:
    """Many clients. Their buffers are the kernel's affair: small ones make TCP back off for seconds."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(server.connect()) for _ in range(count)]


def connect_to(path: pathlib.Path) -> socket.socket:
    """A client on a unix socket."""
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(PATIENCE)
    client.connect(str(path))
    return client


def sockets_open(server: Server) -> int:
    """How many connections and listeners the server's process has."""
    folder = f"/proc/{server.process.pid}/fd"
    found = 0
    for name in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):
            found += os.readlink(f"{folder}/{name}").startswith("socket:")
    return found


# --- limits ---


@pytest.fixture(scope="module")
def small() -> Iterator[Server]:
    with Server("--max-header", "1KiB", "--max-body", "1000") as running:
        yield running


@pytest.mark.covers("--max-header", "--max-body")
@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (request(f"GET /{'x' * 1100} HTTP/1.1"), 414),
        (request(f"GET /{'x' * 1011} HTTP/1.1", "Host: a"), 414),
        (request(f"GET /{'x' * 998} HTTP/1.1", "Host: a"), 431),
        (request("GET / HTTP/1.1", f"X: {'x' * 1100}"), 431),
        (request("GET / HTTP/1.1", f"X: {'x' * (1024 - 31)}"), 431),
        (request("GET / HTTP/1.1", *(f"X{number}: y" for number in range(200))), 431),
        (post(1001, bytes(1001)), 413),
        (post(1001), 413),
        (post(10**12), 413),
        (post(1001, b"", "Expect: 100-continue"), 413),
        (request("POST / HTTP/1.1", "Transfer-Encoding: chunked", content=chunks(bytes(1001), b"")), 413),
        (request("POST / HTTP/1.1", "Transfer-Encoding: chunked", content=chunks(bytes(600), bytes(401), b"")), 413),
    ],
)
@pytest.mark.parametrize("behind", [b"", GET, bytes(MIB)], ids=["nothing", "a request", "1 MiB"])
def test_beyond_a_limit(small: Server, sent: bytes, status: int, behind: bytes) -> None:
    with HttpClient(small.connect()) as client:
        client.send(GET + sent)
        client.send(behind)
        assert client.answer().content == GET
        assert_refused(client, status)


@pytest.mark.covers("--max-header", "--max-body")
@pytest.mark.parametrize("piece", [0, 100])
def test_at_a_limit(small: Server, piece: int) -> None:
    with HttpClient(small.connect()) as client:
        for head in (request("GET / HTTP/1.1", f"X: {'x' * (1024 - 32)}"), request(f"GET /{'x' * 997} HTTP/1.1")):
            assert len(head) == 1024
            assert client.ask(head, piece).content == head
        content = os.urandom(1000)
        assert client.ask(post(1000, content), piece).content == content
        chunked = request("POST / HTTP/1.1", "Transfer-Encoding: chunked")
        assert client.ask(chunked + chunks(content[:500], content[500:], b""), piece).content == content


def test_max_body__too_many_chunks_after_an_echo_has_begun(small: Server) -> None:
    """The status is gone by then: the last chunk is missing."""
    with HttpClient(small.connect()) as client:
        client.send(request("POST / HTTP/1.1", "Transfer-Encoding: chunked", content=chunks(bytes(600))))
        assert client.file.readline() == b"HTTP/1.1 200 OK\r\n"
        client.send(chunks(bytes(600), b"") + bytes(MIB))
        received = client.rest()
        assert received.endswith(chunks(bytes(600)))
        assert not received.endswith(chunks(b""))


@on_each_loop
def test_max_connections__those_beyond_are_told_so(loop: str) -> None:
    with Server("--loop", loop, "--max-connections", "3") as server, connections(server, 3) as clients:
        for connected in clients:
            connected.sendall(GET)
            assert connected.recv(12) == b"HTTP/1.1 200"
        for sent in (b"", GET, post(MIB, bytes(MIB))):
            with HttpClient(server.connect()) as one_more, sending(one_more.socket, sent):
                assert_refused(one_more, 503)
        for connected in clients:
            connected.sendall(GET)  # those that are there are served as before
        clients[0].close()

        def served() -> bool:
            with HttpClient(server.connect()) as again:
                return again.answer().status == 200 if select.select([again.socket], [], [], 0.2)[0] else asks(again)

        def asks(again: HttpClient) -> bool:
            return again.ask(GET).status == 200

        wait_for(served, "a place for another connection")


def test_an_error_survives_a_client_that_goes_on_for_a_while(server: Server) -> None:
    """It sends all the time until it has the answer: what it sends is read and dropped, and causes no reset."""
    stop = threading.Event()
    with HttpClient(server.connect()) as client:

        def send() -> None:
            client.send(b"?\r\n\r\n")
            while not stop.wait(0.001):
                client.send(bytes(10_000))
            client.fin()

        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        answer = client.answer()
        stop.set()
        sender.join(PATIENCE)
        assert not sender.is_alive()
        assert answer.status == 400
        assert client.rest() == b""


def test_an_error_survives_whenever_it_is_sent(server: Server) -> None:
    """The server sweeps once a second: clients that are refused at any time of it may go on for a good while."""
    with contextlib.ExitStack() as stack:
        clients: list[tuple[float, HttpClient]] = []
        begun = time.monotonic()
        while time.monotonic() - begun < 1.7:
            if time.monotonic() - begun < 1.2:
                client = stack.enter_context(HttpClient(server.connect()))
                client.send(b"?\r\n\r\n")
                clients.append((time.monotonic(), client))
            for since, client in clients:
                if time.monotonic() - since < 0.5:
                    client.send(b"more")
            time.sleep(0.02)
        for _, client in clients:
            client.fin()
            assert client.answer().status == 400
            assert client.rest() == b""


def test_a_client_that_never_ends_is_closed_after_a_while(server: Server) -> None:
    """The close lingers, but not for ever."""
    with HttpClient(server.connect()) as client:
        client.send(b"?\r\n\r\n")
        assert client.answer().status == 400

        def closed() -> bool:
            try:
                client.send(b"x")
            except ConnectionError:
                return True
            return False

        wait_for(closed, "the end of the connection")


# --- deadlines ---


def drip(client: HttpClient, data: bytes, pause: float = 0.05) -> None:
    """Send byte by byte, slowly, until something is answered."""
    for position in range(len(data)):
        client.socket.sendall(data[position : position + 1])
        if select.select([client.socket], [], [], pause)[0]:
            return
    raise AssertionError("all of it was sent, and nothing answered")


@on_each_loop
def test_header_timeout__a_section_that_does_not_come_gets_408(loop: str) -> None:
    slow = request("GET / HTTP/1.1", f"X: {'x' * 1000}")
    with Server("--loop", loop, "--header-timeout", "1s") as server, contextlib.ExitStack() as stack:
        silent, incomplete, second, dripping = (stack.enter_context(HttpClient(server.connect())) for _ in range(4))
        incomplete.send(GET[:-1])
        assert second.ask(post(5, b"hello") + GET[:7]).content == b"hello"
        drip(dripping, slow)
        for client in (incomplete, second, dripping):
            assert_refused(client, 408)
        assert silent.rest() == b""  # nothing was asked: nothing to answer
        with HttpClient(server.connect()) as client:
            assert client.ask(GET).status == 200
            drip(client, slow)  # the time begins anew with each request
            assert_refused(client, 408)


@pytest.mark.parametrize("empty_lines", [b"\r\n", b"\r", b"\r\n\r\n\r\n"], ids=repr)
def test_empty_lines_are_no_request(empty_lines: bytes) -> None:
    """A client that has sent nothing else is still one that owes its header section."""
    with Server("--header-timeout", "300ms") as server, HttpClient(server.connect()) as client:
        client.send(empty_lines)
        received = client.rest()
        assert not received or received.startswith(b"HTTP/1.1 408 ")


@on_each_loop
def test_header_timeout__is_for_the_header_section_only(loop: str) -> None:
    """A connection between two requests and content that takes its time have other deadlines."""
    with (
        Server("--loop", loop, "--header-timeout", "1s", "--keep-alive-timeout", "off") as server,
        HttpClient(server.connect()) as idle,
        HttpClient(server.connect()) as uploads,
        HttpClient(server.connect()) as chunked,
    ):
        assert idle.ask(GET).status == 200
        uploads.send(post(60))
        chunked.send(request("POST / HTTP/1.1", "Transfer-Encoding: chunked"))
        for number in range(60):
            uploads.send(b"x")
            chunked.send(chunks(b"%d" % number))
            time.sleep(0.03)
        chunked.send(chunks(b""))
        assert uploads.answer().content == b"x" * 60
        assert chunked.answer().content == b"".join(b"%d" % number for number in range(60))
        for client in (idle, uploads, chunked):
            assert client.ask(GET).content == GET


@on_each_loop
def test_keep_alive_timeout__an_idle_connection_is_closed(loop: str) -> None:
    """Whatever the last request was."""
    asked = [GET, post(5, b"hello"), post(300_000, bytes(300_000)), post(0) + b"\r\n", post(20 * MIB, bytes(20 * MIB))]
    options = ("--loop", loop, "--header-timeout", "off", "--keep-alive-timeout", "500ms")
    with Server(*options) as server, contextlib.ExitStack() as stack:
        clients = []
        for each in asked:
            client = stack.enter_context(HttpClient(server.connect()))
            for _ in range(2):
                with sending(client.socket, each):
                    assert client.answer().status == 200
            clients.append((time.monotonic(), client))
        for since, client in reversed(clients):
            assert client.rest() == b""
            assert time.monotonic() - since > 0.3  # not before its time: a sweep's length less at most


def test_keep_alive_timeout__a_connection_in_use_has_none() -> None:
    with (
        Server("--keep-alive-timeout", "1s") as server,
        HttpClient(server.connect()) as gets,
        HttpClient(server.connect()) as posts,
    ):
        for _ in range(30):
            assert gets.ask(GET).status == 200
            assert posts.ask(post(300_000, bytes(300_000))).status == 200
            time.sleep(0.05)


STALLED = {
    "nothing of it": post(100),
    "some of it": post(100, bytes(10)),
    "some of much": post(10 * MIB, bytes(MIB)),
    "chunks, nothing of them": request("POST / HTTP/1.1", "Transfer-Encoding: chunked"),
    "a chunk's beginning": request("POST / HTTP/1.1", "Transfer-Encoding: chunked", content=b"5"),
}


@on_each_loop
def test_idle_timeout__of_stalled_content(loop: str) -> None:
    with Server("--loop", loop, "--idle-timeout", "1s") as server, contextlib.ExitStack() as stack:
        clients = {name: stack.enter_context(HttpClient(server.connect())) for name in STALLED}
        for name, client in clients.items():
            client.send(STALLED[name])
        for client in clients.values():
            assert_refused(client, 408)


@on_each_loop
def test_idle_timeout__of_content_that_is_echoed_already(loop: str) -> None:
    """The status is gone: the echo ends before its time."""
    relayed = post(20 * MIB, bytes(MIB))
    chunked = request("POST / HTTP/1.1", "Transfer-Encoding: chunked", content=chunks(bytes(100)))
    with Server("--loop", loop, "--idle-timeout", "1s") as server, connections(server, 2) as clients:
        for client, sent in zip(clients, (relayed, chunked), strict=True):
            client.sendall(sent)
        for client in clients:
            received = bytearray()
            with contextlib.suppress(ConnectionResetError):
                while part := client.recv(MIB):
                    received += part
            assert received.startswith(b"HTTP/1.1 200 OK\r\n")
            assert len(received) < 2 * MIB
            assert not received.endswith(b"0\r\n\r\n")


@on_each_loop
def test_idle_timeout__of_a_stalled_reader(loop: str) -> None:
    """What the kernel has taken still comes, the rest is lost."""
    with Server("--loop", loop, "--idle-timeout", "1s") as server, HttpClient(server.connect()) as client:
        assert client.ask(GET).status == 200
        connected = sockets_open(server)
        size = 12 * MIB
        client.send(post(size, bytes(size)))
        wait_for(lambda: sockets_open(server) < connected, "the server to cut a client that does not read")
        received = 0
        with contextlib.suppress(ConnectionResetError):
            while part := client.socket.recv(MIB):
                received += len(part)
        assert received < size


@on_each_loop
def test_idle_timeout__lets_go_on_what_goes_on(loop: str) -> None:
    """Slow senders and slow readers, for much longer than the timeout."""
    with (
        Server("--loop", loop, "--idle-timeout", "1s") as server,
        HttpClient(server.connect()) as sender,
        connections(server, 1) as (reader,),
    ):
        size = 12 * MIB
        reader.sendall(post(size, bytes(size)))
        sender.send(post(25))
        received = 0
        for _ in range(25):
            sender.send(b"x")
            received += len(read_exactly(reader, 256 * KIB))
            time.sleep(0.1)  # a busy machine may make it longer, by less than the timeout
        assert sender.answer().content == b"x" * 25
        read_exactly(reader, size - received)


# --- memory: clients that send and do not read ---


def exhaust(clients: list[socket.socket], block: bytes, most: int, turn: Callable[[], None]) -> list[int]:
    """Let each send a block over and over, up to so many bytes, and none read; returns how many each has sent.

    turn: returns when the server has had the time to read more. That it has not, twice, is the end.
    """
    sent, view, still = dict.fromkeys(clients, 0), memoryview(block), 0
    for client in clients:
        client.setblocking(False)
    while still < 2:
        ready = select.select([], [each for each in clients if sent[each] < most], [], 0.2)[1]
        for client in ready:
            start = sent[client] % len(block)
            with contextlib.suppress(BlockingIOError):
                sent[client] += client.send(view[start : start + 64 * KIB])
        still = 0 if ready else still + 1
        if not ready:
            turn()
    for client in clients:
        client.settimeout(PATIENCE)
    return [sent[client] for client in clients]


def without_heads(received: bytes) -> bytes:
    return re.sub(rb"HTTP/1\.1 200 OK\r\n(?:[^\r]+\r\n)+\r\n", b"", received)


PIPELINED = {
    "short GETs": GET,
    "content of 64 KiB": post(64 * KIB, b"\0" * 64 * KIB),
    "content of 1 MiB": post(MIB, b"\0" * MIB),
    "content of 20 MiB": post(20 * MIB, b"\0" * 20 * MIB),
    "chunks": request("POST / HTTP/1.1", "Transfer-Encoding: chunked", content=chunks(b"\0" * 100_000, b"")),
}


@pytest.mark.parametrize(("loop", "asked"), each_on_a_loop(PIPELINED, "content of 1 MiB"))
def test_buffer_limit__a_client_that_never_reads_is_bounded(loop: str, asked: bytes) -> None:
    """... by --buffer-limit and what is under way when it is reached; and gets everything once it reads."""
    with (
        Server("--loop", loop, "--buffer-limit", "4MiB") as server,
        connections(server, 1) as (client,),
    ):
        before = server.resident()
        block = asked * max(1, MIB // len(asked))
        (sent,) = exhaust([client], block, 1 << 40, lambda: let_read(server))
        grown = server.resident() - before
        rest = asked[sent % len(asked) :] if sent % len(asked) else b""
        with sending(client, rest, fin=True):
            received = read_all(client)
        count = (sent + len(rest)) // len(asked)
        assert received.count(b"HTTP/1.1 200 OK\r\n") == count
        echoed = without_heads(received)
        if asked.startswith(b"GET"):
            assert echoed == asked * count
        else:
            assert echoed.count(b"\0") == asked.count(b"\0") * count
        assert grown < (4 + 10) * MIB, f"{grown / MIB:.1f} MiB"


@on_each_loop
def test_content_that_is_claimed_and_not_sent_costs_nothing(loop: str) -> None:
    with Server("--loop", loop) as server, connections(server, 200) as clients:
        for client in clients:
            client.sendall(GET)
            assert client.recv(12) == b"HTTP/1.1 200"
        before = server.resident()
        for client in clients:
            client.sendall(post(16 * MIB, b"ten bytes!"))
        let_read(server)
        grown = server.resident() - before
        assert grown < 200 * 20 * KIB, f"{grown / MIB:.1f} MiB"


NEVER_READ = {
    "tcp": (bytes(KIB), 48 * MIB),
    "short GETs": (GET, 80 * MIB),
    "content of 64 KiB": (PIPELINED["content of 64 KiB"], 48 * MIB),
    "chunks": (PIPELINED["chunks"], 48 * MIB),
}
"""What each of many sends, and what the server may hold: --buffer-total and half as much again, for the allocator and
for what is under way when the total is reached. Of that there is more where answers are seven times as long as their
requests: 200 clients and 16 KiB, the least that is read at a time, make 24 MiB."""


@pytest.mark.parametrize(("loop", "what"), each_on_a_loop({each: each for each in NEVER_READ}, "content of 64 KiB"))
def test_buffer_total__others_are_still_served(loop: str, what: str, tmp_path: pathlib.Path) -> None:
    """200 clients that never read, and --buffer-total 32 MiB.

    They come over a unix socket, for which the kernel keeps little: over TCP it is some 5 MiB each, 1 GiB together.
    """
    tcp, http, (asked, allowed) = tmp_path / "tcp", tmp_path / "http", NEVER_READ[what]

    def turn() -> None:
        with HttpClient(connect_to(http)) as client:
            assert client.ask(GET).content == GET

    options = (
        "--loop",
        loop,
        "--buffer-total",
        "32MiB",
        "--header-timeout",
        "off",
        "--tcp",
        f"unix:{tcp}",
        "--http",
        f"unix:{http}",
    )
    with Server(*options) as server, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect_to(tcp if what == "tcp" else http)) for _ in range(200)]
        before = server.resident()
        block = asked * max(1, MIB // len(asked))
        sent = exhaust(clients, block, 2 * MIB, turn)
        grown = server.resident() - before
        with HttpClient(connect_to(http)) as client:
            half, content = os.urandom(400_000), os.urandom(400_000)
            client.send(post(800_000, half))
            assert client.file.readline() == b"HTTP/1.1 200 OK\r\n"  # before the rest is sent: it is relayed
            while client.file.readline() != b"\r\n":
                pass
            assert client.file.read(400_000) == half
            client.send(content)
            assert client.file.read(400_000) == content
            for size in (5, 100_000, MIB, 20 * MIB):
                content = os.urandom(size)
                assert_echo(client, post(size, content), content)
            assert_echo(client, GET, GET)
            assert_echo(client, GET * 2, GET)
            assert client.answer().content == GET
        with connect_to(tcp) as echoed:
            content = os.urandom(5 * MIB)
            with sending(echoed, content, fin=True):
                assert read_all(echoed) == content
        for connected, size in zip(clients, sent, strict=True):
            rest = asked[size % len(asked) :] if size % len(asked) else b""
            with sending(connected, rest, fin=True):
                received = read_all(connected)
            count = (size + len(rest)) // len(asked)
            if what == "tcp":
                assert received == asked * count
            else:
                assert received.count(b"HTTP/1.1 200 OK\r\n") == count
                marks = b"\0" if asked.startswith(b"POST") else b"GET / HTTP/1.1\r\n"
                assert received.count(marks) == asked.count(marks) * count
        with HttpClient(connect_to(http)) as client:  # and now content is received whole again
            for _ in range(2):
                client.send(post(800_000, half))
                turn()
                assert not select.select([client.socket], [], [], 0)[0]
                assert_echo(client, half, half + half)
        assert grown < allowed, f"{grown / MIB:.1f} MiB"


@on_each_loop
def test_buffer_total__content_that_waits_for_its_rest_counts_too(loop: str) -> None:
    """Half of it from many clients is more than --buffer-total: they are relayed, and none is refused."""
    options = ("--loop", loop, "--buffer-total", "32MiB", "--header-timeout", "off")
    with Server(*options) as server, connections(server, 60) as sockets:
        clients = [HttpClient(each) for each in sockets]
        before = server.resident()
        content = os.urandom(2 * MIB)
        for client in clients:
            client.send(post(len(content), content[:MIB]))
        let_read(server)
        grown = server.resident() - before
        for client in clients:
            with sending(client.socket, content[MIB:]):
                assert client.answer().content == content
            client.file.close()
        assert grown < 48 * MIB, f"{grown / MIB:.1f} MiB"


def never_reads(server: Server, client: socket.socket) -> None:
    exhaust([client], post(64 * MIB, bytes(MIB)), 64 * MIB, lambda: let_read(server))


def reads_slowly(server: Server, client: socket.socket) -> None:
    client.sendall(post(12 * MIB, bytes(12 * MIB)))
    read_exactly(client, 1000)


@pytest.mark.parametrize("slow", [never_reads, reads_slowly])
def test_a_slow_client_slows_nobody(server: Server, slow: Callable[[Server, socket.socket], None]) -> None:
    with connections(server, 3) as clients, HttpClient(server.connect()) as quick:
        for client in clients:
            slow(server, client)
        for _ in range(500):
            assert quick.ask(GET).status == 200
        content = os.urandom(5 * MIB)
        assert_echo(quick, post(len(content), content), content)
