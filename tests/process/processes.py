"""What the process tests share: servers in process groups of their own, runs that end by themselves, half requests."""

import contextlib
import dataclasses
import http.client
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Self

from tests.servers import COMMAND, PATIENCE, Server, free_ports, read_exactly, wait_for


class Group(Server):
    """A server in a session of its own, as a terminal or a container starts it: nothing of it outlives the context.

    pass_fds: descriptors that it inherits. output: a descriptor for its stdout. The rest is as Server has it.
    """

    def __init__(
        self, *options: str, pass_fds: Sequence[int] = (), output: int | None = None, **others: Any
    ) -> None:  # fmt: skip
        super().__init__(*options, start_new_session=True, pass_fds=pass_fds, stdout=output, **others)

    def __enter__(self) -> Self:
        try:
            return super().__enter__()
        except BaseException:
            self._sweep_up()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:  # the test has failed: no need to wait for a drain
            self._sweep_up()
        try:
            super().__exit__(kind, error, trace)
        finally:
            self._sweep_up()

    def _sweep_up(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.signal_group(signal.SIGKILL)

    def send_signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        """To the process that was started, and only to it."""
        self.process.send_signal(number)

    def signal_group(self, number: signal.Signals) -> None:
        """To every process of it, as a terminal does."""
        os.killpg(self.process.pid, number)

    def reload(self) -> None:
        """SIGHUP; returns when it says that the reload is over."""
        before = self.lines.count("echoserver: reloaded")
        self.send_signal(signal.SIGHUP)
        wait_for(lambda: self.lines.count("echoserver: reloaded") > before, "the reload")

    def get(self, path: str = "/") -> int:
        """The status of a GET over a connection of its own."""
        return exchange(self.connect(), b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path.encode())[0]

    def replaced(self, *dead: int, number: int) -> bool:
        """Whether there are so many workers again that listen, and those that have died are none of them."""
        now = self.children()
        return len(now) == number and not set(dead) & set(now) and all(self._listens(pid) for pid in now)

    def _listens(self, pid: int) -> bool:
        found = [re.search(r"listening: (\w+) \S+:(\d+),", line) for line in self.lines]
        return all(listens(pid, match[1], int(match[2])) for match in found if match)


def run(
    *arguments: str, environment: dict[str, str] | None = None, before: Sequence[str] = (),
    pass_fds: Sequence[int] = (),
) -> subprocess.CompletedProcess[str]:  # fmt: skip
    """``echoserver ARGUMENTS``, which ends by itself. before, pass_fds: as of Group."""
    return subprocess.run(
        [*before, *COMMAND, *arguments], capture_output=True, text=True, timeout=PATIENCE, check=False,
        env={**os.environ, **(environment or {})}, pass_fds=pass_fds,
    )  # fmt: skip


def cannot_start(code: int, *options: str, pass_fds: Sequence[int] = ()) -> str:
    """The server ends with that code, and says why in one line, which is returned."""
    ended = run(*free_ports(options), *options, pass_fds=pass_fds)
    assert (ended.returncode, ended.stdout) == (code, ""), ended.stderr
    (line,) = ended.stderr.splitlines()
    return line


def exchange(connection: socket.socket, request: bytes) -> tuple[int, bytes]:
    """Send a request over a connection, which is closed afterwards; status and content of the response."""
    with connection:
        connection.sendall(request)
        response = receive(connection)
        return response.status, response.content


@dataclasses.dataclass(frozen=True)
class Response:
    """A whole response."""

    status: int
    connection: str | None
    content: bytes


def receive(connection: socket.socket) -> Response:
    """The next response; fails where it is cut short (http.client's errors)."""
    with http.client.HTTPResponse(connection) as response:
        response.begin()
        return Response(response.status, response.getheader("Connection"), response.read())


@dataclasses.dataclass(frozen=True)
class HalfRequest:
    """A request in two pieces; nothing is answered before the second one."""

    name: str
    first: bytes
    rest: bytes
    content: bytes

    def __str__(self) -> str:
        return self.name


def _post(field: str) -> bytes:
    return f"POST /half HTTP/1.1\r\nHost: x\r\n{field}\r\n\r\n".encode()


_MUCH = bytes(range(256)) * 2048  # more than is kept in parts: received into one buffer
HALF_CONTENT = HalfRequest("content", _post("Content-Length: 10") + b"hello", b"world", b"helloworld")
HALF_REQUESTS = [
    HALF_CONTENT,
    HalfRequest("head", b"POST /half HTTP/1.1\r\nHost: x\r\nConte", b"nt-Length: 5\r\n\r\nhello", b"hello"),
    HalfRequest("much", _post(f"Content-Length: {len(_MUCH)}") + _MUCH[:400_000], _MUCH[400_000:], _MUCH),
    HalfRequest("chunked", _post("Transfer-Encoding: chunked") + b"5\r\n", b"hello\r\n0\r\n\r\n", b"hello"),
]


@contextlib.contextmanager
def half_sent(server: Server, request: HalfRequest = HALF_CONTENT) -> Iterator[socket.socket]:
    """A connection with the first half of a request on it; the server has read that (it is not the first request)."""
    with server.connect() as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        receive(client)
        client.sendall(request.first)
        wait_for(lambda: not unread(client), "the server to read what was sent")
        yield client


def _table(kind: str) -> Iterator[list[str]]:
    """The rows of /proc/net/tcp or udp: [1] our address, [2] the other's, [3] state, [4] queues, [9] inode."""
    with open(f"/proc/net/{kind}", encoding="ascii") as file:
        next(file)
        for line in file:
            yield line.split()


def _other_side(connection: socket.socket) -> list[str]:
    """The row of the server's end of a connection over loopback.

    The table is not read at one moment: while other connections come and go a row may be there twice, or be missed.
    """
    ours, theirs = (f"0100007F:{end[1]:04X}" for end in (connection.getsockname(), connection.getpeername()))
    found: list[list[str]] = []

    def look() -> bool:
        found.extend(row for row in _table("tcp") if row[1:3] == [theirs, ours] and row[9] != "0")
        return bool(found)

    wait_for(look, f"{theirs} {ours} in /proc/net/tcp")
    return found[-1]


def unread(connection: socket.socket) -> bool:
    """Whether some of what was sent over loopback has not been read by the other side."""
    return not _other_side(connection)[4].endswith(":00000000")


def _sockets(pid: int) -> set[str]:
    """The inodes of the sockets that a process has open."""
    found = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.add(os.readlink(f"/proc/{pid}/fd/{name}").removeprefix("socket:[").removesuffix("]"))
    return found


def listens(pid: int, protocol: str, port: int) -> bool:
    """Whether a process has a socket of its own there: a listening one, or for UDP a bound one."""
    kind, state = ("udp", "07") if protocol == "udp" else ("tcp", "0A")
    bound = {row[9] for row in _table(kind) if row[1].endswith(f":{port:04X}") and row[3] == state}
    try:
        return bool(bound & _sockets(pid))
    except FileNotFoundError:
        return False


def children(pid: int) -> list[int]:
    """The child processes of a process, the dead that nobody has reaped too."""
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(word) for word in file.read().split()]


