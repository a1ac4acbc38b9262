"""HTTP connections over a transport in memory: each case whole, cut, pipelined, and with a kernel that is slow.

Modules: protocols.http1.connection, protocols.http1.site, protocols.http1.gather.
Modules: transport.connection, transport.context, transport.readers.
"""

import asyncio
import contextlib
import dataclasses
import http.client
import io
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echoserver.config import options as config
from echoserver.protocols.http1.connection import HttpConnection
from echoserver.transport.connection import IDLE_GRACE
from echoserver.transport.stream import LINGER_TIMEOUT
from echoserver.wire.reader import RequestReader
from echoserver.worker.worker import Worker
from tests.unit.cutting import bytewise
from tests.unit.examples import examples
from tests.unit.requests import chunked, content_of, echo, get, head_of, page, post, refused, response
from tests.unit.transport import FakeTransport, begin_drain, http_echo, sweep

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
DATE = re.compile(
    rb"Date: (Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT\r\nX-Served-By: [\w.-]+:0\r\n"
)


# --- requests and what they get ---

BEFORE, BEHIND = get(b"/before"), get(b"/behind")
BAD_LINE = b"the request line is not METHOD SP TARGET SP HTTP/1.1 CRLF"
NO_HTTP = b"this is not an HTTP request: expected a method, such as GET, and a space"

