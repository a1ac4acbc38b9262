"""curl as the client: what people will try first."""

import gzip
import os
import pathlib
import subprocess

import pytest

from tests.programs import needs
from tests.servers import PATIENCE, Server

pytestmark = needs("curl")

CURL = ("curl", "--silent", "--show-error", "--max-time", str(int(PATIENCE)), "--noproxy", "*")


def curl(*options: str, given: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run curl and check that it is content; given: its standard input."""
    done = subprocess.run([*CURL, *options], input=given, capture_output=True, timeout=2 * PATIENCE, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done


def url(server: Server, path: str = "/") -> str:
    return f"http://127.0.0.1:{server.http}{path}"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """5 MB of random bytes."""
    path = tmp_path_factory.mktemp("curl") / "bytes"
    path.write_bytes(os.urandom(5_000_000))
    return path


def test_get(server: Server) -> None:
    echo = curl("-H", "X-Case: kept", "-H", "X-Empty;", url(server, "/path?query")).stdout
    lines = echo.decode().split("\r\n")
    assert lines[:2] == ["GET /path?query HTTP/1.1", f"Host: 127.0.0.1:{server.http}"]
    assert {"X-Case: kept", "X-Empty:"} < set(lines)
    assert lines[-2:] == ["", ""]


@pytest.mark.parametrize("method", ["GET", "DELETE", "OPTIONS", "PATCH", "FOO", "TRACE"])
def test_any_method(server: Server, method: str) -> None:
    assert curl("-X", method, url(server)).stdout.startswith(b"%b / HTTP/1.1\r\n" % method.encode())


def test_post(server: Server) -> None:
    said = curl("-d", "a=b&c", "-w", "%{http_code} %{content_type} %{num_headers}", url(server)).stdout
    assert said == b"a=b&c200 application/x-www-form-urlencoded 6"


def test_content_encoding__compressed(server: Server) -> None:
    """What was sent compressed is to be read as it was before."""
    packed = gzip.compress(b'{"a": 1}')
    options = ("-H", "Content-Encoding: gzip", "-H", "Content-Type: application/json", "--data-binary", "@-")
    assert curl(*options, "--compressed", url(server), given=packed).stdout == b'{"a": 1}'
    assert curl(*options, url(server), given=packed).stdout == packed
    assert curl(*options, "--compressed", url(server, "/?delay=1ms"), given=packed).stdout == b'{"a": 1}'


@pytest.mark.parametrize("query", ["status=401", "status=503&delay=100ms"])
def test_expect__the_file_stays_where_it_is(server: Server, file: pathlib.Path, query: str) -> None:
    said = curl(
        "-H", "Expect: 100-continue", "--expect100-timeout", str(PATIENCE), "--data-binary", f"@{file}",
        "-w", "%{http_code} %{size_upload}", url(server, f"/?{query}"),
    ).stdout  # fmt: skip
    assert said == b"%b 0" % query[7:10].encode()


def test_expect__413(file: pathlib.Path) -> None:
    with Server("--max-body", "1MiB") as server:
        said = curl(
            "-H", "Expect: 100-continue", "--expect100-timeout", str(PATIENCE), "--data-binary", f"@{file}",
            "-o", os.devnull, "-w", "%{http_code} %{size_upload}", url(server),
        ).stdout  # fmt: skip
    assert said == b"413 0"


def test_path_as_is(server: Server) -> None:
    echo = curl("--path-as-is", url(server, "/a/../b/./c//d")).stdout
    assert echo.startswith(b"GET /a/../b/./c//d HTTP/1.1\r\n")


def test_head(server: Server) -> None:
    head = curl("-I", url(server)).stdout.decode()
    assert head.startswith("HTTP/1.1 200 OK\r\n")
    assert head.endswith("\r\n\r\n")
    assert "\r\nContent-Type: text/plain\r\n" in head


@pytest.mark.parametrize("expect", ["Expect: 100-continue", "Expect:"])
def test_a_file_twice_on_one_connection(
    server: Server, file: pathlib.Path, tmp_path: pathlib.Path, expect: str
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    done = curl(
        "-v", "-H", expect, "--expect100-timeout", str(PATIENCE), "--data-binary", f"@{file}",
        "-w", "%{http_code} %{num_connects},", "-o", str(first), url(server), "-o", str(second), url(server),
    )  # fmt: skip
    assert done.stdout == b"200 1,200 0,"
    assert first.read_bytes() == second.read_bytes() == file.read_bytes()
    assert done.stderr.count(b"HTTP/1.1 100 Continue") == (2 if "100" in expect else 0)


@pytest.mark.parametrize("options", [(), ("--http1.0",), ("-H", "Connection: close"), ("-H", "Upgrade: foo")])
def test_a_file(server: Server, file: pathlib.Path, options: tuple[str, ...]) -> None:
    assert curl(*options, "--data-binary", f"@{file}", url(server)).stdout == file.read_bytes()


@pytest.mark.parametrize("size", [0, 5, 100_000, 20 << 20])
@pytest.mark.parametrize("expect", ["Expect: 100-continue", "Expect:"])
def test_a_chunked_upload_from_a_pipe(server: Server, size: int, expect: str) -> None:
    content = os.urandom(size)
    done = curl("-v", "-H", expect, "--expect100-timeout", str(PATIENCE), "-T", "-", url(server), given=content)
    assert done.stdout == content
    assert b"> Transfer-Encoding: chunked" in done.stderr
    assert (b"HTTP/1.1 100 Continue" in done.stderr) == ("100" in expect)


def test_http_1_0(server: Server) -> None:
    done = curl("-v", "--http1.0", url(server, "/old"))
    assert done.stdout.startswith(b"GET /old HTTP/1.0\r\n")
    assert b"< Connection: close" in done.stderr
    kept = curl("--http1.0", "-H", "Connection: keep-alive", "-w", "%{num_connects},", url(server), url(server)).stdout
    assert kept.count(b"GET / HTTP/1.0\r\n") == 2
    assert kept.endswith(b"0,")


def test_many_urls_on_one_connection(server: Server) -> None:
    done = curl("-w", "%{num_connects},", url(server, "/[1-100]"), "-o", "/dev/null")
    connects = done.stdout.split(b",")
    assert connects.count(b"0") == 99
    assert connects.count(b"1") == 1


def test_an_error_is_shown(server: Server) -> None:
    said = curl("-X", "CONNECT", "-w", "%{http_code}", url(server)).stdout
    assert said == b"501 Not Implemented: CONNECT is not supported: an echo server opens no tunnels\n501"


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_unix_socket(tmp_path: pathlib.Path, file: pathlib.Path, loop: str) -> None:
    path = tmp_path / "echo.sock"
    with Server("--loop", loop, "--http", f"unix:{path}"):
        assert curl("--unix-socket", str(path), "http://any/path").stdout.startswith(b"GET /path HTTP/1.1\r\n")
        posted = curl("--unix-socket", str(path), "--data-binary", f"@{file}", "http://any/").stdout
        assert posted == file.read_bytes()
    assert not path.exists()
