"""What docs/architecture.md asks of the class of a protocol, shown of each, and of each way through it.

Modules: protocols.tcp.echo, protocols.tcp.faults, protocols.tcp.modes, protocols.http1.connection.
Modules: protocols.websocket.connection, transport.connection, transport.readers.
"""

import asyncio
import contextlib
import dataclasses
import random
import socket
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
import uvloop

from echoserver.answers.pattern import pattern
from echoserver.config import options as config
from echoserver.observe import counters
from echoserver.transport.connection import IDLE_GRACE, Connection
from echoserver.transport.context import SMALL_READ
from echoserver.transport.stream import BACKLOG, LINGER_TIMEOUT, TURN
from echoserver.worker.worker import Worker
from tests.servers import PATIENCE
from tests.unit.cutting import in_pieces
from tests.unit.requests import chunked, get, post
from tests.unit.test_http_protocol import parse
from tests.unit.transport import FakeTransport, begin_drain, http_echo, over_loopback, sweep
from tests.websockets import BINARY, CLOSE, DEFLATE, Deflate, close, large, split, upgrade

KIB, MIB = 1 << 10, 1 << 20
READ = 256 * KIB
LAST = 100_000
"""Bytes of the last content."""
DATA = random.Random(7).randbytes(6 * MIB)
"""Content: no two pieces of it are alike, and none can be compressed."""


# --- the ways through the protocols ---


@dataclasses.dataclass(frozen=True)
class Kind:
    """A way through a protocol: the worker's options, the listener, and how a client speaks.

    say: what it sends to have content come back. hear: the content of all that it is sent. before: what it sends first,
    to have this protocol at all. last: what it sends to have content come back and its connection ended by the server,
    with last_options; None: only clients end such a connection. echoes: else what comes back has nothing to do with
    what is sent.
    """

    options: dict[str, str] = dataclasses.field(default_factory=dict)
    protocol: str = "tcp"
    before: bytes = b""
    say: Callable[[bytes], bytes] = bytes
    hear: Callable[[bytes], bytes] = bytes
    last: Callable[[bytes], bytes] | None = bytes
    last_options: dict[str, str] = dataclasses.field(default_factory=lambda: {"tcp_close_after": str(LAST)})
    echoes: bool = True
    on_uvloop: bool = False

    def is_answer(self, sent: bytes, content: bytes) -> bool:
        """Whether that is what a client has to be sent for all of the content."""
        if self.echoes:
            return self.hear(sent) == content
        return sent == (pattern(len(sent)) if self.options["tcp_mode"] == "chargen" else b"")

    def worker(self, loop: asyncio.AbstractEventLoop, **options: str) -> Worker:
        settings = {"buffer_limit": "16MiB", "buffer_total": "256MiB", "max_delay": "1h"} | self.options | options
        made = Worker(config.parse(settings), loop)
        made.context.on_uvloop |= self.on_uvloop
        made.context.now = int(made.context.now)  # so that adding seconds to it is exact
        return made


def contents(sent: bytes) -> bytes:
    """Of HTTP responses, each of them whole."""
    return b"".join(each.content for each in parse(sent, *[b"POST "] * sent.count(b"HTTP/1.1 200 OK\r\n")))


def chargen(*, on_uvloop: bool = False, **options: str) -> Kind:
    return Kind({"tcp_mode": "chargen", **options}, last=lambda _: b"", echoes=False, on_uvloop=on_uvloop)


def http(say: Callable[..., bytes]) -> Kind:
    def last(content: bytes) -> bytes:
        return say(content, b"Connection: close")

    return Kind(protocol="http", say=say, hear=contents, last=last, last_options={})


def posts(content: bytes, *fields: bytes) -> bytes:
    *first, last = in_pieces(content, 1000)
    return b"".join(map(post, first)) + post(last, *fields)


def in_chunks(content: bytes, *fields: bytes) -> bytes:
    return chunked(*in_pieces(content, 1000), fields=fields)


def on_demand(content: bytes, *fields: bytes) -> bytes:
    def late(content: bytes, *fields: bytes) -> bytes:
        return get(b"/?delay=1ms", b"Content-Length: %d" % len(content), *fields, method=b"POST") + content

    *first, last = in_pieces(content, 60 * KIB)
    return b"".join(map(late, first)) + late(last, *fields)


