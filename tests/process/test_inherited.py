"""Sockets that were bound by somebody else: fd:N, and those that systemd passes, to which it is told how things are.

Modules: sockets.listeners, sockets.systemd, worker.accepting.
"""

import contextlib
import fcntl
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

import pytest

from echoserver.config import options as config
from tests.process.processes import (
    HALF_CONTENT,
    Group,
    cannot_start,
    echoes,
    exchange,
    half_sent,
    ping,
    receive,
    unix_connect,
)
from tests.programs import needs
from tests.servers import COMMAND, PATIENCE, wait_for

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
UNITS = Path(__file__).parents[2] / "deploy" / "systemd"

alone_and_several = pytest.mark.parametrize("workers", ["1", "2"])
alone_and_seldom_several = pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])


def bound(kind: str, tmp_path: Path, *, datagram: bool = False, listening: bool = False) -> socket.socket:
    """A socket of a kind: inet, inet6, unix or abstract."""
    family = {"inet": socket.AF_INET, "inet6": socket.AF_INET6}.get(kind, socket.AF_UNIX)
    made = socket.socket(family, socket.SOCK_DGRAM if datagram else socket.SOCK_STREAM)
    where: dict[str, tuple[str, int] | str] = {
        "inet": ("127.0.0.1", 0), "inet6": ("::1", 0),
        "unix": f"{tmp_path}/given.sock", "abstract": f"\0echoserver test {os.getpid()} {tmp_path.name}",
    }  # fmt: skip
    made.bind(where[kind])
    if listening:
        made.listen(16)
    return made


def connect(given: socket.socket) -> socket.socket:
    """A client's connection, or a datagram socket's, to where a socket is bound."""
    client = socket.socket(given.family, given.type)
    client.settimeout(PATIENCE)
    client.connect(given.getsockname())
    return client


def serves(given: socket.socket, protocol: str) -> bool:
    """Whether a socket is served, twenty times in a row."""
    for _ in range(20):
        with connect(given) as client:
            if protocol == "http":
                client.sendall(GET)
                if receive(client).status != 200:
                    return False
            elif protocol == "tcp":
                if not echoes(client):
                    return False
            else:
                client.send(b"ping")
                if client.recv(100) != b"ping":
                    return False
    return True


# --- fd:N -------------------------------------------------------------------------------------------------------------


@alone_and_several
@pytest.mark.parametrize(
    ("kind", "protocol", "listening"),
    [
        ("inet", "http", True),
        ("unix", "tcp", False),
        *(
            pytest.param(*each, marks=pytest.mark.slow)
            for each in (
                ("inet", "tcp", False),
                ("inet6", "tcp", True),
                ("inet6", "http", False),
                ("unix", "http", False),
                ("unix", "tcp", True),
                ("abstract", "tcp", False),
                ("abstract", "http", True),
            )
        ),
    ],
)
def test_a_stream_socket(workers: str, listening: bool, kind: str, protocol: str, tmp_path: Path) -> None:
    with bound(kind, tmp_path, listening=listening) as given:
        number = given.fileno()
        with Group(f"--{protocol}", f"fd:{number}", "--workers", workers, pass_fds=[number]) as server:
            assert serves(given, protocol)
            said = next(line for line in server.lines if f"listening: {protocol} " in line)
            assert f"inherited as descriptor {number}, " in said
            if workers == "2":
                assert "one socket for all workers" in said
                server.reload()
                assert serves(given, protocol)
            server.send_signal()
            assert server.wait() == 0
        assert kind != "unix" or os.path.exists(f"{tmp_path}/given.sock"), "it is not ours to remove"
        with Group(f"--{protocol}", f"fd:{number}", "--workers", workers, pass_fds=[number]):
            assert serves(given, protocol), "another server can take it over"


@alone_and_several
@pytest.mark.parametrize("kind", ["inet", "inet6"])
def test_a_datagram_socket(workers: str, kind: str, tmp_path: Path) -> None:
    with bound(kind, tmp_path, datagram=True) as given:
        number = given.fileno()
        with Group("--udp", f"fd:{number}", "--workers", workers, pass_fds=[number]) as server:
            assert serves(given, "udp")
            if workers == "2":
                server.reload()
                assert serves(given, "udp")


