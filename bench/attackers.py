"""The process of the greedy connections: ``python -m bench.attackers NAME COUNT PORT NICENESS``.

They send as fast as they are read.
It prints "ready" when its connections are there, begins with the first line of standard input, and ends with standard
input; then one line of JSON says what it did. What comes back is read and dropped, but for how the first answer begins.
"""

import contextlib
import ctypes
import ctypes.util
import itertools
import json
import os
import selectors
import socket
import ssl
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from bench.attacks import ATTACKS, Attack, Parts

_PATIENCE = 10.0
_TURN = 0.005  # seconds that one connection sends before it looks at the others, and at what comes back
_RECORDS = 256  # that are encrypted at a time
_PREPARED = 16 << 20  # bytes of TLS that all connections together have before the beginning
_RESET = b"\1\0\0\0\0\0\0\0"  # struct linger: none is left in TIME_WAIT
_BEGINNING = 16  # bytes of the first answer that are kept

_sink = bytearray(1 << 20)


class Counts:
    """Of all connections together. ended: those that the server ended, of streams; answered: of those that are made
    without end; beginning: that of the first answer."""

    def __init__(self) -> None:
        self.sent = self.received = self.opened = self.ended = self.answered = 0
        self.beginning = b""

    def receive(self, connection: socket.socket) -> int | None:
        """Drop what is there. None: nothing is; 0: it was ended."""
        try:
            count = connection.recv_into(_sink)
        except BlockingIOError:
            return None
        except OSError:
            return 0
        self.received += count
        if len(self.beginning) < _BEGINNING:
            self.beginning += bytes(_sink[: min(count, _BEGINNING - len(self.beginning))])
        return count


# --- what a connection sends --------------------------------------------------------------------------------------


def endless(parts: Parts) -> Iterator[memoryview]:
    """All parts, again and again."""
    while parts:
        for data, times in parts:
            yield from itertools.repeat(memoryview(data), times)


def encrypted(
    data: Iterable[memoryview], step: int, session: ssl.SSLObject, out: ssl.MemoryBIO
) -> Iterator[memoryview]:
    """TLS records, some thousands at a time where they are small; step: bytes in each, 0: as many as it may have."""
    for piece in data:
        for at in range(0, len(piece), (step or 16384) * _RECORDS):
            batch = piece[at : at + (step or 16384) * _RECORDS]
            for start in range(0, len(batch), step or 16384):
                session.write(batch[start : start + (step or 16384)])
            yield memoryview(out.read())


def key_updates(connection: socket.socket) -> Iterator[memoryview]:
    """Shake hands, then KeyUpdate without end (RFC 8446, section 4.6.3): ssl can't send one, but OpenSSL can."""
    library = ctypes.CDLL(ctypes.util.find_library("ssl"))
    for name in ("TLS_client_method", "SSL_CTX_new", "SSL_new", "BIO_s_mem", "BIO_new"):
        getattr(library, name).restype = ctypes.c_void_p
    method = ctypes.c_void_p(library.TLS_client_method())
    session = ctypes.c_void_p(library.SSL_new(ctypes.c_void_p(library.SSL_CTX_new(method))))
    connection.setblocking(True)
    library.SSL_set_fd(session, connection.fileno())
    if library.SSL_connect(session) != 1:
        raise ConnectionError("the handshake failed")
    out = ctypes.c_void_p(library.BIO_new(ctypes.c_void_p(library.BIO_s_mem())))
    library.SSL_set0_wbio(session, out)
    buffer = ctypes.create_string_buffer(1 << 18)

    def updates() -> Iterator[memoryview]:
        while True:
            for _ in range(_RECORDS):
                library.SSL_key_update(session, 0)
                library.SSL_do_handshake(session)
            size = library.BIO_read(out, buffer, len(buffer))
            yield memoryview(buffer.raw[:size])

    return updates()


def client_hello() -> bytes:
    """What begins a handshake; to be sent again and again, for nobody checks that it is new."""
    session, _, out = _session()
    with contextlib.suppress(ssl.SSLWantReadError):
        session.do_handshake()
    return out.read()


