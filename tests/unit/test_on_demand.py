"""Answers on demand in memory: torn anywhere, with any room for answers, each is given once, and nothing is left.

Modules: protocols.http1.demand, protocols.http1.facts.
"""

import asyncio
import contextlib
import http.client
import io
import itertools
import time
from collections.abc import Iterator
from typing import cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from echoserver.answers.pattern import pattern
from echoserver.observe import counters
from echoserver.transport.context import FAIR_SHARE
from echoserver.worker.worker import Worker
from tests.servers import PATIENCE, chunks, request
from tests.unit.examples import examples
from tests.unit.transport import FakeTransport, http_echo, make

KIB = 1 << 10
GET = request("GET / HTTP/1.1")
STATUSES = [counters.index("requests", each) for each in ("2xx", "4xx", "5xx")]


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """One for each test: a timer that another has left would run in it."""
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


class Client(FakeTransport):
    """On a connection of its own; reading may be paused twice, which uvloop and asyncio allow."""

    def __init__(self, worker: Worker, room: int | None = None) -> None:
        self.connection = http_echo(worker)
        super().__init__(self.connection, room)
        self.worker = worker

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def feed_all(self, data: bytes) -> None:
        """As fast as it is read."""
        end = time.monotonic() + PATIENCE
        while data := self.feed(data):
            assert time.monotonic() < end, f"{len(data)} bytes are never read"
            self.take_all()

    def take_all(self) -> None:
        if self.room is not None:
            self.take(len(self.sent) + (1 << 20))
        self.pass_turn()

    def finish(self) -> None:
        """Until there is nothing to be answered any more."""
        end = time.monotonic() + PATIENCE
        while self.connection.request.head != b"\0" or self.connection.write_queue is not None or not self.reading:
            assert time.monotonic() < end, "it never ends"
            self.take_all()


class _Bytes:
    """What http.client takes for a socket."""

    def __init__(self, file: io.BytesIO) -> None:
        self._file = file

    def makefile(self, mode: str) -> io.BytesIO:
        return self._file


class _Open(io.BytesIO):
    """http.client closes what it reads from."""

    def close(self) -> None:
        pass


def answers(data: bytes, methods: list[str]) -> list[tuple[int, bytes]]:
    """Status and content of each; there must be no more."""
    file, found = _Open(data), []
    for method in methods:
        response = http.client.HTTPResponse(cast("object", _Bytes(file)), method=method)  # type: ignore[arg-type]
        response.begin()
        found.append((response.status, response.read()))
    assert not file.read(), "there is an answer too many"
    return found


# --- conversations ---


def exchange(query: str, method: str, content: bytes, *, chunked: bool) -> tuple[bytes, tuple[int, bytes]]:
    """A request, and what has to come back."""
    if not content and method != "POST":
        data = request(f"{method} /{query} HTTP/1.1")
    elif chunked:
        coded = chunks(*filter(None, (content[:9], content[9:])), b"")
        data = request(f"POST /{query} HTTP/1.1", "Transfer-Encoding: chunked", content=coded)
    else:
        data = request(f"POST /{query} HTTP/1.1", f"Content-Length: {len(content)}", content=content)
    asked = dict(each.partition("=")[::2] for each in query.removeprefix("?").split("&"))
    status = int(asked.get("status", "204" if asked.get("echo") == "none" and "size" not in asked else "200"))
    if "size" in asked:
        back = pattern(int(asked["size"]))
    elif asked.get("echo") == "none":
        back = b""
    else:
        back = content if data.startswith(b"POST") else data
    return data, (status, b"" if method == "HEAD" or status == 204 else back)


PARTS = [
    "status=404", "status=503", "status=204", "delay=1ms", "delay=0", "rate=300KB", "rate=20MB", "chunked",
    "size=0", "size=7", "size=70000", "echo=none", "other=1", "header=A:b", "close=0&abort=0",
]  # fmt: skip


