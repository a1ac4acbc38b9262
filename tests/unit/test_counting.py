"""What is counted and what is logged, against what a transport in memory was given, however it came and went.

Modules: observe.counters, observe.access_log, protocols.tcp.echo, protocols.tcp.raw.
"""

import asyncio
import contextlib
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echoserver.config import options as config
from echoserver.observe.access_lines import Entry
from echoserver.observe.access_log import AccessLog
from echoserver.observe.counters import COUNTERS, SharedCounters, WorkerCounts
from echoserver.protocols.http1.connection import HttpConnection
from echoserver.transport.connection import Connection
from echoserver.wire.request import NO_REQUEST
from echoserver.worker.shared import Shared
from echoserver.worker.worker import Worker
from tests.unit.cutting import bytewise
from tests.unit.examples import examples
from tests.unit.requests import chunked, get, post, refused
from tests.unit.test_http_protocol import (
    ANSWERED,
    BAD_LINE,
    BEFORE,
    BEHIND,
    CLOSES,
    IN_CONTENT,
    IN_HEAD,
    LIMITS,
    REFUSED,
    STAYS_OPEN,
    VARIANTS,
    anything,
    cases,
    conversations,
)
from tests.unit.transport import FakeTransport, begin_drain, http_echo, sweep, tcp_echo

FINAL = re.compile(rb"HTTP/1\.1 ([2-5])\d\d [^\r]*\r\nServer: echoserver\r\nDate: ")
"""The beginning of a final response: no content here looks like one."""
COUNTED_ERRORS = next(counter.values for counter in COUNTERS if counter.name == "errors")
PEER = ("192.0.2.1", 4321)


class Client(FakeTransport):
    """Adds what was read of what was fed, and an address."""

    def __init__(self, protocol: Connection, room: int | None = None) -> None:
        self.connection = protocol
        super().__init__(protocol, room)

    @property
    def read(self) -> int:
        return sum(self.reads)

    def take_all(self) -> None:
        while self.get_write_buffer_size():
            self.take(1 << 20)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "peername":
            return None if self.lost else PEER  # as on uvloop (0.23.0) and asyncio: the kernel knows none any more
        return super().get_extra_info(name, default)


class Scraper:
    """Stands for what makes the page of metrics: keeps what it is given."""

    workers: list[WorkerCounts]

    def render(self, workers: list[WorkerCounts]) -> bytes:
        self.workers = workers
        return b""


def scrape(worker: Worker) -> WorkerCounts:
    """All counters, as a scrape brings them up to now."""
    worker._scrape_credit = 1.0  # however often we ask
    worker.site.page(b"/metrics")
    (found,) = cast(Scraper, worker._shared.exposition).workers
    return found


class Logged(NamedTuple):
    """An entry of the access log; head None for a connection."""

    head: bytes | None
    status: int
    received: int
    sent: int
    when: float = 0
    duration: float = 0
    protocol: str = "http"


class Log:
    """Stands for the access log: keeps each entry, checked for what all have in common."""

    written = dropped = 0

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._earliest = worker.context.loop.time()
        self.entries: list[Logged] = []

    def note(self, noted: Entry) -> None:
        """Check what holds of every entry, and keep it."""
        client, protocol, head, status, received, sent, when, duration = noted
        entry = Logged(head, status, received, sent, when, duration, protocol)
        assert client == PEER
        assert entry.duration >= 0
        worker = self._worker
        earliest, self._earliest = self._earliest, worker.context.loop.time()
        ended = entry.when + entry.duration - worker.context.time + worker.context.now  # by the loop's clock
        # not before the entry before; floats of this size are exact to a microsecond
        assert earliest - 1e-5 <= ended <= self._earliest + 1e-5, "it is over now"
        assert entry.duration < 60
        assert entry.received >= 0
        assert entry.sent >= 0
        self.entries.append(entry)

    @property
    def brief(self) -> list[tuple[bytes | None, int, int, int]]:
        return [each[:4] for each in self.entries]

    @property
    def figures(self) -> list[tuple[int, int, int]]:
        """Status, received, sent."""
        return [each[1:4] for each in self.entries]


Make = Callable[..., Worker]


def make_worker(loop: asyncio.AbstractEventLoop, *, scraped: bool = True, **options: str) -> Worker:
    """A worker whose counters are asked for; it has read the clock just now."""
    shared = Shared(SharedCounters(1), exposition=cast(Any, Scraper()) if scraped else None)
    return Worker(config.parse(LIMITS | options), loop, shared=shared)


def with_log(worker: Worker) -> Log:
    log = Log(worker)
    worker.context.log = cast(AccessLog, log)
    return log


@pytest.fixture
def worker(loop: asyncio.AbstractEventLoop) -> Worker:
    return make_worker(loop)


