"""A turn of the loop: what one connection may do in it is bounded, and the rest is done later, in order.

TURN_SECONDS is 0 here: a connection is stopped wherever it looks at the clock. What is done between two looks is what
these tests count.

Modules: transport.connection, transport.context, transport.stream.
"""

import asyncio

import pytest

from echoserver.config import options as config
from echoserver.observe import counters, metrics
from echoserver.transport.connection import Connection
from echoserver.transport.stream import BACKLOG, DEMAND, PACE, TURN
from echoserver.worker.shared import Shared
from echoserver.worker.worker import Worker
from tests.servers import request
from tests.unit.transport import FakeTransport, http_echo
from tests.websockets import BINARY, echo, frame, upgrade

GET = request("GET / HTTP/1.1")
LAST = request("GET /last HTTP/1.1")
READ = 256 << 10
CHUNKED = request("POST / HTTP/1.1", "Transfer-Encoding: chunked")


@pytest.fixture(autouse=True)
def no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("protocols.http1.connection", "protocols.websocket.connection", "layers.tls"):
        monkeypatch.setattr(f"echoserver.{module}.TURN_SECONDS", 0.0)


def make(loop: asyncio.AbstractEventLoop, **texts: str) -> Worker:
    shared = Shared(counters.SharedCounters(1), exposition=metrics.Exposition({}))
    return Worker(config.parse(texts), loop, shared=shared)


def current(client: FakeTransport) -> Connection:
    return client._current


def paths(count: int) -> bytes:
    return b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in range(count))


