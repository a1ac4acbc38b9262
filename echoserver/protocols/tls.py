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
from echoserver.connection import LINGER, Connection
from echoserver.protocols.stage import Echo, Stage

if TYPE_CHECKING:
    from echoserver.worker import Worker

# A MemoryBIO never gives back what it has once needed (OpenSSL 3.0), so that little goes through it at a time: four
# records of TLS are read, one is written
_READ = 64 << 10
_RECORD = 16 << 10
_MOST = 256 << 10  # bytes that are encrypted before they are written
_HANDSHAKE = counters.index("errors", "tls_handshake")
_PLAIN = counters.index("errors", "plain_http")


class Tls(Stage):
    """The handshake, and afterwards the transport of the protocol that comes next, which takes its place."""

    __slots__ = (
        "_buffered", "_closing", "_connection", "_dropping", "_ended", "_fin", "_incoming", "_next", "_outgoing",
        "_paused", "_protocol", "_ssl",
    )  # fmt: skip

    TIMEOUT = counters.index("timeouts", "tls_handshake")
    _protocol: Any
    """None: the handshake is under way, or all is over."""
    _dropping: bool
    """All has been said: what the client still sends is not even decrypted."""
    _fin: bool
    """The client's close_notify or FIN has been read."""
    _ended: bool
    """The protocol above has been told that nothing more comes."""

    def __init__(self, worker: "Worker", following: Echo, context: ssl.SSLContext) -> None:
        super().__init__(worker)
        self._next = following
        self._protocol = None
        self._connection: Connection | None = None  # whose transport this is, whatever takes its place as a protocol
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._ssl = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._buffered = self._closing = self._dropping = self._ended = self._fin = self._paused = False

    # --- a protocol, to the transport below ---

    def connection_lost(self, exc: Exception | None) -> None:
        protocol, self._protocol, self._connection = self._protocol, None, None
        self._closing = True
        if protocol is None:
            super().connection_lost(exc)
        else:
            protocol.connection_lost(exc)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.worker.buffer[:_READ]

    def buffer_updated(self, nbytes: int) -> None:
        self.take(self.worker.buffer[:nbytes])

    def take(self, data: memoryview | bytes) -> None:
        """What has been read."""
        if self._dropping:
            return
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
        if self._dropping:
            self._end_of_input()
        else:
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
        protocol = self._next(self.worker)
        protocol.peer, protocol.proxied = self.peer, self.proxied
        try:
            protocol.secured(self._ssl)
        except (ssl.SSLError, ValueError) as error:  # a client's certificate with what is no text in it
            self._failed(error)
            return
        self.worker.connections.discard(self)
        self._flush()
        self.set_protocol(protocol)
        protocol.connection_made(self)  # type: ignore[arg-type]  # a transport by what it can do
        self._deliver()

    def _failed(self, error: ssl.SSLError | ValueError) -> None:
        """Close in stages, after the alert that OpenSSL has for the client, if any.

        With TLS 1.3 clients send before they can know: what is not read would make the kernel reset the connection.
        """
        reason = getattr(error, "reason", None) or str(error)
        plain = reason in {"HTTP_REQUEST", "HTTPS_PROXY_REQUEST"}
        self.worker.counts[_PLAIN if plain else _HANDSHAKE] += 1
        self.worker.log_refused(self.transport, self.peer, "plain HTTP to a TLS port" if plain else reason)
        self._flush()
        self._dropping = True
        self._since = self.worker.loop.time()
        self.transport.write_eof()

    def sweep(self, now: float) -> None:
        if not self._dropping:
            super().sweep(now)
        elif now - self._since >= LINGER - self.worker.interval:
            self.transport.close()

    # --- what has come, decrypted, to the protocol above ---

    def _deliver(self) -> None:
        worker, transport = self.worker, self.transport
        try:
            while not (self._paused or self._ended or self._closing or self._dropping or transport.is_closing()):
                filled = 0
                if self._has_read():  # to ask for a buffer can make a protocol take one
                    buffer = self._protocol.get_buffer(-1) if self._buffered else worker.buffer
                    filled = self._decrypt(buffer)
                if not filled:
                    if self._fin:
                        self._end_of_input()
                    break
                if self._buffered:
                    self._protocol.buffer_updated(filled)
                else:
                    self._protocol.data_received(bytes(buffer[:filled]))
        except ssl.SSLError:
            self._flush()  # an alert
            self.abort()
            return
        self._answer()

    def _answer(self) -> None:
        """Send what OpenSSL has to say to key updates: a client may ask for many, and never read."""
        size, connection = self._outgoing.pending, self._connection
        self._flush()
        if size and connection is not None and connection.behind is not None:
            connection.keep(size)

    def _has_read(self) -> bool:
        """Whether anything of what has been read is left, encrypted or not: SSLWantReadError takes longer to say so."""
        return self._incoming.pending > 0 or self._ssl.pending() > 0

    def _decrypt(self, buffer: memoryview) -> int:
        """Fill a buffer with what has come, as much as there is room for; returns how much it is."""
        read, filled, size = self._ssl.read, 0, len(buffer)
        try:
            while filled < size and (not filled or self._has_read()):
                count: int = read(size - filled, buffer[filled:] if filled else buffer)  # type: ignore[assignment]
                if not count:  # close_notify
                    self._fin = True
                    break
                filled += count
        except ssl.SSLWantReadError:
            pass
        return filled

    def _end_of_input(self) -> None:
        self._ended = True
        if self._protocol is not None and not self._protocol.eof_received():
            self.close()

    # --- a transport, to the protocol above ---

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Deliver to another protocol from now on."""
        self._protocol = protocol
        if isinstance(protocol, Connection):
            self._connection = protocol
        self._buffered = isinstance(protocol, asyncio.BufferedProtocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The protocol that is delivered to."""
        protocol: asyncio.BaseProtocol = self._protocol
        return protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send; nothing of data is kept."""
        if len(data) > _RECORD:
            self.writelines((data,))
        elif data and not self._closing:
            try:
                self._ssl.write(data)
            except ssl.SSLError:
                self.abort()
                return
            self.transport.write(self._outgoing.read())

    def writelines(self, parts: Iterable[bytes | bytearray | memoryview]) -> None:
        """The same for several pieces."""
        if self._closing:
            return
        encrypted, size = [], 0
        try:
            for part in parts:
                rest = memoryview(part)
                while rest:
                    written = self._ssl.write(rest[:_RECORD])
                    rest = rest[written:]
                    encrypted.append(self._outgoing.read())
                    size += written
                    if size >= _MOST:
                        self.transport.write(b"".join(encrypted))
                        encrypted, size = [], 0
        except ssl.SSLError:
            self.abort()
            return
        if encrypted:
            self.transport.write(b"".join(encrypted))

    def _flush(self) -> None:
        if self._outgoing.pending and not self._closing:
            self.transport.write(self._outgoing.read())

    def write_eof(self) -> None:
        """Send close_notify and FIN; what the client sends from now on is dropped, and its FIN told."""
        self._notify()
        self._dropping = True
        self.transport.write_eof()

    def close(self) -> None:
        """Send what is queued, close_notify and FIN, and close."""
        if not self._closing:
            if not self._dropping:
                self._notify()
            self._closing = True
            self.transport.close()

    def _notify(self) -> None:
        """Send close_notify. Nothing is decrypted afterwards: OpenSSL looks for the client's own in what has come."""
        with contextlib.suppress(ssl.SSLError):  # it has not, or has found something else
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