@pytest.fixture
def big(loop: asyncio.AbstractEventLoop) -> Worker:
    """A worker that takes long content, and gathers it."""
    return make_worker(loop, max_body="0", buffer_limit="1MiB")


@pytest.fixture
def logging(loop: asyncio.AbstractEventLoop) -> tuple[Worker, Log]:
    worker = make_worker(loop)
    return worker, with_log(worker)


def test_a_delayed_handshake_whose_client_has_gone_is_in_the_log(logging: tuple[Worker, Log]) -> None:
    worker, log = logging
    handshake = get(
        b"/?delay=1ms", b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    )  # fmt: skip
    with Client(http_echo(worker)) as client:
        client.feed(handshake)
        client.eof()
        while client.open:
            client.pass_turn()
    assert log.brief == [(handshake, 499, 0, 0)]


def check(worker: Worker, *clients: Client, protocol: str = "http") -> None:
    """The counters say what these clients, all that there were, sent and were sent; nothing waits and none was lost."""
    found = scrape(worker)
    assert found["received_bytes", protocol] == sum(client.read for client in clients)
    assert found["sent_bytes", protocol] == sum(len(client.sent) for client in clients)
    assert found["connections_opened", protocol] == len(clients)
    assert found["connections_closed", protocol] == sum(client.lost for client in clients)
    if protocol == "http":
        begun = [int(each) for client in clients for each in FINAL.findall(client.sent)]
        for status in (2, 4, 5):
            assert found["requests", f"{status}xx"] == begun.count(status)


def exchange(worker: Worker, *pieces: bytes, room: int | None = None, step: int = 1 << 20) -> None:
    """One connection, from beginning to end: the counters are right after each piece and at the end."""
    before = scrape(worker)
    with Client(http_echo(worker), room) as client:
        for piece in pieces:
            rest = client.feed(piece)
            while rest and client.open:
                client.take(step)
                rest = client.feed(rest)
            if room is None:
                counted(worker, before, client)
            else:
                client.take(step)
        client.take_all()
        counted(worker, before, client)
    counted(worker, before, client)


def under_way(client: Client) -> bool:
    """Whether a response has begun whose request has not all come: it is counted when it has."""
    connection = client.connection
    return isinstance(connection, HttpConnection) and connection.request is not NO_REQUEST and not client.lost


def counted(worker: Worker, before: WorkerCounts, client: Client) -> None:
    found = scrape(worker)

    def added(*key: str) -> int:
        return found[key] - before[key]  # type: ignore[index]  # a name and a value

    assert added("received_bytes", "http") == client.read
    assert added("sent_bytes", "http") == len(client.sent)
    assert added("connections_opened", "http") == 1
    assert added("connections_closed", "http") == client.lost
    if not under_way(client):
        begun = [int(each) for each in FINAL.findall(client.sent)]
        assert [added("requests", f"{status}xx") for status in (2, 4, 5)] == [begun.count(each) for each in (2, 4, 5)]


# --- the figures ---


def is_cut_short(request_bytes: bytes, expected: bytes) -> bool:
    """Whether an echo that has begun is refused in the middle: it is a response, and yet no request was answered."""
    return b"413" in expected and b"chunked" in request_bytes


@cases(ANSWERED, REFUSED)
def test_whole_behind_another_and_in_pieces(worker: Worker, request_bytes: bytes, expected: bytes) -> None:
    exchange(worker, request_bytes)
    exchange(worker, BEFORE * 3 + request_bytes)
    exchange(worker, BEFORE, BEFORE, request_bytes, BEHIND)
    exchange(worker, request_bytes + BEHIND)
    if not is_cut_short(request_bytes, expected):
        exchange(worker, *bytewise(request_bytes))
        exchange(worker, request_bytes[:-1], request_bytes[-1:])


@cases(STAYS_OPEN)
def test_again_and_again(worker: Worker, request_bytes: bytes, expected: bytes) -> None:
    exchange(worker, *[request_bytes] * 4)
    exchange(worker, *[request_bytes] * 4, BEHIND, BEHIND, request_bytes * 3, request_bytes, request_bytes)
    exchange(worker, request_bytes, request_bytes[:10], request_bytes[10:], request_bytes)


@pytest.mark.parametrize("room", [0, 1, 100, 500])
@cases(ANSWERED, REFUSED)
def test_a_client_that_reads_slowly(worker: Worker, request_bytes: bytes, expected: bytes, room: int) -> None:
    exchange(worker, request_bytes, request_bytes, request_bytes, BEHIND, room=room, step=29)


def test_requests_that_are_like_the_last_are_counted_before_anybody_looks(worker: Worker) -> None:
    with Client(http_echo(worker)) as client:
        for number in range(5):
            client.feed(post(b"hello"))
            assert scrape(worker)["requests", "2xx"] == number + 1
            check(worker, client)
        client.feed_each([post(b"hello")] * 100)
    check(worker, client)


