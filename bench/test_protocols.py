"""The protocol classes and the messages in memory: what Python costs, without the kernel and the event loop.

A transport that takes everything at once stands for both. What that costs itself, each group's control shows, a
protocol that does nothing but write what it is given: it is a part of all other lines. Times are CPU time.
"""

import asyncio
import functools
import itertools
import os
import socket
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

import pytest

from bench.exchanges import SERVED_BY, Measure, answer, bytes_of, echo, in_chunks, undated
from bench.loads import COUNTED, LOADS, pattern, request
from echoserver.config import options as config
from echoserver.transport.connection import Connection
from echoserver.wire import frames, response
from echoserver.wire import request as messages
from echoserver.wire.chunked import ChunkedDecoder
from echoserver.wire.request import Fields
from echoserver.wire.response import HttpError
from echoserver.worker.process import new_event_loop, tune_malloc
from echoserver.worker.worker import Worker

SMALL, LARGE, HUGE = pattern(64), pattern(64 << 10), pattern(1 << 20)
GET, POST, BROWSER = (LOADS[name].sent for name in ("get", "post64", "browser"))
CHUNKS = (pattern(1 << 10),) * 4
IN_CHUNKS = (
    request(content=SMALL, chunked=True).removesuffix(in_chunks(SMALL)),
    *(in_chunks(each).removesuffix(in_chunks()) for each in CHUNKS),
    in_chunks(),
)
"""A chunked request: its header section, each chunk, the last one."""
ECHOED = answer(SMALL)

Data = bytes | bytearray | memoryview

Pieces = tuple[bytes, ...]
"""What a client sends, a request or several, as it is read."""


def torn(data: bytes, size: int = 250 << 10) -> Pieces:
    """Data that is read in pieces of so many bytes; by default what uvloop (0.23.0) reads at a time."""
    return tuple(data[position : position + size] for position in range(0, len(data), size))


def group(name: str) -> pytest.MarkDecorator:
    return pytest.mark.benchmark(group=f"in memory: {name}", timer=time.process_time)


# --- the harness --------------------------------------------------------------------------------------------------


_SOCKET = socket.socket()  # what a connection asks the kernel about


