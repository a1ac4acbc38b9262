"""SIGHUP: workers are replaced one after the other, and nobody who is served notices.

Modules: server.supervisor, worker.worker, server.certificates, worker.shared.
"""

import contextlib
import os
import resource
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from echoserver.answers.pattern import pattern
from tests.certificates import Certificates
from tests.process.processes import (
    HALF_CONTENT,
    Group,
    alive,
    echoes,
    exchange,
    half_sent,
    owner,
    receive,
    samples,
    unix_connect,
)
from tests.servers import COMMAND, PATIENCE, PYTHON, HttpClient, read_all, read_exactly, request, sending, wait_for

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
SEVERAL = 5
"""Reloads in a row."""


# --- under load -------------------------------------------------------------------------------------------------------


class Client(threading.Thread):
    """Uses a server without a pause until it is told to stop."""

    def __init__(self, connect: Callable[[], socket.socket]) -> None:
        super().__init__(daemon=True)
        self.connect = connect
        self.served = self.connections = 0
        self.faults: list[str] = []
        self._over = threading.Event()

    def run(self) -> None:
        try:
            while not self._over.is_set():
                self.connections += 1
                with self.connect() as connection:
                    while self.use(connection) and not self._over.is_set():
                        pass
                    self.leave(connection)
        except Exception as error:  # noqa: BLE001 - any is a finding
            self.faults.append(f"{type(self).__name__}, after {self.served}: {error!r}")

    def use(self, connection: socket.socket) -> bool:
        """Ask for something, and check it; False: the connection is not to be used again."""
        raise NotImplementedError

    def leave(self, connection: socket.socket) -> None:
        """The last that is done with a connection."""

    def stop(self) -> None:
        self._over.set()
        self.join(PATIENCE)
        if self.is_alive():
            self.faults.append(f"{type(self).__name__}, after {self.served}: stuck")


class KeepsAlive(Client):
    """HTTP requests over one connection, as long as the server wants to."""

    def use(self, connection: socket.socket) -> bool:
        content = b"%d" % self.served * (self.served % 300)
        connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(content) + content)
        answer = receive(connection)
        assert (answer.status, answer.content) == (200, content)
        self.served += 1
        if answer.connection == "close":
            assert connection.recv(1) == b""
        return answer.connection != "close"


class Comes(Client):
    """A connection for each HTTP request."""

    def use(self, connection: socket.socket) -> bool:
        connection.sendall(GET)
        assert receive(connection).status == 200
        self.served += 1
        return False


class Streams(Client):
    """One TCP connection that always has bytes on their way in both directions, as long as the load lasts."""

    BLOCK = bytes(range(256)) * 64
    ahead = 0

    def use(self, connection: socket.socket) -> bool:
        connection.sendall(self.BLOCK)
        self.ahead += 1
        if self.ahead > 4:
            self._receive(connection)
        return True

    def _receive(self, connection: socket.socket) -> None:
        assert read_exactly(connection, len(self.BLOCK)) == self.BLOCK
        self.ahead -= 1
        self.served += 1

    def leave(self, connection: socket.socket) -> None:
        connection.shutdown(socket.SHUT_WR)
        while self.ahead:
            self._receive(connection)
        assert connection.recv(1) == b""
        assert self.connections == 1


class ComesRaw(Client):
    """A TCP connection for each exchange."""

    def use(self, connection: socket.socket) -> bool:
        assert echoes(connection)
        self.served += 1
        return False


class Datagrams(Client):
    """UDP, one datagram after the other, from one port each."""

    def use(self, connection: socket.socket) -> bool:
        connection.send(b"%d" % self.served)
        assert connection.recv(100) == b"%d" % self.served
        self.served += 1
        return self.served % 8 != 0  # another port may be another worker's


@contextlib.contextmanager
def load(*clients: Client) -> Iterator[Callable[[], None]]:
    """Clients at work; the function returns when each of them has been served again."""

    def go_on() -> None:
        before = [client.served for client in clients]
        wait_for(
            lambda: all(client.faults or client.served > was + 3 for client, was in zip(clients, before, strict=True)),
            "all clients to be served again",
        )

    for client in clients:
        client.start()
    try:
        go_on()
        yield go_on
        go_on()
    finally:
        for client in clients:
            client.stop()
    assert [fault for client in clients for fault in client.faults] == []


def udp_connect(port: int) -> socket.socket:
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.settimeout(5)
    client.connect(("127.0.0.1", port))
    return client