def test_the_last_of_the_like_goes_to_a_kernel_that_does_not_take_it(worker: Worker) -> None:
    with Client(http_echo(worker), 1000) as client:
        while client.get_write_buffer_size() == 0:
            client.feed(post(b"hello"))
        client.feed_each([post(b"hello")] * 5)
        client.take_all()
        client.feed_each([post(b"hello")] * 5)
        client.take_all()
        check(worker, client)


@pytest.mark.parametrize("content", [b"hello", bytes(5000)], ids=["copied", "as it was read"])
def test_requests_that_are_alike(worker: Worker, content: bytes) -> None:
    requests = [post(content, b"X-Request-Id: %s" % (b"1" * (number % 7))) for number in range(40)]
    exchange(worker, *requests)
    exchange(worker, *requests, room=10_000, step=3000)


@pytest.mark.parametrize("first", [-20, 0, 1, 5000])
@pytest.mark.parametrize("room", [None, 0, 70_000])
@pytest.mark.parametrize("limit", ["64KiB", "1MiB"], ids=["relayed", "gathered"])
@pytest.mark.parametrize("size", [5000, 60_000, 70_000, 300_000, 600_000])
def test_large_content(loop: asyncio.AbstractEventLoop, size: int, limit: str, room: int | None, first: int) -> None:
    worker = make_worker(loop, max_body="0", buffer_limit=limit)
    request = post(bytes(size))
    cut = len(request) - size + first
    pieces = (request[:cut], request[cut:])
    exchange(worker, *pieces, *pieces, request, request, BEHIND, *pieces, request + BEHIND, room=room, step=100_000)


def test_large_content_that_was_not_all_read_when_its_client_went_away(big: Worker) -> None:
    for sent in (200_000, 299_999):
        for again in (False, True):
            big = make_worker(big.loop, max_body="0", buffer_limit="1MiB")
            with Client(http_echo(big)) as client:
                if again:
                    client.feed(post(bytes(300_000)))
                client.feed(post(bytes(300_000))[:sent])
                client.reset()
            check(big, client)


def test_a_worker_under_pressure(big: Worker) -> None:
    with Client(http_echo(big)) as client:
        client.feed(post(bytes(300_000))[:-100_000])
        big.context.under_pressure = True
        client.feed(bytes(50_000))
        check_running(big, client)
        big.context.under_pressure = False
        client.feed(bytes(50_000) + BEHIND)
        check(big, client)
        big.context.enter_pressure()
        client.feed_each([BEHIND] * 3)
        client.feed(post(bytes(300_000)))
        client.feed_each([post(b"hello")] * 3)
        check(big, client)
        big.context.give_back(0)
        client.feed_each([post(b"hello")] * 3)
        check(big, client)
    check(big, client)


def check_running(worker: Worker, *clients: Client) -> None:
    """The bytes alone: a response has begun whose request is counted when it has ended."""
    found = scrape(worker)
    assert found["received_bytes", "http"] == sum(client.read for client in clients)
    assert found["sent_bytes", "http"] == sum(len(client.sent) for client in clients)


def test_a_response_that_is_not_completed_is_no_request_answered(worker: Worker) -> None:
    with (
        Client(http_echo(worker)) as begun,
        Client(http_echo(worker)) as broken,
    ):
        begun.feed(chunked(b"hello", end=b""))
        begun.reset()
        broken.feed(chunked(b"hello", end=b""))
        broken.feed(b"no size\r\n")
        broken.eof()
        check_running(worker, begun, broken)
    found = scrape(worker)
    assert [found["requests", f"{status}xx"] for status in (2, 4, 5)] == [0, 0, 0]
    assert (found["errors", "reset"], found["errors", "bad_request"]) == (1, 1)


def test_a_drain_settles_what_came(worker: Worker) -> None:
    with (
        Client(http_echo(worker)) as client,
        Client(http_echo(worker)) as other,
    ):
        client.feed_each([post(b"hello")] * 5)
        other.feed_each([post(b"hello")] * 5)
        begin_drain(worker)
        client.feed(post(b"hello"))
        with Client(http_echo(worker)) as late:
            check(worker, client, other, late)
        assert client.ended
    check(worker, client, other, late)
    found = scrape(worker)
    assert found["errors", "draining"] == 1
    assert found["requests", "5xx"] == 1


