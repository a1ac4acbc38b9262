"""What operators set: CPUs, shared sockets, the name in answers, the admin listener, and the server's own lines.

Modules: observe.logs.
"""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.certificates import Certificates
from tests.process.processes import Group, connections_by_worker, echoes, exchange, ping, unix_connect
from tests.servers import COMMAND, PATIENCE, HttpClient, read_all, request, wait_for

alone_and_several = pytest.mark.parametrize("workers", ["1", "2"])


# --- CPUs -------------------------------------------------------------------------------------------------------------


def cpus(pid: int) -> str:
    """The CPUs that a process may use, as the kernel writes them."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    found = re.search(r"^Cpus_allowed_list:\s*(.*)$", status, re.MULTILINE)
    assert found
    return found[1]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_cpu_affinity__each_worker_has_a_cpu_of_its_own(workers: int) -> None:
    allowed = sorted(os.sched_getaffinity(0))
    expected = [str(allowed[number % len(allowed)]) for number in range(workers)]
    with Group("--workers", str(workers), "--cpu-affinity", "on") as server:
        assert [cpus(pid) for pid in server.children() or [server.process.pid]] == expected
        said = f"{workers} worker{'s' * (workers > 1)} on CPU {', '.join(expected)}, "
        assert said in server.lines[0]
        if workers > 1:
            victim = server.children()[0]
            os.kill(victim, signal.SIGKILL)
            wait_for(lambda: server.replaced(victim, number=workers), "another worker")
            wait_for(lambda: sorted(map(cpus, server.children())) == sorted(expected), "its CPU")
            server.reload()
            wait_for(lambda: len(server.children()) == workers, "the former processes to end")
            assert sorted(map(cpus, server.children())) == sorted(expected)
            assert cpus(server.process.pid) == cpus(os.getpid())


def test_cpu_affinity__workers_are_bound_to_no_cpu_unless_asked_for() -> None:
    with Group("--workers", "2") as server:
        assert {cpus(pid) for pid in server.children()} == {cpus(os.getpid())}
        assert " on CPU" not in server.lines[0]


# --- sockets ----------------------------------------------------------------------------------------------------------


def test_reuse_port__off_is_one_socket_for_all_workers() -> None:
    with Group("--workers", "2", "--reuse-port", "off") as server:
        assert sum("one socket for all workers" in line for line in server.lines) == 3
        inodes = []
        for pid in server.children():
            links = {os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")}
            inodes.append({link for link in links if link.startswith("socket:")})
        assert len(set.intersection(*inodes)) >= 3, "they have the same sockets"
        seen: set[str | None] = set()

        def both() -> bool:
            with contextlib.ExitStack() as stack:
                clients = [stack.enter_context(HttpClient(server.connect())) for _ in range(16)]
                for client in clients:
                    client.send(request("GET / HTTP/1.1"))
                seen.update(client.answer()["x-served-by"] for client in clients)
            return len(seen) == 2

        wait_for(both, "both workers to serve")
        assert all(ping(server.udp) for _ in range(20))
        with server.connect("tcp") as client:
            assert echoes(client)


@pytest.mark.parametrize("protocol", ["http", "tcp", "udp"])
def test_reuse_port__off_the_one_socket_is_taken_by_nobody_else(protocol: str) -> None:
    with Group("--workers", "2", "--reuse-port", "off") as server:
        ended = subprocess.run(
            [*COMMAND, "--http", "0", "--tcp", "0", "--udp", "0", f"--{protocol}", str(server.port(protocol))],
            capture_output=True, text=True, check=False, timeout=PATIENCE,
        )  # fmt: skip
        assert ended.returncode == 3
        assert "in use" in ended.stderr


# --- who has served ---------------------------------------------------------------------------------------------------


def test_served_by__answers_say_who_has_served() -> None:
    host = socket.gethostname()
    with Group("--workers", "2") as server, connections_by_worker(server) as owned:
        assert all(owned.values()), "both workers have connections"
        seen = set()
        for _ in range(64):
            with HttpClient(server.connect()) as client:
                first, second = (client.ask(request("GET / HTTP/1.1"))["x-served-by"] for _ in range(2))
                assert first == second
                seen.add(first)
        assert seen == {f"{host}:0", f"{host}:1"}
        with HttpClient(server.connect()) as client:
            assert client.ask(request("CONNECT a:1 HTTP/1.1"))["x-served-by"] in seen, "errors too"


@alone_and_several
def test_served_by__off_answers_do_not_say_it(workers: str) -> None:
    with Group("--workers", workers, "--served-by", "off") as server:
        for path in ("/", "/healthz"):
            with HttpClient(server.connect()) as client:
                assert client.ask(request(f"GET {path} HTTP/1.1"))["x-served-by"] is None


# --- the admin listener -----------------------------------------------------------------------------------------------


@alone_and_several
@pytest.mark.parametrize("unix", [True, False], ids=["unix", "tcp"])
def test_admin__the_pages_are_there_and_nowhere_else(workers: str, unix: bool, tmp_path: Path) -> None:
    where = f"unix:{tmp_path}/admin.sock" if unix else "127.0.0.1:0"
    with Group("--workers", workers, "--admin", where) as server:

        def connect() -> socket.socket:
            return unix_connect(f"{tmp_path}/admin.sock") if unix else server.connect("admin")

        for path, content in (("/healthz", b"ok\n"), ("/readyz", b"ready\n")):
            assert exchange(connect(), request(f"GET {path} HTTP/1.1")) == (200, content)
        status, content = exchange(connect(), request("GET /metrics HTTP/1.1"))
        assert (status, b"\nechoserver_workers " in content) == (200, True)
        status, content = exchange(connect(), request("GET /metrics?format=prometheus HTTP/1.1"))
        assert (status, b"\nechoserver_workers " in content) == (200, True)
        for path in ("/", "/healthz/", "/metric?/metrics", "/echo"):
            assert exchange(connect(), request(f"GET {path} HTTP/1.1"))[0] == 404
        assert exchange(connect(), request("POST / HTTP/1.1", "Content-Length: 2", content=b"hi"))[0] == 404
        for path in ("/healthz", "/readyz", "/metrics"):
            asked = request(f"GET {path} HTTP/1.1")
            assert exchange(server.connect(), asked) == (200, asked), "elsewhere they are echoed"
        if workers == "2":
            server.reload()
            assert exchange(connect(), request("GET /readyz HTTP/1.1")) == (200, b"ready\n")


@alone_and_several
def test_max_connections__a_full_server_still_answers_its_probes(workers: str) -> None:
    options = ("--workers", workers, "--max-connections", "1", "--admin", "127.0.0.1:0")
    with Group(*options) as server, contextlib.ExitStack() as held:
        while server.get() == 200:
            held.enter_context(server.connect())
        for path in ("/healthz", "/readyz", "/metrics"):
            for _ in range(8):
                assert exchange(server.connect("admin"), request(f"GET {path} HTTP/1.1"))[0] == 200


def test_admin__says_that_a_drain_has_begun(tmp_path: Path) -> None:
    path = f"{tmp_path}/admin.sock"
    with Group("--workers", "2", "--admin", f"unix:{path}", "--drain-delay", "60s") as server:
        ready = request("GET /readyz HTTP/1.1")
        assert exchange(unix_connect(path), ready)[0] == 200
        server.send_signal()
        wait_for(lambda: exchange(unix_connect(path), ready) == (503, b"draining\n"), "the drain")
        assert server.get() == 200
        server.send_signal()
        assert server.wait() == 0
    assert not os.path.exists(path)


# --- the server's own lines -------------------------------------------------------------------------------------------


class Running(Group):
    """A server that is ready when something else than the line "ready" says so."""

    def __init__(
        self,
        *options: str,
        ready: Callable[["Running"], bool],
        allow_errors: bool = False,
        environment: dict[str, str] | None = None,
    ) -> None:
        super().__init__(*options, allow_errors=allow_errors, environment=environment)
        self._ready = ready

    def said(self, what: str) -> bool:
        return self._ready(self) if what == "ready" else super().said(what)


def lines(server: Group) -> list[dict[str, object]]:
    return [json.loads(line) for line in list(server.lines)]


def ready_in_json(server: Group) -> bool:
    return any(line["message"] == "ready" for line in lines(server))


@alone_and_several
def test_log_format__json_lines_of_all_levels(workers: str, tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    options = ("--workers", workers, "--log-format", "json", "--log-level", "debug", "--https", "0")
    with Running(*options, *certificates.options, ready=ready_in_json, allow_errors=True) as server:
        port = next(
            int(found[1]) for line in lines(server) if (found := re.search(r": https \S+:(\d+),", str(line["message"])))
        )
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
            client.sendall(request("GET / HTTP/1.1"))
            with contextlib.suppress(ConnectionResetError):
                read_all(client)
        wait_for(lambda: any(line["level"] == "debug" for line in lines(server)), "a line about it")
        certificates.cert.write_bytes(b"broken")
        server.send_signal(signal.SIGHUP)
        wait_for(lambda: any(line["level"] == "error" for line in lines(server)), "an error")
        if workers == "2":
            wait_for(lambda: lines(server)[-1]["message"] == "reloaded", "the reload")
            os.kill(server.children()[-1], signal.SIGKILL)
            wait_for(lambda: any(line["level"] == "warning" for line in lines(server)), "a warning")
        server.send_signal()
        assert server.wait() == 0
    assert [line for line in lines(server) if line.keys() != {"time", "level", "pid", "worker", "message"}] == []
    for line in lines(server):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", str(line["time"]))
        from_worker = line["level"] == "debug"
        assert line["worker"] in ((0, 1) if from_worker and workers == "2" else (None,))
        assert (line["pid"] == server.process.pid) == (workers == "1" or not from_worker)
    assert [line["message"] for line in lines(server)[-2:]] == ["draining", "drained: all connections have ended"]


@alone_and_several
def test_log_level__only_errors_are_said(workers: str, tmp_path: Path) -> None:
    path = f"{tmp_path}/notify.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.setblocking(False)

        def told(_: Group) -> bool:
            with contextlib.suppress(BlockingIOError):
                return manager.recv(100) == b"READY=1"
            return False

        options = ("--workers", workers, "--log-level", "error")
        with Running(*options, ready=told, environment={"NOTIFY_SOCKET": path}) as server:
            if workers == "2":
                victim = server.children()[0]
                os.kill(victim, signal.SIGKILL)
                wait_for(lambda: victim not in server.children() and len(server.children()) == 2, "another worker")
            server.send_signal()
            assert server.wait() == 0
        assert server.lines == []


def test_log_level__errors_are_said_at_the_level_of_errors() -> None:
    ended = subprocess.run(
        [*COMMAND, "--log-level", "error", "--log-format", "json", "--http", "fd:99"],
        capture_output=True, text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip
    assert ended.returncode == 3
    (line,) = ended.stderr.splitlines()
    said = json.loads(line)
    assert (said["level"], said["worker"]) == ("error", None)
    assert said["message"] == "cannot listen on http fd:99: there is no such descriptor"


@pytest.mark.parametrize("level", ["debug", "info"])
def test_log_level__why_a_connection_was_refused_is_for_debugging(level: str, tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    with Group("--log-level", level, "--https", "0", *certificates.options) as server:
        with server.connect("https") as client:
            own = client.getsockname()
            client.sendall(request("GET / HTTP/1.1"))
            with contextlib.suppress(ConnectionResetError):
                read_all(client)
        expected = f"127.0.0.1:{own[1]}: plain HTTP to a TLS port"
        server.send_signal()
        assert server.wait() == 0
    assert server.said(expected) == (level == "debug")


def test_a_stderr_that_nobody_reads_any_more_is_no_reason_to_stop(tmp_path: Path) -> None:
    path = f"{tmp_path}/http.sock"
    read, write = os.pipe()
    command = [*COMMAND, "--workers", "2", "--http", f"unix:{path}", "--tcp", "off", "--udp", "off"]
    with subprocess.Popen(command, stderr=write, start_new_session=True) as process:
        try:
            os.close(write)
            with open(read, encoding="ascii") as said:
                assert any(line.endswith(" ready\n") for line in said)
            process.send_signal(signal.SIGHUP)
            for _ in range(20):
                assert exchange(unix_connect(path), request("GET / HTTP/1.1"))[0] == 200
            process.terminate()
            assert process.wait(PATIENCE) == 0
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