class LeanTransport(asyncio.Transport):
    """Has a kernel that takes everything at once, and serves one connection after the other.

    feed(data): the client's next bytes are read. writes: how many writes an answer is. All are counted, those of the
    last answer kept, and that is all that is done to them. descriptor: what a Relay writes to.
    """

    __slots__ = ("_count", "_descriptor", "_kept", "_protocol", "_writes", "feed")

    feed: Callable[[bytes], None]

    def __init__(self, writes: int = 1, descriptor: int | None = None) -> None:
        super().__init__()
        self._writes = writes
        self._count = 0
        self._kept = deque[Data | Iterable[Data]](maxlen=writes)
        self._descriptor = _SOCKET.fileno() if descriptor is None else descriptor

    def connect(self, protocol: asyncio.BaseProtocol) -> None:
        self.set_protocol(protocol)
        protocol.connection_made(self)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """As uvloop does: look up here, and not at each read, what a read calls."""
        self._protocol = protocol
        if isinstance(protocol, asyncio.BufferedProtocol):
            self.feed = self._fill
        else:
            self.feed = cast(asyncio.Protocol, protocol).data_received

    def _fill(self, data: bytes) -> None:
        """Read into the protocol's own buffer, as often as it takes: with the copy that the kernel would make."""
        rest = memoryview(data)
        while rest:
            protocol = cast(asyncio.BufferedProtocol, self._protocol)
            buffer = memoryview(protocol.get_buffer(-1))
            size = min(len(buffer), len(rest))
            buffer[:size] = rest[:size]
            protocol.buffer_updated(size)
            rest = rest[size:]

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def write(self, data: Data) -> None:
        self._kept.append(data)
        self._count += 1

    def writelines(self, list_of_data: Iterable[Data]) -> None:
        self._kept.append(list_of_data)
        self._count += 1

    def check(self, expected: bytes, answers: int) -> None:
        """So many answers have been written since the last check, and the last one is as expected."""
        assert self._count == answers * self._writes
        kept = (each if isinstance(each, Data) else b"".join(each) for each in self._kept)
        assert undated(b"".join(kept)) == expected
        self.forget()

    def kept(self) -> list[bytes]:
        """What was written last."""
        return [bytes(each) if isinstance(each, Data) else b"".join(each) for each in self._kept]

    def forget(self) -> None:
        """Count from here on."""
        self._count = 0
        self._kept.clear()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self if name == "socket" else default

    def fileno(self) -> int:
        return self._descriptor

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing is ever queued."""

    def pause_reading(self) -> None:
        """What is fed is read all the same."""

    def resume_reading(self) -> None:
        """The same."""

    def write_eof(self) -> None:
        """What counts here is what was sent before."""

    def close(self) -> None:
        """The same."""

    def is_closing(self) -> bool:
        return False


class Control(asyncio.Protocol):
    """Writes what it is given, and no more: what it costs is the harness."""

    write: Callable[[Data], object]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.write = cast(asyncio.Transport, transport).write

    def data_received(self, data: bytes) -> None:
        self.write(data)


class BufferedControl(Control, asyncio.BufferedProtocol):
    """The same, with a buffer for messages of one size: written when they are whole."""

    def __init__(self, size: int) -> None:
        self._buffer = memoryview(bytearray(size))
        self._filled = 0

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        self._filled += nbytes
        if self._filled == len(self._buffer):
            self._filled = 0
            self.write(self._buffer)


def drive(
    measure: Measure, protocol: asyncio.BaseProtocol, requests: list[Pieces], expected: bytes, writes: int = 1
) -> None:
    """Measure requests on one connection, each of which gets the same answer, in so many writes."""
    transport = LeanTransport(writes)
    transport.connect(protocol)
    turns, only = itertools.cycle(requests), requests[0][0]

    def exchange_any() -> None:
        for piece in next(turns):
            transport.feed(piece)

    def exchange_one() -> None:  # a loop would cost as much as some of what is measured
        transport.feed(only)

    exchange = exchange_one if requests == [(only,)] else exchange_any
    exchange()  # the first request on a connection repeats no other one
    transport.forget()
    measure(exchange, lambda answers: transport.check(expected, answers))
    protocol.connection_lost(None)
    if isinstance(protocol, Connection):
        assert protocol.context.used == 0, "something is still held"


def drive_each(measure: Measure, accept: Callable[[], asyncio.Protocol], sent: bytes, expected: bytes) -> None:
    """Measure a connection a request, from its first to its last call; its client half-closes when it has sent all."""
    transport = LeanTransport()

    def exchange() -> None:
        protocol = accept()
        transport.connect(protocol)
        transport.feed(sent)
        protocol.eof_received()
        protocol.connection_lost(None)

    measure(exchange, lambda answers: transport.check(expected, answers))


def call(measure: Measure, function: Callable[[], object], check: Callable[[Any], None]) -> None:
    """Measure a function, and check what it returned last."""
    returned = deque[object](maxlen=1)
    measure(lambda: returned.append(function()), lambda _: check(returned[0]))


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """It never runs: nothing here waits for it."""
    tune_malloc()
    loop = new_event_loop("uvloop")
    yield loop
    loop.close()


def opened(worker: Worker, protocol: str = "http") -> Connection:
    """A connection to one of the worker's listeners."""
    return cast(Connection, worker.factory(protocol)())