@pytest.mark.parametrize(
    ("reason", "request_bytes"),
    [
        ("bad_request", b"hello\r\n\r\n"),
        ("content_too_long", REFUSED["too much content"][0]),
        ("content_too_long", REFUSED["too much chunked content"][0]),
        ("header_too_long", REFUSED["a long target"][0]),
        ("header_too_long", REFUSED["a long header section"][0]),
        ("expectation", REFUSED["an expectation"][0]),
        ("not_implemented", REFUSED["CONNECT"][0]),
        ("version", REFUSED["HTTP/2"][0]),
    ],
)
def test_errors_are_counted_by_reason(worker: Worker, reason: str, request_bytes: bytes) -> None:
    exchange(worker, BEFORE, request_bytes)
    found = scrape(worker)
    assert {each: found["errors", each] for each in COUNTED_ERRORS if found["errors", each]} == {reason: 1}


def test_too_many_connections_are_counted(worker: Worker) -> None:
    worker.context.max_connections, worker.context.refusals = 1, 1
    with (
        Client(http_echo(worker)) as first,
        Client(http_echo(worker)) as second,
        Client(http_echo(worker)) as third,
    ):
        check(worker, first, second, third)
    with Client(tcp_echo(worker)), Client(tcp_echo(worker)) as too_many:
        assert too_many.lost
    assert scrape(worker)["errors", "too_many_connections"] == 3
    assert scrape(worker)["connections_closed", "tcp"] == 2


def test_buffer_total__a_header_section_that_is_refused_is_counted(loop: asyncio.AbstractEventLoop) -> None:
    worker = make_worker(loop, max_header="64KiB")
    context = worker.context
    with Client(http_echo(worker)) as client:
        client.feed(b"GET / HTTP/1.1\r\nX: ")
        context.used += context.config.buffer_total
        client.feed(b"a" * 5000)
        context.used -= context.config.buffer_total
        assert client.sent.startswith(b"HTTP/1.1 503 ")
    assert scrape(worker)["errors", "too_much_memory"] == 1


def test_drain_timeout__who_is_cut_is_counted_and_who_has_its_last_answer_is_not(worker: Worker) -> None:
    with Client(http_echo(worker)) as client, Client(http_echo(worker)) as answered:
        client.feed(post(b"hello")[:-1])
        answered.feed(get(b"/", b"Connection: close"))
        assert answered.ended
        worker._cut_all()
        assert client.closing
        assert answered.closing
    assert scrape(worker)["timeouts", "drain"] == 1


def test_deadlines_are_counted(loop: asyncio.AbstractEventLoop) -> None:
    worker = make_worker(loop, idle_timeout="20s", keep_alive_timeout="50s")
    with contextlib.ExitStack() as stack:
        silent, begun, between, content = (stack.enter_context(Client(http_echo(worker))) for _ in range(4))
        taken, raw = (
            stack.enter_context(Client(http_echo(worker), 0)),
            stack.enter_context(Client(tcp_echo(worker))),
        )
        clients = silent, begun, between, content, taken, raw
        begun.feed(b"GET")
        between.feed(BEFORE)
        content.feed(post(b"hello")[:-1])
        taken.feed(BEFORE)
        for _ in range(6):
            sweep(worker, 10)
            for client in clients:
                client._settle()
        found = scrape(worker)
        assert {each: found["timeouts", each] for each in ("header", "keep_alive", "idle")} == {
            "header": 2, "keep_alive": 1, "idle": 3,
        }  # fmt: skip
        assert found["requests", "4xx"] == 2


def test_every_pause_is_counted(worker: Worker) -> None:
    with Client(http_echo(worker), 0) as client:
        for number in range(1, 4):
            while not client.feed(post(bytes(5000))):
                pass
            assert scrape(worker)["backpressure_pauses", ""] == number
            client.take_all()


@examples(200)
@given(
    conversation=conversations(),
    room=st.none() | st.integers(0, 3000),
    step=st.integers(1, 5000),
    scrapes=st.sets(st.integers(0, 10)),
)
def test_any_conversation(
    conversation: tuple[list[bytes], list[bytes], list[bytes]], room: int | None, step: int, scrapes: set[int]
) -> None:
    requests, _, pieces = conversation
    worker = shared_worker()
    before = scrape(worker)
    with Client(http_echo(worker), room) as client:
        for number, piece in enumerate(pieces):
            client.feed(piece)
            if number in scrapes:
                scrape(worker)
            if room is not None:
                client.take(step)
        client.take_all()
    counted(worker, before, client)
    assert scrape(worker)["requests", "2xx"] - before["requests", "2xx"] == len(requests)


@examples(200)
@given(
    requests=st.lists(st.sampled_from(VARIANTS), min_size=3, max_size=12),
    room=st.none() | st.integers(0, 3000),
    scrapes=st.sets(st.integers(0, 12)),
)
def test_any_requests_that_are_alike(requests: list[bytes], room: int | None, scrapes: set[int]) -> None:
    worker = shared_worker()
    before = scrape(worker)
    with Client(http_echo(worker), room) as client:
        for number, request in enumerate(requests):
            client.feed(request)
            if number in scrapes:
                scrape(worker)
            if room is not None:
                client.take(1 << 20)
        client.take_all()
    counted(worker, before, client)


