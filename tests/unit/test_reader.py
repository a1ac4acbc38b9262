"""Ordinary requests are answered in one go as they are when each part of them is looked at; no others are.

Modules: wire.reader, wire.ordinary, answers.asked.
"""

import asyncio
import itertools
import re
from collections.abc import Callable, Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from echoserver.answers.asked import Asked
from echoserver.answers.controls import Caps
from echoserver.wire import ordinary, reader
from echoserver.wire import request as messages
from echoserver.wire.reader import ORDINARY_SIZE, RequestReader
from echoserver.worker.worker import Worker
from tests.unit.examples import examples
from tests.unit.transport import FakeTransport, http_echo, make

PREFIX = b"HTTP/1.1 200 OK\r\n"
ASKS = Asked(Caps(60.0, 1 << 30), cors=True)
LEARN = (b"", b"0123456789", b"\r\n", b"0\r\n\r\n")


def request(line: bytes, *fields: bytes, content: bytes = b"", host: bytes = b"Host: x") -> bytes:
    length = (b"Content-Length: %d" % len(content),) if content else ()
    return b"\r\n".join((line + b" HTTP/1.1", host, *length, *fields, b"", content))


def reader_of(*heads: bytes) -> RequestReader:
    """One that has read these."""
    reader = RequestReader(1 << 20, asks=ASKS)
    for head in heads:
        reader.read(head[: head.index(b"\r\n\r\n") + 4])
    return reader


@pytest.fixture(scope="module", autouse=True, params=["in C", "in Python"])
def how(request: pytest.FixtureRequest) -> Iterator[str]:
    """Who scans."""
    scan = ordinary.scan_in_c if request.param == "in C" else ordinary.scan_in_python
    if scan is None:
        pytest.skip("not compiled")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "scan", scan)
        yield request.param


POST = request(b"POST /a", b"Content-Type: a/b", content=b"hello")
GET = request(b"GET /a", b"Accept: */*")

ORDINARY = {
    "the same": (POST, POST),
    "a GET": (GET, GET),
    "another path": (POST, POST.replace(b"/a ", b"/b/c;d=%20 ")),
    "another method": (POST, POST.replace(b"POST", b"PATCH")),
    "another Host": (POST, POST.replace(b"Host: x", b"host: other.example:8080")),
    "a Host that is looked at": (request(b"GET /", host=b"Host:\tx_y"), request(b"GET /b", host=b"Host:\tx_y")),
    "other content": (POST, request(b"POST /a", b"Content-Type: a/b", content=b"x" * 4000)),
    "content that ends in CRLF": (POST, request(b"POST /a", b"Content-Type: a/b", content=b"--x--\r\n")),
    "content like fields": (POST, request(b"POST /a", b"Content-Type: a/b", content=b"\r\n\r\n\nExpect: x\r\n\r\n")),
    "other fields": (POST, request(b"POST /a", b"Content-Type: a/b", b"X-A: 1", b"Cookie: c", b"TE: x", content=b"1")),
    "other names' case": (
        request(b"POST /a", b"CONTENT-type: a/b", content=b"1"), request(b"PUT /b", b"CONTENT-type: a/b", content=b"2"),
    ),
    "a query": (GET, GET.replace(b"/a", b"/a?b=c&state=1")),
    "close": (request(b"GET /a", b"connection: x, Close"), request(b"GET /b", b"connection: x, Close")),
    "close, with content": (
        request(b"POST /a", b"Connection: close", content=b"1"), request(b"PUT /b", b"Connection: close", content=b"2"),
    ),
    "keep-alive": (
        request(b"GET /a", b"Connection: keep-alive"), request(b"GET /b", b"Connection: keep-alive"),
    ),
    "a type like the end of a length": (
        request(b"POST /a", b"Content-Type: 0", b"Content-Language: a: 0", content=b"1"),
        request(b"PUT /b", b"Content-Type: 0", b"Content-Language: a: 0", content=b"hello"),
    ),
    "100 fields": (GET, request(b"GET /", *(b"a:%d" % number for number in range(98)), b"Accept: */*")),
}  # fmt: skip