@pytest.fixture(autouse=True)
def one_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of an exchange in one turn, also where the process has to wait for a core: no loop runs that would go on."""
    for module in ("protocols.http1.connection", "protocols.websocket.connection", "layers.tls"):
        monkeypatch.setattr(f"echoserver.{module}.TURN_SECONDS", 60.0)


@pytest.fixture
def worker(loop: asyncio.AbstractEventLoop) -> Worker:
    return Worker(config.parse({}), loop)


# --- TCP ----------------------------------------------------------------------------------------------------------


@group("TCP")
def test_control(measure: Measure) -> None:
    drive(measure, Control(), [(SMALL,)], SMALL)


@group("TCP")
def test_direct(measure: Measure, worker: Worker) -> None:
    """The transport calls its own write(): less than the control, for there is nothing of ours in between."""
    drive(measure, opened(worker, "tcp"), [(SMALL,)], SMALL)


@group("TCP")
def test_stamped(measure: Measure, loop: asyncio.AbstractEventLoop) -> None:
    """With --idle-timeout the time of each read is noted."""
    drive(measure, opened(Worker(config.parse({"idle_timeout": "10s"}), loop), "tcp"), [(SMALL,)], SMALL)


@pytest.fixture
def file() -> Iterator[int]:
    """A file in memory, which stands for the socket that a Relay writes to: what is written can be read again."""
    descriptor = os.memfd_create("bench")
    yield descriptor
    os.close(descriptor)


def check_file(file: int, expected: bytes, times: int) -> None:
    """This has been written so many times and nothing else; begin again, with the last one wiped out."""
    last = (times - 1) * len(expected)
    assert os.lseek(file, 0, os.SEEK_CUR) == last + len(expected)
    assert os.pread(file, len(expected), last) == expected
    os.pwrite(file, bytes(len(expected)), last)
    os.lseek(file, 0, os.SEEK_SET)


SIZES = pytest.mark.parametrize("data", [pytest.param(each, id=bytes_of(len(each))) for each in (SMALL, LARGE)])


@group("TCP")
@SIZES
def test_control_relay(measure: Measure, file: int, data: bytes) -> None:
    """With the system call, and the copy to the file, of a relay."""
    transport, control = LeanTransport(), BufferedControl(len(data))
    transport.connect(control)
    control.write = functools.partial(os.write, file)
    measure(lambda: transport.feed(data), lambda times: check_file(file, data, times))


@group("TCP")
@SIZES
def test_relay(measure: Measure, worker: Worker, file: int, data: bytes) -> None:
    """The kernel has once not taken everything: read into the worker's one buffer, and written from it."""
    transport, connection = LeanTransport(descriptor=file), opened(worker, "tcp")
    transport.connect(connection)
    connection.pause_writing()
    connection.resume_writing()
    measure(lambda: transport.feed(data), lambda times: check_file(file, data, times))
    transport.check(b"", 0)  # it went past it
    connection.connection_lost(None)


# --- HTTP: small requests -----------------------------------------------------------------------------------------


@group("HTTP, small")
def test_control_post(measure: Measure) -> None:
    drive(measure, Control(), [(POST,)], POST)


@group("HTTP, small")
def test_get(measure: Measure, worker: Worker) -> None:
    drive(measure, opened(worker), [(GET,)], echo(GET))


@group("HTTP, small")
def test_post(measure: Measure, worker: Worker) -> None:
    drive(measure, opened(worker), [(POST,)], ECHOED)


@group("HTTP, small")
def test_post_browser(measure: Measure, worker: Worker) -> None:
    """13 fields."""
    drive(measure, opened(worker), [(BROWSER,)], ECHOED)


@group("HTTP, small")
def test_post_another_path(measure: Measure, worker: Worker) -> None:
    drive(measure, opened(worker), numbered(LOADS["path"].sent), ECHOED)


@group("HTTP, small")
def test_post_another_field(measure: Measure, worker: Worker) -> None:
    """Another X-Request-Id each time."""
    drive(measure, opened(worker), numbered(LOADS["fields"].sent), ECHOED)


def numbered(sent: bytes) -> list[Pieces]:
    """Requests with a number in them: more than the worker remembers the fields of."""
    return [(sent.replace(COUNTED, b"%08d" % number),) for number in range(1000)]


@group("HTTP, small")
def test_post_16_pipelined(measure: Measure, worker: Worker) -> None:
    """All 16 in one read; the time is that of all."""
    drive(measure, opened(worker), [(POST * 16,)], ECHOED * 16)


