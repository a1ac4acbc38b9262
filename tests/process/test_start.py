"""How a server starts, and what it says when it can't.

Modules: server.supervisor, sockets.listeners, server.start, server.banner, worker.process.
"""

import contextlib
import json
import os
import re
import resource
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from echoserver import __version__
from echoserver.config import options as config
from echoserver.wire import ordinary
from tests.process.processes import (
    Group,
    cannot_start,
    connections_by_worker,
    echoes,
    exchange,
    listens,
    ping,
    run,
    unix_connect,
)
from tests.servers import COMMAND, PATIENCE, PYTHON, Server, wait_for

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
SOMAXCONN = int(Path("/proc/sys/net/core/somaxconn").read_text(encoding="ascii"))

TAKEN = ("address already in use", "address in use")
NOT_OURS = ("cannot assign requested address", "address not available")
"""The kernel's errors, in glibc's words and in musl's."""

alone_and_several = pytest.mark.parametrize("workers", ["1", "2"])
streams_and_datagrams = pytest.mark.parametrize(
    "protocol", ["http", pytest.param("tcp", marks=pytest.mark.slow), "udp"]
)


# --- what is said -----------------------------------------------------------------------------------------------------


@alone_and_several
def test_the_start_up_lines(workers: str, tmp_path: Path) -> None:
    addresses = ["--http", f"unix:{tmp_path}/http.sock", "--tcp", "127.0.0.1:0", "--udp", "127.0.0.1:0"]
    with subprocess.Popen(
        [*COMMAND, *addresses, "--workers", workers, "--max-connections", "77"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stderr is not None
            lines = [process.stderr.readline() for _ in range(7)]
            with unix_connect(f"{tmp_path}/http.sock") as client:
                assert exchange(client, GET)[0] == 200
            process.terminate()
            rest = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    versions, extras, memory, http, tcp, udp, ready = lines
    # another command's are its own
    uvloop, httptools = (re.escape(version(name)) if COMMAND == PYTHON else r"\S+" for name in ("uvloop", "httptools"))
    workers_said = "1 worker" if workers == "1" else f"{workers} workers"
    assert re.fullmatch(
        rf"echoserver: {re.escape(__version__)} on \S+ 3\.\d+\S*, uvloop {uvloop}, httptools {httptools}; "
        rf"{workers_said}, at most 77 connections \(\d+ descriptors\) each\n",
        versions,
    )
    named = [name for name in ("compiled", "metrics", "websocket") if name in extras] or ["none"]
    assert extras == f"echoserver: extras: {', '.join(named)}\n"
    if COMMAND == PYTHON:
        assert ("compiled" in named) == (ordinary.scan_in_c is not None)
    kept = "16 MiB are kept for a connection, 256 MiB for all of a worker"
    assert re.fullmatch(f"echoserver: memory: at most {kept}\n", memory)
    buffers = r"receive buffer \d+, send buffer \d+\n"
    backlog = r"backlog \d+(?: \(net\.core\.somaxconn; 4096 asked for\))?"
    own, shared = (f"{workers} sockets, ", "one socket for all workers, ") if workers != "1" else ("", "")
    assert re.fullmatch(
        rf"echoserver: listening: http unix:{tmp_path}/http\.sock, mode 0666, {shared}{backlog}, {buffers}", http
    )
    assert re.fullmatch(rf"echoserver: listening: tcp 127\.0\.0\.1:[1-9]\d+, {own}{backlog}, {buffers}", tcp)
    assert re.fullmatch(rf"echoserver: listening: udp 127\.0\.0\.1:[1-9]\d+, {own}{buffers}", udp)
    assert ready == "echoserver: ready\n"
    assert rest == ("", "echoserver: draining\nechoserver: drained: all connections have ended\n")
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], "http://127.0.0.1:{port}/.echo"),
        (["--host", "0.0.0.0"], "http://127.0.0.1:{port}/.echo"),
        (["--host", "::1"], "http://[::1]:{port}/.echo"),
        (["--controls", "off"], None),
        (["--proxy-protocol", "on"], None),
    ],
    ids=str,
)
def test_the_page_for_browsers_is_named(options: list[str], expected: str | None) -> None:
    with Group(*options) as server:
        (line,) = [line for line in server.lines if line.startswith("echoserver: extras: ")]
        page = line.partition("; page for browsers: ")[2]
        assert page == (expected.format(port=server.http) if expected else "")


