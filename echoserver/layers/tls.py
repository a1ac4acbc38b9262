"""TLS between a transport and a protocol: to the one it is a protocol, to the other a transport.

What asyncio and uvloop (0.23.0) have for this ends a connection at the client's close_notify, has no half-close, and
keeps what can't be sent where it is not counted. Here the transport below does all the queueing, so that backpressure,
half-close and deadlines are those of any other connection.
"""

import asyncio
import ssl
from collections.abc import Iterable
from time import monotonic
from typing import Any, cast

from echoserver.observe import counters
from echoserver.transport.connection import TURN_SECONDS, Connection
from echoserver.transport.context import Context
from echoserver.transport.layer import Layer, Opener, hand_over
from echoserver.transport.origin import Origin
from echoserver.transport.stream import BACKLOG, TURN

# A MemoryBIO never gives back what it has once needed (OpenSSL 3.0), so that little goes through it at a time: four
# records of TLS are read, one is written
_READ = 64 << 10
_RECORD = 16 << 10
_MOST = 256 << 10  # bytes that are encrypted before they are written: as many as a Relay's buffer, which is used again
_AT_ONCE = 4 << 10  # bytes that OpenSSL is given however long it may take over them
# OpenSSL takes a thousand times as long over key updates as over data, and returns when it has taken all of them: so it
# is given what has been read in steps, which are shorter where they take long
_LEAST_STEP, _FIRST_STEP, _MOST_STEP = 512, 4 << 10, 16 << 10
_RECORDS = 64  # records that are decrypted at a time
_FULL_READS = 4  # reads in a turn that fill the buffer
_HANDSHAKE = counters.index("errors", "tls_handshake")
_PLAIN = counters.index("errors", "plain_http")