def replaced(server: Group, before: list[int]) -> bool:
    """Whether none of those processes is left, and there are as many others."""
    now = server.children()
    return len(now) == len(before) and not set(now) & set(before)


@pytest.mark.parametrize(
    ("workers", "unix", "options"),
    [
        (2, False, ()),
        (3, False, ()),
        (2, True, ()),
        pytest.param(2, False, ("--reuse-port", "off"), marks=pytest.mark.slow),
        (2, False, ("--loop", "asyncio")),
        pytest.param(2, True, ("--loop", "asyncio"), marks=pytest.mark.slow),
    ],
    ids=["two", "three", "unix", "one socket", "asyncio", "asyncio unix"],
)
def test_under_load_nothing_is_refused_or_cut(
    workers: int, unix: bool, options: tuple[str, ...], tmp_path: Path
) -> None:
    where = ("--http", f"unix:{tmp_path}/http.sock", "--tcp", f"unix:{tmp_path}/tcp.sock") if unix else ()
    with Group("--workers", str(workers), *where, *options) as server:

        def http_connect() -> socket.socket:
            return unix_connect(f"{tmp_path}/http.sock") if unix else server.connect()

        def tcp_connect() -> socket.socket:
            return unix_connect(f"{tmp_path}/tcp.sock") if unix else server.connect("tcp")

        asked = 0

        def counted() -> dict[str, float]:
            nonlocal asked
            asked += 1
            with http_connect() as client:
                client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                return samples(receive(client).content.decode())

        clients: list[Client] = [
            KeepsAlive(http_connect), KeepsAlive(http_connect), Comes(http_connect), Comes(http_connect),
            Streams(tcp_connect), Streams(tcp_connect), ComesRaw(tcp_connect),
            Datagrams(lambda: udp_connect(server.udp)),
        ]  # fmt: skip
        with load(*clients) as go_on:
            for _ in range(SEVERAL):
                before = server.children()[-workers:]
                server.reload()
                assert not set(server.children()[-workers:]) & set(before)
                go_on()
        wait_for(lambda: len(server.children()) == workers, "the former processes to end")

        requests = sum(client.served for client in clients if isinstance(client, KeepsAlive | Comes))
        datagrams = sum(client.served for client in clients if isinstance(client, Datagrams))
        connections = sum(client.connections for client in clients if isinstance(client, Streams | ComesRaw))

        def agrees() -> bool:
            found = counted()
            return (
                found['echoserver_requests_total{status="2xx"}'] == requests + asked - 1
                and found['echoserver_datagrams_total{outcome="echoed"}'] == datagrams
                and found['echoserver_connections_opened_total{protocol="tcp"}'] == connections
                and found['echoserver_connections_open{protocol="tcp"}'] == 0
            )

        wait_for(agrees, "the counters to say what the clients have counted", 5)
        found = counted()
        assert found["echoserver_worker_restarts_total"] == 0
        assert found["echoserver_processes"] == workers
        assert {name: value for name, value in found.items() if "errors_total" in name and value} == {}
        server.send_signal()
        assert server.wait() == 0


# --- those who stay ---------------------------------------------------------------------------------------------------


def test_connections_of_all_generations_go_on_and_their_processes_end_after_them() -> None:
    with Group("--workers", "2") as server, contextlib.ExitStack() as stack:
        first = server.children()
        clients = []
        for _ in range(3):
            clients += [stack.enter_context(server.connect("tcp")) for _ in range(8)]
            assert all(echoes(client) for client in clients)
            server.reload()
        assert set(first) < set(server.children())
        assert all(echoes(client) for client in clients)
        for client in clients:
            client.shutdown(socket.SHUT_WR)
            assert client.recv(1) == b""
        wait_for(lambda: len(server.children()) == 2, "the former processes to end")
        assert not any(alive(pid) for pid in first)
        assert server.get() == 200
        server.send_signal()
        assert server.wait() == 0


def test_a_large_content_in_the_middle_arrives_whole() -> None:
    content = os.urandom(1 << 20) * 50
    with Group("--workers", "2") as server, server.connect() as client, client.makefile("rb") as file:
        with sending(client, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(content) + content):
            head = []
            while (line := file.readline()) != b"\r\n":
                head.append(line)
            got = bytearray(file.read(10 << 20))
            server.reload()
            got += file.read(10 << 20)
            server.reload()
            got += file.read(len(content) - len(got))
        assert head[0] == b"HTTP/1.1 200 OK\r\n"
        assert got == content
        assert file.read() == b"", "a process that is replaced closes after its answers"
        wait_for(lambda: len(server.children()) == 2, "the former processes to end")