def websocket(say: Callable[[bytes], bytes]) -> Kind:
    def heard(sent: bytes) -> bytes:
        return b"".join(each.payload for each in split(sent) if each.opcode != CLOSE)

    def last(content: bytes) -> bytes:
        return say(content) + close()

    return Kind(protocol="http", before=upgrade(), say=say, hear=heard, last=last, last_options={})


def deflated(content: bytes) -> bytes:
    deflate = Deflate(takeover=False)
    return b"".join(large(BINARY, deflate.deflate(each), rsv=4) for each in in_pieces(content, 60 * KIB))


def inflated(sent: bytes) -> bytes:
    deflate = Deflate()
    return b"".join(deflate.inflate(each.payload) for each in split(sent) if each.opcode != CLOSE)


KINDS = {
    "tcp": Kind(last=None),
    "tcp-delay": Kind({"tcp_delay": "1ms"}),
    "tcp-rate": Kind({"tcp_rate": "1GB"}),
    "tcp-close-after": Kind({"tcp_close_after": "1GB"}),
    "discard": Kind({"tcp_mode": "discard"}, echoes=False),
    "discard, tcp-rate": Kind({"tcp_mode": "discard", "tcp_rate": "1GB"}, echoes=False),
    "chargen": chargen(),
    "chargen, on uvloop": chargen(on_uvloop=True),
    "chargen, tcp-rate": chargen(tcp_rate="1GB"),
    "http": http(posts),
    "http, large content": http(post),
    "http, chunked": http(in_chunks),
    "http, on demand": http(on_demand),
    "websocket": websocket(lambda content: b"".join(large(BINARY, each) for each in in_pieces(content, 1000))),
    "websocket, large message": websocket(lambda content: large(BINARY, content)),
    "websocket, compressed": dataclasses.replace(websocket(deflated), before=upgrade(DEFLATE), hear=inflated),
}
ECHOES = {name: kind for name, kind in KINDS.items() if kind.echoes}
DISCARD, CHARGEN = (
    {name: kind for name, kind in KINDS.items() if kind.options.get("tcp_mode") == mode}
    for mode in ("discard", "chargen")
)
ENDING = {name: kind for name, kind in KINDS.items() if kind.last is not None}
"""Those that a server may end."""
OWING = {name: kind for name, kind in ENDING.items() if name not in (*DISCARD, "chargen, tcp-rate")}
"""Of those, where what comes last waits for a client that does not read. A pace does not come so far then."""


