"""TCP echo (RFC 862): the same bytes; after the client's FIN all that is still owed, then FIN."""

from collections.abc import Callable

from echoserver.protocols.tcp.raw import RawConnection
from echoserver.transport.connection import FULL_READ
from echoserver.transport.context import Context
from echoserver.transport.origin import Origin
from echoserver.transport.readers import Relay

_MUCH = 32 << 10  # bytes in a read from which on a Relay is cheaper than an object of bytes for each read


class TcpEcho(RawConnection):
    """As long as the kernel takes all that is written, what the transport reads goes straight back into its write().

    data_received is _counted, or where the time of a read matters (--idle-timeout, a drain) _stamped. Where much comes
    with the first read, or a read fills its buffer, or when for the first time the kernel does not take everything,
    this is a connection that moves much, and a Relay takes over for the rest of its life.
    """

    __slots__ = ("data_received",)

    data_received: Callable[[bytes], None] | None  # type: ignore[assignment]  # a slot where the base has a method
    """None: a Relay has the transport."""

    def __init__(self, context: Context, origin: Origin) -> None:
        super().__init__(context, origin)
        self.data_received = None

    def begin(self) -> None:
        if self.context.under_pressure:
            self.transport.set_protocol(Relay(self))
        else:
            self._receive_with(self._first)

    def take(self, data: bytes) -> None:
        if self.data_received is not None:
            self.data_received(data)
        else:
            self.received += len(data)
            self.send(data)

    def _receive_with(self, receive: Callable[[bytes], None]) -> None:
        self.data_received = receive
        self.transport.set_protocol(self)  # uvloop (0.23.0) looks data_received up only here

    def _first(self, data: bytes) -> None:
        self._stamped(data)
        if len(data) >= _MUCH:
            self._relay()
        elif self.data_received is not None:  # else a Relay has taken over already
            context = self.context
            timed = context.config.idle_timeout or context.draining
            self._receive_with(self._stamped if timed else self._counted)

    def _counted(self, data: bytes) -> None:
        size = len(data)
        self.received += size
        self.transport.write(data)
        if size >= FULL_READ:
            self._relay()

    def _stamped(self, data: bytes) -> None:
        self.received += len(data)
        self.last_activity = self.context.now
        self.transport.write(data)
        if len(data) >= FULL_READ:
            self._relay()

    def flush_counters(self) -> None:
        self.sent = self.received  # whatever is read is written
        super().flush_counters()

    def written(self) -> int:
        return self._total

    def pause_writing(self) -> None:
        super().pause_writing()
        self._relay()

    def shed(self) -> None:
        super().shed()
        self._relay()

    def _relay(self) -> None:
        if self.data_received is not None:
            self.data_received = None
            self.transport.set_protocol(Relay(self))

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.data_received = None  # a bound method of self: a cycle

    def drain(self) -> None:
        super().drain()
        if self.data_received is not None and not self.transport.is_closing():
            self._receive_with(self._stamped)