def test_an_idle_connection_gets_an_answer_that_is_its_last() -> None:
    with Group("--workers", "2") as server, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(12)]
        for client in clients[:8]:
            client.sendall(GET)
            assert receive(client).connection is None
        # the last four have asked nothing yet: who is not accepted yet will be so by the successor
        server.reload()
        for client in clients:
            client.sendall(GET)
            answer = receive(client)
            assert answer.status == 200
            if client in clients[:8]:
                assert answer.connection == "close"
                assert client.recv(1) == b""
        for client in clients[8:]:
            client.close()
        wait_for(lambda: len(server.children()) == 2, "the former processes to end")


def test_a_request_half_sent_is_answered() -> None:
    with Group("--workers", "2") as server, half_sent(server) as client:
        server.reload()
        client.sendall(HALF_CONTENT.rest)
        answer = receive(client)
        assert (answer.status, answer.content, answer.connection) == (200, HALF_CONTENT.content, "close")
        assert client.recv(1) == b""


@pytest.mark.parametrize("reloads", [1, 2])
def test_a_drain_ends_former_processes_too(reloads: int) -> None:
    with Group("--workers", "2", "--drain-timeout", "500ms") as server, half_sent(server) as client:
        for _ in range(reloads):
            server.reload()
        wait_for(lambda: len(server.children()) == 3, "the idle ones to end")
        pids = server.children()
        server.send_signal()
        assert server.wait() == 1
        assert not any(alive(pid) for pid in pids)
        assert server.lines[-1] == "echoserver: drain timeout: 1 connection cut"
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(1) == b""


def test_a_drain_closes_what_is_idle_in_former_processes() -> None:
    with Group("--workers", "2") as server, server.connect("tcp") as raw, server.connect() as client:
        assert echoes(raw)
        client.sendall(GET)
        receive(client)
        server.reload()
        server.send_signal()
        assert raw.recv(1) == b""
        assert client.recv(1) == b""
        assert server.wait() == 0


def test_what_sends_without_end_goes_on_through_a_reload_until_a_drain() -> None:
    with Group("--workers", "2", "--tcp-mode", "chargen") as server, server.connect("tcp") as client:
        got = read_exactly(client, 1000)
        server.reload()
        wait_for(lambda: len(server.children()) == 3, "the idle one to end")
        got += read_exactly(client, 10 << 20)
        server.send_signal()
        got += read_all(client)
        assert got == pattern(len(got))
        assert server.wait() == 0


# --- reloads that come together, or often -----------------------------------------------------------------------------


def test_signals_during_a_reload() -> None:
    with Group("--workers", "3") as server, load(*(Comes(server.connect) for _ in range(3))):
        before = server.children()
        for _ in range(10):
            server.send_signal(signal.SIGHUP)
            wait_for(lambda: server.get("/healthz") == 200, "an answer")
        wait_for(
            lambda: server.lines and server.lines[-1] == "echoserver: reloaded" and len(server.children()) == 3,
            "the reloads to end",
        )
        assert replaced(server, before)


def test_a_signal_during_a_reload_replaces_those_again_that_were_replaced_before_it(gate: "Gate") -> None:
    with Group("--workers", "2", environment=gate.environment) as server:
        first = server.children()
        with gate.held():
            server.send_signal(signal.SIGHUP)
            wait_for(lambda: len(server.children()) == 3, "the first successor to be started")
            early = set(server.children()) - set(first)
            server.send_signal(signal.SIGHUP)
        wait_for(lambda: replaced(server, [*first, *early][:2]) and not early & set(server.children()), "the second")
        wait_for(lambda: server.said("reloaded"), "the end of the reload")
        assert server.lines.count("echoserver: reloaded") == 1


def test_more_generations_than_there_is_room_for() -> None:
    with Group("--workers", "2", allow_errors=True) as server, contextlib.ExitStack() as stack:
        full = "worker 0 has too many former processes that are still serving"
        held = []
        for _ in range(20):
            # enough of them that each worker has some
            held += [stack.enter_context(server.connect("tcp")) for _ in range(12)]
            assert all(echoes(client) for client in held[-12:])
            before = sum(line.endswith("reloaded") or full in line for line in server.lines)
            server.send_signal(signal.SIGHUP)
            wait_for(
                lambda before=before: sum(line.endswith("reloaded") or full in line for line in server.lines) > before,  # type: ignore[misc]
                "the reload to end or to be given up",
            )
        assert any(full in line for line in server.lines)
        assert len(server.children()) <= 32
        assert all(echoes(client) for client in held), "nobody was cut"
        assert server.get() == 200
        stack.close()
        wait_for(lambda: len(server.children()) == 2, "the former processes to end")
        workers = server.children()
        server.reload()
        wait_for(lambda: replaced(server, workers), "other workers")
        server.send_signal()
        assert server.wait() == 0


