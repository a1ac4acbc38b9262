"""UDP echo (RFC 862): the same datagram, from the address it was sent to."""

import socket
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Any

from echoserver.config import compiled
from echoserver.observe import counters

REFLECTORS = frozenset({7, 13, 17, 19, 37, 53, 69, 111, 123, 137, 161, 389, 427, 464, 520, 623})
"""Source ports below 1024 of services that answer what they are sent: an echo to them could go on for ever."""

_PER_TURN = 64  # datagrams a turn of the loop: others have work too
_BYTES_PER_TURN = 256 << 10  # likewise, where they are large; udp.c looks at it after 16, which is up to 1 MiB more
_RECEIVED, _SENT = (counters.index(f"{each}_bytes", "udp") for each in ("received", "sent"))
_ECHOED, _NOT_ANSWERED = (counters.index("datagrams", each) for each in ("echoed", "not_answered"))
_IP_PKTINFO = 8  # linux/in.h; the socket module has it from Python 3.14


class UdpEcho:
    """Reads a bound datagram socket whenever it has something, and sends each datagram back.

    buffer has room for any datagram (64 KiB) and is used only while echo_in_python() runs; udp.c has 1 MiB of its own,
    whose pages are there once they have been written to. A datagram that the kernel has no room to send is dropped, as
    any network would.
    """

    __slots__ = (
        "_ancillary", "_buffer", "_expected", "_no_answer_to", "_ports", "_receive", "_send", "_socket", "echoed",
        "ignored", "readable", "received", "sent",
    )  # fmt: skip

    readable: Callable[[], None]
    """Echo what has arrived; to be called by the loop. By udp.c, where that was compiled."""
    echoed: int
    """Datagrams sent back."""
    ignored: int
    """Datagrams read and not answered."""
    received: int
    """Bytes of both."""
    sent: int
    """Bytes sent back."""
    _expected: int
    """Datagrams that a turn reads at most: to find that there are none takes as long as to answer one."""

    def __init__(self, listener: socket.socket, buffer: memoryview) -> None:
        self._socket = listener
        self._buffer = buffer
        self.echoed = self.ignored = self.received = self.sent = 0
        own = listener.getsockname()
        self._no_answer_to = REFLECTORS | {own[1]}  # its own port: another of its kind
        self._ports = _bits(self._no_answer_to)
        self.readable = self.echo_in_c if compiled.functions else self.echo_in_python
        self._expected = 1
        self._ancillary: list[Any] = []
        self._receive: Callable[[memoryview], tuple[int, Any]] = listener.recvfrom_into
        self._send: Callable[[memoryview, Any], int] = listener.sendto
        if own[0] in ("0.0.0.0", "::"):
            # the kernel would choose the source of the answer by its route, not by where the datagram was sent
            self._receive, self._send = self._receive_there, self._send_from_there
            if listener.family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
            else:
                listener.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)

    def echo_in_c(self) -> None:
        """readable(), a system call for 16 datagrams."""
        echoed, ignored, received, sent = compiled.functions.echo_datagrams(  # type: ignore[union-attr]
            self._socket.fileno(), self._ports, _PER_TURN, _BYTES_PER_TURN
        )
        self.echoed += echoed
        self.ignored += ignored
        self.received += received
        self.sent += sent

    def echo_in_python(self) -> None:
        """readable(), a datagram at a time."""
        receive, send, buffer, no_answer_to = self._receive, self._send, self._buffer, self._no_answer_to
        read = echoed = received = sent = 0
        expected = self._expected
        try:
            while read < expected and received < _BYTES_PER_TURN:
                size, address = receive(buffer)
                read += 1
                received += size
                if address[1] not in no_answer_to:
                    send(buffer[:size], address)
                    echoed += 1
                    sent += size
            self._expected = min(2 * expected, _PER_TURN)
        except OSError:  # nothing more to read, no room to send, an address that can't be answered
            self._expected = max(read, 1)
        self.echoed += echoed
        self.ignored += read - echoed
        self.received += received
        self.sent += sent

    def flush_counters(self, counts: list[int]) -> None:
        """Add to the worker's counters what they do not have yet."""
        counts[_RECEIVED] += self.received
        counts[_SENT] += self.sent
        counts[_ECHOED] += self.echoed
        counts[_NOT_ANSWERED] += self.ignored
        self.received = self.sent = self.echoed = self.ignored = 0

    def _receive_there(self, buffer: memoryview) -> tuple[int, Any]:
        """recvfrom_into(), and where it was sent to."""
        size, self._ancillary, _, address = self._socket.recvmsg_into([buffer], 64)
        return size, address

    def _send_from_there(self, data: memoryview, address: Any) -> int:
        return self._socket.sendmsg([data], self._ancillary, 0, address)


def _bits(ports: AbstractSet[int]) -> bytes:
    """A bit for each port."""
    return sum(1 << port for port in ports).to_bytes(8192, "little")