class Tls(Layer):
    """The handshake, and afterwards the transport of the protocol that comes next, which takes its place."""

    __slots__ = (
        "_behind", "_buffered", "_closing", "_connection", "_dropping", "_ended", "_fin", "_full", "_full_reads",
        "_incoming", "_outgoing", "_protocol", "_rest", "_ssl", "_step", "_unencrypted",
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
    _rest: bytes
    """What has been read and OpenSSL has not been given yet."""
    _behind: bool
    """The kernel has not taken all that was encrypted."""
    _full: bool
    """The protocol above has been told that something waits to be sent."""
    _unencrypted: list[memoryview]
    """What is to be sent besides: encrypting it all at once would take long."""

    def __init__(self, context: Context, origin: Origin, following: Opener, ssl_context: ssl.SSLContext) -> None:
        super().__init__(context, origin, following)
        self._protocol = None
        self._connection: Connection | None = None  # whose transport this is, whatever takes its place as a protocol
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._ssl = ssl_context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._buffered = self._closing = self._dropping = self._ended = self._fin = False
        self._behind = self._full = False
        self._rest = b""
        self._unencrypted = []
        self._full_reads, self._step = 0, _FIRST_STEP

    # --- a protocol, to the transport below ---

    def connection_lost(self, exc: Exception | None) -> None:
        protocol, self._protocol, self._connection = self._protocol, None, None
        self._closing = True
        self._rest = b""
        self._unencrypted.clear()
        if protocol is None:
            super().connection_lost(exc)
        else:
            protocol.connection_lost(exc)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.context.buffer[:_READ]

    def buffer_updated(self, nbytes: int) -> None:
        self.take(self.context.buffer[:nbytes])
        if nbytes == len(self.context.buffer[:_READ]):  # else libuv reads no more of it in this turn
            self._full_reads += 1
            if self._full_reads >= _FULL_READS:
                self._yield_turn()
        else:
            self._full_reads = 0

    def take(self, data: memoryview | bytes) -> None:
        """What has been read."""
        if self._dropping:
            return
        if len(data) <= _AT_ONCE and not self._rest:
            self._incoming.write(data)
        else:
            self._rest += data
        if self._protocol is not None:
            self._deliver()
        elif not self._closing:
            self._shake_hands()

    def _yield_turn(self) -> None:
        if not self.stopped & TURN and not self._closing:
            self.stop_reading(TURN)
            self.context.loop.call_soon(self._take_turn)

    def _take_turn(self) -> None:
        self._full_reads = 0
        self.go_on_reading(TURN)
        if self._protocol is None and self._rest and not self._closing:
            self._shake_hands()
        elif not self.stopped:
            self._deliver_rest()

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
        self._behind = True
        self._tell_whether_full()

    def resume_writing(self) -> None:
        self._behind = False
        self._encrypt_more()
        self._tell_whether_full()

    def _tell_whether_full(self) -> None:
        """Tell the protocol above, where that has changed, whether something waits to be sent."""
        full = self._behind or bool(self._unencrypted)
        if full != self._full and self._protocol is not None:
            self._full = full
            (self._protocol.pause_writing if full else self._protocol.resume_writing)()

    # --- the handshake ---

    def _shake_hands(self) -> None:
        if self._rest:
            self._feed()
        try:
            self._ssl.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            if self._rest:  # a ClientHello in a thousand pieces takes as long as a thousand messages
                self._yield_turn()
            return
        except ssl.SSLError as error:
            self._failed(error)
            return
        try:  # it reads the client's certificate
            protocol = self._following(self.context, self.origin.over_tls(self._ssl))
        except (ssl.SSLError, ValueError) as error:  # a client's certificate with what is no text in it
            self._failed(error)
            return
        hand_over(cast(asyncio.Transport, self), self, protocol)  # a transport by what it can do
        self._deliver()  # what OpenSSL has to say goes out with the first response, where its request has come too

    def _failed(self, error: ssl.SSLError | ValueError) -> None:
        """Close in stages, after the alert that OpenSSL has for the client, if any.

        With TLS 1.3 clients send before they can know: what is not read would make the kernel reset the connection.
        """
        reason = getattr(error, "reason", None) or str(error)
        plain = reason in {"HTTP_REQUEST", "HTTPS_PROXY_REQUEST"}
        self.context.counts[_PLAIN if plain else _HANDSHAKE] += 1
        self.context.log_refused(self.transport, self.origin.peer, "plain HTTP to a TLS port" if plain else reason)
        self._flush()
        self._dropping = True
        self._rest = b""
        self.send_fin()

    def sweep(self, now: float) -> None:
        if not self._dropping:
            super().sweep(now)
        elif self.has_lingered(now):
            self.transport.close()

    # --- what has come, decrypted, to the protocol above ---

    def _deliver(self) -> None:
        context, transport = self.context, self.transport
        over = monotonic() + TURN_SECONDS if self._rest else 0.0
        try:
            while not (self.stopped or self._ended or self._closing or self._dropping or transport.is_closing()):
                filled = 0
                if self._rest or self._has_read():  # to ask for a buffer can make a protocol take one
                    buffer = self._protocol.get_buffer(-1) if self._buffered else context.buffer
                    filled = self._decrypt(buffer, over)
                if filled and self._buffered:
                    self._protocol.buffer_updated(filled)
                elif filled:
                    self._protocol.data_received(bytes(buffer[:filled]))
                elif not self._rest:
                    if self._fin:
                        self._end_of_input()
                    break
                if (self._rest or self._has_read()) and self._is_over(over := over or monotonic() + TURN_SECONDS):
                    self._yield_turn()
                    break
        except ssl.SSLError:
            self._flush()  # an alert
            self.abort()
            return
        self._answer()

    def _is_over(self, over: float) -> bool:
        """Whether the turn is, which was to end at a time; by how much it was missed says how long a step may be."""
        late = monotonic() - over
        if late < 0:
            return False
        if late > 2 * TURN_SECONDS:
            self._step = max(_LEAST_STEP, self._step // 4)
        else:
            self._step = min(_MOST_STEP, self._step * 2)
        return True

    def _answer(self) -> None:
        """Send what OpenSSL has to say to key updates: a client may ask for many, and never read."""
        size, connection = self._outgoing.pending, self._connection
        self._flush()
        if size and connection is not None and connection.write_queue is not None:
            connection.account_unsent(size)

    def _has_read(self) -> bool:
        """Whether anything of what has been read is left, encrypted or not: SSLWantReadError takes longer to say so."""
        return self._incoming.pending > 0 or self._ssl.pending() > 0

    def _feed(self) -> None:
        """Give OpenSSL the next step of what has been read."""
        self._incoming.write(self._rest[: self._step])
        self._rest = self._rest[self._step :]

    def _decrypt(self, buffer: memoryview, over: float) -> int:
        """Fill a buffer with what has come, as much as there is room for, or time; returns how much it is."""
        read, filled, size, records = self._ssl.read, 0, len(buffer), 0
        while filled < size and records < _RECORDS and (not filled or self._rest or self._has_read()):
            records += 1
            try:
                count: int = read(size - filled, buffer[filled:] if filled else buffer)  # type: ignore[assignment]
            except ssl.SSLWantReadError:
                if not self._rest or monotonic() >= over:
                    break
                self._feed()
                continue
            if not count:  # close_notify
                self._fin = True
                self._rest = b""
                break
            filled += count
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
        """Encrypt and send; of up to 256 KiB nothing is kept, of more a view."""
        if len(data) > _RECORD or self._unencrypted:
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
        waiting = bool(self._unencrypted)
        # what waits already may be followed by what its owner uses again
        self._unencrypted += [memoryview(bytes(part) if waiting else part) for part in parts if part]
        if not waiting:
            self._encrypt()
            self._tell_whether_full()

    def _encrypt(self) -> None:
        """Encrypt and send what waits, as much as is done at a time; what is left has its turn later."""
        encrypted, size, waiting = [], 0, self._unencrypted
        try:
            while waiting and size < _MOST:
                written = self._ssl.write(waiting[0][:_RECORD])
                encrypted.append(self._outgoing.read())
                size += written
                if written < len(waiting[0]):
                    waiting[0] = waiting[0][written:]
                else:
                    waiting.pop(0)
        except ssl.SSLError:
            waiting.clear()
            self.abort()
            return
        self.transport.write(b"".join(encrypted))
        if waiting and not self._behind:  # else it goes on when the kernel has taken that
            self.context.loop.call_soon(self._encrypt_in_turn)

    def _encrypt_in_turn(self) -> None:
        self._encrypt_more()
        self._tell_whether_full()

    def _encrypt_more(self) -> None:
        if self._unencrypted and not self._behind and not self._closing:
            self._encrypt()

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
        try:  # noqa: SIM105 - suppress() takes longer, and this is every connection's end
            self._ssl.unwrap()
        except ssl.SSLError:  # it has not come, or something else has
            pass
        self._flush()

    def abort(self) -> None:
        """Close at once."""
        self._closing = True
        self.transport.abort()

    def is_closing(self) -> bool:
        """Whether it is closed or about to be."""
        return self._closing or self.transport.is_closing()

    def pause_reading(self) -> None:
        """Deliver nothing more for now. BACKLOG stands for whatever reason the protocol above has."""
        self.stop_reading(BACKLOG)

    def resume_reading(self) -> None:
        """Deliver again, beginning with what has been read already."""
        self.go_on_reading(BACKLOG)
        if not self.stopped:  # else it goes on when it has its turn
            self.context.loop.call_soon(self._deliver_rest)

    def _deliver_rest(self) -> None:
        if self._protocol is not None:
            self._deliver()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """As those of the transport below, which counts what is encrypted."""
        self.transport.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        """Bytes that wait to be sent, encrypted or not."""
        return self.transport.get_write_buffer_size() + sum(map(len, self._unencrypted))

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """ssl_object, or what the transport below says."""
        return self._ssl if name == "ssl_object" else self.transport.get_extra_info(name, default)
