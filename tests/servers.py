"""Real servers for the tests: processes started as a user starts them, on ports of their own."""

import contextlib
import email.utils
import http.client
import io
import os
import re
import shlex
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self, cast

PYTHON = (sys.executable, "-m", "echoserver")
COMMAND = tuple(shlex.split(os.environ.get("ECHOSERVER_COMMAND", ""))) or PYTHON
"""The words that start the server: ECHOSERVER_COMMAND's, where it is to be another than this Python's."""

PATIENCE = 60.0
"""Seconds after which a test gives up waiting for a condition: only failing tests wait so long."""


def wait_for(condition: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
    """Return as soon as the condition holds; fail, saying what was awaited, when it does not for too long."""
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, f"waited {patience} s for {what}"
        time.sleep(0.01)


def free_ports(options: Sequence[str]) -> list[str]:
    """Options that give free ports to the listeners that these do not name, where they are on by default."""
    given = " ".join(options)
    return [word for name in ("http", "tcp", "udp") if f"--{name} " not in given for word in (f"--{name}", "0")]


class Server:
    """``echoserver OPTIONS`` on free ports; use it as a context manager.

    Its stderr is read all the time (lines). Leaving the context ends it with SIGTERM and checks that it said nothing
    of a fault of its own (allow_errors=True: that is expected).
    """

    def __init__(
        self, *options: str, allow_errors: bool = False, environment: dict[str, str] | None = None,
        before: Sequence[str] = (), defaults: bool = True, **started: Any,
    ) -> None:  # fmt: skip
        """before: a command that ends by executing its arguments (unshare, sh -c ... exec "$@"). started: how, as Popen
        has it. defaults: listeners that no option names get free ports.
        """
        ports = free_ports(options) if defaults else ()
        self._allow_errors = allow_errors
        self.process = subprocess.Popen(
            [*before, *COMMAND, *ports, *options], stderr=subprocess.PIPE, text=True,
            env={**os.environ, **(environment or {})}, **started,
        )  # fmt: skip
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))

    def __enter__(self) -> Self:
        try:
            wait_for(lambda: self.said("ready") or self.process.poll() is not None, "the line 'ready'")
            assert self.process.poll() is None, f"the server ended at its start: {self.lines}"
        except BaseException:
            self.process.kill()
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self._close()
                raise
        self._close()
        if kind is None and not self._allow_errors:
            self.check_lines()

    def _close(self) -> None:
        self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        assert self.process.stderr is not None
        self.process.stderr.close()

    def check_lines(self) -> None:
        """It must not have said anything of a fault of its own."""
        bad = [line for line in self.lines if re.search(r"Traceback|Error|error|Exception|failed", line)]
        assert not bad, bad

    def said(self, what: str) -> bool:
        """Whether a line of its stderr ends so."""
        return any(line.endswith(what) for line in list(self.lines))

    def port(self, protocol: str) -> int:
        """The port of a listener, as the start-up lines say."""
        for line in self.lines:
            found = re.search(rf"listening: {protocol} \S+:(\d+)(?:,|$)", line)
            if found:
                return int(found[1])
        raise AssertionError(f"no {protocol} listener in {self.lines}")

    @property
    def http(self) -> int:
        return self.port("http")

    @property
    def tcp(self) -> int:
        return self.port("tcp")

    @property
    def udp(self) -> int:
        return self.port("udp")

    def connect(self, protocol: str = "http", timeout: float = PATIENCE) -> socket.socket:
        """A client's connection to a listener."""
        connection = socket.create_connection(("127.0.0.1", self.port(protocol)), timeout)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def refuses(self, protocol: str = "http") -> bool:
        """Whether a new connection is refused."""
        try:
            self.connect(protocol).close()
        except (ConnectionRefusedError, ConnectionResetError):
            return True
        return False

    def wait(self) -> int:
        """Wait for its end; returns the exit code."""
        return self.process.wait(PATIENCE)

    def children(self) -> list[int]:
        """The workers' process ids, in the order of their start; none where the only worker is the process itself."""
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children", encoding="ascii") as file:
            return [int(pid) for pid in file.read().split()]

    def resident(self, pid: int | None = None) -> int:
        """Bytes of memory that a process of its holds."""
        with open(f"/proc/{pid or self.process.pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def read_all(connection: socket.socket) -> bytes:
    """What comes until the server's FIN."""
    parts = []
    while part := connection.recv(1 << 20):
        parts.append(part)
    return b"".join(parts)


def read_exactly(connection: socket.socket, size: int) -> bytes:
    """size bytes; fails where the connection ends before."""
    got = bytearray()
    while len(got) < size:
        part = connection.recv(min(1 << 20, size - len(got)))
        assert part, f"the connection ended after {len(got)} of {size} bytes"
        got += part
    return bytes(got)


def fill(connection: socket.socket, block: bytes = bytes(1 << 16), quiet: float = 1.0) -> int:
    """Send without reading until nothing more is taken for quiet seconds; returns how many bytes were."""
    sent = 0
    before = connection.gettimeout()
    connection.settimeout(quiet)
    with contextlib.suppress(TimeoutError):
        while True:
            sent += connection.send(block)
    connection.settimeout(before)
    return sent


@contextlib.contextmanager
def sending(connection: socket.socket, data: bytes, *, fin: bool = False) -> Iterator[threading.Thread]:
    """Send data in a thread of its own, which is yielded, while the context reads; fin: half-close after it."""

    def send() -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError, ssl.SSLError):
            connection.sendall(data)
            if fin:
                connection.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    yield sender
    sender.join(PATIENCE)
    assert not sender.is_alive(), "not all was sent"


