"""TLS between a transport and a protocol: to the one it is a protocol, to the other a transport.

What asyncio and uvloop (0.23.0) have for this ends a connection at the client's close_notify, has no half-close, and
keeps what can't be sent where it is not counted. Here the transport below does all the queueing, so that backpressure,
half-close and deadlines are those of any other connection.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from echoserver import counters
from echoserver.protocols.stage import Echo, Stage

if TYPE_CHECKING:
    from echoserver.worker import Worker

_READ = 256 << 10  # bytes asked for at a time; OpenSSL gives a record (16 KiB) at most
_HANDSHAKE = counters.index("errors", "tls_handshake")
_PLAIN = counters.index("errors", "plain_http")


class Tls(Stage):
    """The handshake, and afterwards the transport of the protocol that comes next, which takes its place."""

    __slots__ = (
        "_buffered", "_closing", "_ended", "_fin", "_incoming", "_next", "_outgoing", "_paused", "_protocol", "_ssl",
    )  # fmt: skip

    TIMEOUT = counters.index("timeouts", "tls_handshake")
    _protocol: Any
    """None: the handshake is under way, or all is over."""
    _fin: bool
    """The transport below has read everything."""
    _ended: bool
    """The protocol above has been told that nothing more comes."""

    def __init__(self, worker: "Worker", following: Echo, context: ssl.SSLContext) -> None:
        super().__init__(worker)
        self._next = following
        self._protocol = None
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._ssl = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._buffered = self._closing = self._ended = self._fin = self._paused = False

    # --- a protocol, to the transport below ---

    def connection_lost(self, exc: Exception | None) -> None:
        protocol, self._protocol = self._protocol, None
        self._closing = True
        if protocol is None:
            super().connection_lost(exc)
        else:
            protocol.connection_lost(exc)

    def buffer_updated(self, nbytes: int) -> None:
        self.take(self.worker.buffer[:nbytes])

    def take(self, data: memoryview | bytes) -> None:
        """What has been read."""
        self._incoming.write(data)
        if self._protocol is not None:
            self._deliver()
        elif not self._closing:
            self._shake_hands()

    def eof_received(self) -> bool:
        """The client's FIN, also without a close_notify before it: an echo trusts any end."""
        self._fin = True
        if self._protocol is None:
            return False
        self._deliver()
        return not self._closing

    def pause_writing(self) -> None:
        if self._protocol is not None:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        if self._protocol is not None:
            self._protocol.resume_writing()

    # --- the handshake ---

    def _shake_hands(self) -> None:
        try:
            self._ssl.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return
        except ssl.SSLError as error:
            self._failed(error)
            return
        self.worker.connections.discard(self)
        protocol = self._next(self.worker)
        protocol.peer = self.peer
        self._flush()
        if self._closing:  # the client has gone meanwhile
            return
        self.set_protocol(protocol)
        protocol.secured(self._ssl)
        protocol.connection_made(self)  # type: ignore[arg-type]  # a transport by what it can do
        self._deliver()

    def _failed(self, error: ssl.SSLError) -> None:
        """Close, after the alert that OpenSSL has for the client, if any."""
        plain = error.reason in {"HTTP_REQUEST", "HTTPS_PROXY_REQUEST"}
        self.worker.counts[_PLAIN if plain else _HANDSHAKE] += 1
        self.worker.log_refused(self.transport, self.peer, "plain HTTP to a TLS port" if plain else str(error.reason))
        self._flush()
        self._closing = True
        self.transport.close()

    # --- what has come, decrypted, to the protocol above ---

    def _deliver(self) -> None:
        wanting = False
        try:
            while not (self._closing or self._paused or self._ended or wanting):
                if not self._has_read():
                    wanting = True  # SSLWantReadError would say so too, but takes longer
                elif not (self._deliver_into_buffer() if self._buffered else self._deliver_bytes()):
                    self._end_of_input()
        except ssl.SSLWantReadError:
            wanting = True
        except ssl.SSLError:
            self._flush()  # an alert
            self.abort()
            return
        if wanting and self._fin:
            self._end_of_input()
        self._flush()  # session tickets, an answer to a key update

    def _has_read(self) -> bool:
        """Whether anything of what has been read is left, encrypted or not."""
        return self._incoming.pending > 0 or self._ssl.pending() > 0

    def _deliver_bytes(self) -> int:
        """Deliver all that is here in one piece; returns its size, 0 at the client's close_notify."""
        data = self._ssl.read(_READ)
        if data and self._has_read():
            parts = [data]
            with contextlib.suppress(ssl.SSLWantReadError):
                while self._has_read() and (data := self._ssl.read(_READ)):
                    parts.append(data)
            data = b"".join(parts)
        if data:
            self._protocol.data_received(data)
        return len(data)

    def _deliver_into_buffer(self) -> int:
        """The same for a protocol that brings a buffer, as much as there is room for."""
        buffer = self._protocol.get_buffer(-1)
        filled: int = self._ssl.read(len(buffer), buffer)  # type: ignore[assignment]  # with a buffer, a number
        if filled:
            with contextlib.suppress(ssl.SSLWantReadError):
                while filled < len(buffer) and self._has_read():
                    size: int = self._ssl.read(len(buffer) - filled, buffer[filled:])  # type: ignore[assignment]
                    if not size:
                        break
                    filled += size
            self._protocol.buffer_updated(filled)
        return filled

    def _end_of_input(self) -> None:
        self._ended = True
        if self._protocol is not None and not self._protocol.eof_received():
            self.close()

    # --- a transport, to the protocol above ---

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Deliver to another protocol from now on."""
        self._protocol = protocol
        self._buffered = isinstance(protocol, asyncio.BufferedProtocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The protocol that is delivered to."""
        protocol: asyncio.BaseProtocol = self._protocol
        return protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send; nothing of data is kept."""
        self.writelines((data,))

    def writelines(self, parts: Iterable[bytes | bytearray | memoryview]) -> None:
        """The same for several pieces, with one write."""
        if self._closing:
            return
        try:
            for part in parts:
                rest = memoryview(part)
                while rest:
                    rest = rest[self._ssl.write(rest) :]
        except ssl.SSLError:
            self.abort()
            return
        self._flush()

    def _flush(self) -> None:
        if self._outgoing.pending:
            self.transport.write(self._outgoing.read())

    def write_eof(self) -> None:
        """Send close_notify and FIN; reading goes on."""
        self._notify()
        self.transport.write_eof()

    def close(self) -> None:
        """Send what is queued, close_notify and FIN, and close."""
        if not self._closing:
            self._notify()
            self._closing = True
            self.transport.close()

    def _notify(self) -> None:
        with contextlib.suppress(ssl.SSLError):  # it wants to hear the client's own, which need not be awaited
            self._ssl.unwrap()
        self._flush()

    def abort(self) -> None:
        """Close at once."""
        self._closing = True
        self.transport.abort()

    def is_closing(self) -> bool:
        """Whether it is closed or about to be."""
        return self._closing or self.transport.is_closing()

    def pause_reading(self) -> None:
        """Deliver nothing more for now."""
        self._paused = True
        self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Deliver again, beginning with what has been read already."""
        self._paused = False
        self.transport.resume_reading()
        self.worker.loop.call_soon(self._deliver_rest)

    def _deliver_rest(self) -> None:
        if self._protocol is not None:
            self._deliver()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """As those of the transport below, which counts what is encrypted."""
        self.transport.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        """Bytes, encrypted, that wait to be sent."""
        return self.transport.get_write_buffer_size()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """ssl_object, or what the transport below says."""
        return self._ssl if name == "ssl_object" else self.transport.get_extra_info(name, default)
