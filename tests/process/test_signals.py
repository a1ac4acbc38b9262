"""What signals do: the drain, and its end.

Modules: server.supervisor, worker.worker, worker.control, worker.channel.
"""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import threading
import time

import pytest

from tests.process.processes import (
    HALF_CONTENT,
    HALF_REQUESTS,
    Group,
    HalfRequest,
    echoes,
    half_sent,
    ping,
    receive,
    unix_connect,
    unread,
)
from tests.servers import COMMAND, PATIENCE, read_all, sending, wait_for

SOON = 8.0
"""Seconds: longer than anything that is done at once takes on a busy machine, shorter than the deadlines waited out."""

DRAINED = "echoserver: drained: all connections have ended"

alone_and_several = pytest.mark.parametrize("workers", ["1", "2"])
both_signals = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])


def ends_with(server: Group, code: int, within: float = PATIENCE) -> None:
    """The server ends in that time with that exit code."""
    begun = time.monotonic()
    assert server.wait() == code, server.lines
    assert time.monotonic() - begun < within


@alone_and_several
@both_signals
def test_an_idle_server_ends_at_once(workers: str, number: signal.Signals) -> None:
    with Group("--workers", workers) as server:
        pids = server.children()
        server.send_signal(number)
        ends_with(server, 0, SOON)
        wait_for(lambda: server.lines[-2:] == ["echoserver: draining", DRAINED], "the last lines")
        assert [pid for pid in pids if os.path.exists(f"/proc/{pid}")] == []


@alone_and_several
def test_a_signal_as_soon_as_it_is_ready_is_a_drain(workers: str) -> None:
    """Whoever reads "ready" may send signals."""
    for _ in range(4):
        with subprocess.Popen(
            [*COMMAND, "--http", "0", "--tcp", "off", "--udp", "off", "--workers", workers], stderr=subprocess.PIPE
        ) as process:
            assert process.stderr is not None
            try:
                assert any(line == b"echoserver: ready\n" for line in process.stderr)
                process.terminate()
                assert process.wait(PATIENCE) == 0
            finally:
                process.kill()


@alone_and_several
@pytest.mark.parametrize("request_", HALF_REQUESTS, ids=str)
def test_a_request_under_way_is_completed_and_is_the_last(workers: str, request_: HalfRequest) -> None:
    with Group("--workers", workers) as server, half_sent(server, request_) as client:
        server.send_signal()
        wait_for(server.refuses, "new connections to be refused")
        client.sendall(request_.rest)
        response = receive(client)
        assert (response.status, response.content) == (200, request_.content)
        assert response.connection == "close"
        assert client.recv(1) == b""
        ends_with(server, 0, SOON)


@alone_and_several
def test_content_that_is_being_relayed_arrives_whole(workers: str) -> None:
    first, rest = os.urandom(500_000), os.urandom(500_000)
    with Group("--workers", workers, "--buffer-limit", "64KiB") as server, server.connect() as client:
        head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
        with client.makefile("rb") as answer:
            with sending(client, head + first):
                assert answer.readline() == b"HTTP/1.1 200 OK\r\n"
                while answer.readline() != b"\r\n":
                    pass
                assert answer.read(len(first)) == first
            server.send_signal()
            wait_for(server.refuses, "new connections to be refused")
            with sending(client, rest):
                assert answer.read() == rest
        ends_with(server, 0, SOON)


@alone_and_several
def test_an_idle_keep_alive_connection_is_closed(workers: str) -> None:
    with Group("--workers", workers) as server, server.connect() as used, server.connect() as unused:
        used.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert receive(used).connection is None
        server.send_signal()
        assert used.recv(1) == b""
        assert unused.recv(1) == b""
        ends_with(server, 0, SOON)


@alone_and_several
def test_a_request_that_comes_while_draining_is_answered_and_is_the_last(workers: str) -> None:
    with Group("--workers", workers) as server, server.connect() as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        receive(client)
        server.send_signal()
        wait_for(server.refuses, "new connections to be refused")
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello")
        response = receive(client)
        assert (response.status, response.connection, response.content) == (200, "close", b"hello")
        ends_with(server, 0, SOON)