def request(line: str, *fields: str, content: bytes = b"") -> bytes:
    """A request; fields as they are to be sent, "Host: a" comes first where none of them is a Host."""
    if not any(field.lower().startswith("host:") for field in fields):
        fields = ("Host: a", *fields)
    return "".join(f"{each}\r\n" for each in (line, *fields, "")).encode("latin-1") + content


def chunks(*contents: bytes) -> bytes:
    """As chunks of chunked content; an empty one is the last, with the end of the trailer section."""
    return b"".join(b"%x\r\n%b\r\n" % (len(content), content) for content in contents)


class Answer:
    """One response as http.client reads it; checked for what every response must have (DESIGN.md, section 4)."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.fields = [(name.lower(), value) for name, value in response.getheaders()]
        self.content = response.read()
        names = [name for name, _ in self.fields]
        assert response.version == 11
        assert len(names) == len(set(names)), f"a field comes twice: {self.fields}"
        assert self["server"] == "echoserver"
        sent = email.utils.parsedate_to_datetime(self["date"] or "")
        assert abs(sent.timestamp() - time.time()) < PATIENCE, self["date"]
        if self.status in (204, 304):  # RFC 9110 section 8.6, RFC 9112 section 6.1
            assert "content-length" not in names
            assert "transfer-encoding" not in names
            return
        assert ("content-length" in names) != ("transfer-encoding" in names), self.fields
        assert self["transfer-encoding"] in (None, "chunked")
        assert self["x-content-type-options"] == "nosniff" or self.status == 205

    def __getitem__(self, name: str) -> str | None:
        """A field's value, by its name in lower case; None where there is none."""
        return dict(self.fields).get(name)


class _Reader:
    """What http.client takes for a socket and its file, and can't close: the next response comes from it too."""

    def __init__(self, file: io.BufferedReader) -> None:
        self.readline, self.read, self.readinto, self.flush = file.readline, file.read, file.readinto, file.flush

    def makefile(self, mode: str) -> Self:
        return self

    def close(self) -> None:
        """It stays open."""


class HttpClient:
    """Sends bytes and reads responses, on one connection; use it as a context manager."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.file = connection.makefile("rb")
        self._reader = cast(socket.socket, _Reader(self.file))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.socket.close()

    def send(self, data: bytes, piece: int = 0) -> None:
        """Send data, in pieces of so many bytes (0: at once)."""
        for position in range(0, len(data), piece or max(1, len(data))):
            self.socket.sendall(data[position : position + piece] if piece else data)

    def answer(self, method: str = "GET") -> Answer:
        """The next response, to a request with that method."""
        response = http.client.HTTPResponse(self._reader, method=method)
        response.begin()
        return Answer(response)

    def ask(self, data: bytes, piece: int = 0) -> Answer:
        """Send a request and read its response."""
        self.send(data, piece)
        return self.answer(data.split(b" ", 1)[0].decode("latin-1"))

    def fin(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

    def rest(self) -> bytes:
        """What comes until the server's FIN."""
        return self.file.read()


def let_read(server: Server) -> None:
    """Return when the server's only worker has read what was sent on other connections before.

    An answer on a new connection shows that: what arrived first is ready no later in the loop's turn.
    """
    with HttpClient(server.connect()) as client:
        assert client.ask(request("GET /healthz HTTP/1.1")).status == 200
