"""A stream as a transport: what is spoken on it is another protocol, as WebSocket is (RFC 8441)."""

import asyncio
from collections.abc import Iterable
from typing import Any, Protocol, cast

from echoserver.protocols.http2.taker import Taker
from echoserver.wire.fifo import Fifo


class TunnelStream(Protocol):
    """What a tunnel asks of its stream.

    account: what is kept has changed. begin_as: the response begins, as HTTP/1.1 has it. send: content, now or when the
    client takes it; unsent: what of it waits. end: our side. cancel: reset it. taken: so much content was delivered.
    """

    closed: bool

    @property
    def transport(self) -> asyncio.Transport: ...
    @property
    def unsent(self) -> int: ...
    def account(self) -> None: ...
    def begin_as(self, head: bytes) -> None: ...
    def send(self, content: bytes) -> None: ...
    def end(self) -> None: ...
    def cancel(self) -> None: ...
    def taken(self, size: int) -> None: ...


class Tunnel(Taker, asyncio.Transport):
    """Between a stream and a protocol, which writes the head of its response first."""

    __slots__ = ("_begun", "_closing", "_ended", "_fin", "_paused", "_pending", "_protocol", "_stopped", "_stream")

    def __init__(self, stream: TunnelStream) -> None:
        super().__init__()
        self._stream = stream
        self._protocol: asyncio.BaseProtocol | None = None
        self._pending = Fifo()
        self._stopped = self._paused = self._closing = self._ended = self._fin = False
        self._begun = False

    is_a_connection = True

    def begin(self, protocol: asyncio.BaseProtocol, *, ends: bool) -> None:
        """The protocol has the stream from here on; ends: the client says nothing more."""
        self._protocol = protocol
        protocol.connection_made(self)
        if ends:
            self.take(b"", ends=True)

    # --- the stream's side ---

    def take(self, content: bytes, *, ends: bool) -> None:
        self._fin = self._fin or ends
        self._pending.add(content)
        self._deliver()
        self._stream.account()

    @property
    def kept(self) -> int:
        return len(self._pending)

    @property
    def reads_on(self) -> bool:
        return not self._closing

    def is_waited_for(self) -> bool:
        return True  # what is spoken has deadlines of its own

    def resumed(self) -> None:
        if self._stream.unsent:
            return
        if self._paused:
            self._paused = False
            if self._protocol is not None:
                self._protocol.resume_writing()
        if self._closing and not self._stream.unsent:
            self._stream.end()

    def on_closed(self, *, cut_off: bool) -> None:
        protocol, self._protocol = self._protocol, None
        self._closing = True
        self._pending.clear()
        if protocol is not None:
            protocol.connection_lost(ConnectionResetError() if cut_off else None)

    def _deliver(self) -> None:
        while self._pending and not self._stopped and self._protocol is not None:
            size = self._give()
            if not self._stream.closed:
                self._stream.taken(size)
        if self._fin and not self._pending and not self._stopped and not self._ended and self._protocol is not None:
            self._ended = True
            if not cast(asyncio.Protocol, self._protocol).eof_received():
                self.close()

    def _give(self) -> int:
        data = bytes(self._pending.take(len(self._pending)))
        cast(asyncio.Protocol, self._protocol).data_received(data)
        return len(data)

    # --- the protocol's side ---

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send content."""
        if not self._begun:
            self._begun = True
            self._stream.begin_as(bytes(data))
        elif data and not self._closing and not self._stream.closed:
            self._stream.send(bytes(data))
            if self._stream.unsent and not self._paused and self._protocol is not None:
                self._paused = True
                self._protocol.pause_writing()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """The same for several pieces."""
        self.write(b"".join(list_of_data))

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Deliver to another protocol from now on: but not to one that reads little at a time into the worker's buffer.

        The connection below may be echoing from there, and what comes here is little already.
        """
        if not isinstance(protocol, asyncio.BufferedProtocol):
            self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The protocol that is delivered to."""
        return cast(asyncio.BaseProtocol, self._protocol)

    def pause_reading(self) -> None:
        """Deliver nothing more for now: the client may only send what it already may."""
        self._stopped = True

    def resume_reading(self) -> None:
        """Deliver again."""
        self._stopped = False
        self._deliver()

    def write_eof(self) -> None:
        """End our side of the stream, after what waits."""
        if not self._closing:
            self._stream.end()

    def close(self) -> None:
        """The same; what the client still sends is dropped."""
        if not self._closing:
            self._closing = True
            if not self._stream.unsent:
                self._stream.end()

    def abort(self) -> None:
        """Reset the stream: RFC 8441 section 5."""
        self._closing = True
        self._stream.cancel()

    def is_closing(self) -> bool:
        """Whether it is closed or about to be."""
        return self._closing or self._stream.closed

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """There is none: what waits is the stream's."""

    def get_write_buffer_size(self) -> int:
        """Bytes that wait to be sent."""
        return self._stream.unsent

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """What the connection's transport says."""
        return self._stream.transport.get_extra_info(name, default)