def _session() -> tuple[ssl.SSLObject, ssl.MemoryBIO, ssl.MemoryBIO]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    received, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    return context.wrap_bio(received, out), received, out


def shake_hands(connection: socket.socket) -> tuple[ssl.SSLObject, ssl.MemoryBIO]:
    """TLS by hand, for what comes back is dropped as it is. Returns what encrypts, and where records come out."""
    session, received, out = _session()
    while True:
        try:
            session.do_handshake()
        except ssl.SSLWantReadError:
            connection.sendall(out.read())
            data = connection.recv(1 << 16)
            if not data:
                raise ConnectionResetError("the server ended the handshake") from None
            received.write(data)
        else:
            connection.sendall(out.read())
            return session, out


# --- streams ------------------------------------------------------------------------------------------------------


class Stream:
    """A connection that sends all that is taken; where the server ends it, it is made anew."""

    def __init__(self, attack: Attack, parts: Parts, port: int, counts: Counts, poll: selectors.BaseSelector) -> None:
        self._attack, self._parts, self._port, self._counts, self._poll = attack, parts, port, counts, poll
        self._open()

    def _open(self) -> None:
        attack = self._attack
        kind = socket.SOCK_DGRAM if attack.port == "udp" else socket.SOCK_STREAM
        self._socket = socket.socket(socket.AF_INET, kind)
        self._socket.settimeout(_PATIENCE)
        self._socket.connect(("127.0.0.1", self._port))
        if kind == socket.SOCK_STREAM:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._data = endless(self._parts)
        self._step = attack.step or 1 << 20
        if attack.port in ("https", "tls"):
            if attack.keys:
                self._data = key_updates(self._socket)
            else:
                self._data = encrypted(self._data, attack.step, *shake_hands(self._socket))
            self._step = 1 << 20
        if attack.hello:
            self._greet(attack.hello)
        self._counts.opened += 1
        self._piece, self._at = memoryview(b""), 0
        self._socket.setblocking(False)
        events = (selectors.EVENT_READ if attack.reads else 0) | (selectors.EVENT_WRITE if attack.parts else 0)
        self._poll.register(self._socket, events, self)

    def _greet(self, hello: bytes) -> None:
        """Begin WebSocket, and read no byte of what may follow."""
        self._socket.sendall(hello)
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = self._socket.recv(1)
            if not byte:
                raise ConnectionResetError("the server ended the handshake")
            head += byte
        if not head.startswith(b"HTTP/1.1 101 "):
            raise ConnectionError(f"a handshake is answered with {head[:40]!r}")

    def prepare(self, size: int) -> None:
        """Encrypt so many bytes now, or what can be in a second: later the server would wait for it."""
        if self._attack.port not in ("https", "tls"):
            return
        ready, prepared, until = [], 0, time.monotonic() + 1
        for each in self._data:
            ready.append(each)
            prepared += len(each)
            if prepared >= size or time.monotonic() > until:
                break
        self._data = itertools.chain(ready, self._data)

    def on(self, events: int) -> None:
        """What the poll has seen."""
        try:
            if events & selectors.EVENT_READ and self._receive() == 0:
                self._again()
            elif events & selectors.EVENT_WRITE:
                self._send()
        except BlockingIOError:
            pass
        except OSError:
            self._again()

    def _receive(self) -> int | None:
        for _ in range(8):
            count = self._counts.receive(self._socket)
            if not count or count < len(_sink) // 4:
                return count or (None if self._attack.port == "udp" else count)
        return None

    def _send(self) -> None:
        until = time.monotonic() + _TURN
        while time.monotonic() < until:
            if self._at == len(self._piece):
                self._piece, self._at = next(self._data), 0
            count = self._socket.send(self._piece[self._at : self._at + self._step])
            self._at += count
            self._counts.sent += count

    def _again(self) -> None:
        """It was ended: the next one."""
        self._counts.ended += 1
        self._poll.unregister(self._socket)
        self._socket.close()
        with contextlib.suppress(OSError):
            self._open()