def test_variables_that_do_nothing_are_named() -> None:
    linked = {  # what Kubernetes sets for a Service that is named echoserver
        "ECHOSERVER_PORT": "tcp://10.0.0.1:8080", "ECHOSERVER_SERVICE_HOST": "10.0.0.1",
        "ECHOSERVER_SERVICE_PORT": "8080", "ECHOSERVER_SERVICE_PORT_HTTP": "8080",
        "ECHOSERVER_PORT_8080_TCP": "tcp://10.0.0.1:8080", "ECHOSERVER_PORT_8080_TCP_PROTO": "tcp",
        "ECHOSERVER_PORT_8080_TCP_PORT": "8080", "ECHOSERVER_PORT_8080_TCP_ADDR": "10.0.0.1",
    }  # fmt: skip
    with Group(environment={**linked, "ECHOSERVER_HTTPP": "9"}) as server:
        warned = "echoserver: ECHOSERVER_HTTPP is ignored, there is no such option: did you mean ECHOSERVER_HTTP?"
        assert [line for line in server.lines if "did you mean" in line] == [warned]


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_another_system_is_told_what_is_supported(platform: str) -> None:
    start = (
        f"import sys; sys.platform = {platform!r}; sys.modules['resource'] = sys.modules['uvloop'] = None; "
        "from echoserver.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    ended = subprocess.run([sys.executable, "-c", start], capture_output=True, text=True, check=False)
    expected = (
        f"echoserver: the server runs on Linux only, and this is {platform}: run it in a container; "
        "`healthcheck` works anywhere\n"
    )
    assert (ended.returncode, ended.stderr) == (3, expected)
    asked = [sys.executable, "-c", start, "healthcheck", "http://127.0.0.1:1/"]
    assert subprocess.run(asked, capture_output=True, check=False).returncode == 1
    assert subprocess.run([sys.executable, "-c", start, "--help"], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (SOMAXCONN, f"backlog {SOMAXCONN}, "),
        (SOMAXCONN + 1, f"backlog {SOMAXCONN} (net.core.somaxconn; {SOMAXCONN + 1} asked for), "),
    ],
)
def test_backlog__the_kernels_cap_is_reported(asked: int, said: str) -> None:
    with Group("--backlog", str(asked)) as server:
        assert [said in line for line in server.lines if ": listening: " in line] == [True, True, False]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_loop__asyncio_serves_as_well(workers: str) -> None:
    with Group("--loop", "asyncio", "--workers", workers) as server:
        assert ", asyncio, " in server.lines[0]
        assert server.get() == 200
        assert ping(server.udp)
        with server.connect("tcp") as client:
            assert echoes(client)


def test_the_version() -> None:
    ended = run("--version")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"echoserver {__version__}\n", "")


# --- workers ----------------------------------------------------------------------------------------------------------


def test_workers__one_is_one_process() -> None:
    with Group("--workers", "1") as server:
        assert server.children() == []
        assert len(os.listdir(f"/proc/{server.process.pid}/task")) == 1
        assert listens(server.process.pid, "tcp", server.tcp)


def test_workers__all_serve_the_same_port() -> None:
    with Group("--workers", "4") as server, connections_by_worker(server, 100) as owned:
        assert len(owned) == 4
        assert all(owned.values()), owned
        assert all(echoes(client) for clients in owned.values() for client in clients)


