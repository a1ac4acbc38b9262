"""Plain sockets for clients that know no TLS: a thread carries what they say over it, half-closes included."""

import contextlib
import fcntl
import select
import socket
import ssl
import struct
import termios
import threading

from tests.certificates import Certificates
from tests.servers import PATIENCE, Server, wait_for

_READ = 1 << 18


class Bridge(threading.Thread):
    """Between a socket pair and a TLS connection; end is the pair's other socket. It ends with either of them.

    A half-close of end becomes close_notify and FIN; close_notify or FIN of the server a half-close towards end.
    """

    def __init__(self, outer: socket.socket, context: ssl.SSLContext) -> None:
        super().__init__(daemon=True)
        self.end, self._inner = socket.socketpair()
        self.end.settimeout(PATIENCE)
        self._outer = outer
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._ssl = context.wrap_bio(self._incoming, self._outgoing, server_hostname="127.0.0.1")
        self._to_server, self._to_client = bytearray(), bytearray()
        self._sends = self._receives = True
        self._open = {self._inner, self._outer}
        self._lock = threading.Lock()
        self._shake_hands()

    def _shake_hands(self) -> None:
        while True:
            try:
                self._ssl.do_handshake()
            except ssl.SSLWantReadError:
                self._outer.sendall(self._outgoing.read())
                data = self._outer.recv(_READ)
                if not data:
                    raise ConnectionResetError("the server ended the connection in its handshake") from None
                self._incoming.write(data)
            else:
                self._outer.sendall(self._outgoing.read())
                break
        for each in (self._inner, self._outer):
            each.setblocking(False)
        self._decrypt()

    def run(self) -> None:
        with contextlib.suppress(OSError):
            while self._sends or self._receives or self._to_server or self._to_client:
                self._wait()
                with self._lock:
                    self._pump()
        with self._lock:
            self._inner.close()
            self._outer.close()

    def _wait(self) -> None:
        poll = select.poll()
        outer = (select.POLLIN if self._receives and not self._to_client else 0) | (
            select.POLLOUT if self._to_server else 0
        )
        inner = (select.POLLIN if self._sends and not self._to_server else 0) | (
            select.POLLOUT if self._to_client else 0
        )
        for connection, events in ((self._outer, outer), (self._inner, inner)):
            if events:
                poll.register(connection, events)
        poll.poll()

    def _pump(self) -> None:
        if self._receives and not self._to_client:
            with contextlib.suppress(BlockingIOError):
                read = self._outer.recv(_READ)
                self._incoming.write(read)
                self._decrypt(fin=not read)
        if self._sends and not self._to_server:
            with contextlib.suppress(BlockingIOError):
                self._encrypt(self._inner.recv(_READ))
        for connection, data in ((self._outer, self._to_server), (self._inner, self._to_client)):
            if data:
                with contextlib.suppress(BlockingIOError):
                    del data[: connection.send(data)]
        if not self._sends and not self._to_server and self._outer in self._open:
            self._end(self._outer)
        if not self._receives and not self._to_client and self._inner in self._open:
            self._end(self._inner)

    def _end(self, connection: socket.socket) -> None:
        self._open.discard(connection)
        with contextlib.suppress(OSError):  # its other side has closed it
            connection.shutdown(socket.SHUT_WR)

    def _encrypt(self, data: bytes) -> None:
        if data:
            self._ssl.write(data)
        else:
            self._sends = False
            with contextlib.suppress(ssl.SSLWantReadError):
                self._ssl.unwrap()
        self._to_server += self._outgoing.read()

    def _decrypt(self, *, fin: bool = False) -> None:
        try:
            while data := self._ssl.read(_READ):
                self._to_client += data
            self._receives = False
        except ssl.SSLWantReadError:
            self._receives = not fin
        except ssl.SSLZeroReturnError:
            self._receives = False

    def has_passed_all_on(self) -> bool:
        """Whether all that end was given has been sent, as far as the server lets it."""
        with self._lock:
            if self._inner.fileno() < 0 or self._outer.fileno() < 0:
                return True
            if self._to_server:
                return not select.select([], [self._outer], [], 0)[1]
            waiting: int = struct.unpack("i", fcntl.ioctl(self._inner, termios.FIONREAD, bytes(4)))[0]
            return not waiting


class TlsServer(Server):
    """A server whose clients, as far as they connect by connect(), come over TLS."""

    def __init__(self, certificates: Certificates, *options: str, allow_errors: bool = False) -> None:
        super().__init__("--https", "0", "--tls", "0", *certificates.options, *options, allow_errors=allow_errors)
        self._context = certificates.trusting()
        self._bridges: list[Bridge] = []

    def connect(self, protocol: str = "http", timeout: float = PATIENCE) -> socket.socket:
        """A connection to the listener for the same protocol over TLS, when all clients' bytes are on their way."""
        self._bridges = [bridge for bridge in self._bridges if bridge.is_alive()]
        for bridge in self._bridges:
            wait_for(bridge.has_passed_all_on, "the bridges")
        bridge = Bridge(super().connect({"http": "https", "tcp": "tls"}[protocol], timeout), self._context)
        bridge.start()
        self._bridges.append(bridge)
        return bridge.end