# --- connections without end --------------------------------------------------------------------------------------


class Slot:
    """One connection after the other: it sends all it has, and reads until the server ends it, or until it answers."""

    def __init__(
        self, target: tuple[str, int], sent: bytes, ends: str, counts: Counts, poll: selectors.BaseSelector
    ) -> None:
        """target: the address to come from, and the port to go to; ends: as Attack.connections says."""
        self._target, self._sent, self._ends, self._counts, self._poll = target, sent, ends, counts, poll
        self._open()

    def _open(self) -> None:
        self._socket = socket.socket()
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._socket.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
        self._socket.bind((self._target[0], 0))
        self._at = 0
        self._got = False
        with contextlib.suppress(BlockingIOError):
            self._socket.connect(("127.0.0.1", self._target[1]))
        self._counts.opened += 1
        self._poll.register(self._socket, selectors.EVENT_WRITE, self)

    def prepare(self, size: int) -> None:
        """There is nothing to prepare."""

    def on(self, events: int) -> None:
        """What the poll has seen."""
        try:
            ended = self._send() if events & selectors.EVENT_WRITE else self._receive()
        except BlockingIOError:
            return
        except OSError:
            ended = True
        if ended:
            self._counts.answered += self._got
            self._poll.unregister(self._socket)
            self._socket.close()
            self._open()

    def _send(self) -> bool:
        count = self._socket.send(self._sent[self._at :])
        self._at += count
        self._counts.sent += count
        if self._at == len(self._sent):
            self._poll.modify(self._socket, selectors.EVENT_READ, self)
        return False

    def _receive(self) -> bool:
        while True:
            count = self._counts.receive(self._socket)
            self._got = self._got or bool(count)
            if count == 0 or (count and self._ends == "answer"):
                return True
            if count is None:
                return False


# --- the process --------------------------------------------------------------------------------------------------


def attackers(
    attack: Attack, count: int, port: int, counts: Counts, poll: selectors.BaseSelector
) -> list[Stream | Slot]:
    """So many, connected."""
    parts = attack.parts() if attack.parts else []
    if not attack.connections:
        return [Stream(attack, parts, port, counts, poll) for _ in range(count)]
    sent = b"".join(data * times for data, times in parts) or client_hello()
    hosts = (f"127.0.0.{number % 250 + 2}" for number in range(count * attack.at_once))  # with all its ports, each
    return [Slot((host, port), sent, attack.connections, counts, poll) for host in hosts]


def main(words: Sequence[str]) -> None:
    """Attack until the end of standard input."""
    attack, count, port, niceness = ATTACKS[words[0]], *map(int, words[1:])
    with contextlib.suppress(OSError):
        os.setsid()
        os.setpriority(os.PRIO_PROCESS, 0, niceness)
        Path("/proc/self/autogroup").write_text(str(niceness))  # that of the session, see sched(7)
    counts, poll = Counts(), selectors.DefaultSelector()
    waiting = [] if attack.connections else attackers(attack, count, port, counts, poll)
    for each in waiting:
        each.prepare(_PREPARED // count)
    print("ready", flush=True)
    sys.stdin.readline()
    if attack.connections:
        attackers(attack, count, port, counts, poll)
    poll.register(sys.stdin, selectors.EVENT_READ)
    start = time.monotonic()
    going = True
    while going:
        for key, events in poll.select():
            if key.data is None:
                going = False
            else:
                key.data.on(events)
    seconds = time.monotonic() - start
    print(json.dumps({
        "seconds": seconds, "sent": counts.sent, "received": counts.received, "opened": counts.opened,
        "ended": counts.ended, "answered": counts.answered, "beginning": counts.beginning.decode("latin-1"),
    }), flush=True)  # fmt: skip
    os._exit(0)  # the connections are reset by it; nothing here is worth tidying up


if __name__ == "__main__":
    main(sys.argv[1:])