_shared: list[Worker] = []


@pytest.fixture(scope="module", autouse=True)
def shared_workers(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """For all examples of the property tests: one that counts, and one that also logs."""
    _shared.extend((make_worker(loop), make_worker(loop)))
    yield
    _shared.clear()


def shared_worker() -> Worker:
    return _shared[0]


# --- the access log ---


def head_of(request: bytes) -> bytes:
    return request.lstrip(b"\r\n").partition(b"\r\n\r\n")[0] + b"\r\n\r\n"


def content_size(request: bytes) -> int:
    """Bytes of content that a request which is whole has."""
    head, content = head_of(request), request.partition(b"\r\n\r\n")[2]
    if b"Transfer-Encoding: chunked" not in head:
        return len(content) if b"Content-Length" in head else 0
    return sum(int(size, 16) for size in re.findall(rb"(?:^|\r\n)([1-9a-f][0-9a-f]*)\r\n", content))


def size_of(response: bytes) -> int:
    """Bytes of content that a response has."""
    return len(response.partition(b"\r\n\r\n")[2])


def entry_of(request: bytes, expected: bytes) -> tuple[bytes, int, int, int]:
    """What is to be logged of a request that gets this response."""
    status = int(expected[9:12])
    received = content_size(request) if status == 200 else 0
    return head_of(request), status, received, size_of(expected)


def entries(pairs: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, int, int, int]]:
    return [entry_of(request, expected) for request, expected in pairs]


BEHIND_EXPECTED = b"HTTP/1.1 200 OK\r\n\r\n" + BEHIND
BEFORE_EXPECTED = b"HTTP/1.1 200 OK\r\n\r\n" + BEFORE


@cases(ANSWERED)
@pytest.mark.parametrize("room", [None, 0, 100])
def test_an_entry_a_request(
    logging: tuple[Worker, Log], request_bytes: bytes, expected: bytes, room: int | None
) -> None:
    worker, log = logging
    closes = b"close" in expected
    before, it, behind = (BEFORE, BEFORE_EXPECTED), (request_bytes, expected), (BEHIND, BEHIND_EXPECTED)
    ways: dict[str, tuple[list[bytes], list[tuple[bytes, bytes]]]] = {
        "whole": ([request_bytes], [it]),
        "bytewise": (bytewise(request_bytes), [it]),
        "behind others": ([BEFORE * 2 + request_bytes], [before, before, it]),
        "after another": ([BEFORE, request_bytes], [before, it]),
        "before another": ([request_bytes + BEHIND[:20], BEHIND[20:]], [it] if closes else [it, behind]),
        "repeated": ([request_bytes] * 3 + [request_bytes * 2], [it] if closes else [it] * 5),
        "cut": ([request_bytes[:-1], request_bytes[-1:] + BEHIND], [it] if closes else [it, behind]),
    }
    for way, (pieces, expected_entries) in ways.items():
        log.entries.clear()
        with Client(http_echo(worker), room) as client:
            for piece in pieces:
                client.feed(piece)
                if room is not None:
                    client.take(50)
            client.take_all()
            assert log.brief == entries(expected_entries), way
        assert log.brief == entries(expected_entries), f"{way}: nothing is added at the end"


@cases(REFUSED)
def test_an_entry_an_error(logging: tuple[Worker, Log], request_bytes: bytes, expected: bytes) -> None:
    worker, log = logging
    _, status, received, sent = entry_of(request_bytes, expected)
    for pieces in ([request_bytes], [BEFORE + request_bytes], [BEFORE, request_bytes, BEHIND]):
        log.entries.clear()
        with Client(http_echo(worker)) as client:
            client.feed_each(pieces)
            client.eof()
        assert log.figures[-1] == (status, received, sent)
        assert len(log.entries) == 1 + (pieces[0].startswith(BEFORE))
        assert request_bytes.startswith(cast(bytes, log.entries[-1].head))
        assert log.entries[-1].head
    if not is_cut_short(request_bytes, expected):
        log.entries.clear()
        with Client(http_echo(worker)) as client:
            client.feed_each(bytewise(request_bytes))
            client.eof()
        assert [each.status for each in log.entries] == [status]