@alone_and_several
def test_several_sockets_of_a_listener(workers: str, tmp_path: Path) -> None:
    with bound("inet", tmp_path) as first, bound("inet6", tmp_path) as second, bound("unix", tmp_path) as third:
        numbers = [each.fileno() for each in (first, second, third)]
        listener = f"fd:{','.join(map(str, numbers))}"
        with Group("--tcp", listener, "--workers", workers, pass_fds=numbers):
            assert all(serves(each, "tcp") for each in (first, second, third))


def test_standard_input_as_inetd_and_systemd_may_pass_it(tmp_path: Path) -> None:
    with bound("inet", tmp_path) as given:
        before = (
            sys.executable,
            "-c",
            f"import os, sys; os.dup2({given.fileno()}, 0); os.execvp(sys.argv[1], sys.argv[1:])",
        )
        with Group("--tcp", "fd:0", before=before, pass_fds=[given.fileno()]):
            assert serves(given, "tcp")


@alone_and_several
@pytest.mark.parametrize(
    ("kind", "protocol"),
    [
        ("inet", "http"),
        ("unix", "tcp"),
        pytest.param("inet", "tcp", marks=pytest.mark.slow),
        pytest.param("unix", "http", marks=pytest.mark.slow),
    ],
)
def test_who_waits_when_the_drain_begins_is_served_by_somebody(
    workers: str, kind: str, protocol: str, tmp_path: Path
) -> None:
    """By this server, where it accepts them in the turn in which it sees the signal, or by the next."""
    with bound(kind, tmp_path, listening=True) as given, contextlib.ExitStack() as stack:
        number = given.fileno()
        other = "tcp" if protocol == "http" else "http"
        options = (f"--{protocol}", f"fd:{number}", f"--{other}", "off", "--udp", "off", "--workers", workers)
        with Group(*options, pass_fds=[number]) as server:
            pids = server.children() or [server.process.pid]
            for pid in pids:  # they come while nobody looks
                os.kill(pid, signal.SIGSTOP)
            clients = [stack.enter_context(connect(given)) for _ in range(8)]
            for client in clients:
                client.sendall(GET if protocol == "http" else b"ping")
            server.send_signal()
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
            assert server.wait() == 0
        with Group(*options, pass_fds=[number]):
            for client in clients:
                if protocol == "http":
                    assert receive(client).status == 200
                else:
                    assert client.recv(4) == b"ping"


@alone_and_several
def test_a_drain_leaves_who_comes_to_the_next_server(workers: str, tmp_path: Path) -> None:
    with bound("inet", tmp_path, listening=True) as given:
        number = given.fileno()
        options = ("--tcp", f"fd:{number}", "--workers", workers)
        with Group(*options, pass_fds=[number]) as server, half_sent(server) as busy:
            server.send_signal()
            wait_for(server.refuses, "the drain to begin")
            with connect(given) as client:
                client.sendall(b"ping")
                busy.sendall(HALF_CONTENT.rest)
                assert receive(busy).status == 200
                assert server.wait() == 0
                with Group(*options, pass_fds=[number]):
                    assert client.recv(4) == b"ping"


def test_a_descriptor_that_is_not_there() -> None:
    assert cannot_start(3, "--http", "fd:99") == "echoserver: cannot listen on http fd:99: there is no such descriptor"


def test_a_descriptor_that_is_no_socket(tmp_path: Path) -> None:
    with open(tmp_path / "file", "w", encoding="ascii") as file:
        number = file.fileno()
        line = cannot_start(3, "--tcp", f"fd:{number}", pass_fds=[number])
    assert line == f"echoserver: cannot listen on tcp fd:{number}: it is not a socket"


