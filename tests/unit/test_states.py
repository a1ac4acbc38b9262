"""The states of an HTTP/1 connection: how each is reached, what may follow, what a FIN and a deadline mean in it.

That all is between two callbacks as it has to be in each state is checked by FakeTransport (tests/invariants.py),
whatever a test is about.

Modules: protocols.http1.states, protocols.http1.content.
"""

import asyncio
import re
import time

import pytest

from echoserver.protocols.http1 import states
from echoserver.protocols.http1.connection import HttpConnection
from echoserver.protocols.http1.gather import Gathered
from echoserver.protocols.http1.states import ALL, CLOSED, LINGERING, NEW, State
from echoserver.worker.worker import Worker
from tests import invariants
from tests.servers import request
from tests.unit.cutting import in_pieces
from tests.unit.transport import FakeTransport, http_echo, make

GET = request("GET / HTTP/1.1")
LARGE = request("POST / HTTP/1.1", "Content-Length: 70000", content=bytes(70_000))
CHUNKED = request("POST / HTTP/1.1", "Transfer-Encoding: chunked")
LATE = request("GET /?delay=1h HTTP/1.1")
LAST = request("GET / HTTP/1.1", "Connection: close")

REACHED: dict[State, list[list[bytes]]] = {
    NEW: [[], [b"\r\n"], [b"\r", b"\n"]],
    states.BLANK: [[b"\r"], [GET, b"\r\n\r"], [b"\r", b"\n\r"]],
    states.IDLE: [
        [GET], [GET, b"\r\n"], [GET[:9], GET[9:]], [LARGE[:-1], LARGE[-1:] + GET],
        [CHUNKED, b"1\r\nx\r\n", b"0\r\n\r\n"],
    ],
    states.PARKED: [[LARGE[:-1], LARGE[-1:]]],
    states.HEAD: [[GET[:9]], [GET, GET[:-1]], [b"\r\nG"]],
    states.CONTENT: [[LARGE[:-1]], [LARGE[:-1], LARGE[-1:], LARGE[:200]], [CHUNKED]],
    states.ANSWERING: [[LATE], [LATE, GET]],
    states.CLOSING: [[LAST]],
    LINGERING: [[LAST], [b"?\r\n\r\n"], [LAST, GET]],
}  # fmt: skip
"""Reads that lead to a state. For CLOSING the client does not read."""

CASES = [
    pytest.param(state, reads, id=f"{state}-{number}")
    for state, each in REACHED.items()
    for number, reads in enumerate(each)
]  # fmt: skip


@pytest.fixture
def worker(loop: asyncio.AbstractEventLoop) -> Worker:
    made = make(loop, header_timeout="10s", keep_alive_timeout="75s", idle_timeout="60s", max_delay="2h")
    made.context.now = int(made.context.now * 1024) / 1024  # so that adding seconds to it is exact
    return made


class Client(FakeTransport):
    """Of a connection that has been led to a state."""

    def __init__(self, worker: Worker, state: State, reads: list[bytes]) -> None:
        super().__init__(http_echo(worker), 0 if state is states.CLOSING else None)
        self.feed_each(reads)
        connection = self._connection
        assert isinstance(connection, HttpConnection)
        self.http = connection
        assert self.http.state is state
        self.sent.clear()

    def statuses(self) -> list[int]:
        return [int(each) for each in re.findall(rb"HTTP/1\.1 (\d{3}) ", self.sent)]


@pytest.mark.parametrize(("state", "reads"), CASES)
def test_fin(worker: Worker, state: State, reads: list[bytes]) -> None:
    with Client(worker, state, reads) as client:
        content_begun = client.http.content.begun
        client.eof()
        if state is states.ANSWERING:
            assert client.http.state is state
            assert client.open
        elif state is states.CLOSING:
            assert client.http.state is state
            client.take(1000)
            assert client.closing
        else:
            refused = state.fin is states.Fin.INCOMPLETE and not content_begun
            assert client.statuses() == [400] * refused
            assert client.closing


@pytest.mark.parametrize(("state", "reads"), CASES)
def test_idle(worker: Worker, state: State, reads: list[bytes]) -> None:
    with Client(worker, state, reads) as client:
        assert client.http.idle() == state.idle


OVERDUE: dict[State, tuple[float, list[int]]] = {
    NEW: (10, []), states.BLANK: (10, []), states.IDLE: (75, []), states.PARKED: (75, []), states.HEAD: (10, [408]),
    states.CONTENT: (60, [408]), states.CLOSING: (60, []), LINGERING: (2, []),
}  # fmt: skip
"""After how many seconds, and the statuses of what is said."""


@pytest.mark.parametrize(("state", "reads"), CASES)
def test_deadline(worker: Worker, state: State, reads: list[bytes]) -> None:
    with Client(worker, state, reads) as client:
        before = client.http.fin_sent or worker.context.now
        seconds, statuses = OVERDUE.get(state, (1e9, []))
        for waited in (seconds - 1.1, seconds):  # a worker's clock ticks once a second
            assert client.open != (state is LINGERING or client.closing)
            assert client.statuses() == []
            client.http.sweep(before + waited)
        assert client.statuses() == (statuses if state is not states.ANSWERING else [])
        assert client.open == (state is states.ANSWERING)