def test_an_echo_that_is_refused_under_way_has_the_status_of_its_error(logging: tuple[Worker, Log]) -> None:
    worker, log = logging
    request = chunked(bytes(4000), bytes(4000), bytes(4000))
    with Client(http_echo(worker)) as client:
        client.feed(request[:5000])
        client.feed(request[5000:9000])
        client.feed(request[9000:])
        echoed = 9000 - len(head_of(request)) - len(b"fa0\r\n" + b"\r\nfa0\r\n" + b"\r\nfa0\r\n")
        assert log.brief == [(head_of(request), 413, echoed, echoed)]
        client.eof()
    assert len(log.entries) == 1


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([], []),
        ([b"\r\n"], []),
        ([BEFORE], [(200, 0, len(BEFORE))]),
        ([BEFORE, b"\r"], [(200, 0, len(BEFORE))]),
        ([b"GET / HT"], [(400, 0, size_of(IN_HEAD))]),
        ([post(b"hello")[:-2]], [(400, 3, size_of(IN_CONTENT))]),
        ([post(b"hello")[:-2], b"l"], [(400, 4, size_of(IN_CONTENT))]),
        ([chunked(b"hello", b"world")[:-14]], [(499, 5, 5)]),
        ([post(bytes(3000), b"Expect: 100-continue")[:-3000]], [(400, 0, size_of(IN_CONTENT))]),
        ([BEFORE + b"GET / HT"], [(200, 0, len(BEFORE)), (400, 0, size_of(IN_HEAD))]),
    ],
    ids=str,
)
def test_a_client_that_ends_in_the_middle(
    logging: tuple[Worker, Log], pieces: list[bytes], expected: list[tuple[int, int, int]]
) -> None:
    worker, log = logging
    with Client(http_echo(worker)) as client:
        client.feed_each(pieces)
        client.eof()
    assert log.figures == expected


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([], []),
        ([b"\r\n"], []),
        ([BEFORE], [(200, 0, len(BEFORE))]),
        ([b"GET / HT"], [(499, 0, 0)]),
        ([BEFORE, BEHIND[:5]], [(200, 0, len(BEFORE)), (499, 0, 0)]),
        ([post(b"hello")[:-2]], [(499, 3, 0)]),
        ([post(b"hello", method=b"HEAD")[:-2]], [(499, 3, 0)]),
        ([chunked(b"hello")[:-14]], [(499, 0, 0)]),
        ([chunked(b"hello", b"world")[:-14]], [(499, 5, 5)]),
        ([chunked(b"hello", b"world", method=b"HEAD")[:-14]], [(499, 5, 0)]),
        ([b"garbage\r\n\r\n", BEHIND], [(400, 0, size_of(refused(b"400 Bad Request", BAD_LINE)))]),
        ([CLOSES["close"][0] + BEHIND], [(200, 0, len(CLOSES["close"][0]))]),
    ],
    ids=str,
)
def test_a_client_that_goes_away_in_the_middle(
    logging: tuple[Worker, Log], pieces: list[bytes], expected: list[tuple[int, int, int]]
) -> None:
    worker, log = logging
    with Client(http_echo(worker)) as client:
        client.feed_each(pieces)
        client.reset()
    assert log.figures == expected
    assert all(each.head for each in log.entries)


@pytest.mark.parametrize("limit", ["64KiB", "1MiB"], ids=["relayed", "gathered"])
@pytest.mark.parametrize("room", [None, 0])
def test_large_content_in_the_log(loop: asyncio.AbstractEventLoop, limit: str, room: int | None) -> None:
    worker = make_worker(loop, max_body="0", buffer_limit=limit)
    log = with_log(worker)
    request = post(bytes(300_000))
    whole = (head_of(request), 200, 300_000, 300_000)
    behind = (BEHIND, 200, 0, len(BEHIND))

    def feed(client: Client, data: bytes) -> None:
        while data := client.feed(data):
            client.take(100_000)

    with Client(http_echo(worker), room) as client:
        for data in (request, request, BEHIND, request + BEHIND, request[:-1], request[-1:]):
            feed(client, data)
        client.take_all()
        assert log.brief == [whole, whole, behind, whole, behind, whole]
        log.entries.clear()
        feed(client, request[:-100_000])
        client.take_all()
        client.reset()
    sent = 200_000 if limit == "64KiB" else 0
    assert log.brief == [(head_of(request), 499, 200_000, sent)]


def test_content_that_stops_coming_in_the_log(loop: asyncio.AbstractEventLoop) -> None:
    worker = make_worker(loop, idle_timeout="5s", max_body="0")
    log = with_log(worker)
    for request in (post(b"hello")[:-1], post(bytes(300_000))[:-1], chunked(b"hello", b"world")[:-14]):
        with Client(http_echo(worker)) as client:
            client.feed(request)
            sweep(worker, 5)
            client._settle()
    late = refused(b"408 Request Timeout", b"no content came for 5 s (--idle-timeout)")
    assert log.figures == [(408, 4, size_of(late)), (499, 299_999, 299_999), (499, 5, 5)]


def test_a_late_header_section_in_the_log(logging: tuple[Worker, Log]) -> None:
    worker, log = logging
    with Client(http_echo(worker)) as client, Client(http_echo(worker)):
        client.feed(b"GET / HT")
        sweep(worker, 10)
    assert [each[:2] for each in log.brief] == [(b"GET / HT", 408)]