@alone_and_several
def test_a_tcp_connection_gets_what_it_is_owed(workers: str) -> None:
    data = os.urandom(8 << 20)
    with Group("--workers", workers) as server, server.connect("tcp") as client:
        client.sendall(data)
        wait_for(lambda: not unread(client), "the server to read what was sent")
        server.send_signal()
        wait_for(lambda: server.refuses("tcp"), "new connections to be refused")
        assert read_all(client) == data
        ends_with(server, 0, SOON)


@alone_and_several
def test_a_tcp_client_that_goes_on_is_served_while_draining(workers: str) -> None:
    with Group("--workers", workers) as server, server.connect("tcp") as client:
        assert echoes(client)
        server.send_signal()
        wait_for(lambda: server.refuses("tcp"), "new connections to be refused")
        for _ in range(100):
            assert echoes(client)
        assert client.recv(1) == b""
        ends_with(server, 0, SOON)


@alone_and_several
def test_drain_delay__all_goes_on_while_readyz_says_503(workers: str) -> None:
    with Group("--workers", workers, "--drain-delay", "1h") as server:
        assert (server.get("/readyz"), server.get("/healthz")) == (200, 200)
        server.send_signal()
        wait_for(lambda: server.get("/readyz") == 503, "/readyz to turn")
        assert [server.get("/readyz") for _ in range(12)] == [503] * 12  # all workers
        assert {server.get("/healthz") for _ in range(12)} == {200}
        assert {server.get("/echo") for _ in range(12)} == {200}
        assert ping(server.udp)
        with server.connect("tcp") as client:
            assert echoes(client)
        server.send_signal()  # a second one ends it at once
        server.wait()
    with Group("--workers", workers, "--drain-delay", "500ms") as server:
        begun = time.monotonic()
        server.send_signal()
        wait_for(server.refuses, "new connections to be refused")
        assert time.monotonic() - begun >= 0.45
        ends_with(server, 0, SOON)


@alone_and_several
def test_drain_timeout__cuts_what_is_left(workers: str) -> None:
    with Group("--workers", workers, "--drain-timeout", "500ms") as server, half_sent(server) as client:
        begun = time.monotonic()
        server.send_signal()
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(1) == b""
        assert time.monotonic() - begun >= 0.5
        ends_with(server, 1, SOON)
        assert server.lines[-1] == "echoserver: drain timeout: 1 connection cut"


def answered(server: Group) -> socket.socket:
    """A client that has its last answer, and the server's FIN, and does not close its socket."""
    client = server.connect("http")
    client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert read_all(client).endswith(b"\r\n\r\n")
    return client


@alone_and_several
def test_drain_timeout__who_has_its_last_answer_is_not_cut(workers: str) -> None:
    with Group("--workers", workers, "--drain-timeout", "500ms") as server, answered(server):
        server.send_signal()
        ends_with(server, 0, SOON)
        assert server.lines[-1] == DRAINED


@alone_and_several
def test_a_second_signal_cuts_nobody_who_has_its_last_answer(workers: str) -> None:
    with Group("--workers", workers, "--drain-timeout", "off") as server, answered(server):
        server.send_signal()
        wait_for(server.refuses, "new connections to be refused")
        server.send_signal()
        ends_with(server, 0, SOON)


@alone_and_several
@both_signals
def test_a_second_signal_ends_at_once(workers: str, number: signal.Signals) -> None:
    with Group("--workers", workers, "--drain-timeout", "off") as server, half_sent(server) as client:
        server.send_signal(number)
        wait_for(server.refuses, "new connections to be refused")
        server.send_signal(number)
        ends_with(server, 1, SOON)
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(1) == b""


@alone_and_several
def test_a_second_signal_that_cuts_nothing_is_no_failure(workers: str) -> None:
    """Exit code 0: ended by a signal, all served (--help)."""
    with Group("--workers", workers, "--drain-delay", "60s") as server:
        assert server.get("/readyz") == 200
        server.send_signal()
        wait_for(lambda: server.get("/readyz") == 503, "the drain to begin")
        server.send_signal()
        ends_with(server, 0, SOON)
        assert DRAINED not in server.lines