@alone_and_seldom_several
@pytest.mark.parametrize(
    ("protocol", "kind", "datagram", "why"),
    [
        ("http", "inet", True, "it is not a stream socket"),
        ("tcp", "inet6", True, "it is not a stream socket"),
        ("tcp", "unix", True, "it is not a stream socket"),
        ("udp", "inet", False, "it is not a datagram socket"),
        ("udp", "unix", False, "it is not a datagram socket"),
        ("udp", "unix", True, "it is a unix socket, expected a UDP socket"),
    ],
)
def test_the_wrong_type(workers: str, protocol: str, kind: str, datagram: bool, why: str, tmp_path: Path) -> None:
    with bound(kind, tmp_path, datagram=datagram) as given:
        number = given.fileno()
        line = cannot_start(3, f"--{protocol}", f"fd:{number}", "--workers", workers, pass_fds=[number])
        assert line == f"echoserver: cannot listen on {protocol} fd:{number}: {why}"


def test_a_connected_socket(tmp_path: Path) -> None:
    for kind in ("inet", "unix"):
        with bound(kind, tmp_path, listening=True) as given, connect(given) as client, given.accept()[0] as accepted:
            for each in (client, accepted):
                number = each.fileno()
                line = cannot_start(3, "--tcp", f"fd:{number}", pass_fds=[number])
                assert line in {
                    f"echoserver: cannot listen on tcp fd:{number}: it is a connection, not a socket that listens",
                    f"echoserver: cannot listen on tcp fd:{number}: it is not bound to an address",  # unix clients
                }


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6, socket.AF_UNIX])
@pytest.mark.parametrize("protocol", ["http", "udp"])
def test_a_socket_that_is_not_bound(family: socket.AddressFamily, protocol: str) -> None:
    with socket.socket(family, socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM) as given:
        number = given.fileno()
        line = cannot_start(3, f"--{protocol}", f"fd:{number}", pass_fds=[number])
    if family == socket.AF_UNIX and protocol == "udp":
        assert line.endswith("it is a unix socket, expected a UDP socket")
    else:
        assert line == f"echoserver: cannot listen on {protocol} fd:{number}: it is not bound to an address"


@alone_and_several
def test_a_descriptor_that_is_asked_for_twice(workers: str, tmp_path: Path) -> None:
    with bound("inet", tmp_path) as given:
        number = given.fileno()
        for options in (
            ("--http", f"fd:{number},{number}"),
            ("--http", f"fd:{number}", "--tcp", f"fd:{number},{number}"),
        ):
            line = cannot_start(3, *options, "--workers", workers, pass_fds=[number])
            protocol = options[-2].removeprefix("--")
            assert line == f"echoserver: cannot listen on {protocol} fd:{number}: --http has this descriptor already"


def test_a_socket_pair_is_no_listener() -> None:
    first, second = socket.socketpair()
    with first, second:
        number = first.fileno()
        assert cannot_start(3, "--tcp", f"fd:{number}", pass_fds=[number]).startswith("echoserver: cannot listen on ")


# --- sockets that systemd passes --------------------------------------------------------------------------------------

needs_activate = needs("systemd-socket-activate")

_AS_SYSTEMD_DOES = """
import os, sys
given = [int(each) for each in sys.argv[1].split(",")]
for number, descriptor in enumerate(given):
    os.dup2(descriptor, 3 + number)
os.environ["LISTEN_FDS"] = str(len(given))
os.environ["LISTEN_PID"] = str(os.getpid())
os.execvp(sys.argv[2], sys.argv[2:])
"""


class Passed:
    """Sockets, and how a server is started so that they are passed to it."""

    def __init__(self, *sockets: socket.socket) -> None:
        self._copies = [fcntl.fcntl(each.fileno(), fcntl.F_DUPFD, 30) for each in sockets]  # beyond those that they get

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._copies:
            os.close(each)

    def start(self, *options: str, names: str = "", **environment: str) -> Group:
        """A server with them, named so (separated by colons)."""
        before = (sys.executable, "-c", _AS_SYSTEMD_DOES, ",".join(map(str, self._copies)))
        named = {"LISTEN_FDNAMES": names} if names else {}
        return Group(
            *options, before=before, pass_fds=self._copies, defaults=False, environment={**named, **environment}
        )

    def fails(self, *options: str, names: str = "") -> tuple[int, str]:
        """Exit code and stderr of a server that does not start with them."""
        before = (sys.executable, "-c", _AS_SYSTEMD_DOES, ",".join(map(str, self._copies)))
        ended = subprocess.run(
            [*before, *COMMAND, *options], capture_output=True, text=True, timeout=PATIENCE, check=False,
            pass_fds=self._copies, env={**os.environ, **({"LISTEN_FDNAMES": names} if names else {})},
        )  # fmt: skip
        return ended.returncode, ended.stderr


