"""The client of short connections: no handshake counts that is not as it should be, and no answer but an echo."""

import contextlib
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self, cast

import pytest

from bench import clients, handshakes, running
from bench.clients import Same, ThrownAway
from bench.handshakes import Client, Unacceptable
from bench.loads import LOADS, pattern
from tests.bench.commands import counted
from tests.certificates import Certificates
from tests.servers import PATIENCE, Server

ROOT = Path(__file__).parents[2]
CONTENT = pattern(64)
SENT = LOADS["tlsnew"].sent


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


def response(content: bytes = CONTENT, *fields: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", *(fields or [f"Content-Length: {len(content)}"]), "Connection: close", "", ""]
    return "\r\n".join(lines).encode() + content


CHUNKED = response(b"1e\r\n%b\r\n22\r\n%b\r\n0\r\n\r\n" % (CONTENT[:30], CONTENT[30:]), "Transfer-Encoding: chunked")


class Scripted:
    """Answers one request on each connection over TLS, one connection after the other; use it as a context manager.

    context: of a connection, by its number from 0. answers: those that it sends.
    """

    def __init__(self, context: Callable[[int], ssl.SSLContext], answer: Callable[[int], bytes]) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.port = self._listener.getsockname()[1]
        self.connections = 0
        self.reused: list[bool] = []
        self._context, self._answer = context, answer
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(PATIENCE)
        self._listener.close()
        assert not self._thread.is_alive()

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            number, self.connections = self.connections, self.connections + 1
            with plain, contextlib.suppress(OSError):
                plain.settimeout(PATIENCE)
                with self._context(number).wrap_socket(plain, server_side=True) as connection:
                    got = b""
                    while len(got) < len(SENT) and (part := connection.recv(1 << 16)):
                        got += part
                    self.reused.append(bool(connection.session_reused))
                    connection.sendall(self._answer(number))
                    connection.unwrap()


def server_context(certificates: Certificates) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.cert, certificates.key)
    return context


def scripted(
    certificates: Certificates, answer: bytes = response(), *, later: bytes | None = None, forgets: int = 1 << 30,
    tickets: int = 2, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
) -> Scripted:  # fmt: skip
    """later: its answer from the fifth connection on. forgets: from this one on it knows no session of before."""
    kept = server_context(certificates)
    kept.num_tickets = tickets
    kept.maximum_version = newest
    return Scripted(
        lambda number: kept if number < forgets else server_context(certificates),
        lambda number: answer if later is None or number < 4 else later,
    )


def run(port: int, *options: str, folder: Path, seconds: str = "0.2\n") -> subprocess.CompletedProcess[str]:
    file = folder / "request"
    file.write_bytes(SENT)
    words = [sys.executable, "-m", "bench.handshakes", *options, str(port), str(file)]
    return subprocess.run(
        words, input=seconds, capture_output=True, text=True, timeout=PATIENCE, check=False, cwd=ROOT
    )  # fmt: skip