def alive(pid: int) -> bool:
    """Whether a process runs: a zombie that its parent has not reaped does not."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


@contextlib.contextmanager
def connections_by_worker(server: Server, number: int = 64) -> Iterator[dict[int, list[socket.socket]]]:
    """TCP connections, and which worker has them."""
    owned: dict[int, list[socket.socket]] = {pid: [] for pid in server.children()}
    with contextlib.ExitStack() as stack:
        for _ in range(number):
            client = stack.enter_context(server.connect("tcp"))
            assert echoes(client)
            inode = _other_side(client)[9]
            (owner,) = [pid for pid in owned if inode in _sockets(pid)]
            owned[owner].append(client)
        yield owned


def owner(server: Server, connection: socket.socket) -> int:
    """The process that serves a connection over loopback."""
    inode = _other_side(connection)[9]
    (found,) = [pid for pid in server.children() if inode in _sockets(pid)]
    return found


def echoes(connection: socket.socket) -> bool:
    """Whether a TCP connection is served."""
    connection.sendall(b"ping")
    return read_exactly(connection, 4) == b"ping"


def ping(port: int, data: bytes = b"ping", family: socket.AddressFamily = socket.AF_INET) -> bool:
    """Whether a datagram from a new source port comes back."""
    with socket.socket(family, socket.SOCK_DGRAM) as client:
        client.settimeout(2)
        client.connect(("::1" if family == socket.AF_INET6 else "127.0.0.1", port))
        client.send(data)
        try:
            return client.recv(2048) == data
        except TimeoutError:
            return False


def samples(page: str) -> dict[str, float]:
    """What a page of metrics says: under each name with its labels but for worker's the sum over the workers."""
    found: dict[str, float] = {}
    for line in page.splitlines():
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            name = re.sub(r'worker="\d+",?', "", name).replace(",}", "}").removesuffix("{}")
            found[name] = found.get(name, 0) + float(value)
    return found


def unix_connect(path: str) -> socket.socket:
    """A client's connection to a unix socket."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(PATIENCE)
    try:
        connection.connect(path)
    except OSError:
        connection.close()
        raise
    return connection