def listeners(server: Group) -> list[str]:
    """The protocols of the start-up lines, each as often as it has sockets."""
    return [found[1] for line in server.lines if (found := re.search(r"listening: (\w+) ", line))]


@contextlib.contextmanager
def sockets(*kinds: str, folder: Path) -> Iterator[list[socket.socket]]:
    """Listening stream sockets ("inet", "inet6", "unix") and bound datagram sockets ("udp")."""
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(
                bound("inet", folder, datagram=True) if kind == "udp" else bound(kind, folder, listening=True)
            )
            for kind in kinds
        ]


@alone_and_several
def test_names_say_what_sockets_are_for(workers: str, tmp_path: Path) -> None:
    with sockets("inet", "unix", "udp", "inet6", folder=tmp_path) as given, Passed(*given) as passed:
        raw, local, datagrams, web = given
        with passed.start("--workers", workers, names="tcp:http:udp:http") as server:
            assert serves(raw, "tcp")
            assert serves(local, "http")
            assert serves(web, "http")
            assert serves(datagrams, "udp")
            assert listeners(server) == ["http", "http", "tcp", "udp"]
            if workers == "2":
                server.reload()
                assert serves(local, "http")
        assert os.path.exists(f"{tmp_path}/given.sock")


@pytest.mark.parametrize("names", ["", "unknown:connection:echoserver.socket", "udp"])
def test_sockets_without_a_name_of_ours_go_by_their_type(names: str, tmp_path: Path) -> None:
    with sockets("udp", "inet", "unix", folder=tmp_path) as given, Passed(*given) as passed:
        datagrams, web, raw = given
        with passed.start(names=names) as server:
            assert serves(datagrams, "udp")
            assert serves(web, "http")
            assert serves(raw, "tcp")
            assert listeners(server) == ["http", "tcp", "udp"]


def test_one_with_a_name_and_one_without(tmp_path: Path) -> None:
    with (
        sockets("inet", "unix", folder=tmp_path) as (first, second),
        Passed(first, second) as passed,
        passed.start(names="x:http"),
    ):
        assert serves(first, "tcp")
        assert serves(second, "http")


def test_what_is_not_passed_is_off_unless_an_option_names_it(tmp_path: Path) -> None:
    with sockets("inet", folder=tmp_path) as (web,), Passed(web) as passed:
        with passed.start(names="http") as server:
            assert listeners(server) == ["http"]
        with passed.start("--udp", "0", names="http", ECHOSERVER_TCP="0") as server:
            assert listeners(server) == ["http", "tcp", "udp"]
            assert ping(server.udp)
            assert serves(web, "http")
        with passed.start("--http", "0", names="http") as server:
            assert listeners(server) == ["http"]
            assert "inherited" not in server.lines[1]


def test_a_third_socket_that_nothing_is_said_of(tmp_path: Path) -> None:
    with (
        sockets("inet", "inet6", "unix", folder=tmp_path) as given, Passed(*given) as passed,
    ):  # fmt: skip
        names = ", ".join(config.PROTOCOLS)
        expected = (
            "echoserver: LISTEN_FDS: descriptor 5 has no name that says what it is for: "
            f"expected FileDescriptorName= to be one of {names}\n"
        )
        assert passed.fails() == (2, expected)
        assert passed.fails(names="x:y:z") == (2, expected)


def test_a_socket_of_the_wrong_type_for_its_name(tmp_path: Path) -> None:
    with sockets("udp", folder=tmp_path) as given, Passed(*given) as passed:
        expected = "echoserver: cannot listen on http fd:3: it is not a stream socket\n"
        assert passed.fails(names="http") == (3, expected)


