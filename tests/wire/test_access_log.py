"""The access log of real servers: complete, its lines whole, and in nobody's way, whatever its reader does."""

import collections
import contextlib
import datetime
import fcntl
import json
import os
import pathlib
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.servers import HttpClient, Server, let_read, read_all, read_exactly, request, sending, wait_for

LOOPS = ["uvloop", "asyncio"]
ESCAPED = r'"((?:[ !#-\[\]-~]|\\x[0-9A-F]{2})*)"'
COMBINED = re.compile(rf"(\S+) - - \[([^\]]+)\] {ESCAPED} (\d{{3}}) (\d+) {ESCAPED} {ESCAPED}")
BASIC = re.compile(r"(\S+) \[([^\]]+)\] (TCP|TLS) (\d{3}) (\d+) (\d+) (\d+\.\d{3})")
KEYS = {
    "time", "client", "port", "protocol", "worker", "method", "target", "version", "status", "bytes_in", "bytes_out",
    "referer", "user_agent", "duration",
}  # fmt: skip
POST = request("POST /x HTTP/1.1", "Referer: http://r/", "User-Agent: test", "Content-Length: 64", content=bytes(64))


@contextlib.contextmanager
def standard_output(descriptor: int) -> Iterator[None]:
    """What is started meanwhile has it as its own."""
    saved = os.dup(1)
    os.dup2(descriptor, 1)
    try:
        yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)


@contextlib.contextmanager
def logging_to(descriptor: int, *options: str) -> Iterator[Server]:
    with standard_output(descriptor):
        server = Server(*options)
    os.close(descriptor)  # from here on it is the server's only
    with server:
        yield server


class Reader:
    """Reads a log to its end, in a thread."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._parts: list[bytes] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while part := os.read(self._descriptor, 1 << 20):
            self._parts.append(part)
        os.close(self._descriptor)

    def lines(self) -> list[str]:
        """All lines, when those that write them have ended."""
        self._thread.join(20)
        assert not self._thread.is_alive(), "somebody still has the log"
        return lines_of(b"".join(self._parts))


def lines_of(log: bytes) -> list[str]:
    assert log == b"" or log.endswith(b"\n"), "the last line is not whole"
    return log.decode("ascii").splitlines()


def parse(line: str) -> dict[str, Any]:
    found = json.loads(line)
    assert isinstance(found, dict)
    return found


def figures(server: Server) -> dict[tuple[str, str], float]:
    """The page of metrics: the sum over all workers by name and the other label's value."""
    with HttpClient(server.connect("admin")) as client:
        page = client.ask(request("GET /metrics HTTP/1.1")).content.decode()
    sums = collections.defaultdict[tuple[str, str], float](float)
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            sums[sample.name, "".join(value for label, value in sample.labels.items() if label != "worker")] += (
                sample.value
            )
    return sums


def pipelined(server: Server, number: int, data: bytes = POST, size: int = 100) -> None:
    """So many requests on one connection, all answered."""
    with HttpClient(server.connect()) as client:
        client.send(data)
        first = client.answer()
        assert first.status == 200
        (head_size,) = {len(client.ask(data).content) for _ in range(2)}
        answered = 3
        batch = data * size
        client.send(data)
        response = b""
        while not response.endswith(b"\r\n\r\n"):
            response += client.file.read(1)
        client.file.read(head_size)
        answered += 1
        whole = len(response) + head_size
        while answered < number:
            some = min(size, number - answered)
            client.send(batch[: some * len(data)])
            assert client.file.read(some * whole).count(b"HTTP/1.1 200 OK\r\n") == some
            answered += some


# --- the lines ---