def test_those_that_come_too_late_or_are_too_many_in_the_log(logging: tuple[Worker, Log]) -> None:
    worker, log = logging
    worker.context.max_connections = 1
    with Client(http_echo(worker)), Client(http_echo(worker)) as too_many:
        assert b" 503 " in too_many.sent
    assert [each[:3] for each in log.brief] == [(b"", 503, 0)]


def test_pages_are_logged_and_those_of_the_admin_listener_are_not(logging: tuple[Worker, Log]) -> None:
    worker, log = logging
    with Client(http_echo(worker)) as client, Client(cast(HttpConnection, worker.factory("admin")())) as admin:
        for connected in (client, admin):
            connected.feed(get(b"/readyz"))
            connected.feed(get(b"/readyz", method=b"HEAD"))
            connected.feed(get(b"/nothing") + get(b"/healthz"))
            connected.feed(b"GET")
    assert log.brief == [
        (get(b"/readyz"), 200, 0, 6), (get(b"/readyz", method=b"HEAD"), 200, 0, 0),
        (get(b"/nothing"), 200, 0, len(get(b"/nothing"))), (get(b"/healthz"), 200, 0, 3), (b"GET", 499, 0, 0),
    ]  # fmt: skip
    assert scrape(worker)["errors", "not_found"] == 1