STAYS_OPEN: dict[str, tuple[bytes, bytes]] = {
    "GET": (get(), echo(get())),
    "HEAD": (get(method=b"HEAD"), head_of(echo(get()))),
    "a method of one's own": (get(method=b"FOO"), echo(get(method=b"FOO"))),
    "HTTP/1.0, keep-alive": (
        get(b"/", b"Connection: keep-alive", version=b"1.0"),
        echo(get(b"/", b"Connection: keep-alive", version=b"1.0"), b"keep-alive"),
    ),
    "TRACE": (
        get(b"/", b"Cookie: secret", method=b"TRACE"),
        response(b"200 OK", b"message/http", get(method=b"TRACE")),
    ),
    "empty lines before": (b"\r\n\r\n" + get(), echo(get())),
    "POST": (post(b"hello"), content_of(b"hello")),
    "POST of nothing": (post(b""), content_of(b"")),
    "POST of a type": (post(b"{}", b"Content-Type: application/json"), content_of(b"{}", b"application/json")),
    "POST of a request": (post(get()), content_of(get())),
    "POST of more than is copied": (post(bytes(5000)), content_of(bytes(5000))),
    "GET with content": (post(b"hello", method=b"GET"), content_of(b"hello")),
    "HEAD with content": (post(b"hello", method=b"HEAD"), head_of(content_of(b"hello"))),
    "HTTP/1.0 with content, keep-alive": (
        post(b"hello", b"Connection: keep-alive", version=b"1.0"),
        content_of(b"hello", connection=b"keep-alive"),
    ),
    "Upgrade with content": (post(b"hello", b"Connection: upgrade", b"Upgrade: h2c"), content_of(b"hello")),
    "Expect, and the content": (post(b"hello", b"Expect: 100-continue"), content_of(b"hello")),
    "Expect, and no content": (
        get(b"/", b"Expect: 100-continue"),
        echo(get(b"/", b"Expect: 100-continue")),
    ),
    "Expect, and content of no bytes": (post(b"", b"Expect: 100-continue"), content_of(b"")),
    "Expect, and chunked content": (chunked(b"hello", fields=(b"Expect: 100-continue",)), content_of(b"hello")),
    "chunked": (chunked(b"hello", b",", b" world"), content_of(b"hello, world")),
    "chunked, of nothing": (chunked(), content_of(b"")),
    "chunked, with trailers": (chunked(b"hello", end=b"0;a=b\r\nA: b\r\n\r\n"), content_of(b"hello")),
    "chunked, of a type": (chunked(b"x", fields=(b"Content-Type: a/b",)), content_of(b"x", b"a/b")),
    "chunked HEAD": (chunked(b"hello", method=b"HEAD"), head_of(content_of(b"hello"))),
    "chunked Upgrade": (chunked(b"hello", fields=(b"Connection: upgrade", b"Upgrade: x")), content_of(b"hello")),
    "healthz": (get(b"/healthz"), page(b"200 OK", b"ok")),
    "readyz": (get(b"/readyz"), page(b"200 OK", b"ready")),
    "OPTIONS of healthz": (
        get(b"/healthz", method=b"OPTIONS"),
        b"HTTP/1.1 200 OK\r\nServer: echoserver\r\nAllow: GET, HEAD, OPTIONS\r\n"
        b"Content-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\nContent-Length: 0\r\n\r\n",
    ),
    "HEAD of healthz": (get(b"/healthz", method=b"HEAD"), head_of(page(b"200 OK", b"ok"))),
    "a long head": (get(b"/", b"A: " + b"b" * 2000), echo(get(b"/", b"A: " + b"b" * 2000))),
}
CLOSES: dict[str, tuple[bytes, bytes]] = {
    "close": (get(b"/", b"Connection: close"), echo(get(b"/", b"Connection: close"), b"close")),
    "HTTP/1.0": (get(version=b"1.0"), echo(get(version=b"1.0"), b"close")),
    "HTTP/1.0 with content": (post(b"hello", version=b"1.0"), content_of(b"hello", connection=b"close")),
    "close, with content": (post(b"hello", b"Connection: close"), content_of(b"hello", connection=b"close")),
    "close, chunked": (
        chunked(b"hello", fields=(b"Connection: close",)),
        content_of(b"hello", connection=b"close"),
    ),
    "close, healthz": (get(b"/healthz", b"Connection: close"), page(b"200 OK", b"ok", b"close")),
}
REFUSED: dict[str, tuple[bytes, bytes]] = {
    "no request line": (b"hello\r\n\r\n", refused(b"400 Bad Request", BAD_LINE)),
    "two spaces": (b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n", refused(b"400 Bad Request", BAD_LINE)),
    "TLS": (b"\x16\x03\x01\x02\x00\x01", refused(b"400 Bad Request", NO_HTTP)),
    "NUL": (b"\0", refused(b"400 Bad Request", NO_HTTP)),
    "NUL before a request": (b"\0" + get(), refused(b"400 Bad Request", BAD_LINE)),
    "bare LFs": (
        b"GET / HTTP/1.1\nHost: x\n\n",
        refused(b"400 Bad Request", b"a line of the header section does not end in CRLF"),
    ),
    "no Host": (b"GET / HTTP/1.1\r\n\r\n", refused(b"400 Bad Request", b"an HTTP/1.1 request must have a Host field")),
    "two lengths": (
        get(b"/", b"Content-Length: 0", b"Transfer-Encoding: chunked"),
        refused(b"400 Bad Request", b"a request must not have both Content-Length and Transfer-Encoding"),
    ),
    "a coding": (
        get(b"/", b"Transfer-Encoding: gzip, chunked"),
        refused(b"501 Not Implemented", b"the only transfer coding supported is chunked"),
    ),
    "CONNECT": (
        get(b"x:1", method=b"CONNECT"),
        refused(b"501 Not Implemented", b"CONNECT is not supported: an echo server opens no tunnels"),
    ),
    "an expectation": (
        get(b"/", b"Expect: the-unexpected"),
        refused(b"417 Expectation Failed", b"the only expectation supported is 100-continue"),
    ),
    "HTTP/2": (
        b"GET / HTTP/2.0\r\n\r\n",
        refused(b"505 HTTP Version Not Supported", b"HTTP/2.0 is not supported: expected HTTP/1.1 or HTTP/1.0"),
    ),
    "HEAD": (
        get(b"/", b"Host: y", method=b"HEAD"),
        head_of(refused(b"400 Bad Request", b"a request must not have more than one Host field")),
    ),
    "chunks that are none": (
        chunked(end=b"hello\r\n"),
        refused(b"400 Bad Request", b"a chunk must begin with its size in hexadecimal digits"),
    ),
    "a long target": (
        get(b"/" + b"x" * 4096),
        refused(b"414 URI Too Long", b"the request line is longer than 4096 bytes"),
    ),
    "a long header section": (
        get(b"/", *[b"A: " + b"b" * 100] * 40),
        refused(b"431 Request Header Fields Too Large", b"the header section is longer than 4096 bytes"),
    ),
    "101 fields": (
        get(b"/", *[b"A: b"] * 100),
        refused(b"431 Request Header Fields Too Large", b"the header section has more than 100 field lines"),
    ),
    "too much content": (
        get(b"/", b"Content-Length: 9001"),
        refused(b"413 Content Too Large", b"the content has 9001 bytes: expected at most 9000 (--max-body)"),
    ),
    "too much content to wait for": (
        get(b"/", b"Content-Length: 9001", b"Expect: 100-continue"),
        refused(b"413 Content Too Large", b"the content has 9001 bytes: expected at most 9000 (--max-body)"),
    ),
    "too much chunked content": (
        chunked(bytes(9001)),
        refused(b"413 Content Too Large", b"the content has more than 9000 bytes (--max-body)"),
    ),
}
ANSWERED = STAYS_OPEN | CLOSES
LIMITS = {"max_header": "4096", "max_body": "9000", "buffer_limit": "64KiB", "max_connections": "1000"}


def cases(*tables: dict[str, tuple[bytes, bytes]]) -> pytest.MarkDecorator:
    table = {name: case for each in tables for name, case in each.items()}
    return pytest.mark.parametrize(("request_bytes", "expected"), table.values(), ids=table)


# --- a worker, and connections to it ---


@pytest.fixture
def worker(loop: asyncio.AbstractEventLoop) -> Iterator[Worker]:
    """A worker with small limits; it must know nothing of its connections when they are gone."""
    made = Worker(config.parse(LIMITS), loop)
    made.context.now = int(made.context.now * 1024) / 1024  # so that adding seconds to it is exact
    yield made
    assert not made.context.connections
    assert made.context.used == 0


def reconfigure(worker: Worker, **changes: Any) -> None:
    """Other settings, for connections from now on."""
    worker.context.config = dataclasses.replace(worker.context.config, **changes)
    worker.site.reader = RequestReader(worker.context.config.max_body)


def connect(worker: Worker, room: int | None = None) -> FakeTransport:
    return FakeTransport(http_echo(worker), room)


def without_dates(sent: bytes | bytearray) -> bytes:
    """Responses as the tables have them. Each final one has a Date."""
    assert len(DATE.findall(sent)) == len(
        re.findall(rb"HTTP/1\.1 [2-5]\d\d [^\r]*\r\nServer: echoserver\r\nDate:", sent)
    )
    return DATE.sub(b"", bytes(sent))


def answers(worker: Worker, *pieces: bytes) -> bytes:
    """What a new connection is sent for data that comes in pieces."""
    with connect(worker) as client:
        client.feed_each(pieces)
        return without_dates(client.sent)


@dataclasses.dataclass(frozen=True)
class Response:
    """What a client makes of a response, however it is framed."""

    status: int
    content_type: str | None
    connection: str | None
    content: bytes


class _Stream(io.BytesIO):
    """What http.client takes for a socket; closing a response does not close it."""

    def makefile(self, _: str) -> "_Stream":
        return self

    def close(self) -> None:
        pass


def parse(sent: bytes | bytearray, *requests: bytes) -> list[Response]:
    """The responses to these requests as the standard library's client reads them, and nothing behind them."""
    stream, responses = _Stream(bytes(sent)), []
    for each in requests:
        method = each.lstrip(b"\r\n").partition(b" ")[0].decode("latin-1")
        found = http.client.HTTPResponse(stream, method=method)  # type: ignore[arg-type]  # all that it needs of one
        found.begin()
        fields = found.headers
        assert found.version == 11
        assert len(fields.get_all("Content-Length", [])) + len(fields.get_all("Transfer-Encoding", [])) == 1
        assert fields.get_all("Server") == ["echoserver"]
        responses.append(Response(found.status, fields["Content-Type"], fields["Connection"], found.read()))
    assert stream.read() == b""
    return responses


# --- each case in all ways ---


@cases(ANSWERED, REFUSED)
def test_whole(worker: Worker, request_bytes: bytes, expected: bytes) -> None:
    assert answers(worker, request_bytes) == expected


@cases(STAYS_OPEN)
def test_the_connection_stays_open(worker: Worker, request_bytes: bytes, expected: bytes) -> None:
    with connect(worker) as client:
        client.feed(request_bytes)
        assert client.open
        client.feed(BEHIND)
        assert without_dates(client.sent) == expected + echo(BEHIND)
        client.eof()
        assert client.lost


@cases(CLOSES, REFUSED)
def test_rfc_9112_section_9_6_the_connection_is_closed_in_stages(
    worker: Worker, request_bytes: bytes, expected: bytes
) -> None:
    with connect(worker) as client:
        client.feed(request_bytes)
        assert client.ended
        assert not client.closing, "a reset could destroy the answer"
        assert client.feed(BEHIND * 1000) == b"", "what comes is read"
        assert without_dates(client.sent) == expected, "and dropped"
        client.eof()
        assert client.lost


@cases(CLOSES)
def test_what_is_behind_the_last_request_is_dropped(worker: Worker, request_bytes: bytes, expected: bytes) -> None:
    with connect(worker) as client:
        client.feed(request_bytes + BEHIND)
        assert without_dates(client.sent) == expected
        assert client.ended
        assert not client.closing, "a reset could destroy the answer"


def is_framed_as_it_comes(request_bytes: bytes) -> bool:
    """Whether how it is cut may show in the response."""
    return b"Transfer-Encoding: chunked\r\n" in request_bytes or b"Expect: 100-continue\r\n" in request_bytes


@cases(ANSWERED)
def test_byte_by_byte(worker: Worker, request_bytes: bytes, expected: bytes) -> None:
    with connect(worker) as client:
        client.feed_each(bytewise(request_bytes))
        if not is_framed_as_it_comes(request_bytes):
            assert without_dates(client.sent) == expected
        assert parse(client.sent, request_bytes) == parse(expected, request_bytes)
        assert client.ended == (b"close" in expected)


@cases(REFUSED)
def test_an_error_byte_by_byte(worker: Worker, request_bytes: bytes, expected: bytes) -> None:
    with connect(worker) as client:
        client.feed_each(bytewise(request_bytes))
        if b"413" in expected and b"chunked" in request_bytes:  # the echo has begun
            assert b"200 OK" in client.sent
            assert not client.sent.endswith(b"0\r\n\r\n")
        else:
            (found,), (whole,) = parse(client.sent, request_bytes), parse(expected, request_bytes)
            assert (found.status, found.connection) == (whole.status, "close")
        assert client.ended
        assert not client.closing


@cases(ANSWERED)
def test_every_cut_in_two(worker: Worker, request_bytes: bytes, expected: bytes) -> None:
    data = BEFORE + request_bytes + BEHIND
    asked = (BEFORE, request_bytes) if b"close" in expected else (BEFORE, request_bytes, BEHIND)
    whole = parse(answers_with_dates(worker, data), *asked)
    first = max(1, len(BEFORE) - 4)
    for cut in range(first, len(data), 1 if len(data) < 400 else 97):
        assert parse(answers_with_dates(worker, data[:cut], data[cut:]), *asked) == whole


def answers_with_dates(worker: Worker, *pieces: bytes) -> bytes:
    with connect(worker) as client:
        client.feed_each(pieces)
        return bytes(client.sent)


@cases(ANSWERED, REFUSED)
def test_behind_another_request(worker: Worker, request_bytes: bytes, expected: bytes) -> None:
    assert answers(worker, BEFORE * 3 + request_bytes) == echo(BEFORE) * 3 + expected
    assert answers(worker, BEFORE, request_bytes) == echo(BEFORE) + expected


@cases(STAYS_OPEN)
def test_before_another_request(worker: Worker, request_bytes: bytes, expected: bytes) -> None:
    assert answers(worker, request_bytes + BEHIND) == expected + echo(BEHIND)
    assert answers(worker, request_bytes + BEHIND[:20], BEHIND[20:]) == expected + echo(BEHIND)


@cases(STAYS_OPEN)
def test_again_and_again(worker: Worker, request_bytes: bytes, expected: bytes) -> None:
    assert answers(worker, *[request_bytes] * 4) == expected * 4
    assert answers(worker, request_bytes, request_bytes * 3) == expected * 4
    assert answers(worker, request_bytes + BEHIND, request_bytes) == expected + echo(BEHIND) + expected


@cases(STAYS_OPEN)
def test_one_read_is_answered_with_one_write(
    worker: Worker, request_bytes: bytes, expected: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DESIGN section 3: however many requests were pipelined, if they are no more than what a turn has time for."""
    monkeypatch.setattr("echoserver.protocols.http1.connection.TURN_SECONDS", 60.0)
    with connect(worker) as client:
        for data in (request_bytes, BEFORE, request_bytes, request_bytes * 5, BEFORE + request_bytes + BEHIND):
            before = client.writes
            client.feed(data)
            assert client.writes == before + 1
        assert without_dates(client.sent).count(expected) >= 8


# --- what a case can't say ---


@pytest.mark.parametrize("last", [get(), post(b"hello")])
@pytest.mark.parametrize("beginning", [b"GET /other HTTP/1.1\r\nHost: x\r\nA: ", b"GE", b"\r", b"GET /"])
def test_what_looks_like_the_last_request_within_a_header_section_is_none(
    worker: Worker, beginning: bytes, last: bytes
) -> None:
    """A read that is byte for byte the last request, but belongs to a header section that has begun."""
    assert answers(worker, last, beginning, last) == answers(worker, last, beginning + last)


def test_what_looks_like_a_request_within_content_is_content(worker: Worker) -> None:
    request, inner = post(get() * 3), get()
    assert answers(worker, inner, request[: -3 * len(inner)], inner, inner, inner, inner) == (
        echo(inner) + content_of(inner * 3) + echo(inner)
    )


@pytest.mark.parametrize(
    "pieces",
    [
        (b"HEAD / HTTP/1.1\nHost: x\n",),
        (b"HEAD / HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 5000,),
        (b"HEAD /" + b"b" * 5000,),
        (post(b"hello", method=b"HEAD")[:-1], None),
        (chunked(method=b"HEAD")[:-1], None),
        (get(method=b"HEAD")[:-1], None),
    ],
    ids=["bare LF", "431", "414", "eof in content", "eof in chunks", "eof in head"],
)
def test_an_error_in_answer_to_head_has_no_content(worker: Worker, pieces: tuple[bytes | None, ...]) -> None:
    """RFC 9110 section 9.3.2."""
    with connect(worker) as client:
        for piece in pieces:
            client.eof() if piece is None else client.feed(piece)
        assert client.sent.startswith(b"HTTP/1.1 4")
        assert client.sent.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("rest", [post(b"hello")[-5:], chunked(b"hello")[-15:]], ids=["content", "chunks"])
def test_continue_is_said_at_once_and_once(worker: Worker, rest: bytes) -> None:
    framing = b"Content-Length: 5" if rest == b"hello" else b"Transfer-Encoding: chunked"
    head = get(b"/", b"Expect: 100-continue", framing, method=b"POST")
    with connect(worker) as client:
        for _ in range(2):
            client.sent.clear()
            client.feed(head)
            assert client.sent == CONTINUE
            client.feed(rest)
            assert without_dates(client.sent) == CONTINUE + content_of(b"hello")


@pytest.mark.parametrize("rest", [b"h", b"hell"])
def test_continue_is_not_said_where_content_has_come(worker: Worker, rest: bytes) -> None:
    head = post(b"hello", b"Expect: 100-continue")[:-5]
    with connect(worker) as client:
        client.feed(head + rest)
        assert client.sent == b""
        client.feed(b"hello"[len(rest) :])
        assert without_dates(client.sent) == content_of(b"hello")


def test_chunks_are_echoed_as_they_come(worker: Worker) -> None:
    with connect(worker) as client:
        request = chunked(b"hello", b"world")
        client.feed(request[:-15])
        assert b"\r\nTransfer-Encoding: chunked\r\n\r\n" in client.sent
        assert client.sent.endswith(b"5\r\nhello\r\n")
        client.feed(request[-15:])
        assert client.sent.endswith(b"5\r\nworld\r\n0\r\n\r\n")
        assert parse(client.sent, request) == parse(content_of(b"helloworld"), request)


def test_an_echo_that_cannot_be_completed_has_no_last_chunk(worker: Worker) -> None:
    with connect(worker) as client:
        client.feed(chunked(b"hello", end=b""))
        client.feed(b"no size\r\n")
        assert client.sent.endswith(b"5\r\nhello\r\n")
        assert client.ended
        assert not client.closing
        with pytest.raises(http.client.IncompleteRead):
            parse(client.sent, chunked())


IN_HEAD = refused(b"400 Bad Request", b"the client closed the connection before the header section was complete")
IN_CONTENT = refused(b"400 Bad Request", b"the client closed the connection before the content was complete")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", b""),
        (b"\r\n", b""),
        (get(), echo(get())),
        (get()[:-1], IN_HEAD),
        (b"G", IN_HEAD),
        (post(b"hello")[:-1], IN_CONTENT),
        (chunked(b"hello")[:-14], IN_CONTENT),
        (BEFORE + post(b"x")[:-1], echo(BEFORE) + IN_CONTENT),
    ],
)
@pytest.mark.parametrize("room", [None, 0])
def test_the_clients_fin(worker: Worker, data: bytes, expected: bytes, room: int | None) -> None:
    with connect(worker, room) as client:
        client.feed(data)
        client.eof()
        if room is not None:
            assert client.sent == b""
            assert client.lost == (expected == b"")
            client.take(1 << 20)
        assert without_dates(client.sent) == expected
        assert client.lost


def test_max_connections__too_many_get_503(worker: Worker) -> None:
    worker.context.max_connections, worker.context.refusals = 1, 1
    with connect(worker) as first, connect(worker) as second, connect(worker) as third:
        assert third.lost
        assert third.sent == b""
        assert without_dates(second.sent) == refused(b"503 Service Unavailable", b"too many connections")
        assert second.ended
        second.feed(get())
        assert without_dates(second.sent) == refused(b"503 Service Unavailable", b"too many connections")
        first.feed(get())
        assert without_dates(first.sent) == echo(get())


def test_a_drain_lets_requests_end_and_takes_no_more(worker: Worker) -> None:
    with connect(worker) as idle, connect(worker) as busy:
        for client in (idle, busy):
            client.feed(get())
            client.sent.clear()
        busy.feed(post(b"hello")[:-1])
        begin_drain(worker)
        with connect(worker) as late:
            assert without_dates(late.sent) == refused(b"503 Service Unavailable", b"the server is shutting down")
        busy.feed(b"o")
        assert without_dates(busy.sent) == content_of(b"hello", connection=b"close")
        assert busy.ended
        sweep(worker, IDLE_GRACE)
        assert idle.closing
        assert idle.sent == b""


# --- deadlines, on the worker's clock ---


def test_header_timeout__a_header_section_must_come_in_time(worker: Worker) -> None:
    with connect(worker) as client:
        client.feed(b"GET")
        sweep(worker, 9)
        client.feed(b" /")
        assert client.sent == b""
        sweep(worker, 1)
        assert without_dates(client.sent) == (
            refused(b"408 Request Timeout", b"the header section was not complete within 10 s (--header-timeout)")
        )
        assert client.ended
        assert not client.closing
        sweep(worker, LINGER_TIMEOUT)
        assert client.closing


def test_a_connection_on_which_nothing_was_asked_is_closed_without_a_word(worker: Worker) -> None:
    with connect(worker) as client:
        sweep(worker, 10)
        client._settle()
        assert client.lost
        assert client.sent == b""


@pytest.mark.parametrize("data", [get(), post(b"hello"), chunked(b"hello"), get(b"/healthz")])
def test_keep_alive_timeout__an_idle_connection_is_kept_for_a_while(worker: Worker, data: bytes) -> None:
    with connect(worker) as client:
        client.feed(data)
        sweep(worker, 74)
        client.feed(data)
        sweep(worker, 74)
        assert client.open
        sweep(worker, 1)
        assert client.closing


def test_idle_timeout__off_content_may_take_its_time(worker: Worker) -> None:
    with connect(worker) as client:
        client.feed(post(b"hello")[:-1])
        sweep(worker, 100_000)
        client.feed(b"o")
        assert without_dates(client.sent) == content_of(b"hello")


@pytest.mark.parametrize("data", [post(b"hello")[:-1], chunked(end=b"5")])
def test_idle_timeout__content_that_stalls_gets_408(loop: asyncio.AbstractEventLoop, data: bytes) -> None:
    worker = Worker(config.parse({"idle_timeout": "5s"}), loop)
    with connect(worker) as client:
        client.feed(data)
        sweep(worker, 4)
        assert client.sent == b""
        sweep(worker, 1)
        assert without_dates(client.sent) == refused(
            b"408 Request Timeout", b"no content came for 5 s (--idle-timeout)"
        )


@pytest.mark.parametrize("size", [100, 70_000, 300_000], ids=["in parts", "gathered", "gathered, much"])
def test_idle_timeout__a_slow_upload_is_progress(loop: asyncio.AbstractEventLoop, size: int) -> None:
    worker = Worker(config.parse({"idle_timeout": "5s"}), loop)
    content = pattern(size)
    request = post(content)
    with connect(worker) as client:
        client.feed(request[:-5])
        for position in range(len(request) - 5, len(request)):
            sweep(worker, 4)
            assert client.sent == b""
            client.feed(request[position : position + 1])
        assert without_dates(client.sent) == content_of(content)


@pytest.mark.parametrize("size", [100, 70_000, 300_000], ids=["in parts", "gathered", "gathered, much"])
def test_what_comes_after_a_408_is_dropped(loop: asyncio.AbstractEventLoop, size: int) -> None:
    """The rest of the content, which is late, and what is behind it."""
    worker = Worker(config.parse({"idle_timeout": "5s"}), loop)
    request = post(pattern(size))
    with connect(worker) as client:
        client.feed(request[:-5])
        sweep(worker, 5)
        expected = refused(b"408 Request Timeout", b"no content came for 5 s (--idle-timeout)")
        assert without_dates(client.sent) == expected
        assert client.feed(request[-5:] + BEHIND) == b"", "what comes is read"
        assert without_dates(client.sent) == expected, "and dropped"
        client.eof()
        assert client.lost


# --- a kernel that does not take everything ---


@pytest.mark.parametrize("room", [0, 1, 100])
@cases(ANSWERED)
def test_a_client_that_reads_slowly(worker: Worker, request_bytes: bytes, expected: bytes, room: int) -> None:
    closes = b"close" in expected
    with connect(worker, room) as client:
        client.feed(request_bytes)
        assert len(client.sent) == min(room, len(client.sent) + client.get_write_buffer_size())
        if not closes:
            client.feed(BEHIND + request_bytes)
        while client.get_write_buffer_size():
            client.take(29)
        assert without_dates(client.sent) == (expected if closes else expected + echo(BEHIND) + expected)
        assert client.ended == closes


def test_buffer_limit__reading_pauses_until_all_is_sent(worker: Worker) -> None:
    with connect(worker, 0) as client:
        rest = b"".join(post(b"%04d" % number + bytes(996)) for number in range(200))
        size = len(rest)
        while rest and client.reading:
            rest = client.feed(rest[:10_000]) + rest[10_000:]
        assert not client.reading
        assert 64 << 10 <= worker.context.used < 96 << 10
        assert size > len(rest) > size // 2
        client.take(64 << 10)
        assert not client.reading
        while rest or client.get_write_buffer_size():
            client.take(1000)
            if client.reading:
                rest = client.feed(rest[:10_000]) + rest[10_000:]
        assert worker.context.used == 0
        found = parse(client.sent, *[post(b"")] * 200)
        assert [each.content[:4] for each in found] == [b"%04d" % number for number in range(200)]


def test_buffer_total__nothing_more_is_read_from_those_that_are_behind(loop: asyncio.AbstractEventLoop) -> None:
    """However little each of them is owed. One for which nothing is kept is served as before."""
    worker = Worker(config.parse({"buffer_limit": "64KiB", "buffer_total": "128KiB"}), loop)
    request = post(bytes(14_000))  # less than is read at a time
    with contextlib.ExitStack() as stack:
        behind = [stack.enter_context(connect(worker, 0)) for _ in range(10)]
        for client in behind:
            assert client.feed(request) == b""
            assert client.reading == (worker.context.used < 128 << 10), f"{worker.context.used} bytes are kept"
        assert not client.reading, "the last one has used the total up"
        for client in behind[:-1]:
            client.feed(BEHIND)
            assert not client.reading, "the others are read from once more at most"
        kept = worker.context.used
        with connect(worker) as quick:
            quick.feed(request)
            assert without_dates(quick.sent) == content_of(bytes(14_000))
        assert worker.context.used == kept
        for client in behind:
            client.take(1 << 20)
            assert client.reading
            client.feed(BEHIND)
            assert client.sent.endswith(BEHIND)
    assert worker.context.used == 0


def test_an_error_waits_its_turn(worker: Worker) -> None:
    with connect(worker, 50) as client:
        client.feed(get() + b"hello\r\n\r\n")
        assert client.open
        client.take(1 << 20)
        assert without_dates(client.sent) == echo(get()) + refused(b"400 Bad Request", BAD_LINE)
        assert client.ended
        assert not client.closing


# --- large content ---


def pattern(size: int) -> bytes:
    """Bytes that are the same nowhere near: what is lost, doubled or swapped shows."""
    return b"".join(b"%07x " % number for number in range(size // 8 + 1))[:size]


@pytest.mark.parametrize("fields", [(), (b"Expect: 100-continue",)], ids=["", "Expect"])
@pytest.mark.parametrize("first", [-20, 0, 1, 5000])
@pytest.mark.parametrize("room", [None, 0, 70_000])
@pytest.mark.parametrize(
    ("size", "limit"),
    [(70_000, "1MiB"), (300_000, "1MiB"), (600_000, "1MiB"), (70_000, "64KiB"), (300_000, "64KiB")],
    ids=["parts", "gathered", "gathered, two reads", "relayed", "relayed, two reads"],
)
def test_large_content(
    loop: asyncio.AbstractEventLoop, size: int, limit: str, room: int | None, first: int, fields: tuple[bytes, ...]
) -> None:
    worker = Worker(config.parse({"buffer_limit": limit}), loop)
    content = pattern(size)
    request = post(content, *fields)
    head = len(request) - size
    expected = CONTINUE * (not first and bool(fields)) + content_of(content)

    def feed(client: FakeTransport, data: bytes) -> None:
        while data := client.feed(data):
            client.take(100_000)

    with connect(worker, room) as client:
        for _ in range(3):
            feed(client, request[: head + first])
            if fields and not first and room is None:
                assert client.sent.endswith(CONTINUE)
            feed(client, request[head + first :])
        feed(client, BEHIND + request)
        while client.get_write_buffer_size():
            client.take(100_000)
        assert without_dates(client.sent) == expected * 3 + echo(BEHIND) + content_of(content)
        client.eof()
        assert client.lost
    assert worker.context.used == 0


def test_large_contents_do_not_mix(worker: Worker) -> None:
    reconfigure(worker, max_body=0, buffer_limit=1 << 20)
    contents = [[bytes([65 + 4 * i + n]) * (300_000 + i) for n in range(4)] for i in range(3)]
    with connect(worker, 0) as first, connect(worker, 0) as second, connect(worker, 0) as third:
        clients = (first, second, third)
        for number in range(4):
            for client, each in zip(clients, contents, strict=True):
                client.feed(post(each[number])[:200_000])
            for client, each in zip(clients, contents, strict=True):
                client.take(250_000)
                assert client.feed(post(each[number])[200_000:]) == b""
        for client, each in zip(clients, contents, strict=True):
            client.take(2 << 20)
            assert without_dates(client.sent) == b"".join(map(content_of, each))


def test_a_connection_between_two_large_requests_is_idle(worker: Worker) -> None:
    reconfigure(worker, max_body=0, buffer_limit=1 << 20)
    with connect(worker) as client:
        client.feed(post(bytes(300_000)))
        sweep(worker, 74)
        assert client.open
        sweep(worker, 1)
        assert client.closing


@pytest.mark.parametrize("size", [5, 70_000, 300_000])
@pytest.mark.parametrize("under_way", [True, False])
def test_the_request_under_way_when_a_drain_begins_is_the_last_or_the_next_one(
    worker: Worker, size: int, under_way: bool
) -> None:
    reconfigure(worker, max_body=0, buffer_limit=1 << 20)
    request = post(bytes(size))
    begun = len(request) - 1 if under_way else 0
    with connect(worker) as client:
        client.feed(request)
        client.feed(request[:begun])
        begin_drain(worker)
        client.sent.clear()
        client.feed(request[begun:])
        assert without_dates(client.sent) == content_of(bytes(size), connection=b"close")
        assert client.ended


def test_large_content_is_not_sent_before_it_has_come(worker: Worker) -> None:
    reconfigure(worker, max_body=0, buffer_limit=1 << 20)
    for size in (70_000, 300_000):
        request = post(pattern(size))
        with connect(worker) as client:
            client.feed(request[:-1])
            assert client.sent == b""
            client.eof()
            assert without_dates(client.sent) == IN_CONTENT
            assert client.lost


def test_what_has_been_received_of_large_content_is_accounted_for(worker: Worker) -> None:
    reconfigure(worker, max_body=0, buffer_limit=1 << 20)
    for size in (70_000, 300_000):
        with connect(worker) as client:
            client.feed(post(bytes(size))[:-30_000])
            assert size - 30_000 <= worker.context.used <= size
        assert worker.context.used == 0


def test_a_worker_under_pressure_relays_what_it_would_have_gathered(worker: Worker) -> None:
    reconfigure(worker, max_body=0, buffer_limit=1 << 20)
    content = pattern(300_000)
    with connect(worker) as client:
        client.feed(post(content)[:-100_000])
        assert client.sent == b""
        worker.context.under_pressure = True
        client.feed(content[-100_000:-50_000])
        assert client.sent.endswith(content[:-50_000])
        assert worker.context.used == 0
        worker.context.under_pressure = False
        client.feed(content[-50_000:] + BEHIND)
        assert without_dates(client.sent) == content_of(content) + echo(BEHIND)


def test_content_that_is_relayed_ends_with_the_client(worker: Worker) -> None:
    reconfigure(worker, max_body=0)
    with connect(worker) as client:
        client.feed(post(bytes(100_000))[:-1])
        client.eof()
        assert client.lost
        with pytest.raises(http.client.IncompleteRead):
            parse(client.sent, post(b""))


# --- whatever is sent ---


@st.composite
def conversations(draw: st.DrawFn) -> tuple[list[bytes], list[bytes], list[bytes]]:
    """Some requests, what they get, and all of it cut at random places."""
    chosen = draw(st.lists(st.sampled_from(list(STAYS_OPEN.values())), min_size=1, max_size=8))
    data = b"".join(request for request, _ in chosen)
    places = sorted(draw(st.sets(st.integers(1, len(data) - 1), max_size=10)))
    pieces = [data[start:stop] for start, stop in zip([0, *places], [*places, len(data)], strict=True)]
    return [request for request, _ in chosen], [expected for _, expected in chosen], pieces


@examples(300)
@given(conversation=conversations(), room=st.none() | st.integers(0, 3000), step=st.integers(1, 5000))
def test_a_conversation_however_it_is_cut_and_read(
    conversation: tuple[list[bytes], list[bytes], list[bytes]], room: int | None, step: int
) -> None:
    requests, expected, pieces = conversation
    worker = shared_worker()
    with connect(worker, room) as client:
        for piece in pieces:
            assert client.feed(piece) == b""
            if room is not None:
                client.take(step)
        while client.get_write_buffer_size():
            client.take(1 << 20)
        assert parse(client.sent, *requests) == parse(b"".join(expected), *requests)
        assert client.open
    assert worker.context.used == 0
    assert not worker.context.connections


VARIANTS = [
    post(content, *fields, method=method).replace(b"/post", path, 1)
    for method in (b"POST", b"HEAD")
    for content in (b"abc", b"xyz", b"", bytes(5000))
    for path in (b"/", b"/a", b"/healthz")
    for fields in (
        (b"X-Request-Id: 1",), (b"X-Request-Id: 22",), (b"X-Request-Id: \xff",), (b"X-Request-Id:", b"A: b"),
        (b"X-Request-Id: 3", b"A: c"), (b"X-Request-Id: 3", b"Content-Type: a/b"), (b"Expect: 100-continue",),
    )
]  # fmt: skip


@examples(300)
@given(
    requests=st.lists(st.sampled_from(VARIANTS), min_size=3, max_size=9),
    room=st.none() | st.integers(0, 3000),
    cuts=st.lists(st.integers(0, 4), min_size=9, max_size=9),
)
def test_requests_that_are_alike_are_answered_as_if_each_were_the_first(
    requests: list[bytes], room: int | None, cuts: list[int]
) -> None:
    worker = shared_worker()
    with connect(worker, room) as client:
        for request, cut in zip(requests, cuts, strict=False):
            for piece in (request,) if cut else (request[:-1], request[-1:]):
                client.feed(piece)
                if room is not None:
                    client.take(1 << 20)
        while client.get_write_buffer_size():
            client.take(1 << 20)
        together = without_dates(client.sent).replace(CONTINUE, b"")
    assert together == b"".join(answers(shared_worker(), request) for request in requests)


def test_a_first_request_that_is_known_is_answered_otherwise_in_a_drain(worker: Worker) -> None:
    assert answers(worker, get()) == echo(get())
    with connect(worker) as client:
        begin_drain(worker)
        client.feed(get())
        assert without_dates(client.sent) == echo(get(), b"close")


def test_a_request_is_remembered_when_it_comes_again_and_as_long_as_it_does(worker: Worker) -> None:
    """To remember each of many that differ would cost more than it brings."""
    others = [post(b"hello", b"X-Request-Id: %d" % number) for number in range(3)]
    again = post(b"hello", b"X-Request-Id: again")
    worker.site.reader.read(again[: -len(b"hello")])
    with connect(worker) as client:
        connection = client.get_protocol()
        assert isinstance(connection, HttpConnection)
        for request in others:
            client.feed(request)
        first = connection._memo
        client.feed(again)
        assert connection._memo is first
        client.feed(again)
        assert connection._memo.head == again[: again.index(b"\r\n\r\n") + 4]
        client.feed(post(b"hello", b"X-Request-Id: 7\r\n fold"))
        assert client.sent.endswith(b"400 Bad Request: a field value must not be folded onto another line\n")
    assert without_dates(client.sent).count(content_of(b"hello")) == 5


@pytest.mark.parametrize("size", [500, 5000])
def test_of_a_long_header_section_nothing_is_kept_while_the_connection_is_idle(worker: Worker, size: int) -> None:
    reconfigure(worker, max_header=1 << 16)
    request = get(b"/", b"A: " + b"b" * size)
    with connect(worker) as client:
        connection = client.get_protocol()
        assert isinstance(connection, HttpConnection)
        for _ in range(3):
            client.feed(request)
        assert len(connection._memo.head) > size
        connection.sweep(worker.context.now + 2)
        assert (len(connection._memo.head) > size) == (size < 1000)
        client.feed(request)
        assert without_dates(client.sent) == echo(request) * 4


TORN = [
    b"\r\n",
    b"\n",
    b"\0",
    b" ",
    b"GET / HTTP/1.1",
    b"Host: x\r\n",
    b"Content-Length: 3\r\n",
    b"\r\n\r\n",
    b"0\r\n\r\n",
]
anything = st.lists(
    st.binary(max_size=20) | st.sampled_from(TORN) | st.sampled_from([each for each, _ in ANSWERED.values()]),
    max_size=8,
)
"""Reads of which some, or what some make together, may be requests."""


@examples(300)
@given(pieces=anything, room=st.none() | st.integers(0, 1000))
def test_arbitrary_bytes_get_responses_or_none(pieces: list[bytes], room: int | None) -> None:
    worker = shared_worker()
    with connect(worker, room) as client:
        client.feed_each(pieces)
        client.eof()
        while client.get_write_buffer_size():
            client.take(1 << 20)
        assert client.lost
        assert not client.sent or client.sent.startswith(b"HTTP/1.1 ")
        assert client.sent.count(b"Connection: close\r\nContent-Length") <= 1
    assert worker.context.used == 0
    assert not worker.context.connections


_shared: list[Worker] = []


@pytest.fixture(scope="module", autouse=True)
def shared_loop() -> Iterator[None]:
    """One worker for all examples of the property tests: it remembers header sections, as it does in life."""
    running = asyncio.new_event_loop()
    _shared.append(Worker(config.parse(LIMITS), running))
    yield
    running.close()
    _shared.clear()


def shared_worker() -> Worker:
    return _shared[0]


# --- clients that take little, or owe something ---


def test_buffer_limit__what_is_kept_for_one_that_never_reads_stays_within_it(worker: Worker) -> None:
    limit = worker.context.config.buffer_limit
    reconfigure(worker, max_body=0)
    request = post(bytes(limit - 500))  # its answer is a little less than the limit
    with connect(worker, room=0) as client:
        client.feed(request)
        assert client.reading
        client.feed(request)
        assert not client.reading
        assert worker.context.used < 2 * limit
        client.take(10 * limit)
        client.feed(request)
        assert client.sent.count(b"HTTP/1.1 200 OK\r\n") >= 2


def test_the_beginning_of_a_header_section_counts_as_kept(worker: Worker) -> None:
    with connect(worker) as client:
        client.feed(get()[:-1])
        assert worker.context.used == len(get()) - 1
        client.feed(get()[-1:])
        assert worker.context.used == 0


def test_400_that_is_not_taken_is_waited_for_but_nothing_is_read(worker: Worker) -> None:
    with connect(worker, room=0) as client:
        client.feed(get() * 10 + b"garbage\r\n\r\n")
        assert not client.reading
        sweep(worker, 10 * LINGER_TIMEOUT)
        assert not client.closing, "a slow client must not lose its answers"


def test_a_drain_does_not_prolong_a_lingering_close(worker: Worker) -> None:
    with connect(worker) as client:
        client.feed(b"garbage\r\n\r\n")
        assert client.ended
        begin_drain(worker)
        worker.context.now = max(worker.context.now, worker.loop.time())
        sweep(worker, LINGER_TIMEOUT)
        assert client.closing


def test_header_timeout__off_silence_is_idleness(worker: Worker) -> None:
    reconfigure(worker, header_timeout=0.0, keep_alive_timeout=1.0)
    with connect(worker) as silent, connect(worker) as empty, connect(worker) as begun:
        empty.feed(b"\r\n\r")
        begun.feed(b"GET")
        sweep(worker, 1)
        assert silent.closing
        assert empty.closing
        assert begun.open


def test_a_stray_cr_is_no_request(worker: Worker) -> None:
    with connect(worker) as client:
        client.feed(get())
        client.feed(b"\r")
        client.eof()
        assert without_dates(client.sent) == echo(get())
        assert client.lost


def test_what_may_be_another_request_is_not_read_whole(worker: Worker) -> None:
    reconfigure(worker, max_body=0, buffer_limit=8 << 20)
    with connect(worker) as client:
        client.feed(post(bytes(4 << 20)))
        waiting: asyncio.BaseProtocol = client.get_protocol()
        assert isinstance(waiting, asyncio.BufferedProtocol)
        assert len(memoryview(waiting.get_buffer(-1))) <= 512 << 10
