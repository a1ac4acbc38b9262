"""UDP echo (RFC 862): the same datagram, from the address it was sent to."""

import socket
from collections.abc import Callable

from echoserver.observe import counters

REFLECTORS = frozenset({7, 13, 17, 19, 37, 53, 69, 111, 123, 137, 161, 389, 427, 464, 520, 623})
"""Source ports below 1024 of services that answer what they are sent: an echo to them could go on for ever."""

_PER_TURN = 64  # datagrams a turn of the loop: others have work too
_BYTES_PER_TURN = 256 << 10  # likewise, where they are large
_RECEIVED, _SENT = (counters.index(f"{each}_bytes", "udp") for each in ("received", "sent"))
_ECHOED, _NOT_ANSWERED = (counters.index("datagrams", each) for each in ("echoed", "not_answered"))
_IP_PKTINFO = 8  # linux/in.h; the socket module has it from Python 3.14


class UdpEcho:
    """Reads a bound datagram socket whenever it has something, and sends each datagram back.

    buffer has room for any datagram (64 KiB) and is used only while readable() runs. A datagram that the kernel has
    no room to send is dropped, as any network would.
    """

    __slots__ = ("_answer", "_buffer", "_no_answer_to", "_socket", "echoed", "ignored", "received", "sent")

    echoed: int
    """Datagrams sent back."""
    ignored: int
    """Datagrams read and not answered."""
    received: int
    """Bytes of both."""
    sent: int
    """Bytes sent back."""

    def __init__(self, listener: socket.socket, buffer: memoryview) -> None:
        self._socket = listener
        self._buffer = buffer
        self.echoed = self.ignored = self.received = self.sent = 0
        own = listener.getsockname()
        self._no_answer_to = REFLECTORS | {own[1]}  # its own port: another of its kind
        self._answer: Callable[[], None] = self._echo
        if own[0] in ("0.0.0.0", "::"):
            # the kernel would choose the source of the answer by its route, not by where the datagram was sent
            self._answer = self._echo_from_there
            if listener.family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
            else:
                listener.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)

    def readable(self) -> None:
        """Echo what has arrived; to be called by the loop."""
        enough = self.received + _BYTES_PER_TURN
        try:
            for _ in range(_PER_TURN):
                self._answer()
                if self.received >= enough:
                    break
        except OSError:  # nothing more to read, no room to send, an address that can't be answered
            pass

    def flush_counters(self, counts: list[int]) -> None:
        """Add to the worker's counters what they do not have yet."""
        counts[_RECEIVED] += self.received
        counts[_SENT] += self.sent
        counts[_ECHOED] += self.echoed
        counts[_NOT_ANSWERED] += self.ignored
        self.received = self.sent = self.echoed = self.ignored = 0

    def _echo(self) -> None:
        size, address = self._socket.recvfrom_into(self._buffer)
        self.received += size
        if address[1] in self._no_answer_to:
            self.ignored += 1
            return
        try:
            self._socket.sendto(self._buffer[:size], address)
        except OSError:
            self.ignored += 1
            raise
        self.echoed += 1
        self.sent += size

    def _echo_from_there(self) -> None:
        size, ancillary, _, address = self._socket.recvmsg_into([self._buffer], 64)
        self.received += size
        if address[1] in self._no_answer_to:
            self.ignored += 1
            return
        try:
            self._socket.sendmsg([self._buffer[:size]], ancillary, 0, address)
        except OSError:
            self.ignored += 1
            raise
        self.echoed += 1
        self.sent += size