def test_workers__auto_is_as_many_as_cpus() -> None:
    with Group("--workers", "auto") as server:
        expected = config.workers("auto")
        assert f"; {expected} worker{'s' if expected > 1 else ''}, " in server.lines[0]
        assert len(server.children()) == (expected if expected > 1 else 0)
        assert server.get() == 200


@pytest.mark.parametrize(
    ("environment", "number"),
    [
        ({"WEB_CONCURRENCY": "2"}, 2),
        ({"ECHOSERVER_WORKERS": "3"}, 3),
        ({"ECHOSERVER_WORKERS": "3", "WEB_CONCURRENCY": "2"}, 3),
    ],
    ids=str,
)
def test_workers__the_environment_says_how_many(environment: dict[str, str], number: int) -> None:
    with Group(environment=environment) as server:
        assert len(server.children()) == number


# --- addresses --------------------------------------------------------------------------------------------------------


@alone_and_several
def test_ipv6(workers: str) -> None:
    with Group("--host", "::1", "--udp", "[::1]:0", "--workers", workers) as server:
        with socket.create_connection(("::1", server.tcp), PATIENCE) as client:
            assert echoes(client)
        assert exchange(socket.create_connection(("::1", server.http), PATIENCE), GET)[0] == 200
        assert ping(server.udp, family=socket.AF_INET6)
        assert all(" [::1]:" in line for line in server.lines if ": listening: " in line)
        assert server.refuses()  # on 127.0.0.1


