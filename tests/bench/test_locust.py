"""bench/locustfile.py as people run it: against a server that echoes, and against one that lies."""

import contextlib
import importlib.util
import os
import re
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Self

import pytest

from tests.servers import PATIENCE, Server, wait_for

# locust is only looked for here: importing it would patch the standard library for gevent
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("locust") is None, reason="locust is not installed: pip install '.[bench]'"
)

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "locust", "-f", "bench/locustfile.py")


def names(size: str) -> set[tuple[str, str]]:
    """What the users do with a payload of that size, as the statistics call it."""
    return {
        ("GET", "header section"),
        ("GET", "header section, then close"),
        ("POST", size),
        ("POST", f"{size}, browser's fields"),
        ("POST", f"{size}, chunked"),
        ("TCP", size),
        ("TCP", f"{size}, then FIN"),
    }


class Locust:
    """locust with options, and with no end of its own; use it as a context manager.

    A run of a few seconds would be none on a busy machine: locust counts what its own start takes.
    """

    def __init__(self, *options: str, environment: dict[str, str] | None = None) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("LOCUST_")}
        self.process = subprocess.Popen(
            [*COMMAND, *options], cwd=ROOT, env={**inherited, **(environment or {})}, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.strip())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def wait_for(self, *done: tuple[str, str]) -> None:
        """Return when its statistics have these types and names."""
        wait_for(lambda: set(done) <= set(self.requests()) or self.process.poll() is not None, f"{done}")
        assert self.process.poll() is None, self.lines

    def end(self, *, signal: bool = True) -> int:
        """End it with SIGTERM, or wait for its own end; returns the exit code."""
        if signal:
            self.process.terminate()
        code = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return code

    def requests(self) -> dict[tuple[str, str], tuple[int, int]]:
        """Requests and failures by type and name, as it has printed them last."""
        rows = [re.match(r"(GET|POST|TCP) +(\S.*?) +(\d+) +(\d+)\(", line) for line in list(self.lines)]
        return {(row[1], row[2]): (int(row[3]), int(row[4])) for row in rows if row}

    def failures(self) -> set[str]:
        """The lines of its error report, without their counts."""
        return {found[1] for line in self.lines if (found := re.match(r"\d+ +((?:GET|POST|TCP) .*: .*)", line))}


def at(server: Server) -> tuple[str, ...]:
    """The options that lead to a server."""
    return "--host", f"http://127.0.0.1:{server.http}", "--tcp-host", f"127.0.0.1:{server.tcp}"


EAGER = ("--headless", "--users", "10", "--spawn-rate", "10", "--wait", "5ms", "--mix", "http=3,tcp=2")


def test_no_failures_where_all_is_echoed() -> None:
    expected = names("64 B") | names("64 KiB")
    with Server() as server, Locust(*EAGER, *at(server), "--payload", "64:2,64KiB") as locust:
        locust.wait_for(*expected)
        assert locust.end() == 0, locust.lines
    assert set(locust.requests()) == expected
    assert {failed for _, failed in locust.requests().values()} == {0}
    assert not locust.failures()


def test_workers_do_what_the_master_is_told() -> None:
    distributed = ("--master", "--master-bind-host", "127.0.0.1", "--master-bind-port", "0", "--expect-workers", "2")
    with Server() as server, Locust(*EAGER, *at(server), "--payload", "100", *distributed) as master:
        to_master = ("--worker", "--master-host", "127.0.0.1", "--master-port", str(listening_port(master)))
        with Locust(*to_master) as one, Locust(*to_master, "--payload", "7") as two:
            master.wait_for(*names("100 B"))
            assert master.end() == 0, master.lines
            assert [one.end(signal=False), two.end(signal=False)] == [0, 0], [one.lines, two.lines]
    assert set(master.requests()) == names("100 B")
    assert {failed for _, failed in master.requests().values()} == {0}