@st.composite
def conversations(draw: st.DrawFn) -> list[tuple[bytes, tuple[int, bytes], str]]:
    found = []
    for _ in range(draw(st.integers(1, 5))):
        parts: dict[str, str] = {}
        for part in draw(st.lists(st.sampled_from(PARTS), max_size=4)):
            parts.setdefault(part.partition("=")[0], part)
        method = draw(st.sampled_from(["GET", "HEAD", "POST", "POST"]))
        size = draw(st.sampled_from([0, 1, 30, 5000, 90_000])) if method == "POST" else 0
        if size > 5000 and "status" in parts:
            del parts["status"]  # what is too much to keep is not echoed then
        query = "?" + "&".join(parts.values()) if parts else ""
        data, answer = exchange(query, method, pattern(size, 17), chunked=draw(st.booleans()))
        found.append((data, answer, method))
    return found


LONG = [
    (*exchange("?rate=2MB&chunked", "POST", pattern(90_000), chunked=False), "POST"),
    (*exchange("?status=404&delay=1ms", "POST", b"x", chunked=False), "POST"),
    (*exchange("", "GET", b"", chunked=False), "GET"),
]


@examples(200)
@given(
    conversation=conversations(),
    cuts=st.lists(st.integers(1, 100_000), max_size=8),
    room=st.sampled_from([None, 0, 100, 100_000]),
    limit=st.sampled_from(["64KiB", "16MiB"]),
)
@example(conversation=LONG, cuts=[], room=None, limit="64KiB")
@example(conversation=LONG, cuts=[200, 70_000, 70_001], room=100, limit="64KiB")
def test_each_is_answered_once_and_nothing_is_left(
    conversation: list[tuple[bytes, tuple[int, bytes], str]], cuts: list[int], room: int | None, limit: str
) -> None:
    sent = b"".join(data for data, _, _ in conversation)
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        worker = make(loop, buffer_limit=limit)
        with Client(worker, room) as client:
            places = sorted({0, len(sent), *(cut for cut in cuts if cut < len(sent))})
            for start, end in itertools.pairwise(places):
                client.feed_all(sent[start:end])
            client.finish()
            assert answers(bytes(client.sent), [method for _, _, method in conversation]) == [
                answer for _, answer, _ in conversation
            ]
            assert (worker.context.used, client.connection.buffered, client.reading) == (0, 0, True)
            client.connection.flush_counters()
            assert sum(worker.context.counts[each] for each in STATUSES) == len(conversation)
        loop.run_until_complete(asyncio.sleep(0.002))  # a timer that was left would find the connection gone


# --- what is kept ---


def test_what_is_kept_counts(loop: asyncio.AbstractEventLoop) -> None:
    worker = make(loop)
    with Client(worker) as client:
        client.feed(request("POST /?delay=10s HTTP/1.1", "Content-Length: 50000", content=bytes(50_000)) + GET)
        assert worker.context.used == 50_000 + len(GET)
    assert worker.context.used == 0


def test_content_that_is_not_echoed_is_not_kept(loop: asyncio.AbstractEventLoop) -> None:
    worker = make(loop)
    for query in ("abort", "size=1", "echo=head", "echo=none", "status=204"):
        with Client(worker) as client:
            client.feed(request(f"POST /?{query} HTTP/1.1", "Content-Length: 50000", content=bytes(49_999)))
            assert worker.context.used == 0
    with Client(worker) as client:
        client.feed(request("HEAD /?delay=1s HTTP/1.1", "Content-Length: 50000", content=bytes(49_999)))
        assert worker.context.used == 0


def test_little_is_read_behind_a_request_that_waits(loop: asyncio.AbstractEventLoop) -> None:
    with Client(make(loop)) as client:
        client.feed(request("GET /?delay=10s HTTP/1.1"))
        rest = client.feed(GET * 100_000)
        assert not client.reading
        assert len(GET) * 100_000 - len(rest) < 300 * KIB


@pytest.mark.parametrize("status", [200, 503])
def test_what_can_not_be_kept_is_echoed_early_or_not_at_all(loop: asyncio.AbstractEventLoop, status: int) -> None:
    """Clients stop sending when they see an error."""
    worker = make(loop, buffer_limit="64KiB")
    with Client(worker) as client:
        client.feed(request(f"POST /?status={status} HTTP/1.1", "Content-Length: 200000", content=bytes(100_000)))
        assert bool(client.sent) == (status == 200)
        client.feed(bytes(100_000))
        assert answers(bytes(client.sent), ["POST"]) == [(status, bytes(200_000) if status == 200 else b"")]