@pytest.mark.parametrize(("before", "data"), ORDINARY.values(), ids=ORDINARY)
def test_ordinary(before: bytes, data: bytes) -> None:
    answer = reader_of(before).answer(data, PREFIX)
    assert answer is not None
    response, head_size, goes_on = answer
    head, _, content = data.partition(b"\r\n\r\n")
    assert head_size == len(head) + 4
    found = messages.read(head + b"\r\n\r\n")
    assert response == PREFIX + found.answer + content
    assert goes_on == found.keep_alive


UPGRADE = request(b"GET /a", b"Connection: upgrade", b"Upgrade: websocket")

EXTRAORDINARY = {
    "fields that decide, unknown": request(b"POST /a", b"Content-Type: c/d", content=b"hello"),
    "no content": request(b"POST /a", b"Content-Type: a/b", b"Content-Length: 0"),
    "two at once": POST + POST,
    "Proxy-Connection, which llhttp heeds": request(b"GET /a", b"Proxy-Connection: close", b"Accept: unknown"),
    "one and the beginning of another": POST + b"G",
    "an empty line behind it": POST + b"\r\n",
    "empty lines behind a GET": GET + b"\r\n\r\n",
    "a CR behind a GET": GET + b"\r",
    "bare LFs behind a GET": GET + b"\n\n",
    "what ends like a GET": GET + b"\n\r\n\r\n",
    "a bare LF behind it": POST + b"\n",
    "what ends like the content": request(b"POST /a", b"Content-Type: a/b", content=b"\r\n\r\n") + b"\r\n\r\n",
    "an empty line before it": b"\r\n" + POST,
    "less than all of its content": POST[:-1],
    "less than its header section": GET[:-1],
    "HEAD": GET.replace(b"GET", b"HEAD"),
    "TRACE": GET.replace(b"GET", b"TRACE"),
    "OPTIONS": GET.replace(b"GET", b"OPTIONS"),
    "a method that llhttp does not know": GET.replace(b"GET", b"FOO"),
    "HTTP/1.0": GET.replace(b"/1.1", b"/1.0"),
    "a page": request(b"GET /healthz", b"Accept: */*"),
    "a page of a URI": request(b"GET http://x/healthz", b"Accept: */*"),
    "a control": request(b"GET /a?delay=1s", b"Accept: */*"),
    "close, not met before": request(b"GET /a", b"Connection: close"),
    "an upgrade": UPGRADE,
    "an expectation": request(b"POST /a", b"Content-Type: a/b", b"Expect: 100-continue", content=b"hello"),
    "chunked": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
    "Accept, without content": request(b"GET /a", b"Accept: application/json"),
    "no Host": request(b"GET /a", b"Accept: */*").replace(b"Host: x\r\n", b""),
    "two Hosts": request(b"GET /a", b"Accept: */*", b"Host: x"),
    "a Host that is none": request(b"GET /a", b"Accept: */*", host=b"Host: x:y"),
    "no field": request(b"GET /a", b"Accept: */*", b"no field"),
    "a control character": request(b"GET /a", b"Accept: */*", b"A: \0"),
    "a folded line": request(b"GET /a", b"Accept: */*", b"A: b", b" c"),
    "a bare LF": request(b"GET /a", b"Accept: */*", b"A: b\nC: d"),
    "101 fields": request(b"GET /", *(b"a:%d" % number for number in range(99)), b"Accept: */*"),
    "two lengths": request(b"POST /a", b"Content-Type: a/b", b"Content-Length: 5", content=b"hello"),
    "more than --max-body": request(b"POST /a", b"Content-Type: a/b", content=bytes((1 << 20) + 1)),
}


@pytest.mark.parametrize("data", EXTRAORDINARY.values(), ids=EXTRAORDINARY)
def test_extraordinary(data: bytes) -> None:
    reader = reader_of(POST, GET)
    reader.read(UPGRADE.replace(b"GET", b"POST"))  # with which no upgrade can be asked for
    for _ in range(2):
        assert reader.answer(data, PREFIX) is None
        assert reader.answer(POST, PREFIX) is not None, "what came before does not matter"