CHANGES: dict[tuple[str, str], list[list[bytes]]] = {
    ("NEW", "BLANK"): [[b"\r"]],
    ("NEW", "HEAD"): [[b"G"]],
    ("NEW", "IDLE"): [[GET]],
    ("NEW", "CONTENT"): [[CHUNKED]],
    ("NEW", "CLOSING"): [[b"?\r\n\r\n"]],
    ("BLANK", "HEAD"): [[b"\r", b"\nG"]],
    ("BLANK", "NEW"): [[b"\r", b"\n"], [GET, b"\r", b"\n"]],
    ("BLANK", "CLOSING"): [[b"\r", b""]],
    ("IDLE", "BLANK"): [[GET, b"\r"]],
    ("IDLE", "HEAD"): [[GET, b"G"]],
    ("IDLE", "CONTENT"): [[GET, CHUNKED]],
    ("IDLE", "CLOSING"): [[GET, LAST]],
    ("PARKED", "IDLE"): [[*REACHED[states.PARKED][0], GET]],
    ("PARKED", "CONTENT"): [[*REACHED[states.PARKED][0], LARGE[:99]]],
    ("PARKED", "CLOSING"): [[*REACHED[states.PARKED][0], b""]],
    ("HEAD", "IDLE"): [[GET[:9], GET[9:]]],
    ("HEAD", "CLOSING"): [[GET[:9], b""]],
    ("CONTENT", "IDLE"): [[CHUNKED, b"0\r\n\r\n"]],
    ("CONTENT", "PARKED"): REACHED[states.PARKED],
    ("CONTENT", "ANSWERING"): [[LATE]],
    ("CONTENT", "CLOSING"): [[CHUNKED, b"?\r\n"], [CHUNKED, b"1\r\nx\r\n", b"?\r\n"], [LARGE[:-1], b""]],
    ("ANSWERING", "IDLE"): [[request("GET /?size=3MB HTTP/1.1")]],
    ("CLOSING", "LINGERING"): [[LAST]],
}  # fmt: skip
"""Reads that lead from one state to the next; an empty one is the client's FIN."""


def test_each_change_of_the_table_happens_and_no_other_does(worker: Worker) -> None:
    """That no other does in any test is checked with each change."""
    assert set(CHANGES) == {(before.name, after) for before in ALL for after in before.then}
    for (before, after), conversations in CHANGES.items():
        for reads in conversations:
            invariants.seen.clear()
            with FakeTransport(http_echo(worker)) as client:
                for each in reads:
                    client.feed(each) if each else client.eof()
                for _ in range(10):
                    client.pass_turn()
                changes = {(str(each), str(other)) for each, other in invariants.seen}
            assert (before, after) in changes, f"{reads} leads through {changes}"


@pytest.mark.parametrize(
    "reads",
    [[request("GET /?delay=1ms HTTP/1.1")], [*REACHED[states.PARKED][0], GET], [*REACHED[states.PARKED][0], LARGE]],
    ids=["on demand", "another after a large one", "the same large one"],
)
def test_keep_alive_timeout__begins_with_the_end_of_the_last_answer(worker: Worker, reads: list[bytes]) -> None:
    with FakeTransport(http_echo(worker)) as client:
        connection = client._connection
        assert isinstance(connection, HttpConnection)
        for each in reads:
            connection.last_activity = worker.context.now = worker.context.now + 50
            client.feed(each)
            worker.context.now += 50
        end = time.monotonic() + 10
        while not connection.idle():
            client.pass_turn()
            assert time.monotonic() < end
        ended = worker.context.now if len(reads) == 1 else worker.context.now - 50
        connection.sweep(ended + 74)
        assert client.open
        connection.sweep(ended + 75)
        assert not client.open


def test_idle_timeout__of_an_answer_on_demand_begins_when_the_client_does_not_read(worker: Worker) -> None:
    with FakeTransport(http_echo(worker), 100_000) as client:
        connection = client._connection
        client.feed(request("GET /?delay=1ms&size=1000000 HTTP/1.1"))
        for _ in range(3):  # all the time the answer is ours to give
            worker.context.now += 50
            connection.sweep(worker.context.now)
        while connection.write_queue is None:
            client.pass_turn()
        connection.sweep(worker.context.now + 59)
        assert client.open
        connection.sweep(worker.context.now + 60)
        assert client.closing


def test_a_large_contents_buffer_is_used_again_by_the_next_connection(loop: asyncio.AbstractEventLoop) -> None:
    worker = make(loop)
    for _ in range(3):
        with FakeTransport(http_echo(worker)) as client:
            client.feed_each([LARGE[:-1], LARGE[-1:]])
            gathered = client.get_protocol()
            assert isinstance(gathered, Gathered)
            gathered.get_buffer(-1)  # as libuv does before it finds the FIN
            client.eof()
    assert sum(map(len, worker.context.pool._free.values())) == 1


def test_header_timeout__does_not_run_while_the_server_does_not_read(worker: Worker) -> None:
    """A client that is behind with reading is read again when it has caught up: then its time begins."""
    with FakeTransport(http_echo(worker), 0) as client:
        connection = client._connection
        assert isinstance(connection, HttpConnection)
        client.feed(GET + GET[:9])
        connection.pause()
        assert not client.reading
        assert connection.state is states.HEAD
        worker.context.now += 15
        client.take(10_000)
        assert client.reading
        connection.sweep(worker.context.now + 9)
        assert client.open
        connection.sweep(worker.context.now + 10)
        assert client.sent.count(b" 408 ") == 1


def test_what_comes_in_any_pieces_ends_in_the_same_state(worker: Worker) -> None:
    data = GET + CHUNKED + b"1\r\nx\r\n0\r\n\r\n" + LATE
    for size in (1, 7, len(data)):
        with FakeTransport(http_echo(worker)) as client:
            client.feed_each(in_pieces(data, size))
            connection = client._connection
            assert isinstance(connection, HttpConnection)
            assert connection.state is states.ANSWERING
        assert connection.state is CLOSED