def test_a_worker_under_pressure_keeps_a_share_of_each(loop: asyncio.AbstractEventLoop) -> None:
    worker = make(loop, buffer_total="1MiB", buffer_limit="1MiB")
    with Client(worker) as first, Client(worker) as second:
        first.feed(request("POST /?delay=10s HTTP/1.1", "Content-Length: 900000", content=bytes(600_000)))
        assert worker.context.under_pressure
        data = request("POST /?delay=10s HTTP/1.1", "Content-Length: 900000", content=bytes(600_000))
        assert second.feed(data)
        assert second.connection.buffered < 2 * FAIR_SHARE
        assert worker.context.used < 800_000


def test_what_is_too_much_for_all_is_refused_or_not_kept(loop: asyncio.AbstractEventLoop) -> None:
    worker = make(loop, buffer_total="64KiB", buffer_limit="64KiB")
    post = "POST /?%s HTTP/1.1"
    with Client(worker) as first:
        first.feed(request(post % "delay=10s", "Content-Length: 70000", content=bytes(70_000)))
        assert worker.context.used >= 64 * KIB
        with Client(worker) as client:
            client.feed(request(post % "delay=1s", "Content-Length: 3", content=b"abc"))
            assert client.sent.startswith(b"HTTP/1.1 503 ")
        with Client(worker) as client:
            client.feed(request(post % "echo=json", "Content-Length: 3", content=b"abc"))
            assert client.sent.startswith(b"HTTP/1.1 200 ")
            assert b'"length": 3' in client.sent
        with Client(worker) as client:
            client.feed(request(post % "echo=json", "Content-Length: 3", content=b"ab"))
            assert client.connection.buffered == 0
            client.feed(b"c")
            assert b'"text"' not in client.sent


def test_a_connection_that_ends_takes_its_timer_with_it(loop: asyncio.AbstractEventLoop) -> None:
    with Client(make(loop)) as client:
        client.feed(request("GET /?delay=1ms HTTP/1.1"))
    loop.run_until_complete(asyncio.sleep(0.005))
    assert not client.sent


def test_much_is_sent_in_turns(loop: asyncio.AbstractEventLoop) -> None:
    with Client(make(loop)) as client:
        client.feed(request("GET /?size=100MiB HTTP/1.1"))
        assert KIB << 10 <= len(client.sent) < 2 * KIB << 10
        client.pass_turn()
        assert len(client.sent) < 8 * KIB << 10


def test_pipelined_requests_are_answered_in_turns(
    loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("echoserver.protocols.http1.connection.TURN_SECONDS", 0.0)
    with Client(make(loop)) as client:
        client.feed(request("GET /?status=404 HTTP/1.1") * 5000, turns=False)
        first = client.sent.count(b"HTTP/1.1 404")
        assert 0 < first < 10
        client.pass_turn()
        assert first < client.sent.count(b"HTTP/1.1 404") < 20
        client.finish()
        assert client.sent.count(b"HTTP/1.1 404") == 5000


# --- secrets, and what HEAD says ---


def test_trace_keeps_what_is_secret_as_json(loop: asyncio.AbstractEventLoop) -> None:
    for query, field in (("?echo=json", "X: y"), ("", "Accept: application/json")):
        with Client(make(loop)) as client:
            client.feed(request(f"TRACE /{query} HTTP/1.1", "Cookie: secret", "Authorization: secret", field))
            assert b'"TRACE"' in client.sent
            assert b"secret" not in client.sent


def test_head_is_as_long_as_get(loop: asyncio.AbstractEventLoop) -> None:
    lengths = set()
    for method in ("GET", "HEAD"):
        with Client(make(loop)) as client:
            client.feed(request(f"{method} /?echo=json HTTP/1.1"))
            head = bytes(client.sent).partition(b"\r\n\r\n")[0]
            lengths.add(head.partition(b"Content-Length: ")[2])
    assert len(lengths) == 1