NOT_ALIKE = {
    "no Host": (GET, request(b"GET /a", b"Accept: */*host", host=b"A: b")),
    "two Hosts": (
        request(b"GET /a", b"Host: x", b"Accept: zhost", host=b"A: b"), request(b"GET /a", b"Host: x", b"Accept: z"),
    ),
    "two Hosts, with content": (
        b"POST / HTTP/1.1\r\nContent-Length: 2\r\nHost: localhost\r\n\r\nab",
        b"POST / HTTP/1.1\r\nHost: evil\r\nContent-Length: 2\r\nHost: local\r\n\r\nab",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("before", "data"), NOT_ALIKE.values(), ids=NOT_ALIKE)
def test_lines_that_only_look_alike_joined_are_not_taken_for_each_other(before: bytes, data: bytes) -> None:
    reader = reader_of(before)
    assert reader.answer(before, PREFIX) is not None
    assert reader.answer(data, PREFIX) is None


@pytest.mark.parametrize("data", [POST, GET], ids=["POST", "GET"])
def test_closing__no_request_is_ordinary(data: bytes) -> None:
    reader = reader_of(POST, GET)
    reader.closing = True
    assert reader.answer(data, PREFIX) is None


def test_controls__of_another_prefix_are_none() -> None:
    reader = RequestReader(asks=Asked(Caps(60.0, 1 << 30, b"x-"), cors=False))
    reader.read(GET)
    assert reader.answer(GET.replace(b"/a", b"/a?delay=1s"), PREFIX) is not None
    assert reader.answer(GET.replace(b"/a", b"/a?x-delay=1s"), PREFIX) is None


def test_plans_are_bounded() -> None:
    reader = RequestReader()
    for number in range(1000):
        reader.read(request(b"GET /", b"Accept: %d" % number))
        assert len(reader._plans) <= messages.REMEMBERED
    reader.read(request(b"GET /", b"Accept: " + b"x" * 2000))
    assert max(map(len, reader._plans)) <= messages.REMEMBERED_SIZE


# --- against the way that looks at each part ---

NAMES = (
    b"Content-Type", b"content-encoding", b"Content-Language", b"Content-Length", b"Connection", b"Transfer-Encoding",
    b"Expect", b"Upgrade", b"Accept", b"ACCEPT", b"Accept-Encoding", b"Host", b"Cookie", b"X-A", b"Conn", b"Te", b"x y",
)  # fmt: skip
VALUES = (
    b"a/b", b"gzip", b"5", b"0", b"close", b"keep-alive", b"Upgrade", b"chunked", b"100-continue", b"websocket", b"*/*",
    b"application/json", b"", b"\xe4", b"\0", b"*/*host", b"a: 0",
)  # fmt: skip
TARGETS = (
    b"/",
    b"/a?b",
    b"/a?status=404",
    b"/healthz",
    b"/readyz",
    b"/healthzz",
    b"/%41",
    b"*",
    b"http://a/b",
    b"/\xff",
)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    line = b"%b %b HTTP/%b" % (
        draw(st.sampled_from((b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"TRACE", b"FOO", b"DELETE"))),
        draw(st.sampled_from(TARGETS)), draw(st.sampled_from((b"1.1", b"1.1", b"1.1", b"1.0", b"2.0"))),
    )  # fmt: skip
    field = st.builds(
        lambda *each: b"%b:%b%b" % each, st.sampled_from(NAMES), st.sampled_from((b" ", b"")), st.sampled_from(VALUES)
    )
    fields = draw(st.lists(field, max_size=4))
    content = draw(st.sampled_from((b"", b"hello", b"\r\n\r\n", b"\nExpect: x\r\n", b"1\r\nx\r\n0\r\n\r\n")))
    if content and draw(st.booleans()):
        fields.insert(draw(st.integers(0, len(fields))), b"Content-Length: %d" % len(content))
    host = draw(st.sampled_from(([b"Host: x"], [b"host: a.b:1"], [b"Host:"], [b"Host: a:b"], [])))
    end = draw(st.sampled_from((b"", b"", b"", b"\r\n", b"\r", b"\n\r\n\r\n", b"GET")))
    return b"\r\n".join((line, *host, *fields, b"", content)) + end


_TIMES = re.compile(rb'Date: [^\r]*\r\n|"received_at": "[^"]*"')
_workers: list[Worker] = []


def workers() -> list[Worker]:
    """One that answers ordinary requests in one go, and one that does not; they stay, with what they remember."""
    if not _workers:
        loop = asyncio.new_event_loop()
        loop.close()
        _workers.extend(make(asyncio.new_event_loop(), cors="*") for _ in range(2))
        _workers[1].site.ordinary_size = 0
    return _workers


@examples(1500)
@given(st.lists(requests(), min_size=1, max_size=5))
@example([request(b"GET /", b"Accept: application/json")])
@example([POST, request(b"POST /a", b"Content-Type: a/b", content=b"0\r\nContent-Type: c/d\r\n\r\n")] * 2)
def test_whatever_comes_is_answered_as_if_no_request_were_ordinary(reads: list[bytes]) -> None:
    said = []
    others = [
        re.sub(rb"\A(?:GET|POST)\b", lambda method: {b"GET": b"POST", b"POST": b"GET"}[method[0]], data)
        for data in reads
    ]
    for worker in workers():
        with FakeTransport(http_echo(worker)) as client:
            for data in itertools.chain(reads, others, reads):
                client.feed(data)
            client.pass_turn()
            said.append((_TIMES.sub(b"", bytes(client.sent)), client.open))
    assert said[0] == said[1]


@examples(500)
@given(st.lists(st.binary(max_size=60), min_size=1, max_size=4), st.integers(0, 3))
def test_no_bytes_in_a_request_make_it_another(pieces: list[bytes], place: int) -> None:
    parts = [b"GET /", b" HTTP/1.1\r\nHost: x\r\nA: ", b"\r\nAccept: */*\r\n", b"\r\n"]
    parts.insert(place, b"".join(pieces))
    data = b"".join(parts)
    reader = reader_of(GET)
    answer = reader.answer(data, PREFIX)
    assert reader.answer(GET, PREFIX) is not None
    if answer is not None:
        assert data.endswith(b"\r\n\r\n")
        assert answer[0].endswith(b"\r\n\r\n" + data)
        assert messages.read(data).answer == answer[0][len(PREFIX) :]


def connected(loop: asyncio.AbstractEventLoop, **texts: str) -> tuple[Worker, Callable[[bytes], bytes]]:
    """A worker, and what has it answer a request on a connection of its own."""
    worker = make(loop, **texts)

    def ask(data: bytes) -> bytes:
        with FakeTransport(http_echo(worker)) as client:
            client.feed(data)
            return bytes(client.sent)

    return worker, ask


@pytest.mark.parametrize("size", [ORDINARY_SIZE, ORDINARY_SIZE + 1])
def test_a_size_up_to_which_requests_are_ordinary(loop: asyncio.AbstractEventLoop, size: int) -> None:
    _, ask = connected(loop)
    empty = request(b"POST /", b"Content-Length: 8100")
    data = empty.replace(b"8100", b"%d" % (size - len(empty))) + b"x" * (size - len(empty))
    assert len(data) == size
    for _ in range(2):
        assert ask(data).endswith(b"\r\n\r\n" + data.partition(b"\r\n\r\n")[2])


def test_max_header__ordinary_requests_are_no_way_around_it(loop: asyncio.AbstractEventLoop) -> None:
    _, ask = connected(loop, max_header="256")
    assert b" 200 OK" in ask(request(b"GET /", b"A: 1"))
    assert b" 200 OK" in ask(request(b"GET /", b"A: 2"))
    assert b" 431 " in ask(request(b"GET /", b"A: " + b"3" * 300))


def test_max_body__ordinary_requests_are_no_way_around_it(loop: asyncio.AbstractEventLoop) -> None:
    _, ask = connected(loop, max_body="5")
    for _ in range(2):
        assert b" 200 OK" in ask(request(b"POST /", content=b"12345"))
        assert b" 413 " in ask(request(b"POST /", content=b"123456"))