@pytest.mark.parametrize("pid", ["1", "", "x"])
def test_sockets_for_another_process_are_not_ours(pid: str) -> None:
    with Group(environment={"LISTEN_PID": pid, "LISTEN_FDS": "3", "LISTEN_FDNAMES": "http:tcp:udp"}) as server:
        assert server.get() == 200


@pytest.mark.parametrize("number", ["many", "", "1.5"])
def test_a_number_of_sockets_that_is_none(number: str) -> None:
    command = ("sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh", *COMMAND)
    ended = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=PATIENCE, env={**os.environ, "LISTEN_FDS": number}
    )
    expected = (2, f"echoserver: LISTEN_FDS: {number!r} is not a number\n")
    assert (ended.returncode, ended.stderr) == expected


def test_fewer_descriptors_than_are_said_to_be_passed() -> None:
    command = ("sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh", *COMMAND)
    ended = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=PATIENCE, env={**os.environ, "LISTEN_FDS": "1"}
    )
    assert (ended.returncode, ended.stderr) == (2, "echoserver: LISTEN_FDS: descriptor 3: bad file descriptor\n")


# --- started by systemd-socket-activate -------------------------------------------------------------------------------


class Activated(Group):
    """A server that systemd-socket-activate starts, when the first client comes to one of its sockets."""

    def __init__(self, *options: str, listen: Sequence[str], names: str = "", datagram: bool = False) -> None:
        before = ["systemd-socket-activate", *(f"--listen={each}" for each in listen)]
        before += ["--datagram"] * datagram + [f"--fdname={names}"] * bool(names)
        passed = [f"--setenv={name}" for name in ("PATH", "PYTHONPATH", "NOTIFY_SOCKET") if name in os.environ]
        super().__init__(*options, before=[*before, *passed], defaults=False)
        self._datagram = datagram
        self._sockets = len(listen)
        first = listen[0]
        host, _, port = first.rpartition(":")
        self.first: tuple[str, int] | str = first if first.startswith("/") else (host, int(port))

    def __enter__(self) -> Self:
        wait_for(
            lambda: (
                sum(line.startswith("Listening on ") for line in self.lines) == self._sockets
                or self.process.poll() is not None
            ),
            "systemd-socket-activate to listen",
        )
        with self.client() as client:
            client.send(GET)
            super().__enter__()
            assert client.recv(5) in (b"HTTP/", GET[:5])
        return self

    def client(self) -> socket.socket:
        """A client of the first socket."""
        family = socket.AF_UNIX if isinstance(self.first, str) else socket.AF_INET
        made = socket.socket(family, socket.SOCK_DGRAM if self._datagram else socket.SOCK_STREAM)
        made.settimeout(PATIENCE)
        made.connect(self.first)
        return made


def address(number: int) -> str:
    """Loopback has enough addresses: no port to pick."""
    return f"127.{80 + number}.{os.getpid() >> 8 & 255}.{os.getpid() & 255}:8080"


@needs_activate
@alone_and_several
def test_streams_by_name(workers: str, tmp_path: Path) -> None:
    listen = [f"{tmp_path}/http.sock", f"{tmp_path}/tcp.sock", address(1), f"{tmp_path}/admin.sock"]
    with Activated("--workers", workers, listen=listen, names="http:tcp:tcp:admin") as server:
        assert exchange(unix_connect(f"{tmp_path}/http.sock"), GET)[0] == 200
        assert exchange(unix_connect(f"{tmp_path}/admin.sock"), GET)[0] == 404
        host, _, port = address(1).rpartition(":")
        with unix_connect(f"{tmp_path}/tcp.sock") as local, socket.create_connection((host, int(port)), 5) as client:
            assert echoes(local)
            assert echoes(client)
        assert listeners(server) == ["http", "tcp", "tcp", "admin"]
        if workers == "2":
            server.reload()
            assert exchange(unix_connect(f"{tmp_path}/http.sock"), GET)[0] == 200
        server.send_signal()
        assert server.wait() == 0


@needs_activate
def test_two_streams_without_names() -> None:
    with Activated(listen=[address(2), address(3)]) as server:
        assert listeners(server) == ["http", "tcp"]