# --- HTTP: in pieces, and chunked ---------------------------------------------------------------------------------


@group("HTTP, in pieces")
def test_control_byte_by_byte(measure: Measure) -> None:
    drive(measure, Control(), [torn(POST, 1)], POST, len(POST))


@group("HTTP, in pieces")
def test_post_byte_by_byte(measure: Measure, worker: Worker) -> None:
    drive(measure, opened(worker), [torn(POST, 1)], ECHOED)


@group("HTTP, in pieces")
def test_post_in_3_pieces(measure: Measure, worker: Worker) -> None:
    drive(measure, opened(worker), [torn(POST, len(POST) // 3 + 1)], ECHOED)


@group("HTTP, in pieces")
def test_post_head_then_content(measure: Measure, worker: Worker) -> None:
    """As clients send it that write the two by themselves."""
    drive(measure, opened(worker), [(POST.removesuffix(SMALL), SMALL)], ECHOED)


@group("HTTP, in pieces")
def test_chunked_one_chunk(measure: Measure, worker: Worker) -> None:
    """As small content is sent: needs no decoder."""
    drive(measure, opened(worker), [(LOADS["chunked"].sent,)], ECHOED)


@group("HTTP, in pieces")
def test_chunked_whole(measure: Measure, worker: Worker) -> None:
    """4 chunks of 1 KiB in one read: answered with a Content-Length."""
    drive(measure, opened(worker), [(b"".join(IN_CHUNKS),)], answer(b"".join(CHUNKS)))


@group("HTTP, in pieces")
def test_chunked_in_chunks(measure: Measure, worker: Worker) -> None:
    """The same in a read for the header section, for each chunk and for the last one: answered as they come."""
    drive(measure, opened(worker), [IN_CHUNKS], answer(b"", chunks=CHUNKS), len(CHUNKS) + 1)


@group("HTTP, in pieces")
def test_control_in_chunks(measure: Measure) -> None:
    drive(measure, Control(), [IN_CHUNKS], b"".join(IN_CHUNKS), len(IN_CHUNKS))


# --- HTTP: large content ------------------------------------------------------------------------------------------


@group("HTTP, large")
def test_control_64_kib(measure: Measure) -> None:
    drive(measure, Control(), [(LARGE,)], LARGE)


@group("HTTP, large")
def test_post_64_kib(measure: Measure, worker: Worker) -> None:
    """Its content is not copied, but written from where it was read."""
    drive(measure, opened(worker), [(request(content=LARGE),)], answer(LARGE))


@group("HTTP, large")
def test_post_64_kib_in_pieces(measure: Measure, worker: Worker) -> None:
    """In reads of 16 KiB: kept as they are, and written as they are."""
    drive(measure, opened(worker), [torn(request(content=LARGE), 16 << 10)], answer(LARGE))


@group("HTTP, large")
def test_control_1_mib(measure: Measure) -> None:
    """With the one copy that a read makes."""
    drive(measure, BufferedControl(len(HUGE)), [(HUGE,)], HUGE)


@group("HTTP, large")
def test_post_1_mib(measure: Measure, worker: Worker) -> None:
    """Received to its place in one buffer by a Gathered."""
    drive(measure, opened(worker), [torn(request(content=HUGE))], answer(HUGE))


@group("HTTP, large")
def test_post_1_mib_relayed(measure: Measure, loop: asyncio.AbstractEventLoop, file: int) -> None:
    """Over --buffer-limit: after the first read a Relay moves the content on, here to a file."""
    worker = Worker(config.parse({"buffer_limit": "64KiB"}), loop)
    transport, connection = LeanTransport(descriptor=file), opened(worker)
    transport.connect(connection)
    pieces, expected = torn(request(content=HUGE)), answer(HUGE)
    rest = sum(map(len, pieces[1:]))

    def exchange() -> None:
        for piece in pieces:
            transport.feed(piece)

    def check(answers: int) -> None:
        transport.check(expected[:-rest], answers)
        check_file(file, expected[-rest:], answers)

    measure(exchange, check)
    connection.connection_lost(None)


# --- HTTP: connections --------------------------------------------------------------------------------------------


@group("HTTP, a connection each")
def test_control_connection(measure: Measure) -> None:
    drive_each(measure, Control, GET, GET)


@group("HTTP, a connection each")
def test_get_connection(measure: Measure, worker: Worker) -> None:
    drive_each(measure, lambda: opened(worker), GET, echo(GET))


ERRORS = {
    "malformed": (
        b"GET /  HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"400 Bad Request", b"the request line is not METHOD SP TARGET SP HTTP/1.1 CRLF",
    ),
    "no Host": (
        b"GET / HTTP/1.1\r\nAccept: */*\r\n\r\n",
        b"400 Bad Request", b"an HTTP/1.1 request must have a Host field",
    ),
    "bad field": (
        b"GET / HTTP/1.1\r\nHost: localhost\r\nBad name: 1\r\n\r\n",
        b"400 Bad Request", b"a field line must be Name: value, and the name a token (RFC 9110 section 5.1)",
    ),
    "101 fields": (
        request(*[b"X: 1"] * 100, line=b"GET / HTTP/1.1"),
        b"431 Request Header Fields Too Large", b"the header section has more than 100 field lines",
    ),
    "64 KiB of fields": (
        request(b"X: " + b"1" * (64 << 10), line=b"GET / HTTP/1.1"),
        b"431 Request Header Fields Too Large", b"the header section is longer than 65536 bytes",
    ),
}  # fmt: skip
"""What is sent, the status and the reason that are answered."""


@group("HTTP, a connection each")
@pytest.mark.parametrize("error", ERRORS)
def test_error(measure: Measure, worker: Worker, error: str) -> None:
    sent, status, reason = ERRORS[error]
    expected = answer(b"%b: %b\n" % (status, reason), b"text/plain; charset=utf-8", status, b"close")
    drive_each(measure, lambda: opened(worker), sent, expected)


# --- WebSocket ----------------------------------------------------------------------------------------------------

MASK = b"\x37\xfa\x21\x3d"


def masked(first: int, payload: bytes) -> bytes:
    """A client's frame."""
    header = frames.header(first, len(payload))
    repeated = (MASK * (len(payload) // 4 + 1))[: len(payload)]
    hidden = int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")
    return header[:1] + bytes((header[1] | 0x80,)) + header[2:] + MASK + hidden.to_bytes(len(payload), "big")


def upgraded(worker: Worker, transport: LeanTransport) -> None:
    """Have the transport's connection be a WebSocket's, with permessage-deflate."""
    transport.connect(opened(worker))
    transport.feed(
        request(
            b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Version: 13",
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", b"Sec-WebSocket-Extensions: permessage-deflate",
            line=b"GET / HTTP/1.1",
        )
    )  # fmt: skip
    transport.forget()


def drive_frames(measure: Measure, worker: Worker, sent: bytes, expected: bytes, size: int = 250 << 10) -> None:
    """Measure messages on one connection, read in pieces of so many bytes."""
    transport = LeanTransport()
    upgraded(worker, transport)
    read = torn(sent, size)

    def exchange() -> None:
        for piece in read:
            transport.feed(piece)

    measure(exchange, lambda answers: transport.check(expected, answers))
    transport.get_protocol().connection_lost(None)
    assert worker.context.used == 0, "something is still held"


MESSAGES = {"binary": 0x82, "text": 0x81}


@group("WebSocket")
def test_control_frame(measure: Measure) -> None:
    sent = masked(0x82, SMALL)
    drive(measure, Control(), [(sent,)], sent)


@group("WebSocket")
@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        pytest.param("binary", SMALL, id="64 B"),
        pytest.param("text", bytes(each & 0x7F for each in SMALL), id="64 B of text"),
        pytest.param("binary", pattern(4 << 10), id="4 KiB"),
        pytest.param("binary", HUGE, id="1 MiB"),
    ],
)
def test_message(measure: Measure, worker: Worker, kind: str, payload: bytes) -> None:
    first = MESSAGES[kind]
    drive_frames(measure, worker, masked(first, payload), frames.header(first, len(payload)) + payload)


@group("WebSocket")
def test_16_messages(measure: Measure, worker: Worker) -> None:
    """All 16 in one read; the time is that of all."""
    drive_frames(measure, worker, masked(0x82, SMALL) * 16, (frames.header(0x82, 64) + SMALL) * 16)


@group("WebSocket")
def test_message_in_4_fragments(measure: Measure, worker: Worker) -> None:
    """Of 16 B each, in one read."""
    parts = torn(SMALL, 16)
    firsts = (0x02, 0x00, 0x00, 0x80)
    sent = b"".join(map(masked, firsts, parts))
    drive_frames(measure, worker, sent, frames.header(0x82, 64) + SMALL)


@group("WebSocket")
def test_message_compressed(measure: Measure, worker: Worker) -> None:
    """1 KiB that becomes small; the echo refers to the one before."""
    text = b"the same again and again, " * 40
    compressed = zlib.compressobj(wbits=-9)
    data = (compressed.compress(text) + compressed.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\0\0\xff\xff")
    transport = LeanTransport()
    upgraded(worker, transport)
    sent = masked(0xC1, data)
    transport.feed(sent)  # the second echo and those that follow are alike
    transport.forget()
    transport.feed(sent)
    (echoed,) = transport.kept()
    transport.forget()
    measure(lambda: transport.feed(sent), lambda answers: transport.check(echoed, answers))
    transport.get_protocol().connection_lost(None)


@group("WebSocket")
def test_ping(measure: Measure, worker: Worker) -> None:
    drive_frames(measure, worker, masked(0x89, b"ping"), frames.header(0x8A, 4) + b"ping")


# --- messages -----------------------------------------------------------------------------------------------------


@group("messages alone")
def test_control_call(measure: Measure) -> None:
    def check(returned: bytes) -> None:
        assert returned is POST

    call(measure, lambda: POST, check)


HEADS = pytest.mark.parametrize("sent", [pytest.param(POST, id="small"), pytest.param(BROWSER, id="browser")])


@group("messages alone")
@HEADS
def test_read(measure: Measure, sent: bytes) -> None:
    """A header section of which nothing is known."""
    head = sent.removesuffix(SMALL)
    call(measure, lambda: messages.read(head), check_request)


@group("messages alone")
@HEADS
def test_read_known(measure: Measure, sent: bytes) -> None:
    """One whose fields have been read before."""
    head, known = sent.removesuffix(SMALL), dict[bytes, Fields]()
    messages.read(head, known)
    call(measure, lambda: messages.read(head, known), check_request)


def check_request(read: messages.Request) -> None:
    assert undated(response.prefix(0, served_by=SERVED_BY) + read.answer + SMALL) == ECHOED


@group("messages alone")
def test_read_refused(measure: Measure) -> None:
    def refused() -> HttpError:
        try:
            messages.read(ERRORS["malformed"][0])
        except HttpError as refusal:
            return refusal
        raise AssertionError("malformed, and not refused")

    def check(refusal: HttpError) -> None:
        assert (refusal.status, refusal.reason.encode()) == (400, ERRORS["malformed"][2])

    call(measure, refused, check)


@group("messages alone")
def test_page(measure: Measure) -> None:
    """What /healthz answers, its Date made anew."""

    def check(page: bytes) -> None:
        assert page == answer(b"ok\n", b"text/plain; charset=utf-8")

    call(measure, lambda: response.page(response.prefix(0, served_by=SERVED_BY), b"ok\n"), check)


@group("messages alone")
def test_chunks(measure: Measure) -> None:
    """4 chunks of 1 KiB decoded."""
    data = in_chunks(*CHUNKS)

    def check(decoded: tuple[bytes, int]) -> None:
        assert decoded == (b"".join(CHUNKS), len(data))

    call(measure, lambda: ChunkedDecoder().feed(data), check)
