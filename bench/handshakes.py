"""``python -m bench.handshakes -c N [-r] PORT FILE``: the client of the bench for short connections of TLS 1.3.

N threads, each one connection after the other: a handshake, FILE's bytes, which are an HTTP request with Connection:
close, and its answer to the end, a 200 with the same content; then a reset, so that nothing is left in TIME_WAIT. With
-r each connection resumes the session of its thread's first one, and none does without: a handshake that is not as it
should be ends the client with 1 and a line, as all does that is no echo. It talks to the bench as the native client
does: "ready" when each thread has had two connections, and for each line of standard input, a number of seconds, a line
of JSON.
"""

import argparse
import contextlib
import json
import socket
import ssl
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent import futures
from pathlib import Path

PATIENCE = 10.0  # seconds that a connection, or any part of its answer, may take to come
_PERCENTILES = (50, 75, 90, 99, 99.9)
_RESET = struct.pack("ii", 1, 0)


class Unacceptable(Exception):
    """What a server does that makes all that was counted worth nothing; the message says it in a few words."""


def context() -> ssl.SSLContext:
    """A client's that speaks TLS 1.3, and believes any server."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    return made


class Client:
    """One connection after the other. resumes: whether the next one has to resume the session of the first one, which
    is asked for once it is known. latencies: microseconds that each took, from its beginning to its end."""

    def __init__(self, port: int, sent: bytes, *, resumes: bool) -> None:
        self._port = port
        self._sent = sent
        self._content = sent.partition(b"\r\n\r\n")[2]
        self.resumes = resumes
        self._context = context()
        self._session: ssl.SSLSession | None = None
        self.latencies: list[float] = []

    def connect(self) -> None:
        """One connection, from its beginning to its end. Raises Unacceptable, OSError."""
        plain = socket.create_connection(("127.0.0.1", self._port), PATIENCE)
        try:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = self._context.wrap_socket(plain, session=self._session)
        except BaseException:
            plain.close()
            raise
        with connection:
            wanted = self.resumes and self._session is not None
            if connection.session_reused != wanted:
                raise Unacceptable("a session that is not resumed" if wanted else "a session that is not new")
            connection.sendall(self._sent)
            answer = bytearray()
            while part := connection.recv(1 << 16):
                answer += part
            check(bytes(answer), self._content)
            if self.resumes and self._session is None:  # it comes with the answer; each time would cost us 0.4 ms
                self._session = connection.session
                if self._session is None or not self._session.has_ticket:
                    raise Unacceptable("no session ticket")

    def run(self, until: float) -> None:
        """Connections up to this time.monotonic(). Raises Unacceptable, OSError."""
        self.latencies = []
        began = time.monotonic()
        while began < until:
            self.connect()
            ended = time.monotonic()
            self.latencies.append((ended - began) * 1e6)
            began = ended


def check(answer: bytes, content: bytes) -> None:
    """Raises Unacceptable where all that has come is not one answer with this content."""
    head, blank, found = answer.partition(b"\r\n\r\n")
    if not blank:
        raise Unacceptable("an answer that is cut off")
    if not head.startswith(b"HTTP/1.1 200 "):
        raise Unacceptable("a status other than 200")
    if b"\r\ntransfer-encoding: chunked" in head.lower():
        found = b"".join(_chunks(found))
    if found != content:
        raise Unacceptable("a wrong echo")


def _chunks(coded: bytes) -> Iterator[bytes]:
    while coded:
        size, _, coded = coded.partition(b"\r\n")
        try:
            length = int(size, 16)
        except ValueError:
            raise Unacceptable("a wrong echo") from None
        yield coded[:length]
        if not length:
            if coded != b"\r\n":
                raise Unacceptable("a wrong echo")
            return
        coded = coded[length + 2 :]
    raise Unacceptable("an answer that is cut off")


def figures(latencies: Sequence[float], seconds: float, spent: float) -> dict[str, object]:
    """What the native client says of a round. latencies: microseconds; spent: seconds of CPU time."""
    found = sorted(latencies)
    which = {f"{each:g}": found[int(len(found) * each / 100)] if found else 0.0 for each in _PERCENTILES}
    return {
        "requests": len(found), "due": 0, "seconds": seconds, "client_cpu": spent,
        "latency_us": {**which, "max": found[-1] if found else 0.0},
    }  # fmt: skip


def _talk(clients: Sequence[Client], pool: futures.Executor) -> None:
    """Raises Unacceptable, OSError."""
    for _ in range(2):  # the second one as those that count will be
        for each in clients:
            each.connect()
    print("ready", flush=True)
    for line in sys.stdin:
        began, spent = time.monotonic(), time.process_time()
        for running in [pool.submit(each.run, began + float(line)) for each in clients]:
            running.result()
        seconds, spent = time.monotonic() - began, time.process_time() - spent
        latencies = [latency for each in clients for latency in each.latencies]
        print(json.dumps(figures(latencies, seconds, spent)), flush=True)


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="bench.handshakes", allow_abbrev=False)
    parser.add_argument("-c", type=int, default=1, metavar="N", help="connections at a time")
    parser.add_argument("-r", action="store_true", help="resume sessions")
    parser.add_argument("port", type=int)
    parser.add_argument("file", type=Path)
    asked = parser.parse_args()
    sent = asked.file.read_bytes()
    clients = [Client(asked.port, sent, resumes=asked.r) for _ in range(asked.c)]
    why = ""
    with futures.ThreadPoolExecutor(max(1, asked.c)) as pool, contextlib.suppress(KeyboardInterrupt):
        try:
            _talk(clients, pool)
        except Unacceptable as error:
            why = str(error)
        except OSError as error:
            why = f"a connection failed: {error}"
    if why:
        print(f"handshakes: {why} after {sum(len(each.latencies) for each in clients)} echoes", file=sys.stderr)
    return 1 if why else 0


if __name__ == "__main__":
    sys.exit(main())
