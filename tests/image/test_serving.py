"""What a server in a container answers, and where it listens."""

import os
import socket
from pathlib import Path

import pytest

from echoserver import __version__
from tests.image.containers import OURSELVES, PORTS, Contained, Variant
from tests.process.processes import echoes, exchange, unix_connect
from tests.servers import PATIENCE, HttpClient, chunks, read_all, request, sending
from tests.wire.test_udp import HOSTS, assert_echo, datagrams

MIB = os.urandom(1 << 20)
GET = request("GET /x?y HTTP/1.1", "X-Case: kept")

workers = pytest.mark.parametrize("workers", ["1", "2"])


def chunked(content: bytes, size: int) -> bytes:
    pieces = [content[start : start + size] for start in range(0, len(content), size)]
    return chunks(*pieces, b"")


def test_tcp(running: Contained) -> None:
    with running.connect("tcp") as client, sending(client, MIB, fin=True):
        assert read_all(client) == MIB


@pytest.mark.parametrize("size", [0, 1400, 65507])
def test_udp(running: Contained, size: int) -> None:
    with datagrams() as client:
        assert_echo(client, MIB[:size], "127.0.0.1", running.udp)


def test_http_content(running: Contained) -> None:
    post = request("POST / HTTP/1.1", f"Content-Length: {len(MIB)}", "Content-Type: a/b", content=MIB)
    with HttpClient(running.connect()) as client:
        for _ in range(3):
            with sending(client.socket, post):
                answer = client.answer("POST")
            assert (answer.status, answer["content-type"]) == (200, "a/b")
            assert answer.content == MIB


@pytest.mark.parametrize("size", [100, 65536, len(MIB)])
def test_http_chunks(running: Contained, size: int) -> None:
    post = request("POST / HTTP/1.1", "Transfer-Encoding: chunked", content=chunked(MIB, size))
    with HttpClient(running.connect()) as client:
        for _ in range(2):
            with sending(client.socket, post):
                answer = client.answer("POST")
            assert answer.status == 200
            assert answer.content == MIB


def test_http_pipelined(running: Contained) -> None:
    contents = [MIB[start : start + 64 * start] for start in range(32)]
    posts = [request("POST / HTTP/1.1", f"Content-Length: {len(each)}", content=each) for each in contents]
    chunks = [request("POST / HTTP/1.1", "Transfer-Encoding: chunked", content=chunked(each, 9)) for each in contents]
    sent = b"".join(post + GET + chunk for post, chunk in zip(posts, chunks, strict=True))
    with HttpClient(running.connect()) as client, sending(client.socket, sent):
        for content in contents:
            assert client.answer("POST").content == content
            assert client.answer().content == GET
            assert client.answer("POST").content == content


def test_the_server_s_own_pages(running: Contained) -> None:
    with HttpClient(running.connect()) as client:
        for path in ("/healthz", "/readyz"):
            assert client.ask(request(f"GET {path} HTTP/1.1")).status == 200


# --- where ------------------------------------------------------------------------------------------------------------


def assert_served(server: Contained, host: str) -> None:
    """All protocols at that address."""
    assert exchange(socket.create_connection((host, server.http), PATIENCE), GET) == (200, GET)
    with socket.create_connection((host, server.tcp), PATIENCE) as client:
        assert echoes(client)
    with datagrams(host) as client:
        assert_echo(client, b"ping", host, server.udp)


@workers
@pytest.mark.skipif("::1" not in HOSTS, reason="no IPv6 on this machine")
def test_ipv6_and_ipv4(variant: Variant, workers: str) -> None:
    with variant.serve("--host", "::", "--workers", workers) as server:
        for host in ("::1", "127.0.0.1"):
            assert_served(server, host)


@workers
def test_the_name_localhost(variant: Variant, workers: str) -> None:
    with variant.serve("--host", "localhost", "--workers", workers) as server:
        hosts = {line.split()[3].rpartition(":")[0].strip("[]") for line in server.lines if ": listening: " in line}
        assert "127.0.0.1" in hosts
        assert hosts <= {"127.0.0.1", "::1"}
        for host in hosts:
            assert_served(server, host)


@workers
def test_a_name_from_the_hosts_file(variant: Variant, workers: str) -> None:
    hosts = {"echo.example": "127.88.0.1"}
    with variant.serve("--host", "echo.example", "--workers", workers, hosts=hosts) as server:
        assert all(" 127.88.0.1:" in line for line in server.lines if ": listening: " in line)
        assert_served(server, "127.88.0.1")
        assert server.refuses()  # on 127.0.0.1
        assert server.execute("healthcheck", f"http://echo.example:{server.http}/healthz") == 0


def test_a_name_that_nobody_has(variant: Variant) -> None:
    code, (line,) = variant.end(*PORTS, "--host", "echo.invalid")
    assert code == 3
    assert line.startswith("echoserver: cannot listen on http echo.invalid:0: ")


@workers
def test_unix_sockets_in_a_mounted_folder(variant: Variant, workers: str, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    options = ("--http", "unix:/sockets/http", "--tcp", "unix:/sockets/tcp", "--workers", workers)
    with variant.serve(
        *options, user=OURSELVES, mounts={tmp_path: "/sockets"}, environment={"ECHOSERVER_HTTP": "unix:/sockets/http"}
    ) as server:
        for _ in range(10):
            assert exchange(unix_connect(f"{tmp_path}/http"), GET) == (200, GET)
            with unix_connect(f"{tmp_path}/tcp") as client:
                assert echoes(client)
        assert server.execute("healthcheck") == 0
        server.container.stop()
        assert server.wait() == 0
    assert list(tmp_path.iterdir()) == []


# --- what it says -----------------------------------------------------------------------------------------------------


def test_the_version(variant: Variant) -> None:
    assert variant.end("--version") == (0, [f"echoserver {__version__}"])


def test_help(variant: Variant) -> None:
    code, lines = variant.end("--help")
    assert code == 0
    assert lines[0] == "usage: echoserver [OPTIONS] | echoserver healthcheck [URL]"


@pytest.mark.parametrize("options", [["--no-such-option"], ["--workers", "0"], ["--udp", "nowhere"]], ids=" ".join)
def test_bad_usage(variant: Variant, options: list[str]) -> None:
    code, (line,) = variant.end(*options)
    assert code == 2
    assert line.startswith("echoserver: ")
    assert options[-1] in line


def test_bad_usage_in_the_environment(variant: Variant) -> None:
    code, (line,) = variant.end(environment={"ECHOSERVER_BACKLOG": "many"})
    assert code == 2
    assert line.startswith("echoserver: ECHOSERVER_BACKLOG: 'many' is not a count: ")


@workers
def test_an_address_that_is_taken(variant: Variant, workers: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        code, (line,) = variant.end("--http", address, "--tcp", "off", "--udp", "off", "--workers", workers)
    assert code == 3
    assert line.startswith(f"echoserver: cannot listen on http {address}: address ")
    assert line.endswith(" in use")
