"""A transport in memory: what uvloop does between a protocol and a kernel that takes as much as it is told."""

import asyncio
import socket
from collections.abc import Iterable
from typing import Any, Self, cast

from echoserver.config import options as config
from echoserver.protocols.http1.connection import HttpConnection
from echoserver.protocols.tcp.echo import TcpEcho
from echoserver.transport.connection import Connection
from echoserver.transport.stream import TURN
from echoserver.worker.worker import Worker
from tests import invariants

Data = bytes | bytearray | memoryview

_READ = 256 << 10  # bytes that uvloop reads at a time

invariants.record()


def make(loop: asyncio.AbstractEventLoop, **texts: str) -> Worker:
    """A worker with options."""
    return Worker(config.parse(texts), loop)


def http_echo(worker: Worker) -> HttpConnection:
    """A connection to a worker's --http."""
    return cast(HttpConnection, worker.factory("http")())


def tcp_echo(worker: Worker) -> TcpEcho:
    """Likewise to its --tcp."""
    return cast(TcpEcho, worker.factory("tcp")())


def over_loopback(worker: Worker, protocol: str) -> tuple[socket.socket, asyncio.Transport]:
    """A client's socket, and the real transport of its connection to the worker, whose loop drives both."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        client = socket.create_connection(listening.getsockname())
        accepted = listening.accept()[0]
    client.setblocking(False)
    accepted.setblocking(False)
    made = worker.loop.connect_accepted_socket(worker.factory(protocol), accepted)
    transport, _ = worker.loop.run_until_complete(made)
    return client, transport


def begin_drain(worker: Worker) -> None:
    """What stop() does, without the listeners."""
    worker.stopping = worker.context.draining = worker.context.rejecting = worker.context.closing_idle = True
    worker.site.reader.closing = True
    for connection in list(worker.context.connections):
        connection.drain()


def sweep(worker: Worker, seconds: float) -> None:
    """Let so much time go by, and sweep."""
    worker.context.now += seconds
    for connection in list(worker.context.connections):
        connection.sweep(worker.context.now)


class FakeTransport(asyncio.Transport):
    """room: bytes that the kernel takes; what is more is queued as uvloop queues it: not copied. None: all are taken.

    sent: what the client has been sent, also by protocols that write to the socket itself. writes: calls of write() and
    writelines(). reads: bytes of each read. To write after the end is an error here.
    """

    def __init__(self, protocol: Connection, room: int | None = None) -> None:
        super().__init__()
        self.sent = bytearray()
        self.writes = 0
        self.reads: list[int] = []
        self.room = room
        self.ended = self.closing = self.lost = False
        self.reading = True
        self._connection = protocol
        self._protocol: asyncio.BaseProtocol = protocol
        self._queue: list[memoryview] = []
        self._writing_paused = False
        self._kernel, self._client = socket.socketpair()
        self._kernel.setblocking(False)
        self._client.setblocking(False)
        protocol.connection_made(self)
        self._settle()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.abort()
        self._settle()

    # --- what the client and the kernel do ---

    def feed(self, data: bytes, *, turns: bool = True) -> bytes:
        """Data has arrived; returns what of it is not read, for reading is paused or the connection closed.

        As many turns of the loop pass as the connection asks for; turns=False: none.
        """
        while data and self.reading and not self.closing:
            protocol: Any = self._protocol
            if isinstance(protocol, asyncio.BufferedProtocol):
                buffer = memoryview(protocol.get_buffer(-1))
                size = min(len(buffer), len(data))
                assert size, "no room to read into"
                buffer[:size] = data[:size]
                protocol.buffer_updated(size)
            else:
                size = min(_READ, len(data))
                protocol.data_received(data[:size])
            self.reads.append(size)
            data = data[size:]
            self._settle()
            if turns:
                self._pass_turns()
        return data

    def _pass_turns(self) -> None:
        while self._current.stopped & TURN and not self.lost:
            self.pass_turn()

    def pass_turn(self) -> None:
        """The loop's next turn."""
        loop = self._connection.context.loop
        loop.call_soon(loop.stop)
        loop.run_forever()
        self._settle()

    @property
    def _current(self) -> Connection:
        """The connection that has the transport, whatever stands in for it."""
        protocol: Any = self._protocol
        return protocol if isinstance(protocol, Connection) else protocol._connection

    def feed_each(self, pieces: Iterable[bytes]) -> None:
        for piece in pieces:
            self.feed(piece)

    def eof(self) -> None:
        """The client's FIN."""
        protocol: Any = self._protocol
        if not self.closing and not protocol.eof_received():
            self.close()
        self._settle()

    def reset(self) -> None:
        """The client's reset."""
        self.abort()
        self._lose(ConnectionResetError())

    def take(self, size: int) -> None:
        """The kernel has room for so many more bytes."""
        assert self.room is not None
        self.room += size
        self._send_queued()
        while self._writing_paused and not self._queue:
            self._writing_paused = False
            protocol: Any = self._protocol
            protocol.resume_writing()
        self.pass_turn()  # what they put off
        self._pass_turns()

    @property
    def open(self) -> bool:
        return not (self.ended or self.closing)

    def _settle(self) -> None:
        """What the loop does before its next turn."""
        invariants.check(self._current, self._protocol, reading=self.reading)
        self._read_socket()
        if self.closing and not self._queue and not self.lost:
            self._lose(None)

    def _lose(self, error: Exception | None) -> None:
        self.lost = True
        protocol: Any = self._protocol
        protocol.connection_lost(error)
        self._kernel.close()
        self._client.close()

    def _read_socket(self) -> None:
        """What protocols have written to the socket itself comes between what they wrote here."""
        try:
            while not self.lost and (data := self._client.recv(1 << 20)):
                self.sent += data
        except BlockingIOError:
            pass

    def _send_queued(self) -> None:
        while self._queue:
            first = self._queue[0]
            size = len(first) if self.room is None else min(self.room, len(first))
            self.sent += first[:size]
            if self.room is not None:
                self.room -= size
            if size < len(first):
                self._queue[0] = first[size:]
                return
            del self._queue[0]

    # --- what protocols call ---

    def write(self, data: Data) -> None:
        self.writelines((data,))

    def writelines(self, list_of_data: Iterable[Data]) -> None:
        assert not self.ended, "written after write_eof()"
        assert not self.closing, "written after close()"
        self.writes += 1
        self._read_socket()
        self._queue += [memoryview(data) for data in list_of_data]
        if not self._writing_paused:
            self._send_queued()
        if self._queue and not self._writing_paused:
            self._writing_paused = True
            protocol: Any = self._protocol
            protocol.pause_writing()

    def write_eof(self) -> None:
        assert not self._queue
        assert not self.lost, "uvloop's transport raises then"
        self.ended = True

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self._queue.clear()
        self.closing = True

    def is_closing(self) -> bool:
        return self.closing

    def is_reading(self) -> bool:
        return self.reading

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._kernel if name == "socket" else default

    def get_write_buffer_size(self) -> int:
        return sum(map(len, self._queue))

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high == 0, "pause_writing() would come later than the connections rely on"