def each_of(kinds: dict[str, Kind]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("kind", kinds.values(), ids=kinds)


class Client(FakeTransport):
    """On a connection of a kind; sent begins behind what it took to have it."""

    def __init__(self, kind: Kind, worker: Worker, room: int | None = None) -> None:
        super().__init__(cast(Connection, worker.factory(kind.protocol)()), None if kind.before else room)
        self.kind, self.worker, self.context = kind, worker, worker.context
        if kind.before:
            self.feed(kind.before)
            self.connection.flush_counters()
            self.sent.clear()
            self.reads.clear()
            self.room = room
        self._before = list(worker.context.counts)

    @property
    def connection(self) -> Connection:
        return self._current

    def counted(self, what: str) -> int:
        """Bytes since the beginning."""
        self.connection.flush_counters()
        assert self.connection.received == self.connection.sent == 0
        place = counters.index(f"{what}_bytes", self.connection.origin.kind.name)
        return self.context.counts[place] - self._before[place]

    def until(self, condition: Callable[[], object], take: int = MIB) -> None:
        """Let time go by, and the kernel take what there is."""
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end
            if self.room is not None:
                self.take(take)
            self.context.loop.run_until_complete(asyncio.sleep(0.0005))
            self._settle()

    def say(self, data: bytes) -> None:
        """All of it, as fast as it is read."""
        while data := self.feed(data):
            self.until(lambda: self.reading)

    @property
    def quiet(self) -> bool:
        """All is answered, and nothing is kept."""
        connection = self.connection
        return self.context.used == 0 and connection.write_queue is None and not connection.stopped


def check_nothing_is_left(client: Client) -> None:
    """Of a worker's only connection, which is lost."""
    context = client.context
    assert not context.connections
    assert context.used == 0
    assert client.connection.unsent == client.connection.buffered == 0
    assert client.counted("received") == sum(client.reads)
    for protocol in counters.STREAMS:
        opened, closed = (counters.index(f"connections_{each}", protocol) for each in ("opened", "closed"))
        assert context.counts[opened] == context.counts[closed]
    timers = [each for each in context.loop._scheduled if not each.cancelled()]  # type: ignore[attr-defined]
    assert not timers


# --- reads ---


@each_of(KINDS)
def test_idle_timeout__each_read_is_activity_and_counted(loop: asyncio.AbstractEventLoop, kind: Kind) -> None:
    """But for chargen's, whose client has to read."""
    worker = kind.worker(loop, idle_timeout="1h")
    content = b""
    fed = 0
    with Client(kind, worker) as client:
        for size in (1, 1, 100, 40_000, 70_000, 600_000):
            content += DATA[:size]
            data = kind.say(DATA[:size])
            for part in (data[: len(data) // 2], data[len(data) // 2 :]):
                worker.context.now += 1
                rest = client.feed(part, turns=False)
                if part and kind not in CHARGEN.values():
                    assert client.connection.last_activity == worker.context.now
                client.until(lambda: client.reading)
                client.say(rest)
                fed += len(part)
                assert client.counted("received") == fed
            client.until(lambda: client.quiet)
            assert client.counted("sent") == len(client.sent)
        assert kind.is_answer(bytes(client.sent), content)


# --- a client that does not read ---


@each_of(ECHOES)
def test_buffer_limit__a_client_that_does_not_read_is_not_read(loop: asyncio.AbstractEventLoop, kind: Kind) -> None:
    worker = kind.worker(loop, buffer_limit="64KiB")
    content = DATA[: 2 * MIB]
    with Client(kind, worker, 0) as client:
        rest = b"".join(map(kind.say, in_pieces(content, 200_000)))

        def is_stopped() -> bool:
            nonlocal rest
            rest = client.feed(rest)
            assert rest, "all of it was read"
            return bool(client.connection.stopped & BACKLOG)

        client.until(is_stopped, take=0)
        assert not client.reading
        assert worker.context.used <= 2 * (READ + 64 * KIB), "what was read, and what of it was answered in a turn"
        client.say(rest)
        client.until(lambda: client.quiet)
        assert client.connection.unsent == client.connection.buffered == 0
        assert client.reading
        assert kind.is_answer(bytes(client.sent), content)


# --- memory pressure ---


PRESSED = {
    "at its beginning": (-1, 0), "after a short message": (100, 0), "after a long one": (100_000, 0),
    "within one": (100, 50_000),
}  # fmt: skip
"""When a connection comes under pressure: behind so much content, and so many bytes of what follows it."""


@pytest.mark.parametrize(("before", "within"), PRESSED.values(), ids=PRESSED)
@each_of(KINDS)
def test_buffer_total__little_is_read_under_memory_pressure(
    loop: asyncio.AbstractEventLoop, kind: Kind, before: int, within: int
) -> None:
    worker = kind.worker(loop, buffer_total="1MiB", buffer_limit="1MiB")
    content = DATA[: max(before, 0)], DATA[:400_000]
    data = kind.say(content[1])
    with contextlib.ExitStack() as stack:
        other = stack.enter_context(FakeTransport(http_echo(worker), 0))
        if before >= 0:
            client = stack.enter_context(Client(kind, worker))
            client.say(kind.say(content[0]))
            client.until(lambda: client.quiet)
            client.say(data[:within])
        other.feed(post(bytes(600_000)))
        assert worker.context.under_pressure
        if before < 0:
            client = stack.enter_context(Client(kind, worker))
        client.reads.clear()
        client.say(data[within:100_000])
        assert max(client.reads) <= SMALL_READ
        other.take(MIB)
        client.until(lambda: not worker.context.under_pressure)
        client.say(data[100_000:])
        assert max(client.reads) > SMALL_READ
        client.until(lambda: client.quiet)
        assert kind.is_answer(bytes(client.sent), b"".join(content))


# --- turns ---


@each_of(KINDS)
def test_turns_who_is_read_all_the_time_gives_way(
    loop: asyncio.AbstractEventLoop, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However fast it is answered: libuv reads on at once, up to 32 times, where a read has filled its buffer."""
    for module in ("http1", "websocket"):
        monkeypatch.setattr(f"echoserver.protocols.{module}.connection.TURN_SECONDS", 60.0)
    with Client(kind, kind.worker(loop)) as client:
        data = kind.say(DATA)
        client.say(data[:1000])
        client.until(lambda: client.reading)
        client.reads.clear()
        rest = client.feed(data[1000:], turns=False)
        assert client.connection.stopped
        assert len(client.reads) <= 5
        client.pass_turn()
        assert not client.connection.stopped & TURN
        client.until(lambda: client.reading)
        client.say(rest)
        client.until(lambda: client.quiet)
        assert kind.is_answer(bytes(client.sent), DATA)


# --- how it ends ---


@pytest.mark.parametrize("room", [None, 0])
@each_of(ECHOES | DISCARD)
def test_fin_all_that_came_before_it_is_answered(loop: asyncio.AbstractEventLoop, kind: Kind, room: int | None) -> None:
    worker = kind.worker(loop)
    with Client(kind, worker, room) as client:
        client.say(kind.say(DATA[:40_000]))
        client.until(lambda: client.reading)
        client.eof()
        client.until(lambda: client.lost)
        assert kind.is_answer(bytes(client.sent), DATA[:40_000])
        assert not client.ended
        check_nothing_is_left(client)


@each_of(CHARGEN)
def test_fin_chargen_goes_on_after_it(loop: asyncio.AbstractEventLoop, kind: Kind) -> None:
    worker = kind.worker(loop, **kind.last_options)
    with Client(kind, worker, 0) as client:
        client.eof()
        client.until(lambda: client.lost)
        assert client.sent == pattern(LAST)
        check_nothing_is_left(client)


def last_of(kind: Kind) -> bytes:
    assert kind.last is not None
    return kind.last(DATA[:LAST])


@each_of(OWING)
def test_closing_what_is_owed_is_waited_for_and_nothing_is_read(loop: asyncio.AbstractEventLoop, kind: Kind) -> None:
    worker = kind.worker(loop, **kind.last_options)
    more = kind.say(DATA[:1000])
    with Client(kind, worker, 0) as client:
        assert client.feed(last_of(kind)) == b""
        client.until(lambda: client.connection.closing, take=0)
        assert client.feed(more) == more
        for _ in range(10):
            sweep(worker, LINGER_TIMEOUT)
        assert client.open, "a slow client must not lose its answers"
        client.until(lambda: client.ended)
        assert kind.is_answer(bytes(client.sent), DATA[:LAST])
        assert client.feed(more) == b""
        client.eof()
        assert client.lost
        check_nothing_is_left(client)


@each_of(OWING)
def test_idle_timeout__a_client_that_sends_on_and_takes_no_last_answer_is_cut(
    loop: asyncio.AbstractEventLoop, kind: Kind
) -> None:
    worker = kind.worker(loop, idle_timeout="60s", **kind.last_options)
    more = kind.say(DATA[:1000])
    with Client(kind, worker, 0) as client:
        assert client.feed(last_of(kind)) == b""
        client.until(lambda: client.connection.closing, take=0)
        for _ in range(6):
            client.feed(more)
            sweep(worker, 20)
        client._settle()
        assert client.lost
        check_nothing_is_left(client)


@each_of(ENDING)
def test_closing_what_comes_after_the_last_answer_is_dropped(loop: asyncio.AbstractEventLoop, kind: Kind) -> None:
    worker = kind.worker(loop, **kind.last_options)
    with Client(kind, worker) as client:
        client.say(last_of(kind))
        client.until(lambda: client.ended)
        said = bytes(client.sent)
        assert kind.is_answer(said, DATA[:LAST])
        for data in (kind.say(DATA[:1000]), kind.say(DATA[:300_000]), bytes(1000)):
            client.say(data)
        assert client.sent == said
        assert worker.context.used == 0
        worker.context.now = max(worker.context.now, loop.time())
        sweep(worker, LINGER_TIMEOUT)
        client._settle()
        assert client.lost
        check_nothing_is_left(client)


# --- drains ---


@each_of(KINDS)
def test_drain_who_is_quiet_is_closed(loop: asyncio.AbstractEventLoop, kind: Kind) -> None:
    worker = kind.worker(loop)
    with Client(kind, worker) as client:
        client.say(kind.say(DATA[:1000]))
        client.until(lambda: client.quiet)
        assert client.connection.idle() == (kind.protocol == "http"), "what raw clients wait for nobody knows"
        begin_drain(worker)
        sweep(worker, 0)
        assert client.open or kind in CHARGEN.values()
        worker.context.now = max(worker.context.now, loop.time())
        for _ in range(4):
            sweep(worker, IDLE_GRACE)
        client._settle()
        assert not client.open
        assert kind.is_answer(bytes(client.sent), DATA[:1000])


@each_of({name: kind for name, kind in (ECHOES | DISCARD).items() if kind.protocol == "tcp"})
def test_drain_who_goes_on_is_served(loop: asyncio.AbstractEventLoop, kind: Kind) -> None:
    """Where there are requests, the next one is the last."""
    worker = kind.worker(loop)
    with Client(kind, worker) as client:
        client.say(DATA[:100])
        client.say(DATA[100:200])
        client.until(lambda: client.quiet)
        begin_drain(worker)
        for start in range(200, 1000, 100):
            sweep(worker, IDLE_GRACE / 2)
            assert client.open
            client.say(DATA[start : start + 100])
            client.until(lambda: client.quiet)
        assert kind.is_answer(bytes(client.sent), DATA[:1000])


@each_of(ECHOES | CHARGEN)
def test_drain_what_is_owed_is_waited_for(loop: asyncio.AbstractEventLoop, kind: Kind) -> None:
    worker = kind.worker(loop)
    with Client(kind, worker, 0) as client:
        client.say(kind.say(DATA[:40_000]))
        begin_drain(worker)
        for _ in range(10):
            sweep(worker, IDLE_GRACE)
            assert client.open
            assert not client.connection.idle()
        client.until(lambda: client.quiet)
        for _ in range(4):
            sweep(worker, IDLE_GRACE)
            client._settle()
        assert not client.open
        assert kind.is_answer(bytes(client.sent), DATA[:40_000])


@each_of(ECHOES)
def test_drain_who_is_within_a_message_is_not_idle(loop: asyncio.AbstractEventLoop, kind: Kind) -> None:
    worker = kind.worker(loop)
    with Client(kind, worker) as client:
        data = kind.say(DATA[:50_000])
        client.say(data[:-1])
        assert not client.connection.idle()
        begin_drain(worker)
        sweep(worker, 0.5)
        assert not client.connection.idle()
        client.say(data[-1:])
        client.until(lambda: client.quiet)
        assert kind.is_answer(bytes(client.sent), DATA[:50_000])


@each_of(ECHOES | DISCARD)
def test_drain_who_has_been_closed_has_lost_nothing(loop: asyncio.AbstractEventLoop, kind: Kind) -> None:
    """Though a turn of the loop goes by before the transport says so: a second signal may come in it."""
    worker = kind.worker(loop)
    with Client(kind, worker) as client:
        client.say(kind.say(DATA[:1000]))
        client.until(lambda: client.quiet)
        protocol: Any = client.get_protocol()
        assert not protocol.eof_received()
        begin_drain(worker)
        worker.end_at_once()
        loop.run_forever()  # it has been told to stop
        assert worker._exit_code == 0


# --- a connection that is lost ---


def nothing(client: Client) -> None:
    pass


def some_is_read(client: Client) -> None:
    client.say(client.kind.say(DATA[:300_000])[:150_000])


def does_not_read(client: Client) -> None:
    client.feed(client.kind.say(DATA[:MIB]))


def has_had_its_turn(client: Client) -> None:
    client.feed(client.kind.say(DATA[: 2 * MIB]), turns=False)


def has_sent_fin(client: Client) -> None:
    client.say(client.kind.say(DATA[:40_000]))
    client.eof()


def has_been_told_the_last(client: Client) -> None:
    client.feed(last_of(client.kind) if client.kind.last else b"")


def is_under_pressure(client: Client) -> None:
    client.feed(client.kind.say(DATA[:150_000]))
    client.context.enter_pressure()
    client.feed(client.kind.say(DATA[:150_000]))


def is_drained(client: Client) -> None:
    client.feed(client.kind.say(DATA[:150_000])[:-1])
    begin_drain(client.worker)
    for _ in range(3):
        sweep(client.worker, 1)


SITUATIONS: list[Callable[[Client], None]] = [
    nothing, some_is_read, does_not_read, has_had_its_turn, has_sent_fin, has_been_told_the_last, is_under_pressure,
    is_drained,
]  # fmt: skip


@pytest.fixture
def faults(loop: asyncio.AbstractEventLoop) -> Iterator[list[dict[str, Any]]]:
    """What is raised in callbacks of the loop's."""
    found: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: found.append(context))
    yield found
    loop.set_exception_handler(None)


@pytest.mark.parametrize("situation", SITUATIONS)
@each_of(KINDS)
def test_lost_nothing_is_left_wherever_it_is(
    loop: asyncio.AbstractEventLoop, faults: list[dict[str, Any]], kind: Kind, situation: Callable[[Client], None]
) -> None:
    for room in (None, 0):
        for end in (FakeTransport.reset, FakeTransport.abort):
            worker = kind.worker(
                loop, idle_timeout="1h", **kind.last_options if situation is has_been_told_the_last else {}
            )
            with Client(kind, worker, room) as client:
                situation(client)
                if not client.lost:
                    end(client)
                client._settle()
                client.pass_turn()
                client.pass_turn()
                assert client.lost
                check_nothing_is_left(client)
    assert not faults


# --- uvloop's own transport, over a socket ---


class Peer:
    """A client over TCP of a worker on uvloop, and its connection; both are driven by one loop."""

    def __init__(self, kind: Kind, worker: Worker) -> None:
        self.context = worker.context
        self._socket, self.transport = over_loopback(worker, kind.protocol)
        self.unsent = memoryview(kind.before)

    @property
    def connection(self) -> Connection:
        (connection,) = self.context.connections
        return cast(Connection, connection)

    def say(self, data: bytes) -> None:
        """Say it as it can be sent."""
        self.unsent = memoryview(data)

    def turn(self) -> None:
        """The client sends what it can, and the loop has a turn."""
        with contextlib.suppress(BlockingIOError):
            if self.unsent:
                self.unsent = self.unsent[self._socket.send(self.unsent) :]
        self.context.loop.call_soon(self.context.loop.stop)
        self.context.loop.run_forever()

    def until(self, condition: Callable[[], object]) -> None:
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end
            self.turn()

    def reset(self) -> None:
        if self._socket.fileno() < 0:
            return
        self.unsent = memoryview(b"")
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("@ii", 1, 0))
        self._socket.close()
        self.until(lambda: not self.context.connections)
        for _ in range(5):  # the loop closes the socket some turns later
            self.turn()


Connect = Callable[[Kind], Peer]


@pytest.fixture
def connected() -> Iterator[Connect]:
    loop = uvloop.new_event_loop()
    raised: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: raised.append(context))
    peers: list[Peer] = []

    def connect(kind: Kind) -> Peer:
        peers.append(Peer(kind, kind.worker(loop)))
        return peers[-1]

    yield connect
    for peer in peers:
        peer.reset()
    loop.close()
    assert not raised


@each_of(KINDS)
def test_gate_what_it_says_is_what_uvloop_does(connected: Connect, kind: Kind) -> None:
    """From the beginning: after connection_made() uvloop (0.23.0) reads, whatever was said there."""
    peer = connected(kind)

    def check() -> None:
        assert peer.transport.is_reading() == (not peer.connection.stopped)

    check()
    while peer.unsent:
        peer.turn()
        check()
    peer.say(kind.say(DATA[: 2 * MIB]))
    for _ in range(50):
        peer.turn()
        check()


@each_of(KINDS)
def test_lost_by_a_reset_of_a_client_that_does_not_read(connected: Connect, kind: Kind) -> None:
    peer = connected(kind)
    peer.until(lambda: not peer.unsent)
    peer.say(kind.say(DATA))
    peer.until(lambda: peer.connection.write_queue is not None or not peer.unsent)
    peer.reset()
    assert peer.context.used == 0