@alone_and_several
def test_host__a_name_is_served_on_all_its_addresses(workers: str) -> None:
    with Group("--host", "localhost", "--workers", workers) as server:
        found = socket.getaddrinfo("localhost", server.tcp, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        addresses = {str(sockaddr[0]) for *_, sockaddr in found}
        assert len([line for line in server.lines if ": listening: tcp " in line]) == len(addresses)
        for address in addresses:
            with socket.create_connection((address, server.tcp), PATIENCE) as client:
                assert echoes(client)


WITHOUT_IPV6 = [sys.executable, str(Path(__file__).with_name("without.py"))]
NO_FAMILY = ("address family not supported by protocol",)


def localhost_is(tmp_path: Path, *addresses: str) -> list[str]:
    """What begins a command whose localhost has these addresses, on a network that has 127.0.0.1 only: Docker's."""
    hosts = tmp_path / "hosts"
    hosts.write_text("".join(f"{address} localhost\n" for address in addresses), encoding="ascii")
    commands = (
        f"mount --bind {hosts} /etc/hosts", "ip link set lo up",
        "echo 1 > /proc/sys/net/ipv6/conf/lo/disable_ipv6", 'exec "$@"',
    )  # fmt: skip
    before = ["unshare", "--net", "--mount", "sh", "-c", " && ".join(commands), "sh"]
    try:
        tried = subprocess.run([*before, "true"], capture_output=True, text=True, check=False)
    except FileNotFoundError as missing:
        pytest.skip(str(missing))
    if tried.returncode:
        pytest.skip(f"no network namespace: {tried.stderr.strip()}")
    return before


@alone_and_several
def test_host__a_name_with_an_address_that_is_not_there(workers: str, tmp_path: Path) -> None:
    before = localhost_is(tmp_path, "127.0.0.1", "::1")
    with Group("--host", "localhost", "--http", "18080", "--workers", workers, before=before) as server:
        for protocol in ("http", "tcp", "udp"):
            lines = [line for line in server.lines if f": listening: {protocol} " in line]
            assert len(lines) == 1
            assert f" {protocol} 127.0.0.1:" in lines[0]
        left_out = "echoserver: left out: http [::1]:18080, an address of localhost: "
        assert [line for line in server.lines if line in {left_out + reason for reason in NOT_OURS}]
        assert sum(": left out: " in line for line in server.lines) == 3
        inside = ["nsenter", "--target", str(server.process.pid), "--net"]
        asked = [*inside, *COMMAND, "healthcheck", "http://127.0.0.1:18080/readyz"]
        assert subprocess.run(asked, check=False).returncode == 0


@alone_and_several
def test_host__a_name_on_a_kernel_without_ipv6(workers: str, tmp_path: Path) -> None:
    with Group(
        "--host",
        "localhost",
        "--workers",
        workers,
        before=[*localhost_is(tmp_path, "127.0.0.1", "::1"), *WITHOUT_IPV6],
    ) as server:
        lines = [line for line in server.lines if ": left out: http [::1]:0, an address of localhost: " in line]
        assert [line for line in lines if line.endswith(NO_FAMILY)]


@alone_and_several
def test_host__an_address_on_a_kernel_without_ipv6(workers: str) -> None:
    ended = subprocess.run(
        [*WITHOUT_IPV6, *COMMAND, "--host", "::", "--http", "0", "--workers", workers],
        capture_output=True, text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip
    said = {f"echoserver: cannot listen on http [::]:0: {reason}\n" for reason in NO_FAMILY}
    assert (ended.returncode, ended.stderr in said) == (3, True), ended.stderr


def test_host__a_name_with_no_address_that_is_there(tmp_path: Path) -> None:
    before = localhost_is(tmp_path, "192.0.2.1", "192.0.2.2")
    command = [*before, *COMMAND, "--host", "localhost", "--http", "18080", "--tcp", "off", "--udp", "off"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert ended.returncode == 3
    said = {f"echoserver: cannot listen on http 192.0.2.1:18080: {reason}\n" for reason in NOT_OURS}
    assert ended.stderr in said


@pytest.mark.covers("--http", "--tcp")
@alone_and_several
def test_unix_sockets(workers: str, tmp_path: Path) -> None:
    http, tcp = tmp_path / "http.sock", tmp_path / "tcp.sock"
    with Group("--http", f"unix:{http}", "--tcp", f"unix:{tcp}", "--workers", workers) as server:
        for _ in range(20):
            assert exchange(unix_connect(str(http)), GET)[0] == 200
            with unix_connect(str(tcp)) as client:
                assert echoes(client)
        server.send_signal()
        assert server.wait() == 0
    assert list(tmp_path.iterdir()) == []


@alone_and_several
def test_a_stale_unix_socket_is_replaced(workers: str, tmp_path: Path) -> None:
    path = tmp_path / "tcp.sock"
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(path))
    assert stat.S_ISSOCK(path.stat().st_mode)
    with Group("--tcp", f"unix:{path}", "--workers", workers), unix_connect(str(path)) as client:
        assert echoes(client)


@alone_and_several
@pytest.mark.parametrize(("options", "mode"), [([], 0o666), (["--unix-mode", "0660"], 0o660)], ids=["default", "0660"])
@pytest.mark.parametrize("umask", ["0077", pytest.param("0000", marks=pytest.mark.slow)])
def test_unix_mode__is_that_of_the_file_whatever_the_umask(
    workers: str, options: list[str], mode: int, umask: str, tmp_path: Path
) -> None:
    path = tmp_path / "tcp.sock"
    with socket.socket(socket.AF_UNIX) as gone:  # whose mode is not kept
        gone.bind(str(path))
        path.chmod(0o600)
    before = ["sh", "-c", f'umask {umask} && exec "$@"', "sh"]
    with Group("--tcp", f"unix:{path}", "--workers", workers, *options, before=before) as server:
        assert stat.S_IMODE(path.stat().st_mode) == mode
        assert any(f"listening: tcp unix:{path}, mode {mode:04o}, " in line for line in server.lines)
        masks = [
            Path(f"/proc/{pid}/status").read_text(encoding="ascii") for pid in [server.process.pid, *server.children()]
        ]
        assert all(f"Umask:\t{umask}\n" in each for each in masks)


def test_unix_mode__holds_from_the_first_moment_on(tmp_path: Path) -> None:
    """No chmod() comes after bind(), which would leave a moment in which anybody could connect."""
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    trace = tmp_path / "trace"
    strace = ["strace", "-D", "-f", "-e", "trace=bind,chmod,fchmod,fchmodat,umask", "-o", str(trace)]
    with Group("--tcp", f"unix:{tmp_path}/tcp.sock", "--unix-mode", "0600", before=strace):
        pass
    calls = trace.read_text(encoding="utf-8")
    assert re.search(r"umask\(0177\) .*\n.*bind\(.*tcp\.sock.* = 0\n", calls)
    assert "chmod" not in calls


@alone_and_several
def test_unix_names_after_an_at_sign_are_abstract_sockets(
    workers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where a file would be
    name = f"echoserver test {os.getpid()} {tmp_path.name}"
    with Group("--http", f"unix:@{name}", "--workers", workers) as server:
        assert list(tmp_path.iterdir()) == []
        with unix_connect(f"\0{name}") as client:
            answer = exchange(client, b"GET /?echo=json HTTP/1.1\r\nHost: x\r\n\r\n")[1]
        assert json.loads(answer)["server"] == {"path": f"@{name}"}
        (line,) = [line for line in server.lines if "listening: http " in line]
        assert line.startswith(f"echoserver: listening: http unix:@{name}, ")
        assert "mode" not in line
        assert run("healthcheck", f"unix:@{name}").returncode == 0
        assert run("healthcheck", environment={"ECHOSERVER_HTTP": f"unix:@{name}"}).returncode == 0
        taken = cannot_start(3, "--http", f"unix:@{name}", "--workers", workers)
        assert taken in {f"echoserver: cannot listen on http unix:@{name}: {reason}" for reason in TAKEN}
        server.send_signal()
        assert server.wait() == 0


@alone_and_several
def test_a_unix_socket_that_somebody_has_put_in_its_place_stays(workers: str, tmp_path: Path) -> None:
    path = tmp_path / "tcp.sock"
    with Group("--tcp", f"unix:{path}", "--workers", workers):
        path.unlink()
        path.write_text("another's", encoding="ascii")
    assert path.read_text(encoding="ascii") == "another's"


# --- what can't be --------------------------------------------------------------------------------------------------


@alone_and_several
@pytest.mark.parametrize(
    ("module", "number"),
    [
        pytest.param(
            module, number, marks=[pytest.mark.slow] if number == signal.SIGINT and module != "asyncio" else []
        )
        for module in ("argparse", "echoserver.cli", "asyncio", "httptools", "echoserver.server.start", "uvloop")
        for number in (signal.SIGTERM, signal.SIGINT)
    ],
)
def test_signals_at_any_moment_of_the_start(workers: str, number: signal.Signals, module: str) -> None:
    """Nothing is served yet: it ends, with 0 and without a word, as after a drain that has nothing to wait for."""
    if COMMAND != PYTHON:
        pytest.skip("needs a Python that says what it imports")
    command = [sys.executable, "-v", *COMMAND[1:], "--http", "0", "--tcp", "0", "--udp", "0", "--workers", workers]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stderr is not None
        try:
            assert any(line.startswith(f"import '{module}' ") for line in process.stderr)
            process.send_signal(number)
            rest = process.stderr.read()
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()
    assert "Traceback" not in rest
    assert "KeyboardInterrupt" not in rest


def test_workers__there_are_no_descriptors_for_their_sockets() -> None:
    line = cannot_start(3, "--workers", "100000")
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert re.fullmatch(
        rf"echoserver: cannot listen on http 127.0.0.1:\d+: (?:too many open files|no file descriptors available) "
        rf"\({limit} at most, RLIMIT_NOFILE\)",
        line,
    )


@alone_and_several
@pytest.mark.parametrize("mebibytes", [22, 25, 28])
def test_memory_that_the_process_may_not_have(workers: str, mebibytes: int) -> None:
    if COMMAND != PYTHON:
        pytest.skip("needs another limit than Python's")
    if not shutil.which("prlimit"):
        pytest.skip("prlimit is not installed")
    before = ["prlimit", f"--as={mebibytes << 20}"]
    if subprocess.run([*before, sys.executable, "-c", "import socket"], capture_output=True, check=False).returncode:
        pytest.skip("too little for Python itself")
    ended = run("--http", "0", "--tcp", "0", "--udp", "0", "--workers", workers, before=before)
    assert ended.returncode == 3, ended.stderr
    assert re.fullmatch(r"echoserver: cannot start: .*\n", ended.stderr)


@contextlib.contextmanager
def occupied(protocol: str, *, shared: bool) -> Iterator[str]:
    """An address that somebody else has; shared: who would share it with others (SO_REUSEPORT)."""
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shared))
        other.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            other.listen()
        yield f"127.0.0.1:{other.getsockname()[1]}"


@alone_and_several
@streams_and_datagrams
@pytest.mark.parametrize("shared", [False, True], ids=["alone", "shared"])
def test_an_address_that_is_taken(protocol: str, workers: str, shared: bool) -> None:
    with occupied(protocol, shared=shared) as address:
        line = cannot_start(3, f"--{protocol}", address, "--workers", workers)
    assert line in {f"echoserver: cannot listen on {protocol} {address}: {reason}" for reason in TAKEN}


@pytest.fixture(scope="module")
def several() -> Iterator[Group]:
    with Group("--workers", "2") as server:
        yield server


@alone_and_several
@streams_and_datagrams
def test_an_address_that_another_echoserver_has(several: Group, protocol: str, workers: str) -> None:
    address = f"127.0.0.1:{several.port(protocol)}"
    line = cannot_start(3, f"--{protocol}", address, "--workers", workers)
    assert line in {f"echoserver: cannot listen on {protocol} {address}: {reason}" for reason in TAKEN}
    assert several.get() == 200


@alone_and_several
def test_of_two_that_are_started_at_the_same_time_one_gets_the_port(workers: str) -> None:
    """Before anybody listens two may bind the same address (SO_REUSEADDR): that neither notices is a matter of luck."""
    own = os.getpid()  # other runs of this test on the machine have other addresses
    for number in range(4):
        # loopback has enough of them: no port to pick
        address = f"127.{64 + own % 128}.{own // 128 % 256}.{1 + number + 8 * int(workers)}:8080"
        command = [*COMMAND, "--http", address, "--tcp", "off", "--udp", "off", "--workers", workers]
        with contextlib.ExitStack() as stack:
            both = [stack.enter_context(Started(command)) for _ in range(2)]
            for each in both:
                stack.callback(each.kill_all)
            wait_for(lambda both=both: all(each.settled() for each in both), "both to start or to end")  # type: ignore[misc]
            assert sorted(each.poll() or 0 for each in both) == [0, 3], "both say that they are ready"


class Started(subprocess.Popen[bytes]):
    """A server that may start or not."""

    def __init__(self, command: list[str]) -> None:
        super().__init__(command, stderr=subprocess.PIPE, start_new_session=True)
        self.said = b""
        assert self.stderr is not None
        os.set_blocking(self.stderr.fileno(), False)

    def settled(self) -> bool:
        """Whether it is ready, or has ended."""
        assert self.stderr is not None
        self.said += self.stderr.read() or b""
        return self.said.endswith(b" ready\n") or self.poll() is not None

    def kill_all(self) -> None:
        """It and its workers."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


@alone_and_several
def test_a_unix_socket_that_is_taken(workers: str, tmp_path: Path) -> None:
    path = f"{tmp_path}/tcp.sock"
    with Group("--tcp", f"unix:{path}"):
        line = cannot_start(3, "--tcp", f"unix:{path}", "--workers", workers)
        assert line in {f"echoserver: cannot listen on tcp unix:{path}: {reason}" for reason in TAKEN}
        with unix_connect(path) as client:
            assert echoes(client)


@alone_and_several
def test_a_file_where_a_unix_socket_should_be(workers: str, tmp_path: Path) -> None:
    path = tmp_path / "tcp.sock"
    path.write_text("dear", encoding="ascii")
    line = cannot_start(3, "--tcp", f"unix:{path}", "--workers", workers)
    assert line == f"echoserver: cannot listen on tcp unix:{path}: the file exists and is not a socket"
    assert path.read_text(encoding="ascii") == "dear"


@pytest.mark.parametrize("protocol", ["http", "tcp", "udp"])
def test_a_host_that_is_not_ours(protocol: str) -> None:
    line = cannot_start(3, f"--{protocol}", "192.0.2.1:0", "--workers", "2")
    assert line in {f"echoserver: cannot listen on {protocol} 192.0.2.1:0: {reason}" for reason in NOT_OURS}


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    line = cannot_start(3, "--tcp", f"unix:{tmp_path}/no/tcp.sock")
    assert line == f"echoserver: cannot listen on tcp unix:{tmp_path}/no/tcp.sock: no such file or directory"


def test_a_failed_start_leaves_no_unix_socket(tmp_path: Path) -> None:
    with occupied("udp", shared=False) as address:
        cannot_start(3, "--http", f"unix:{tmp_path}/http.sock", "--udp", address)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.covers("--tcp-mode", "--tcp-delay", "--tcp-rate", "--tcp-close-after", "--tcp-reset")
def test_modes_and_faults_are_said_of_the_listeners_that_have_them() -> None:
    faults = ("--tcp-mode", "chargen", "--tcp-delay", "1ms", "--tcp-rate", "1KB", "--tcp-close-after", "5")
    with Group("--workers", "1", *faults, "--tcp-reset", "0.5") as server:
        expected = ", chargen, delay 0.001 s, rate 1000 bytes/s, closed after 5 bytes, reset 0.5 %, backlog "
        assert [expected in line for line in server.lines if "listening: " in line] == [False, True, False]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--no-such-option"], "--no-such-option"),
        (["--workers", "0"], "--workers: '0' is not a number of workers: expected a whole number from 1, or auto"),
        (
            ["--http", "off", "--tcp", "off", "--udp", "off"],
            "--http, --https, --tcp, --tls, --udp and --any are all off",
        ),
        (["--tcp-reset", "101"], "--tcp-reset: '101' is not a share: expected a number from 0 to 100, as in 25, 0.1%,"),
        (["--tcp-mode", "discard", "--tcp-delay", "1s"], "--tcp-delay must be off with --tcp-mode discard"),
    ],
    ids=" ".join,
)
def test_bad_usage(options: list[str], expected: str) -> None:
    line = cannot_start(2, *options)
    assert line.startswith("echoserver: ")
    assert expected in line


def test_bad_usage_in_the_environment() -> None:
    ended = run(environment={"ECHOSERVER_BACKLOG": "many"})
    assert ended.returncode == 2
    expected = "echoserver: ECHOSERVER_BACKLOG: 'many' is not a count: expected a whole number from 1 to 1073741824\n"
    assert ended.stderr == expected


def test_a_port_can_be_bound_again_at_once() -> None:
    """What is left of the connections that the server has closed itself (TIME_WAIT) is no obstacle."""
    with Group() as server, server.connect("tcp") as client:
        assert echoes(client)
        server.send_signal()
        assert client.recv(1) == b""
        assert server.wait() == 0
    with Group("--tcp", str(server.tcp), "--workers", "2") as again:
        wait_for(lambda: not again.refuses("tcp"), "the same port")


def test_max_connections__more_than_descriptors_are_not_promised() -> None:
    with Server("--max-connections", "1000000000") as server:
        found = re.search(r"at most (\d+) connections \((\d+) descriptors; 1000000000 asked for\)", server.lines[0])
        assert found
        assert int(found[1]) < int(found[2])


def test_buffer_limit__follows_the_total() -> None:
    with Server("--buffer-total", "1MiB") as server:
        assert server.said("ready")