@alone_and_several
@both_signals
def test_a_signal_to_the_whole_group_drains_as_well(workers: str, number: signal.Signals) -> None:
    with Group("--workers", workers) as server, half_sent(server) as client:
        server.signal_group(number)
        wait_for(server.refuses, "new connections to be refused")
        client.sendall(HALF_CONTENT.rest)
        assert receive(client).content == HALF_CONTENT.content
        ends_with(server, 0, SOON)


@alone_and_several
@both_signals
def test_drain_delay__a_signal_to_the_whole_group_keeps_it(workers: str, number: signal.Signals) -> None:
    with Group("--workers", workers, "--drain-delay", "1s") as server:
        assert server.get() == 200
        begun = time.monotonic()
        server.signal_group(number)
        wait_for(server.refuses, "new connections to be refused")
        assert time.monotonic() - begun >= 0.95
        ends_with(server, 0, SOON)


@alone_and_several
def test_unix_sockets_refuse_new_connections_while_draining(workers: str, tmp_path: os.PathLike[str]) -> None:
    path = f"{tmp_path}/http.sock"

    def refuses() -> bool:
        try:
            with unix_connect(path) as another:
                another.settimeout(SOON)
                another.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                return not another.recv(12).endswith(b" 200")
        except (ConnectionError, FileNotFoundError):
            return True
        except TimeoutError:
            pytest.fail("a new connection is neither served nor refused")

    with Group("--workers", workers, "--http", f"unix:{path}") as server, unix_connect(path) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        receive(client)
        client.sendall(HALF_CONTENT.first)
        server.send_signal()
        wait_for(refuses, "new connections to be refused")
        client.sendall(HALF_CONTENT.rest)
        assert receive(client).content == HALF_CONTENT.content
        ends_with(server, 0, SOON)


class Client(threading.Thread):
    """Requests without a pause over one connection at a time, until it can't connect any more."""

    def __init__(self, port: int, number: int) -> None:
        super().__init__(daemon=True)
        self._port = port
        self._content = bytes([number]) * (200_000 if number % 2 else 100)
        self.answered = 0
        self.faults: list[str] = []

    def run(self) -> None:
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE)
            try:
                connection.connect()
            except ConnectionError:
                return
            try:
                self._use(connection)
            except Exception as error:  # noqa: BLE001 - any is a finding
                self.faults.append(repr(error))
                return
            finally:
                connection.close()

    def _use(self, connection: http.client.HTTPConnection) -> None:
        """Until the server says that this was the last answer."""
        for number in range(1 << 30):
            try:
                connection.request("POST", "/", self._content)
                assert connection.sock is not None
                begun = connection.sock.recv(1, socket.MSG_PEEK)
            except ConnectionError as error:
                if number:
                    self.faults.append(f"no answer to request {number} of a connection: {error!r}")
                return  # a new connection may be refused, until it has had its first answer
            if not begun:
                if number:
                    self.faults.append(f"no answer to request {number} of a connection: closed")
                return
            with connection.getresponse() as response:
                content = response.read()
                if response.status == 503 and not number:
                    return
                if response.status != 200 or content != self._content:
                    self.faults.append(f"{response.status}, {len(content)} bytes")
                self.answered += 1
                if response.getheader("Connection") == "close":
                    return


@alone_and_several
def test_under_load_no_response_is_cut(workers: str) -> None:
    with Group("--workers", workers) as server:
        clients = [Client(server.http, number) for number in range(8)]
        for client in clients:
            client.start()
        wait_for(lambda: all(client.answered >= 20 or client.faults for client in clients), "load")
        server.send_signal()
        ends_with(server, 0)
        for client in clients:
            client.join(PATIENCE)
        assert [fault for client in clients for fault in client.faults] == []
        assert not any(client.is_alive() for client in clients)