def test_a_worker_that_dies_where_there_is_no_room_is_replaced_all_the_same() -> None:
    with (
        Group("--workers", "2", "--drain-timeout", "300ms", allow_errors=True) as server,
        contextlib.ExitStack() as stack,
    ):
        for _ in range(15):
            with connections_by_newest(server, stack):
                server.reload()
        newest = server.children()[-2:]
        assert len(server.children()) == 32
        for pid in newest:
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: len(set(server.children()[-2:]) - set(newest)) == 2, "other workers")
        wait_for(lambda: server.get() == 200, "an answer")


@contextlib.contextmanager
def connections_by_newest(server: Group, stack: contextlib.ExitStack) -> Iterator[None]:
    """Each of the two newest workers gets connections that stay."""
    clients = [stack.enter_context(server.connect("tcp")) for _ in range(20)]
    assert all(echoes(client) for client in clients)
    yield


# --- what can go wrong ------------------------------------------------------------------------------------------------

_AT_FORK = """
import errno, os, signal
folder = os.path.dirname(__file__)

def arrive():
    if os.path.exists(folder + "/kill"):
        os.kill(os.getpid(), signal.SIGKILL)
    if os.path.exists(folder + "/hold"):
        wait = os.open(folder + "/wait", os.O_RDONLY | os.O_NONBLOCK)
        os.set_blocking(wait, True)
        os.read(wait, 1)  # until nobody has it open for writing
        os.close(wait)

fork = os.fork
def refuse():
    if os.path.exists(folder + "/refuse"):
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return fork()

os.register_at_fork(after_in_child=arrive)
os.fork = refuse
"""


class Gate:
    """Decides what becomes of processes that a server starts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "sitecustomize.py").write_text(_AT_FORK, encoding="ascii")
        os.mkfifo(folder / "wait")
        self.environment = {"PYTHONPATH": os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])}

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Those that are started in the context do not begin before its end."""
        writer = os.open(self._folder / "wait", os.O_RDWR)  # which does not wait for a reader
        (self._folder / "hold").touch()
        yield
        (self._folder / "hold").unlink()
        os.close(writer)

    @contextlib.contextmanager
    def killed(self) -> Iterator[None]:
        """Those that are started in the context die at once."""
        (self._folder / "kill").touch()
        yield
        (self._folder / "kill").unlink()

    @contextlib.contextmanager
    def none(self) -> Iterator[None]:
        """The kernel has no process to give in the context."""
        (self._folder / "refuse").touch()
        yield
        (self._folder / "refuse").unlink()


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    if COMMAND != PYTHON:
        pytest.skip("another command than Python's loads no sitecustomize")
    folder = tmp_path / "gate"
    folder.mkdir()
    return Gate(folder)


def test_a_successor_that_is_killed_before_it_is_ready(gate: Gate) -> None:
    with Group("--workers", "2", allow_errors=True, environment=gate.environment) as server:
        before = server.children()
        with load(KeepsAlive(server.connect), Comes(server.connect)), gate.killed():
            server.send_signal(signal.SIGHUP)
            wait_for(lambda: "not reloaded" in server.lines[-1], "its end")
        assert server.children() == before
        assert server.lines[-1].endswith("was ended by SIGKILL at its start, the former one goes on")
        server.reload()
        wait_for(lambda: replaced(server, before), "other workers")
        assert samples_of(server)["echoserver_worker_restarts_total"] == 0
        server.send_signal()
        assert server.wait() == 0


def samples_of(server: Group) -> dict[str, float]:
    with HttpClient(server.connect()) as client:
        return samples(client.ask(request("GET /metrics HTTP/1.1")).content.decode())


@pytest.mark.parametrize("descriptors", [True, False], ids=["descriptors", "processes"])
def test_no_room_for_another_process(gate: Gate, descriptors: bool) -> None:
    with Group("--workers", "2", allow_errors=True, environment=gate.environment) as server:
        before = server.children()
        with load(KeepsAlive(server.connect), Comes(server.connect)):
            with few_descriptors(server) if descriptors else gate.none():
                server.send_signal(signal.SIGHUP)
                wait_for(lambda: "not reloaded" in server.lines[-1], "the error")
            assert server.children() == before
            server.reload()
        wait_for(lambda: replaced(server, before), "other workers")