@needs_activate
@alone_and_several
def test_datagrams(workers: str) -> None:
    with Activated("--workers", workers, listen=[address(4)], datagram=True) as server:
        assert listeners(server) == ["udp"]
        with server.client() as client:
            for number in range(20):
                client.send(b"%d" % number)
                assert client.recv(100) == b"%d" % number


# --- what a manager is told -------------------------------------------------------------------------------------------


@contextlib.contextmanager
def manager(tmp_path: Path, *, abstract: bool = False) -> Iterator[tuple[socket.socket, dict[str, str]]]:
    """The socket that a service manager is told at, and the environment that says so."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.settimeout(PATIENCE)
        name = f"@echoserver manager {os.getpid()} {tmp_path.name}" if abstract else f"{tmp_path}/notify.sock"
        made.bind(name.replace("@", "\0", 1) if abstract else name)
        yield made, {"NOTIFY_SOCKET": name}


def told(made: socket.socket) -> dict[str, str]:
    """The next that it is told."""
    return dict(line.split("=", 1) for line in made.recv(4096).decode().splitlines())


@alone_and_several
@pytest.mark.parametrize("abstract", [False, True], ids=["path", "abstract"])
def test_a_manager_is_told_each_state(workers: str, abstract: bool, tmp_path: Path) -> None:
    with manager(tmp_path, abstract=abstract) as (made, environment):
        with Group("--workers", workers, environment=environment) as server:
            assert told(made) == {"READY": "1"}
            assert server.get() == 200
            for _ in range(2):
                before = time.monotonic_ns() // 1000
                server.send_signal(signal.SIGHUP)
                state = told(made)
                assert state.keys() == {"RELOADING", "MONOTONIC_USEC"}
                assert state["RELOADING"] == "1"
                assert before <= int(state["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
                assert told(made) == {"READY": "1"}
            wait_for(lambda: len(server.children()) in (0, 2), "the former processes to end")
            with half_sent(server) as client:
                server.send_signal()
                assert told(made) == {"STOPPING": "1"}
                client.sendall(HALF_CONTENT.rest)
                assert receive(client).status == 200
            assert server.wait() == 0
        made.setblocking(False)
        with pytest.raises(BlockingIOError):
            made.recv(100)


@alone_and_several
def test_ready_is_said_when_it_serves(workers: str, tmp_path: Path) -> None:
    with manager(tmp_path) as (made, environment):
        where = ("--http", f"unix:{tmp_path}/http.sock")
        with Group("--workers", workers, *where, environment=environment):
            assert told(made) == {"READY": "1"}
            assert exchange(unix_connect(f"{tmp_path}/http.sock"), GET)[0] == 200


def test_a_server_that_can_not_start_is_not_ready(tmp_path: Path) -> None:
    with manager(tmp_path) as (made, environment):
        ended = subprocess.run(
            [*COMMAND, "--http", "fd:99"], env={**os.environ, **environment}, check=False, capture_output=True
        )
        assert ended.returncode == 3
        made.setblocking(False)
        with pytest.raises(BlockingIOError):
            made.recv(100)


@alone_and_seldom_several
@pytest.mark.parametrize("where", ["gone", "nowhere", "@nobody", "relative", "vsock:2:1", "/" + "x" * 200, ""])
def test_a_manager_that_is_not_there_does_no_harm(workers: str, where: str, tmp_path: Path) -> None:
    if where == "gone":
        with manager(tmp_path) as (_, environment):
            where = environment["NOTIFY_SOCKET"]
    elif where == "nowhere":
        where = f"{tmp_path}/nowhere"
    with Group("--workers", workers, environment={"NOTIFY_SOCKET": where}) as server:
        assert server.get() == 200
        server.send_signal(signal.SIGHUP)
        wait_for(lambda: any("reloaded" in line for line in server.lines), "the reload")
        server.send_signal()
        assert server.wait() == 0


@alone_and_several
def test_a_manager_that_does_not_listen_does_no_harm(workers: str, tmp_path: Path) -> None:
    """Its socket's queue is full, and a datagram would wait for room."""
    with manager(tmp_path) as (made, environment):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            other.setblocking(False)
            other.connect(made.getsockname())
            with contextlib.suppress(BlockingIOError):
                while True:
                    other.send(b"X=1")
        with Group("--workers", workers, environment=environment) as server:
            assert server.get() == 200
            server.send_signal(signal.SIGHUP)
            wait_for(lambda: any("reloaded" in line for line in server.lines), "the reload")
            server.send_signal()
            assert server.wait() == 0


