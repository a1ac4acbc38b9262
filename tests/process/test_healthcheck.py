"""``python -m echoserver healthcheck``: what an image without a shell asks its server with.

Modules: cli.
"""

import contextlib
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.processes import Group, run
from tests.servers import wait_for


def check(*url: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Its end; it prints nothing to stdout, and to stderr one line or none."""
    ended = run("healthcheck", *url, environment=environment)
    assert ended.stdout == ""
    assert len(ended.stderr.splitlines()) == (ended.returncode != 0), ended.stderr
    return ended


@pytest.fixture(scope="module")
def running() -> Iterator[Group]:
    with Group() as server:
        yield server


@contextlib.contextmanager
def answering(answer: bytes | None) -> Iterator[tuple[int, list[bytes]]]:
    """A server that gives one connection that answer (None: never one); its port, and what it has been asked."""
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                asked.append(connection.recv(4096))
                connection.sendall(answer or b"")

        thread = threading.Thread(target=serve, daemon=True)
        if answer is not None:
            thread.start()
        yield listener.getsockname()[1], asked
        if answer is not None:
            thread.join()


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/any/path?at=all", "", "?x=1", "#x"])
def test_a_server_that_is_well(running: Group, path: str) -> None:
    assert check(f"http://127.0.0.1:{running.http}{path}").returncode == 0


def test_nothing_there() -> None:
    with socket.socket() as bound:  # and nobody listens
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        ended = check(f"http://127.0.0.1:{port}/healthz")
    assert ended.returncode == 1
    assert ended.stderr == f"echoserver healthcheck: 127.0.0.1:{port}: Connection refused\n"


def test_no_unix_socket_there(tmp_path: Path) -> None:
    ended = check(ECHOSERVER_HTTP=f"unix:{tmp_path}/http.sock")
    assert ended.returncode == 1
    assert ended.stderr == f"echoserver healthcheck: unix:{tmp_path}/http.sock: No such file or directory\n"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_server_that_drains_is_healthy_and_not_ready(workers: str) -> None:
    with Group("--workers", workers, "--drain-delay", "60s", allow_errors=True) as server:
        url = f"http://127.0.0.1:{server.http}"
        assert check(f"{url}/readyz").returncode == 0
        server.send_signal()
        wait_for(lambda: server.get("/readyz") == 503, "the drain to begin")
        wait_for(lambda: {server.get("/readyz") for _ in range(8)} == {503}, "all workers to hear of it")
        ended = check(f"{url}/readyz")
        assert ended.returncode == 1
        assert "503 Service Unavailable" in ended.stderr
        assert check(f"{url}/healthz").returncode == 0


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 0, ""),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", 1, "HTTP/1.1 404 Not Found"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 1, "HTTP/1.1 204 No Content"),
        (b"SSH-2.0-OpenSSH_9.2 200\r\n", 1, "SSH-2.0-OpenSSH_9.2 200"),
        (b"", 1, "no answer"),
    ],
    ids=["ok", "not found", "not 200", "not http", "nothing"],
)
def test_what_is_asked_and_what_counts_as_well(answer: bytes, code: int, said: str) -> None:
    with answering(answer) as (port, asked):
        ended = check(f"http://127.0.0.1:{port}/other?x=1")
        assert ended.returncode == code
        assert said in ended.stderr
    expected = f"GET /other?x=1 HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n"
    assert asked == [expected.encode()]


def test_a_server_that_never_answers() -> None:
    begun = time.monotonic()
    with answering(None) as (port, _):
        ended = check(f"http://127.0.0.1:{port}/healthz")
    assert ended.returncode == 1
    assert ended.stderr == f"echoserver healthcheck: 127.0.0.1:{port}: timed out\n"
    assert time.monotonic() - begun < 10


def test_the_environment_says_where(running: Group) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        nobody = str(bound.getsockname()[1])
        port = str(running.http)
        assert check(ECHOSERVER_HTTP=port).returncode == 0
        assert check(ECHOSERVER_HTTP=f"127.0.0.1:{port}", ECHOSERVER_HOST="192.0.2.1").returncode == 0
        assert check(PORT=port).returncode == 0
        assert check(PORT=nobody).returncode == 1
        assert check(PORT=nobody, ECHOSERVER_HTTP=port).returncode == 0
        assert check(PORT=port, ECHOSERVER_HTTP=nobody).returncode == 1
        assert check(f"http://127.0.0.1:{port}/healthz", ECHOSERVER_HTTP=nobody).returncode == 0
        assert check(ECHOSERVER_HTTP="off", ECHOSERVER_ANY=port).returncode == 0


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "::1", "localhost"])
def test_a_server_that_is_bound_to(host: str) -> None:
    with Group(environment={"ECHOSERVER_HOST": host}) as server:
        assert check(ECHOSERVER_HOST=host, ECHOSERVER_HTTP=str(server.http)).returncode == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_unix_socket(workers: str, tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/http.sock"
    with Group("--http", address, "--workers", workers):
        assert check(ECHOSERVER_HTTP=address).returncode == 0
        assert check(address).returncode == 0


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/",
        "127.0.0.1:8080",
        "http://",
        "http:///healthz",
        "http://127.0.0.1:x/",
        "http://127.0.0.1:65536/",
        "http://::1:8080/",
        "http://unix:/",
        "http://127.0.0.1:8080/a b",
        "http://127.0.0.1:8080/a\r\nX: y",
        "",
    ],
)
def test_a_bad_url(url: str) -> None:
    ended = check(url)
    assert ended.returncode == 1
    assert ended.stderr.startswith("echoserver healthcheck: ")
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("variable", ["ECHOSERVER_HTTP", "PORT"])
@pytest.mark.parametrize("text", ["off", "nowhere"])
def test_an_environment_that_says_no_place(variable: str, text: str) -> None:
    assert check(**{variable: text}).returncode == 1


def test_more_than_one_url() -> None:
    assert check("http://127.0.0.1:1/", "http://127.0.0.1:2/").returncode == 1