@pytest.mark.parametrize("descriptors", [True, False], ids=["descriptors", "processes"])
def test_a_worker_that_dies_while_there_is_no_room_for_another_process(gate: Gate, descriptors: bool) -> None:
    with Group("--workers", "2", allow_errors=True, environment=gate.environment) as server:
        victim, other = server.children()
        with few_descriptors(server) if descriptors else gate.none():
            os.kill(victim, signal.SIGKILL)
            wait_for(lambda: "cannot start" in server.lines[-1], "the error")
            assert server.children() == [other]
        wait_for(lambda: server.replaced(victim, number=2), "another worker")
        assert other in server.children()
        server.send_signal()
        assert server.wait() == 0


@contextlib.contextmanager
def few_descriptors(server: Group) -> Iterator[None]:
    """The supervisor has as many descriptors as it may have."""
    before = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
    most = max(map(int, os.listdir(f"/proc/{server.process.pid}/fd"))) + 1
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (most, before[1]))
    yield
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, before)


def test_a_former_process_that_dies_while_its_successor_starts(gate: Gate) -> None:
    with Group("--workers", "2", environment=gate.environment) as server:
        first = server.children()
        with gate.held():
            server.send_signal(signal.SIGHUP)
            wait_for(lambda: len(server.children()) >= 3, "a successor to be started")
            os.kill(first[0], signal.SIGKILL)
            wait_for(lambda: not alive(first[0]), "its end")
            wait_for(lambda: any(f"worker {first[0]}" in line for line in server.lines), "it to be reaped")
        wait_for(lambda: replaced(server, first), "other workers")
        wait_for(lambda: server.said("reloaded"), "the end of the reload")
        assert {server.get() for _ in range(20)} == {200}


def test_a_drain_while_a_successor_starts(gate: Gate) -> None:
    with Group("--workers", "2", environment=gate.environment) as server:
        with gate.held():
            server.send_signal(signal.SIGHUP)
            wait_for(lambda: len(server.children()) == 3, "a successor to be started")
            server.send_signal()
            wait_for(server.refuses, "the drain")
        assert server.wait() == 0


def test_who_waits_to_be_accepted_by_a_worker_that_is_killed_is_served_by_the_next() -> None:
    with Group("--workers", "2") as server:
        workers = server.children()
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(server.connect()) for _ in range(16)]
            raw = [stack.enter_context(server.connect("tcp")) for _ in range(16)]
            for client in clients:
                client.sendall(GET)
            for pid in workers:
                os.kill(pid, signal.SIGKILL)
            assert {receive(client).status for client in clients} == {200}
            assert all(echoes(client) for client in raw)
        assert samples_of(server)["echoserver_worker_restarts_total"] == 2
        before = server.children()
        server.reload()
        wait_for(lambda: replaced(server, before), "other workers")
        assert samples_of(server)["echoserver_worker_restarts_total"] == 2


def test_a_terminated_worker_is_replaced_before_its_last_connection_ends() -> None:
    """Nobody accepts at its sockets while it drains, and who comes there must not wait for that."""
    with Group("--workers", "2", "--drain-timeout", "60s") as server, half_sent(server) as client:
        os.kill(owner(server, client), signal.SIGTERM)
        wait_for(lambda: len(server.children()) == 3, "another worker, besides that which drains")
        assert {server.get() for _ in range(32)} == {200}
        client.sendall(HALF_CONTENT.rest)
        assert receive(client).content == HALF_CONTENT.content
        wait_for(lambda: len(server.children()) == 2, "the end of the drain")


def test_a_worker_that_is_terminated_in_a_reload_gets_one_successor() -> None:
    """Its successor has been started, and is not ready yet."""
    with Group("--workers", "2") as server:
        for _ in range(SEVERAL):
            former = server.children()
            before = server.lines.count("echoserver: reloaded")
            server.send_signal(signal.SIGHUP)
            wait_for(lambda former=former: set(server.children()) != set(former), "a successor")  # type: ignore[misc]
            for pid in former:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
            wait_for(lambda: server.lines.count("echoserver: reloaded") > before, "the reload")  # noqa: B023
            wait_for(lambda former=former: not set(server.children()) & set(former), "their end")  # type: ignore[misc]
            wait_for(lambda: len(server.children()) == 2, "two workers and no more")
            page = samples(exchange(server.connect(), request("GET /metrics HTTP/1.1"))[1].decode())
            assert page["echoserver_processes"] == 2