# --- the unit files ---------------------------------------------------------------------------------------------------


class Unit:
    """A unit file: its sections, and of each the keys with all their values in order."""

    def __init__(self, path: Path) -> None:
        self.sections: dict[str, dict[str, list[str]]] = {}
        section: dict[str, list[str]] = {}
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("["):
                section = self.sections.setdefault(line.strip("[]"), {})
            elif line and not line.startswith(("#", ";")):
                name, _, value = line.partition("=")
                section.setdefault(name, []).append(value)

    def one(self, section: str, name: str) -> str:
        (value,) = self.sections[section][name]
        return value


SERVICE = Unit(UNITS / "echoserver.service")
SOCKETS = {path.name: Unit(path) for path in sorted(UNITS.glob("*.socket"))}


def test_each_socket_has_a_name_that_the_server_knows() -> None:
    assert SOCKETS
    for unit in SOCKETS.values():
        name = unit.one("Socket", "FileDescriptorName")
        assert name in config.PROTOCOLS
        assert ("ListenDatagram" in unit.sections["Socket"]) == (name == "udp")
        assert unit.one("Socket", "Service") == "echoserver.service"
    names = set(SOCKETS)
    for section, key in (("Unit", "Requires"), ("Unit", "After"), ("Service", "Sockets"), ("Install", "Also")):
        assert set(SERVICE.one(section, key).split()) == names


def test_the_server_starts_as_the_units_say(tmp_path: Path) -> None:
    program, *options = SERVICE.one("Service", "ExecStart").split()
    assert (program.rpartition("/")[2], options[:2]) == ("python", ["-m", "echoserver"])
    names = [unit.one("Socket", "FileDescriptorName") for unit in SOCKETS.values()]
    kinds = ["udp" if name == "udp" else "inet" for name in names]
    with (
        sockets(*kinds, folder=tmp_path) as given,
        Passed(*given) as passed,
        manager(tmp_path) as (made, environment),
        passed.start(*options[2:], names=":".join(names), **environment) as server,
    ):
        assert told(made) == {"READY": "1"}
        assert sorted(listeners(server)) == sorted(names)
        assert all(serves(each, name) for each, name in zip(given, names, strict=True))
        assert SERVICE.one("Service", "Type") == "notify-reload"
        server.send_signal(signal.SIGHUP)
        assert told(made)["RELOADING"] == "1"
        assert told(made) == {"READY": "1"}
        assert SERVICE.one("Service", "KillMode") == "mixed"
        server.send_signal()
        assert told(made) == {"STOPPING": "1"}
        assert server.wait() == 0


def test_variables_of_the_unit_are_options() -> None:
    text = (UNITS / "echoserver.service").read_text(encoding="utf-8")
    variables = re.findall(r"\b(ECHOSERVER_\w+)=", text)
    assert variables
    assert set(variables) <= {option.variable for option in config.OPTIONS}


@needs("systemd-analyze")
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    for path in UNITS.iterdir():
        text = path.read_text(encoding="utf-8").replace("/opt/echoserver/bin/python", sys.executable)
        version = int(
            subprocess.run(["systemd-analyze", "--version"], capture_output=True, check=True).stdout.split()[1]
        )
        if version < 253:  # as the unit says
            text = text.replace("Type=notify-reload", "Type=notify\nExecReload=/bin/kill -HUP $MAINPID")
        (tmp_path / path.name).write_text(text, encoding="utf-8")
    units = [str(path) for path in sorted(tmp_path.iterdir())]
    ended = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *units],
        capture_output=True, text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip
    ours = [line for line in ended.stderr.splitlines() if "echoserver" in line]
    assert (ended.returncode, ours) == (0, [])