def served(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    """What it says of each round; fails where it has failed, or served nobody."""
    rounds = counted(done)
    assert all(each["requests"] > 0 and each["client_cpu"] > 0 for each in rounds)
    return rounds


@pytest.fixture(scope="module")
def port(certificates: Certificates) -> Iterator[int]:
    """echoserver's, over TLS."""
    with Server("--https", "127.0.0.1:0", *certificates.options) as server:
        yield server.port("https")


def in_time_wait(port: int) -> int:
    """Connections from or to a port that are in TIME_WAIT (proc_net_tcp)."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]]
    return sum(row[3] == "06" and f":{port:04X}" in {row[1][8:], row[2][8:]} for row in rows)


@pytest.mark.parametrize("options", [(), ("-r",)], ids=["new", "resumed"])
def test_the_client_against_the_server(port: int, options: tuple[str, ...], tmp_path: Path) -> None:
    short, long = served(run(port, "-c", "3", *options, folder=tmp_path, seconds="0.1\n0.2\n"))
    assert short["seconds"] >= 0.1
    assert long["seconds"] >= 0.2
    assert in_time_wait(port) == 0


@pytest.mark.parametrize("answer", [response(), CHUNKED, response(CONTENT, "Server: x")],
                         ids=["length", "chunked", "to the end"])  # fmt: skip
@pytest.mark.parametrize("resumes", [False, True], ids=["new", "resumed"])
def test_the_server_has_seen_what_the_client_counts(
    certificates: Certificates, answer: bytes, resumes: bool, tmp_path: Path
) -> None:
    with scripted(certificates, answer) as server:
        (figures,) = served(run(server.port, "-c", "2", *["-r"] * resumes, folder=tmp_path))
    assert server.connections == len(server.reused) == figures["requests"] + 4
    assert server.reused.count(not resumes) == (2 if resumes else 0), "the first of each thread is new"


LIES: dict[str, tuple[str, dict[str, Any]]] = {
    "one byte": ("a wrong echo", {"answer": response(CONTENT[:-1] + b"!")}),
    "one byte, later": ("a wrong echo", {"later": response(CONTENT[:-1] + b"!")}),
    "shorter": ("a wrong echo", {"answer": response(CONTENT[:-1])}),
    "longer": ("a wrong echo", {"answer": response(CONTENT + b"x")}),
    "twice": ("a wrong echo", {"answer": 2 * response()}),
    "status": ("a status other than 200", {"answer": response(status="503 Busy")}),
    "nothing": ("an answer that is cut off", {"answer": b""}),
    "cut off": ("an answer that is cut off", {"answer": response()[:20]}),
    "cut off in a chunk": ("an answer that is cut off", {"answer": CHUNKED[:-5]}),
    "more than chunks": ("a wrong echo", {"answer": CHUNKED + b"x"}),
    "no chunks": ("a wrong echo", {"answer": response(CONTENT, "Transfer-Encoding: chunked")}),
    "no tickets": ("no session ticket", {"tickets": 0}),
    "not resumed": ("a session that is not resumed", {"forgets": 1}),
    "not resumed, later": ("a session that is not resumed", {"forgets": 5}),
    "TLS 1.2": ("a connection failed: [SSL: TLSV1_ALERT_PROTOCOL_VERSION]", {"newest": ssl.TLSVersion.TLSv1_2}),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_ends_the_client(certificates: Certificates, lie: str, tmp_path: Path) -> None:
    why, how = LIES[lie]
    with scripted(certificates, **how) as server:
        done = run(server.port, "-c", "2", "-r", folder=tmp_path)
    assert done.returncode == 1
    assert re.fullmatch(rf"handshakes: {re.escape(why)}.* after \d+ echoes\n", done.stderr)
    assert done.stdout == ("ready\n" if lie.endswith("later") else "")


def test_a_session_that_should_be_new(certificates: Certificates) -> None:
    """It is asked for where it should not be, for no server gives what nobody asked for."""
    with scripted(certificates) as server:
        client = Client(server.port, SENT, resumes=True)
        client.connect()
        client.connect()
        client.resumes = False
        with pytest.raises(Unacceptable, match=r"^a session that is not new$"):
            client.connect()


def test_nobody_listens(tmp_path: Path) -> None:
    done = run(int(running.free_port()), folder=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "handshakes: a connection failed: [Errno 111] Connection refused after 0 echoes\n"


def test_figures() -> None:
    found = handshakes.figures([float(each) for each in range(1000, 0, -1)], 2.0, 0.5)
    assert (found["requests"], found["seconds"], found["client_cpu"]) == (1000, 2.0, 0.5)
    assert found["latency_us"] == {"50": 501, "75": 751, "90": 901, "99": 991, "99.9": 1000, "max": 1000}
    assert handshakes.figures([], 1.0, 0.0)["requests"] == 0


# --- as the bench runs it ---------------------------------------------------------------------------------------------


class Watched(running.Running):
    """Stands for a running server that uses a second each time."""

    used = 0.0

    def cpu_seconds(self) -> float:
        self.used += 1
        return self.used


@pytest.mark.parametrize("name", ["tlsnew", "tlsresume"])
def test_a_round(certificates: Certificates, name: str, tmp_path: Path) -> None:
    """That counts, and that is thrown away."""
    cpus = os.sched_getaffinity(0)
    with scripted(certificates) as server:
        it = Watched("it", str(server.port), 0)
        answers = clients.check(LOADS[name], it)
        assert answers == Same(len(response()))
        figures = clients.client(LOADS[name], it, answers, cpus, tmp_path)(0.1)
        assert figures["cpu_us"] == pytest.approx(1e6 / (server.connections - 1 - 2 * LOADS[name].connections))
        assert any(server.reused) == (name == "tlsresume")
    with scripted(certificates, later=response(status="503 Busy")) as server:
        client = clients.client(LOADS[name], Watched("it", str(server.port), 0), answers, cpus, tmp_path)
        with pytest.raises(ThrownAway, match=r"^handshakes: a status other than 200 after 0 echoes$"):
            client(0.1)


@pytest.mark.parametrize(("how", "why"), [
    ({"answer": response(status="503 Busy")}, "it answers 503"),
    ({"newest": ssl.TLSVersion.TLSv1_2}, "no answer to a single request: [SSL: TLSV1_ALERT_PROTOCOL_VERSION]"),
])  # fmt: skip
def test_no_echo_over_tls(certificates: Certificates, how: dict[str, Any], why: str) -> None:
    with scripted(certificates, **how) as server, pytest.raises(ThrownAway) as error:
        clients.check(LOADS["tlsnew"], cast(running.Running, Watched("it", str(server.port), 0)))
    assert str(error.value).startswith(why)
