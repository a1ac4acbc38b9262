"""--any: each protocol on one port, by a client's first bytes; and what decides, a row of docs/one-port.md each.

Modules: layers.detect, wire.first_bytes.
"""

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import echoserver
from echoserver.wire import first_bytes
from echoserver.wire.first_bytes import HTTP, HTTP2, RAW, TLS, protocol_of
from echoserver.wire.http2_frames import PREFACE
from tests.certificates import Certificates
from tests.programs import needs
from tests.servers import PATIENCE, Server, read_all, read_exactly, request
from tests.unit.examples import examples

CURL = ("curl", "--silent", "--show-error", "--max-time", str(int(PATIENCE)), "--noproxy", "*")
GET = request("GET / HTTP/1.1")

ROWS = {
    "16 03 00": (b"\x16\x03\x00", TLS),
    "16 03 01": (b"\x16\x03\x01\x02\x00", TLS),
    "16 03 04": (b"\x16\x03\x04", TLS),
    "16 03 05": (b"\x16\x03\x05", RAW),
    "16 04": (b"\x16\x04", RAW),
    "16": (b"\x16", None),
    "the preface": (PREFACE, HTTP2),
    "a part of the preface": (PREFACE[:23], None),
    "another PRI": (b"PRI * HTTP/2.0\r\n\r\nXX", HTTP),
    "a known method": (b"GET /", HTTP),
    "a known method and a blank": (b"DELETE ", HTTP),
    "a part of a known method": (b"GE", None),
    "a known method without a blank": (b"GET\r\n", RAW),
    "another method": (b"PROPFIND / HTTP/1.1\r\n", HTTP),
    "another method, not all of its line": (b"PROPFIND / HTTP/1.1", None),
    "a line that is no request": (b"hello world\r\n", RAW),
    "a word": (b"hello", None),
    "a word and a line end": (b"hello\n", RAW),
    "bytes that are no text": (b"\x00\x01", RAW),
    "a PROXY preamble, where none is expected": (b"PROXY TCP4 ", None),
    "a line that is too long": (b"A" * (first_bytes.LONGEST + 1), RAW),
    "nothing": (b"", None),
}


@pytest.mark.parametrize(("data", "expected"), ROWS.values(), ids=ROWS)
def test_first_bytes(data: bytes, expected: str | None) -> None:
    assert protocol_of(data) == expected


@pytest.mark.parametrize("data", [each for each, found in ROWS.values() if found in {TLS, HTTP2, HTTP}])
def test_first_bytes_torn_anywhere_are_never_taken_for_anything_else(data: bytes) -> None:
    final = protocol_of(data)
    assert {protocol_of(data[:end]) for end in range(len(data))} <= {None, final}


@examples(500)
@given(st.binary(max_size=40) | st.from_regex(rb"\A[A-Z]{1,8} [!-~]{0,5}( HTTP/[0-9]\.[0-9]\r\n)?", fullmatch=False))
def test_what_has_been_told_stays_so_whatever_comes(data: bytes) -> None:
    found = [protocol_of(data[:end]) for end in range(len(data) + 1)]
    told = [each for each in found if each is not None]
    assert len(set(told)) <= 1
    assert None not in found[len(found) - len(told) :]


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def server(request: pytest.FixtureRequest, certificates: Certificates) -> Iterator[Server]:
    off = ("--http", "off", "--tcp", "off", "--udp", "off")
    with Server(*off, "--any", "0", *certificates.options, "--loop", request.param) as running:
        yield running


@needs("curl")
@pytest.mark.parametrize(
    ("scheme", "how", "version"),
    [
        ("http", "--http1.1", "HTTP/1.1"), ("http", "--http2-prior-knowledge", "HTTP/2"),
        ("https", "--http1.1", "HTTP/1.1"), ("https", "--http2", "HTTP/2"), ("https", "--no-alpn", "HTTP/1.1"),
    ],
)  # fmt: skip
def test_any__curl(server: Server, certificates: Certificates, scheme: str, how: str, version: str) -> None:
    url = f"{scheme}://127.0.0.1:{server.port('any')}/x"
    words = [*CURL, how, "--cacert", str(certificates.ca), url]
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert done.stdout.startswith(f"GET /x {version}\n"), done.stdout


def test_any__raw_tcp(server: Server) -> None:
    with server.connect("any") as client:
        client.sendall(b"\0binary")
        assert read_exactly(client, 7) == b"\0binary"
        client.sendall(GET)  # it is that now
        assert read_exactly(client, len(GET)) == GET


def test_any__raw_within_tls(server: Server, certificates: Certificates) -> None:
    with certificates.trusting().wrap_socket(server.connect("any"), server_hostname="127.0.0.1") as client:
        client.sendall(b"hello\n")
        assert client.recv(100) == b"hello\n"


def test_any__http_within_tls_byte_by_byte(server: Server, certificates: Certificates) -> None:
    with certificates.trusting().wrap_socket(server.connect("any"), server_hostname="127.0.0.1") as client:
        for byte in GET:
            client.sendall(bytes((byte,)))
        assert client.recv(100).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("data", [GET, b"hello\n", b"PROPFIND / HTTP/1.1\r\nHost: a\r\n\r\n"])
def test_any__byte_by_byte(server: Server, data: bytes) -> None:
    with server.connect("any") as client:
        for byte in data:
            client.sendall(bytes((byte,)))
        assert client.recv(1000).startswith(b"hello" if data == b"hello\n" else b"HTTP/1.1 200 ")


def test_detect_timeout__a_client_that_says_nothing_or_little_speaks_raw_tcp() -> None:
    with Server("--any", "0", "--detect-timeout", "200ms") as server, server.connect("any") as client:
        client.sendall(b"GE")
        assert read_exactly(client, 2) == b"GE"
        client.sendall(b"T / HTTP/1.1\r\n\r\n")
        assert read_exactly(client, 16) == b"T / HTTP/1.1\r\n\r\n"
    options = ("--any", "0", "--detect-timeout", "200ms", "--tcp-mode", "chargen")
    with Server(*options) as talking, talking.connect("any") as client:  # it says nothing
        assert read_exactly(client, 3) == b' !"'


def test_any__a_fin_ends_the_wait(server: Server) -> None:
    with server.connect("any") as client:
        client.sendall(b"hel")
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b"hel"
    with server.connect("any") as client:
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b""


def test_any__without_a_certificate_tls_is_raw_tcp() -> None:
    with Server("--any", "0") as server, server.connect("any") as client:
        client.sendall(b"\x16\x03\x01\x00")
        assert read_exactly(client, 4) == b"\x16\x03\x01\x00"


@needs("curl")
def test_any__behind_a_proxy_protocol_preamble(certificates: Certificates) -> None:
    with Server("--any", "0", "--proxy-protocol", "on", *certificates.options) as server:
        for scheme, how, version in (("http", "--http2-prior-knowledge", "HTTP/2"), ("https", "--http1.1", "HTTP/1.1")):
            url = f"{scheme}://127.0.0.1:{server.port('any')}/x"
            words = [*CURL, "--haproxy-protocol", how, "--cacert", str(certificates.ca), url]
            done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, check=True)
            assert done.stdout.startswith(f"GET /x {version}\n"), done.stdout


def test_the_table_of_the_docs_is_that_of_the_code() -> None:
    table = (Path(echoserver.__file__).parents[1] / "docs" / "one-port.md").read_text(encoding="utf-8")
    for name in ("16 03", "PRI * HTTP/2.0", "GET", "HTTP/1.1", "--detect-timeout", "PROXY"):
        assert name in table