def listening_port(locust: Locust) -> int:
    """The port that a master has taken; it does not say."""
    ports: list[int] = []

    def look() -> bool:
        files = set()
        for file in Path(f"/proc/{locust.process.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                files.add(os.readlink(file))
        with open("/proc/net/tcp", encoding="ascii") as table:  # [1] address, [3] state: 0A listens, [9] inode
            rows = [line.split() for line in table]
        ports[:] = [int(row[1][-4:], 16) for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in files]
        return bool(ports)

    wait_for(lambda: any("Starting Locust" in line for line in locust.lines), "the master to start")
    wait_for(look, "the master to listen")
    return ports[0]


# --- a server that lies -----------------------------------------------------------------------------------------------


class TcpLiar(socketserver.BaseRequestHandler):
    """Changes the last byte of what it reads."""

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            while data := self.request.recv(1 << 16):
                self.request.sendall(changed(data))


class HttpLiar(BaseHTTPRequestHandler):
    """Changes a byte of content, the Content-Type of chunked content, and leaves a field out of a header section."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        del self.headers["X-Request-Id"]
        lines = [self.requestline, *(f"{name}: {value}" for name, value in self.headers.items()), "", ""]
        self._answer("text/plain", "\r\n".join(lines).encode())

    def do_POST(self) -> None:
        if "Transfer-Encoding" in self.headers:
            content = b""
            while size := int(self.rfile.readline(), 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            self._answer("text/html", content)
        else:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            self._answer(self.headers["Content-Type"], changed(content))

    def _answer(self, content_type: str, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def changed(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


class Liars(socketserver.ThreadingTCPServer):
    """Answers each connection in a thread."""

    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *_: object) -> None:
        """Users are cut off where they are when locust ends."""


@contextlib.contextmanager
def serving(handler: type[socketserver.BaseRequestHandler]) -> Iterator[int]:
    """Serve on a free port, which it yields."""
    with Liars(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join(PATIENCE)


def test_every_lie_is_a_failure() -> None:
    expected = names("64 B")
    with serving(HttpLiar) as http, serving(TcpLiar) as tcp:
        where = ("--host", f"http://127.0.0.1:{http}", "--tcp-host", f"127.0.0.1:{tcp}")
        with Locust(*EAGER, *where, "--payload", "64") as locust:
            locust.wait_for(*expected)
            assert locust.end() == 1, locust.lines
    assert set(locust.requests()) == expected
    assert all(failed == done for done, failed in locust.requests().values())
    assert locust.requests()["TCP", "64 B"][0] > 2, "more than one a user: it went on, on a new connection"
    other = "mismatch: 64 bytes came back, but not those that were sent"
    field = "mismatch: changed, or did not come back: X-Request-Id"
    assert locust.failures() == {
        f"GET header section: {field}",
        f"GET header section, then close: {field}",
        f"POST 64 B: {other}",
        f"POST 64 B, browser's fields: {other}",
        "POST 64 B, chunked: mismatch: Content-Type 'text/html', expected 'text/plain; charset=utf-8'",
        f"TCP 64 B: {other}",
        f"TCP 64 B, then FIN: {other}",
    }


# --- usage ------------------------------------------------------------------------------------------------------------


USAGE = {
    ("--payload", "64,0"): "'0' can't be sent: expected 1 byte to 16MiB",
    ("--payload", "64:x"): "'x' is not a weight: expected a whole number, 0 for none",
    ("--mix", "udp=1"): "'udp' is no kind of user: expected http or tcp, as in http=8,tcp=2",
    ("--tcp-host", "8007"): "'8007' is no address to connect to: expected HOST:PORT, as in 127.0.0.1:8007",
}


def test_a_bad_value_is_one_line_of_usage() -> None:
    with contextlib.ExitStack() as stack:  # all at once: each takes as long as locust's import
        runs = {case: stack.enter_context(Locust("--headless", *case)) for case in USAGE}
        by_variable = stack.enter_context(Locust("--headless", environment={"LOCUST_WAIT": "2s-1s"}))
        for case, locust in runs.items():
            assert locust.end(signal=False) == 2
            assert locust.lines == [f"__main__.py: error: argument {case[0]}: {USAGE[case]}"]
        assert by_variable.end(signal=False) == 2
        expected = "argument --wait: '2s-1s' is no range: expected the shorter time first, as in 100ms-1s"
        assert by_variable.lines == [f"__main__.py: error: {expected}"]
