"""A client of HTTP/2 for tests: frames made octet by octet, and what it is answered, to a transport in memory.

Nothing of the server's own frames and blocks is used here: hpack (hyper's) reads what it sends.
"""

import asyncio
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

from hpack import Decoder

from echoserver.protocols.http2.connection import Http2Connection
from echoserver.worker.worker import Worker
from tests.unit.cutting import bytewise
from tests.unit.transport import FakeTransport, http_echo, make

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM = ACK = 1
END_HEADERS, PADDED, PRIORITIZED = 4, 8, 32
NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED = range(6)
FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, CONNECT_ERROR, ENHANCE_YOUR_CALM = range(6, 12)
MAX_FRAME_SIZE, WINDOW, MOST = 16384, 65535, (1 << 31) - 1
INITIAL_WINDOW_SIZE = 4


_FLAGS = {
    DATA: END_STREAM | PADDED,
    HEADERS: END_STREAM | END_HEADERS,
    SETTINGS: ACK,
    PING: ACK,
    CONTINUATION: END_HEADERS,
}


class Frame(NamedTuple):
    kind: int
    flags: int
    stream: int
    payload: bytes

    @property
    def ends(self) -> bool:
        return self.kind in (DATA, HEADERS) and bool(self.flags & END_STREAM)

    @property
    def number(self) -> int:
        """The number that a frame begins with: a code of RST_STREAM, an increment of WINDOW_UPDATE."""
        return int.from_bytes(self.payload[:4], "big")

    @property
    def code(self) -> int:
        """The error code of GOAWAY or RST_STREAM."""
        return int.from_bytes(self.payload[4:8] if self.kind == GOAWAY else self.payload, "big")


def split(sent: bytes) -> list[Frame]:
    """Frames that have been sent, all of them whole, none longer than it may be."""
    found, position = [], 0
    while position < len(sent):
        kind, flags = sent[position + 3 : position + 5]
        after = position + 9 + int.from_bytes(sent[position : position + 3], "big")
        assert after - position - 9 <= MAX_FRAME_SIZE, "a frame is longer than this client takes"
        assert len(sent) >= after, "a frame is not whole"
        assert not flags & ~_FLAGS.get(kind, 0), "a frame has flags that there are not"
        stream = int.from_bytes(sent[position + 5 : position + 9], "big")
        assert stream <= MOST, "a frame has the reserved bit"
        found.append(Frame(kind, flags, stream, bytes(sent[position + 9 : after])))
        position = after
    return found


# --- frames that are sent ---


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + struct.pack(">BBI", kind, flags, stream) + payload


def _integer(value: int, bits: int, first: int = 0) -> bytes:
    most = (1 << bits) - 1
    if value < most:
        return bytes([first | value])
    made = [first | most]
    value -= most
    while value > 127:
        made.append(value & 127 | 128)
        value >>= 7
    return bytes([*made, value])


def block(*fields: tuple[bytes, bytes], indexed: bool = False) -> bytes:
    """Literals, without an index; indexed: they go into the table (RFC 7541 section 6.2)."""
    first = b"\x40" if indexed else b"\0"
    return b"".join(first + _integer(len(n), 7) + n + _integer(len(v), 7) + v for n, v in fields)


def indices(*numbers: int) -> bytes:
    """Indexed fields (RFC 7541 section 6.1)."""
    return b"".join(_integer(each, 7, 0x80) for each in numbers)


def fields(method: bytes = b"GET", path: bytes = b"/", *more: tuple[bytes, bytes]) -> tuple[tuple[bytes, bytes], ...]:
    return (b":method", method), (b":scheme", b"http"), (b":path", path), (b":authority", b"x"), *more


def headers(stream: int, payload: bytes, *, ends: bool = True, flags: int = END_HEADERS) -> bytes:
    return frame(HEADERS, flags | ends, stream, payload)


def get(stream: int, path: bytes = b"/", *more: tuple[bytes, bytes], method: bytes = b"GET") -> bytes:
    return headers(stream, block(*fields(method, path, *more)))


def post(stream: int, path: bytes = b"/", *more: tuple[bytes, bytes], method: bytes = b"POST") -> bytes:
    """The header section of a request with content."""
    return headers(stream, block(*fields(method, path, *more)), ends=False)


def data(stream: int, content: bytes = b"", *, ends: bool = False, padding: int = -1) -> bytes:
    if padding < 0:
        return frame(DATA, ends, stream, content)
    return frame(DATA, ends | PADDED, stream, bytes([padding]) + content + bytes(padding))


def whole(stream: int, content: bytes, path: bytes = b"/", *more: tuple[bytes, bytes]) -> bytes:
    return post(stream, path, *more) + data(stream, content, ends=True)


def settings(*values: tuple[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *each) for each in values))


def rst(stream: int, code: int = CANCEL) -> bytes:
    return frame(RST_STREAM, 0, stream, code.to_bytes(4, "big"))