@pytest.mark.parametrize("loop", LOOPS)
def test_access_log__text_is_what_other_servers_write(loop: str, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "log"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    now = datetime.datetime.now(datetime.UTC)
    with logging_to(descriptor, "--access-log", "text", "--loop", loop) as server:
        with HttpClient(server.connect()) as client:
            for data in (
                POST,
                POST,
                request("GET /a HTTP/1.1", "User-Agent: \xe4"),
                request("HEAD / HTTP/1.1"),
                b'\x16\x03 "\r\n\r\n',
            ):
                client.ask(data) if not data.startswith(b"\x16") else client.send(data)
            client.rest()
        with server.connect("tcp") as raw, sending(raw, bytes(100_000), fin=True):
            assert len(read_all(raw)) == 100_000
        wait_for(lambda: path.read_bytes().count(b"\n") == 6, "all lines")
    *requests, connection = lines_of(path.read_bytes())
    found = []
    for line in requests:
        parts = COMBINED.fullmatch(line)
        assert parts, line
        client_host, when, *rest = parts.groups()
        assert client_host == "127.0.0.1"
        assert abs((datetime.datetime.strptime(when, "%d/%b/%Y:%H:%M:%S %z") - now).total_seconds()) < 20
        found.append(rest)
    size = len(request("GET /a HTTP/1.1", "User-Agent: \xe4"))
    assert found[:4] == [
        ["POST /x HTTP/1.1", "200", "64", "http://r/", "test"], ["POST /x HTTP/1.1", "200", "64", "http://r/", "test"],
        ["GET /a HTTP/1.1", "200", str(size), "-", "\\xE4"], ["HEAD / HTTP/1.1", "200", "0", "-", "-"],
    ]  # fmt: skip
    assert found[4][:2] == ["\\x16\\x03 \\x22", "400"]
    parts = BASIC.fullmatch(connection)
    assert parts, connection
    assert parts[1] == "127.0.0.1"
    assert parts.groups()[2:6] == ("TCP", "200", "100000", "100000")


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_access_log__json_is_an_object_a_line(loop: str, kind: str) -> None:
    if kind == "pipe":
        reading, writing = os.pipe()
    else:
        ours, theirs = socket.socketpair()
        reading, writing = ours.detach(), theirs.detach()
    log = Reader(reading)
    with logging_to(writing, "--access-log", "json", "--loop", loop, "--max-body", "1000000") as server:
        with HttpClient(server.connect()) as client:
            port = client.socket.getsockname()[1]
            for piece in (0, 7):
                assert client.ask(POST, piece).status == 200
            for size in (300_000, 300_000, 1_000_001):
                client.ask(request("PUT /big HTTP/1.1", f"Content-Length: {size}", content=bytes(size % 1_000_001)))
        with server.connect("tcp") as raw:
            tcp_port = raw.getsockname()[1]
            for _ in range(5):
                raw.sendall(bytes(100))
                read_exactly(raw, 100)
    entries = [parse(line) for line in log.lines()]
    *requests, connection = entries
    assert all(set(each) == KEYS for each in requests)
    assert all((each["client"], each["port"], each["protocol"]) == ("127.0.0.1", port, "http") for each in requests)
    assert all(each["duration"] >= 0 for each in entries)
    assert [(each["target"], each["status"], each["bytes_in"]) for each in requests] == [
        ("/x", 200, 64), ("/x", 200, 64), ("/big", 200, 300_000), ("/big", 200, 300_000), ("/big", 413, 0),
    ]  # fmt: skip
    assert [each["bytes_out"] for each in requests[:4]] == [64, 64, 300_000, 300_000]
    assert (connection["client"], connection["port"], connection["protocol"]) == ("127.0.0.1", tcp_port, "tcp")
    assert (connection["status"], connection["bytes_in"], connection["bytes_out"]) == (200, 500, 500)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_client_that_resets_is_logged_with_its_address(loop: str) -> None:
    reading, writing = os.pipe()
    log = Reader(reading)
    ports = []
    with logging_to(writing, "--access-log", "json", "--loop", loop) as server:
        for protocol, data in (
            ("http", POST[:-1]), ("http", b"GET / HT"), ("tcp", b"hello"), ("tcp", bytes(100_000)),
            ("http", request("POST / HTTP/1.1", "Content-Length: 300000", content=bytes(200_000))),
        ):  # fmt: skip
            client = server.connect(protocol)
            ports.append(client.getsockname()[1])
            client.sendall(data)
            let_read(server)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.close()
    entries = [parse(line) for line in log.lines() if '"target":"/healthz"' not in line]
    assert {each["client"] for each in entries} == {"127.0.0.1"}
    assert sorted(each["port"] for each in entries) == sorted(ports)
    assert {each["status"] for each in entries} == {499}


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("size", [5, 100_000], ids=["", "relayed"])
def test_a_reset_that_shows_when_an_echo_is_written_is_logged_as_one(loop: str, size: int) -> None:
    reading, writing = os.pipe()
    log = Reader(reading)
    with logging_to(writing, "--access-log", "json", "--loop", loop) as server:
        client = server.connect("tcp")
        client.sendall(bytes(size))
        read_exactly(client, size)
        server.process.send_signal(signal.SIGSTOP)  # so that there is something to read, and nobody to write to
        client.sendall(b"hello")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
        server.process.send_signal(signal.SIGCONT)
    (entry,) = (parse(line) for line in log.lines())
    assert (entry["status"], entry["client"]) == (499, "127.0.0.1")


def test_a_unix_socket_has_clients_without_addresses(tmp_path: pathlib.Path) -> None:
    reading, writing = os.pipe()
    log = Reader(reading)
    path = tmp_path / "socket"
    with (
        logging_to(writing, "--access-log", "json", "--tcp", f"unix:{path}"),
        socket.socket(socket.AF_UNIX) as client,
    ):
        client.settimeout(20)
        client.connect(str(path))
        client.sendall(b"hello")
        read_exactly(client, 5)
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
    (entry,) = (parse(line) for line in log.lines())
    assert (entry["client"], entry["port"], entry["status"], entry["bytes_in"]) == ("unix:", None, 200, 5)


@pytest.mark.skipif("ECHOSERVER_COMMAND" in os.environ, reason="nothing can be hidden from another command")
def test_tcp_is_logged_whole_without_prometheus_client(tmp_path: pathlib.Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['prometheus_client'] = None\n")
    reading, writing = os.pipe()
    log = Reader(reading)
    with standard_output(writing):
        server = Server("--access-log", "json", environment={"PYTHONPATH": str(tmp_path)})
    os.close(writing)
    with server, server.connect("tcp") as client:
        for _ in range(10):
            client.sendall(bytes(100))
            read_exactly(client, 100)
    (entry,) = (parse(line) for line in log.lines())
    assert (entry["bytes_in"], entry["bytes_out"]) == (1000, 1000)


@pytest.mark.parametrize("given", [(), ("--access-log", "off")], ids=["by default", "off"])
def test_access_log__off_nothing_is_written(given: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    log = Reader(reading)
    with logging_to(writing, *given) as server:
        pipelined(server, 10)
    assert log.lines() == []


# --- those who read it, or don't ---


@pytest.mark.parametrize("style", ["text", "json"])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_log_that_is_read_has_every_line_until_the_end(style: str, workers: int) -> None:
    reading, writing = os.pipe()
    log = Reader(reading)
    with logging_to(writing, "--access-log", style, "--workers", str(workers), "--admin", "0") as server:
        senders = [threading.Thread(target=pipelined, args=(server, 700, POST, 50), daemon=True) for _ in range(4)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join(30)
        server.process.send_signal(signal.SIGTERM)  # at once: what was noted last must be written all the same
        assert server.wait() == 0
    lines = log.lines()
    assert len(lines) == 2_800  # less than 1 MiB: none may be dropped, however slow this process is
    for line in lines:
        if style == "text":
            assert COMBINED.fullmatch(line), line
        else:
            assert set(parse(line)) == KEYS


def test_workers_that_share_a_pipe_do_not_mix_their_lines() -> None:
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    log = Reader(reading)
    posts = [
        request(f"POST /{letter * 1500} HTTP/1.1", f"User-Agent: {letter * 400}", "Content-Length: 1", content=b"x")
        for letter in "abcd"
    ]
    with logging_to(writing, "--access-log", "json", "--workers", "3", "--admin", "0") as server:
        senders = [threading.Thread(target=pipelined, args=(server, 300, data, 10), daemon=True) for data in posts * 2]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join(30)
        wait_for(
            lambda: (
                sum(figures(server)["echoserver_access_log_lines_total", each] for each in ("written", "dropped"))
                == 2400
            ),
            "all lines",
        )
        written = figures(server)["echoserver_access_log_lines_total", "written"]
    found = collections.Counter(line_letter(line) for line in log.lines())
    assert sum(found.values()) == written
    assert set(found) == set("abcd")


def line_letter(line: str) -> str:
    entry = parse(line)
    letter = entry["target"][1]
    assert entry["target"] == "/" + letter * 1500
    assert entry["user_agent"] == letter * 400
    return str(letter)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_reader_that_is_blocked_costs_lines_and_nothing_else(workers: int) -> None:
    reading, writing = os.pipe()
    number = 25_000
    with logging_to(writing, "--access-log", "text", "--workers", str(workers), "--admin", "0") as server:
        pids = server.children() or [server.process.pid]
        pipelined(server, 1000)
        before = sum(map(server.resident, pids))
        senders = [threading.Thread(target=pipelined, args=(server, number), daemon=True) for _ in range(8)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join(60)
            assert not sender.is_alive()
        total = 8 * number + 1000
        wait_for(lambda: figures(server)["echoserver_requests_total", "2xx"] >= total, "what was counted last")
        assert sum(map(server.resident, pids)) - before < workers * (24 << 20)
        log = Reader(reading)
        names = [("echoserver_access_log_lines_total", each) for each in ("written", "dropped")]

        def all_accounted_for() -> bool:
            found = figures(server)
            return sum(found[name] for name in names) == total

        wait_for(all_accounted_for, "all lines to be written or dropped")
        written, dropped = (figures(server)[name] for name in names)
        assert dropped > 0
        assert written > 1000
    lines = log.lines()
    assert len(lines) == written
    assert all(COMBINED.fullmatch(line) for line in lines)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_end_does_not_wait_for_a_reader_that_is_blocked(workers: str) -> None:
    reading, writing = os.pipe()
    with logging_to(writing, "--access-log", "text", "--workers", workers) as server:
        pipelined(server, 20_000)
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.wait() == 0
        assert time.monotonic() - began < 4
    log = b""
    while part := os.read(reading, 1 << 20):
        log += part
    os.close(reading)
    assert all(COMBINED.fullmatch(line) for line in lines_of(log))


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_a_reader_that_is_gone_is_no_reason_to_stop(kind: str) -> None:
    if kind == "pipe":
        reading, writing = os.pipe()
    else:
        ours, theirs = socket.socketpair()
        reading, writing = ours.detach(), theirs.detach()
    with logging_to(writing, "--access-log", "text", "--admin", "0") as server:
        pipelined(server, 10)
        os.close(reading)
        pipelined(server, 1000)
        wait_for(
            lambda: (
                sum(figures(server)["echoserver_access_log_lines_total", each] for each in ("written", "dropped"))
                == 1010
            ),
            "all lines",
        )
        assert figures(server)["echoserver_access_log_lines_total", "dropped"] >= 1000
        pipelined(server, 10)


def test_the_log_of_a_worker_that_is_replaced_is_whole() -> None:
    reading, writing = os.pipe()
    log = Reader(reading)
    with logging_to(writing, "--access-log", "json", "--workers", "2", "--admin", "0") as server:
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(HttpClient(server.connect())) for _ in range(8)]
            for client in clients:
                client.ask(POST)
            former = set(server.children())
            server.process.send_signal(signal.SIGHUP)
            wait_for(lambda: server.said("reloaded"), "the reload")
            for client in clients:
                client.ask(POST)
        wait_for(lambda: not former & set(server.children()), "the end of the former workers")
        pipelined(server, 10)
        wait_for(lambda: figures(server)["echoserver_access_log_lines_total", "written"] == 26, "all lines")
        assert figures(server)["echoserver_access_log_lines_total", "dropped"] == 0
    assert len(log.lines()) == 26