class Clock:
    """A loop's clock that a test moves: the worker's and the log's entries are by it."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._loop = worker.context.loop
        self.now = worker.context.now
        worker.context.loop = cast(asyncio.AbstractEventLoop, self)

    def time(self) -> float:
        return self.now

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def go_on(self, seconds: float) -> None:
        self.now += seconds
        self._worker.context.now += seconds
        self._worker.context.time += seconds


GATHERED = post(bytes(300_000))


@pytest.mark.parametrize(
    ("before", "pieces"),
    [
        ([BEFORE], [BEHIND]),
        ([BEFORE], [BEHIND[:9], BEHIND[9:]]),
        ([b"\r\n"], [BEHIND]),
        ([b"\r"], [b"\n" + BEHIND[:9], BEHIND[9:]]),
        ([BEFORE, b"\r\n"], [BEHIND[:9], BEHIND[9:]]),
        ([post(b"hello")], [post(b"hello")[:-1], b"o"]),
        ([chunked(b"hello")], [chunked(b"hello")[:-9], chunked(b"hello")[-9:]]),
        ([GATHERED], [GATHERED[:-1], GATHERED[-1:]]),
        ([GATHERED], [BEHIND]),
        ([GATHERED], [BEHIND[:9], BEHIND[9:]]),
        ([GATHERED], [post(b"hello")[:-1], b"o"]),
        ([get(b"/healthz")], [get(b"/healthz")[:9], get(b"/healthz")[9:]]),
        ([BEFORE], [b"GET / HT", b"TP\r\n\r\n"]),
    ],
    ids=lambda pieces: ", ".join(str(each[:12]) + str(len(each)) for each in pieces),
)
def test_a_duration_is_from_a_requests_first_byte_to_its_answer(
    big: Worker, before: list[bytes], pieces: list[bytes]
) -> None:
    clock = Clock(big)
    log = with_log(big)
    with Client(http_echo(big)) as client:
        for piece in before:
            client.feed(piece)
            clock.go_on(5)
        log.entries.clear()
        began = big.context.time
        for number, piece in enumerate(pieces):
            if number:
                clock.go_on(3)
            client.feed(piece)
        (entry,) = log.entries
        assert entry.duration == pytest.approx(3 * (len(pieces) - 1))
        assert entry.when == pytest.approx(began)


def test_pipelined_requests_began_when_they_came(big: Worker) -> None:
    clock = Clock(big)
    log = with_log(big)
    with Client(http_echo(big)) as client:
        client.feed(BEFORE + BEHIND + post(b"hello")[:-1])
        clock.go_on(2)
        client.feed(b"o" + BEFORE)
    assert [each.duration for each in log.entries] == pytest.approx([0, 0, 2, 0])


@examples(200)
@given(
    conversation=conversations(),
    last=st.none() | st.sampled_from(list((CLOSES | REFUSED).values())),
    room=st.none() | st.integers(0, 3000),
    step=st.integers(1, 5000),
)
def test_any_conversation_is_logged(
    conversation: tuple[list[bytes], list[bytes], list[bytes]],
    last: tuple[bytes, bytes] | None, room: int | None, step: int,
) -> None:  # fmt: skip
    requests, expected, pieces = conversation
    worker = _shared[1]
    log = with_log(worker)
    before = scrape(worker)
    pairs = list(zip(requests, expected, strict=True))
    with Client(http_echo(worker), room) as client:
        for piece in (*pieces, last[0]) if last else pieces:
            client.feed(piece)
            if room is not None:
                client.take(step)
        client.take_all()
        client.eof()
    assert log.brief[: len(pairs)] == entries(pairs)
    assert [each.status for each in log.entries[len(pairs) :]] == ([int(last[1][9:12])] if last else [])
    counted(worker, before, client)


@examples(300)
@given(pieces=anything, room=st.none() | st.integers(0, 1000), reset=st.booleans())
def test_arbitrary_bytes_are_counted_and_logged(pieces: list[bytes], room: int | None, reset: bool) -> None:
    worker = _shared[1]
    log = with_log(worker)
    before = scrape(worker)
    with Client(http_echo(worker), room) as client:
        client.feed_each(pieces)
        if reset:
            client.take_all()
            client.reset()
        else:
            client.eof()
            client.take_all()
            assert client.lost
    found = scrape(worker)
    answered = [each for each in log.entries if each.status != 499]
    assert len(log.entries) - len(answered) <= 1
    assert found["received_bytes", "http"] - before["received_bytes", "http"] == client.read
    assert found["sent_bytes", "http"] - before["sent_bytes", "http"] == len(client.sent)
    requests = sum(found["requests", f"{each}xx"] - before["requests", f"{each}xx"] for each in (2, 4, 5))
    started = [int(each) for each in FINAL.findall(client.sent)]
    assert requests <= len(started) <= requests + 1  # the last one may be an echo that was not completed
    assert requests <= len(log.entries) <= requests + 1


# --- TCP ---


PIECES = [b"hello", bytes(100), bytes(40_000), bytes(300_000), b"x"]


@pytest.mark.parametrize("scraped", [True, False], ids=["", "no prometheus_client"])
@pytest.mark.parametrize("logged", [True, False])
@pytest.mark.parametrize("options", [{}, {"idle_timeout": "10s"}], ids=["", "stamped"])
@pytest.mark.parametrize("room", [None, 0, 1000])
@pytest.mark.parametrize("pieces", [[], PIECES, PIECES[:2] * 3, [b"x"] * 1000], ids=["none", "much", "little", "bytes"])
def test_tcp(
    loop: asyncio.AbstractEventLoop, pieces: list[bytes], room: int | None, options: dict[str, str], logged: bool,
    scraped: bool,
) -> None:  # fmt: skip
    worker = make_worker(loop, scraped=scraped, **options)
    log = with_log(worker) if logged else None
    with Client(tcp_echo(worker), room) as client:
        for piece in pieces:
            rest = client.feed(piece)
            while rest:
                client.take(100_000)
                rest = client.feed(rest)
            if scraped and room is None:
                check(worker, client, protocol="tcp")
        if room is not None:
            client.take_all()
        client.eof()
        client.take_all()
        assert client.lost
    total = sum(map(len, pieces))
    assert client.read == len(client.sent) == total
    if scraped:
        check(worker, client, protocol="tcp")
    if log is not None:
        assert log.brief == [(None, 200, total, total)]
        assert log.entries[0].protocol == "tcp"


def test_a_tcp_client_that_goes_away(logging: tuple[Worker, Log]) -> None:
    worker, log = logging
    with Client(tcp_echo(worker)) as client, Client(tcp_echo(worker), 10) as owed:
        client.feed(b"hello")
        owed.feed(b"hello, world")
        client.reset()
        owed.reset()
        check_running_tcp = scrape(worker)
    assert check_running_tcp["received_bytes", "tcp"] == 17
    assert check_running_tcp["errors", "reset"] == 2
    assert [each.status for each in log.entries] == [499, 499]
    assert [each.received for each in log.entries] == [5, 12]
    assert log.entries[0].sent == 5


def test_a_tcp_connection_drained_and_one_too_many(logging: tuple[Worker, Log]) -> None:
    worker, log = logging
    worker.context.max_connections = 1
    with Client(tcp_echo(worker)) as client:
        client.feed_each([b"hello"] * 5)
        with Client(tcp_echo(worker)) as too_many:
            assert too_many.lost
        assert log.figures == [(503, 0, 0)]
        begin_drain(worker)
        client.feed_each([b"hello"] * 5)
        client.eof()
    assert log.figures[1:] == [(200, 50, 50)]
    assert scrape(worker)["received_bytes", "tcp"] == 50


def test_how_long_a_tcp_connection_lasted(logging: tuple[Worker, Log]) -> None:
    worker, log = logging
    clock = Clock(worker)
    began = worker.context.time
    with Client(tcp_echo(worker)) as client:
        client.feed(b"hello")
        clock.go_on(7)
    (entry,) = log.entries
    assert (entry.when, entry.duration) == pytest.approx((began, 7))