def window_update(stream: int, size: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream, size.to_bytes(4, "big"))


def ping(text: bytes = b"01234567") -> bytes:
    return frame(PING, 0, 0, text)


PONG = Frame(PING, ACK, 0, b"01234567")
BEGIN = PREFACE + settings()
"""What a connection begins with."""


class Answer(NamedTuple):
    """All that a stream has been sent. reset: the code of its RST_STREAM, -1 where there is none."""

    fields: dict[bytes, bytes]
    content: bytes
    trailers: dict[bytes, bytes]
    ends: bool
    reset: int

    @property
    def status(self) -> int:
        return int(self.fields.get(b":status", b"0"))


class Peer:
    """One connection. frames: all that it has been sent; new(): those since the last call."""

    def __init__(self, client: FakeTransport, worker: Worker) -> None:
        self.transport = client
        self.worker = worker
        self.frames: list[Frame] = []
        self._new = 0
        self._read = 0

    @property
    def connection(self) -> Http2Connection:
        return cast(Http2Connection, self.transport._current)

    @property
    def used(self) -> int:
        return self.worker.context.used

    def say(self, sent: bytes, *, torn: bool = False) -> list[Frame]:
        """Send, byte by byte where torn, and return what comes back."""
        for piece in bytewise(sent) if torn else [sent]:
            self.transport.feed(piece)
        return self.new()

    def new(self) -> list[Frame]:
        sent = bytes(self.transport.sent[self._read :])
        if self.transport.room is not None:  # it may end within a frame
            end = 0
            while len(sent) >= end + 9 and len(sent) >= (following := end + 9 + int.from_bytes(sent[end : end + 3])):
                end = following
            sent = sent[:end]
        self._read += len(sent)
        self.frames += split(sent)
        found, self._new = self.frames[self._new :], len(self.frames)
        return found

    def wait(self, kind: int, stream: int = 0) -> Frame:
        """Let the loop turn until such a frame has come, with END_STREAM if it is one of a stream's."""
        while True:
            for each in self.frames:
                if each.kind == kind and each.stream == stream and (kind not in (DATA, HEADERS) or each.ends):
                    return each
            assert not self.transport.lost, "the connection has ended before"
            self.transport.pass_turn()
            self.new()

    def answers(self) -> dict[int, Answer]:
        """What each stream has been sent. Asserts that nothing follows the end of one but RST_STREAM and credit."""
        self.new()
        decoder, found = Decoder(), dict[int, Answer]()
        block = b""
        for each in self.frames:
            if not each.stream or each.kind == WINDOW_UPDATE:
                continue
            was = found.get(each.stream, Answer({}, b"", {}, ends=False, reset=-1))
            assert was.reset < 0 or each.kind == RST_STREAM, f"{each} behind RST_STREAM"
            if each.kind == RST_STREAM:
                found[each.stream] = was._replace(reset=each.code)
                continue
            assert not was.ends or each.kind == CONTINUATION, f"{each} behind END_STREAM"
            if each.kind == DATA:
                assert was.fields, "content before a header section"
                was = was._replace(content=was.content + each.payload)
            elif each.kind in (HEADERS, CONTINUATION):
                block += each.payload
                if each.flags & END_HEADERS:
                    section = {bytes(n): bytes(v) for n, v in decoder.decode(block, raw=True)}
                    block = b""
                    is_first = was.status < 200  # or it follows 100 (Continue)
                    was = was._replace(fields=section) if is_first else was._replace(trailers=section)
            found[each.stream] = was._replace(ends=was.ends or each.ends)
        return found

    @property
    def goaway(self) -> Frame | None:
        """The last GOAWAY."""
        return next((each for each in reversed(self.frames) if each.kind == GOAWAY), None)

    def is_answered(self, stream: int, *, torn: bool = False) -> bool:
        """Whether an honest request is answered as ever."""
        self.say(whole(stream, b"honest"), torn=torn)
        answer = self.answers().get(stream)
        return answer is not None and (answer.status, answer.content, answer.ends) == (200, b"honest", True)


@contextmanager
def connected(worker: Worker, *, begin: bytes = BEGIN, room: int | None = None) -> Iterator[Peer]:
    """A connection to a worker, of which nothing is left in the end."""
    with FakeTransport(http_echo(worker), room) as client:
        peer = Peer(client, worker)
        if begin:
            peer.say(begin)
        yield peer


@contextmanager
def http2(
    loop: asyncio.AbstractEventLoop, *, begin: bytes = BEGIN, room: int | None = None, **options: Any
) -> Iterator[Peer]:
    """The same to a worker of its own, whose account is at 0 in the end."""
    worker = make(loop, **({"max_delay": "1h"} | options))
    with connected(worker, begin=begin, room=room) as peer:
        yield peer
    assert worker.context.used == 0
    assert not worker.context.connections