def test_one_worker_reads_again_what_there_is() -> None:
    with Group("--workers", "1") as server, server.connect("tcp") as client:
        assert echoes(client)
        for number in range(1, 4):
            server.send_signal(signal.SIGHUP)
            line = "echoserver: reloaded: there are no certificates to read"
            wait_for(lambda number=number, line=line: server.lines.count(line) == number, "the line")  # type: ignore[misc]
        assert echoes(client)
        assert server.get() == 200


# --- certificates -----------------------------------------------------------------------------------------------------


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)


def tls_connect(server: Group, certificates: Certificates, protocol: str = "https") -> ssl.SSLSocket:
    return certificates.trusting().wrap_socket(server.connect(protocol), server_hostname="localhost")


def shown(server: Group, certificates: Certificates, protocol: str = "https") -> bytes:
    """The certificate that a new connection gets."""
    with tls_connect(server, certificates, protocol) as client:
        return client.getpeercert(binary_form=True) or b""


def in_file(certificates: Certificates) -> bytes:
    text = certificates.cert.read_text(encoding="ascii")
    end = "-----END CERTIFICATE-----"
    return ssl.PEM_cert_to_DER_cert(text[: text.index(end) + len(end)])


@pytest.mark.parametrize("workers", ["1", "2"])
def test_tls_cert__a_renewed_one_is_what_new_connections_get(workers: str, certificates: Certificates) -> None:
    with Group("--workers", workers, "--https", "0", "--tls", "0", *certificates.options) as server:

        def connect() -> socket.socket:
            return tls_connect(server, certificates)

        def connect_raw() -> socket.socket:
            return tls_connect(server, certificates, "tls")

        old = in_file(certificates)
        clients = [KeepsAlive(connect), Comes(connect), ComesRaw(connect_raw)]
        with connect_raw() as stays, load(*clients) as go_on:
            assert echoes(stays)
            for _ in range(3):
                certificates.renew()
                assert in_file(certificates) != old
                before = len([line for line in server.lines if "reloaded" in line])
                server.send_signal(signal.SIGHUP)
                wait_for(
                    lambda before=before: len([line for line in server.lines if "reloaded" in line]) > before,  # type: ignore[misc]
                    "the reload",
                )
                new = in_file(certificates)
                assert {shown(server, certificates, each) for each in ("https", "tls") * 6} == {new}
                go_on()
            assert echoes(stays)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_tls_cert__a_broken_one_is_not_taken(workers: str, certificates: Certificates) -> None:
    with Group("--workers", workers, "--https", "0", *certificates.options, allow_errors=True) as server:
        before = server.children()
        old = in_file(certificates)
        good = certificates.cert.read_bytes()
        certificates.cert.write_bytes(b"nothing of use")
        server.send_signal(signal.SIGHUP)
        line = (
            f"echoserver: certificates were not reloaded, those in use stay: --tls-cert {certificates.cert}: "
            "there is no certificate in it (PEM), or it is broken"
        )
        wait_for(lambda: line in server.lines, "the error")
        if workers == "2":
            wait_for(lambda: replaced(server, before), "other workers all the same")
        assert {shown(server, certificates) for _ in range(8)} == {old}
        certificates.cert.write_bytes(good)
        certificates.cert.unlink()
        server.send_signal(signal.SIGHUP)
        wait_for(lambda: "no such file or directory" in " ".join(server.lines).lower(), "the other error")
        assert {shown(server, certificates) for _ in range(8)} == {old}


def test_a_worker_that_starts_while_a_certificate_is_read_gets_the_new_one(
    gate: Gate, certificates: Certificates
) -> None:
    with Group("--workers", "2", "--https", "0", *certificates.options, environment=gate.environment) as server:
        victim = server.children()[0]
        with gate.held():
            os.kill(victim, signal.SIGKILL)
            wait_for(lambda: len(server.children()) == 2 and victim not in server.children(), "another process")
            certificates.renew()
            server.send_signal(signal.SIGHUP)
            wait_for(lambda: any("reloading" in line for line in server.lines), "the reload to begin")
        wait_for(lambda: server.said("reloaded"), "the end of the reload")
        assert {shown(server, certificates) for _ in range(16)} == {in_file(certificates)}