ATTACKS = {
    "the same request": (GET * (READ // len(GET)), READ // len(GET)),
    "other paths": (paths(7000), 7000),
    "POSTs of 64 B": (request("POST / HTTP/1.1", "Content-Length: 64", content=bytes(64)) * 2000, 2000),
    "HEAD": (request("HEAD / HTTP/1.1") * 6000, 6000),
    "/.echo": (request("GET /.echo HTTP/1.1") * 5000, 5000),
    "/metrics": (request("GET /metrics HTTP/1.1") * 300, 300),
    "answers on demand": (request("GET /?status=404 HTTP/1.1") * 5000, 5000),
    "descriptions": (request("GET /?echo=json HTTP/1.1") * 1000, 1000),
    "chunks of one byte": (CHUNKED + b"1\r\nx\r\n" * 40_000 + b"0\r\n\r\n", 1),
    "chunks with extensions": (CHUNKED + b"1;a=b\r\nx\r\n" * 20_000 + b"0\r\n\r\n", 1),
    "chunks that are answered on demand": (
        request("POST /?status=201 HTTP/1.1", "Transfer-Encoding: chunked") + b"1\r\nx\r\n" * 40_000 + b"0\r\n\r\n", 1,
    ),
    "chunked content of many requests": ((CHUNKED + b"1\r\nx\r\n1\r\ny\r\n0\r\n\r\n") * 3000, 3000),
}  # fmt: skip


@pytest.mark.parametrize(("sent", "answers"), ATTACKS.values(), ids=ATTACKS)
def test_turns_what_was_read_at_once_is_answered_in_many(
    loop: asyncio.AbstractEventLoop, sent: bytes, answers: int
) -> None:
    with FakeTransport(http_echo(make(loop))) as client:
        rest, turns = client.feed(sent + LAST, turns=False), 0
        assert not client.reading
        assert not client.sent.endswith(LAST)
        while rest or not client.reading:
            rest = client.feed(rest, turns=False)
            before = len(client.sent)
            client.pass_turn()
            turns += 1
            assert len(client.sent) - before < 1 << 20
        assert turns > 10
        assert client.sent.count(b"HTTP/1.1 ") == answers + 1
        assert client.sent.endswith(LAST)
        assert current(client).buffered == 0


def test_turns_empty_lines_take_no_time(loop: asyncio.AbstractEventLoop) -> None:
    """RFC 9112 section 2.2. However many they are, also with half of one before them."""
    with FakeTransport(http_echo(make(loop))) as client:
        for lines in (b"\r\n" * (READ // 2), b"\r", b"\n" + b"\r\n" * (READ // 2 - 1) + b"\r", b"\n" + LAST):
            assert client.feed(lines) == b""
        assert client.sent.endswith(LAST)


def test_turns_a_client_that_reads_nothing_is_answered_up_to_the_limit(loop: asyncio.AbstractEventLoop) -> None:
    """The page is a thousand times as long as its request: what waits is bounded all the same."""
    worker = make(loop, buffer_limit="1MiB")
    with FakeTransport(http_echo(worker), room=0) as client:
        rest = client.feed(request("GET /.echo HTTP/1.1") * 8000)
        assert current(client).stopped == BACKLOG
        assert worker.context.used < (1 << 20) + 2 * READ
        while rest or not client.reading:
            client.take(4 << 20)
            rest = client.feed(rest)
        client.take(256 << 20)
        assert client.sent.count(b"HTTP/1.1 200") == 8000


@pytest.mark.parametrize("whole", [True, False])
def test_turns_the_fin_is_heeded_when_all_before_it_is_answered(loop: asyncio.AbstractEventLoop, whole: bool) -> None:
    """It may come while a request waits for its answer; what is behind that one is then read, but not answered."""
    with FakeTransport(http_echo(make(loop))) as client:
        client.feed(request("GET /?delay=1ms HTTP/1.1") + paths(500) + (b"" if whole else b"GET / HT"))
        client.eof()
        assert not client.closing
        while client.open:
            client.pass_turn()
        assert client.sent.count(b"HTTP/1.1 200") == 501
        assert client.sent.count(b"HTTP/1.1 400") == (0 if whole else 1)


def test_turns_what_is_held_is_the_beginning_of_a_head_and_no_empty_lines(loop: asyncio.AbstractEventLoop) -> None:
    worker = make(loop)
    with FakeTransport(http_echo(worker)) as client:
        client.feed(b"\r")
        for _ in range(5):
            client.feed(b"\n" + b"\r\n" * 50_000 + b"\r")
        assert current(client).buffered == worker.context.used == 1
        client.feed(b"\nGET / H")
        assert worker.context.used == 7


BUSY = {
    "members of Connection": (request("GET / HTTP/1.1", "Connection: " + "a," * 100), 400),
    "members of Upgrade": (request("GET / HTTP/1.1", "Connection: upgrade", "Upgrade: " + "a," * 100), 400),
    "members of Accept": (request("GET / HTTP/1.1", "Accept: " + "a/b," * 10_000 + "application/json"), 200),
    "subprotocols": (upgrade("Sec-WebSocket-Protocol: " + "a," * 101 + "b"), 400),
    "parameters of extensions": (upgrade("Sec-WebSocket-Extensions: a" + ";b" * 101), 400),
    "parameters of a query": (request("GET /?" + "a&" * 1000 + "status=404 HTTP/1.1"), 200),
    "a control over and over": (request("GET /?" + "status=404&" * 1000 + " HTTP/1.1"), 200),
}


@pytest.mark.parametrize(("sent", "status"), BUSY.values(), ids=BUSY)
def test_turns_a_header_section_is_bounded_in_what_there_is_to_do(
    loop: asyncio.AbstractEventLoop, sent: bytes, status: int
) -> None:
    """Of 64 KiB of members each takes up to 4 us: no turn of the loop is long enough for them."""
    with FakeTransport(http_echo(make(loop))) as client:
        client.feed(sent)
        assert client.sent.startswith(b"HTTP/1.1 %d " % status)


def test_turns_an_upgrade_takes_over_the_fin_that_came_while_it_waited(loop: asyncio.AbstractEventLoop) -> None:
    with FakeTransport(http_echo(make(loop))) as client:
        client.feed(request("GET /?delay=1ms HTTP/1.1") + upgrade() + frame(BINARY, b"hello"))
        client.eof()
        while client.open:
            client.pass_turn()
        assert client.sent.endswith(echo(BINARY, b"hello"))


# --- the gate: several reasons not to read ---


def test_the_gate_opens_when_no_reason_is_left(loop: asyncio.AbstractEventLoop) -> None:
    """FakeTransport fails where reading is stopped or started twice."""
    with FakeTransport(http_echo(make(loop))) as client:
        connection = current(client)
        for why in (BACKLOG, TURN, DEMAND, PACE, TURN):
            connection.stop_reading(why)
            assert not client.reading
        for why in (TURN, DEMAND, BACKLOG, BACKLOG):
            connection.go_on_reading(why)
            assert not client.reading
        connection.go_on_reading(PACE)
        assert client.reading
        connection.go_on_reading(PACE)
        assert client.reading


def test_buffer_total__content_for_an_answer_on_demand_is_read_on(loop: asyncio.AbstractEventLoop) -> None:
    """What tips the worker over half of the total is answered as it comes, and nobody else has to make room."""
    worker = make(loop, buffer_total="1MiB", buffer_limit="1MiB")
    content = bytes(range(256)) * 3000
    with FakeTransport(http_echo(worker)) as client:
        rest = client.feed(request("POST /?delay=1ms HTTP/1.1", f"Content-Length: {len(content)}", content=content))
        while rest or not client.sent.endswith(content[-256:]):
            client.pass_turn()
            rest = client.feed(rest)
        assert client.sent.partition(b"\r\n\r\n")[2] == content
        assert client.reading
    assert worker.context.used == 0


@pytest.mark.parametrize("target", ["/", "/?delay=10s", "/?echo=json"])
def test_408_gives_back_what_was_held(loop: asyncio.AbstractEventLoop, target: str) -> None:
    worker = make(loop, idle_timeout="1s")
    with FakeTransport(http_echo(worker)) as client:
        client.feed(request(f"POST {target} HTTP/1.1", "Content-Length: 1000000", content=bytes(900_000)))
        current(client).sweep(worker.context.now + 2)
        assert client.sent.startswith(b"HTTP/1.1 408 ")
        assert current(client).buffered == 0
        assert worker.context.used == 0
