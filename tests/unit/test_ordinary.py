"""Ordinary requests are read in C as they are in Python, or left to be read elsewhere.

Modules: wire.ordinary, config.compiled.
"""

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import echoserver
from echoserver.wire import ordinary
from echoserver.wire.ordinary import Scanned, scan_in_python
from echoserver.wire.request import MAX_FIELDS
from tests.unit.examples import examples

PACKAGE = Path(echoserver.__file__).parent
SOURCES = ("compiled.c", "protocols/udp.c", "wire/hpack.c", "wire/huffman.c", "wire/ordinary.c")

HEAD = b"""\
POST /orders/7?state=open HTTP/1.1
Host: shop.example:8080
Content-Length: 12
User-Agent: agent/1.0 (a; b)
cOntent-type: application/json
Accept:*/*
X-Request-Id: 0123456789abcdef
Content-Language: \xc3\xa4
Cookie: a=b; c="d"\t
Empty:

""".replace(b"\n", b"\r\n")
WHOLE = HEAD + b"hello\r\n\r\nyou"
LINES = b"\nContent-Length:\ncOntent-type: application/json\nAccept:*/*\nContent-Language: \xc3\xa4\n"

PIECES = (
    b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\0", b" ", b"\t", b":", b"?", b"#", b"\x7f", b"\xff", b"/", b"0", b"9" * 20,
    b"GET / HTTP/1.1\r\n", b"HTTP/1.0", b"healthz", b"x" * 5000, b" folded\r\n", b"a: b\r\n" * 98,
    b"Host: a\r\n", b"Host:\r\n", b"Content-Length: 12\r\n", b"Transfer-Encoding: chunked\r\n", b"Upgrade: x\r\n",
    b"Connection: close\r\n", b"Expect: 100-continue\r\n", b"Accept: " + b"a" * 1100 + b"\r\n",
)  # fmt: skip


@pytest.fixture(scope="module")
def scan_in_c() -> Callable[[bytes], Scanned | None]:
    if ordinary.scan_in_c is None:
        pytest.skip("no compiled module: there was no C compiler when the server was installed")
    return ordinary.scan_in_c


def test_what_is_read(scan_in_c: Callable[[bytes], Scanned | None]) -> None:
    assert scan_in_c(WHOLE) == scan_in_python(WHOLE) == (LINES, len(HEAD), b"state=open")


def test_the_compiled_module_is_that_of_its_source(scan_in_c: object) -> None:
    compiled = sys.modules["_echoserver"]
    digest = hashlib.sha256(b"".join((PACKAGE / each).read_bytes() for each in SOURCES)).hexdigest()
    assert digest == compiled.SOURCE, "pip install -e . compiles it anew"


@pytest.mark.parametrize("wanted", ["", "1"])
def test_echoserver_no_extensions(scan_in_c: object, wanted: str) -> None:
    asking = "from echoserver.wire import ordinary; print(ordinary.scan is ordinary.scan_in_python)"
    said = subprocess.run(
        [sys.executable, "-c", asking], capture_output=True, text=True, check=True,
        env={"ECHOSERVER_NO_EXTENSIONS": wanted},
    )  # fmt: skip
    assert said.stdout.strip() == str(bool(wanted))


def test_what_was_compiled_of_another_version_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "_echoserver.py").write_text("INTERFACE = 0\n")
    asking = "from echoserver.config import compiled; print(compiled.functions)"
    said = subprocess.run(
        [sys.executable, "-c", asking], capture_output=True, text=True, check=True, env={"PYTHONPATH": str(tmp_path)}
    )
    assert said.stdout == "None\n"


def test_no_bytes_no_reading(scan_in_c: Callable[[object], Scanned | None]) -> None:
    for other in ("GET / HTTP/1.1\r\n\r\n", bytearray(HEAD), memoryview(HEAD), None):
        with pytest.raises(TypeError):
            scan_in_c(other)


@st.composite
def changed(draw: st.DrawFn) -> bytes:
    """An ordinary request, with pieces put in, left out or put in others' places."""
    data = draw(st.sampled_from((WHOLE, HEAD.replace(b"Content-Length: 12\r\n", b""))))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        until = draw(st.sampled_from((at, at, at + 1, at + 2, len(data))))
        data = data[:at] + draw(st.sampled_from(PIECES) | st.binary(max_size=2)) + data[until:]
    return data


@examples(3000)
@given(changed())
@example(HEAD)
@example(WHOLE + b"\r\n")
@example(WHOLE[:-1])
@example(b"")
@example(b"GET /a HTTP/1.1\r\nHost: x:\r\n\r\n")
@example(b"GET /a HTTP/1.1\r\n" + b"a:b\r\n" * MAX_FIELDS + b"\r\n")
@example(b"GET /a HTTP/1.1\r\n" + b"a:b\r\n" * (MAX_FIELDS + 1) + b"\r\n")
@example(b"GET /a HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n")
@example(b"GET /a HTTP/1.1\r\nHost: x\r\n" + b"Accept: a\r\n" * 13 + b"\r\n")
@example(b"GET /a HTTP/1.1\r\nHost: x\r\n" + b"Accept: " + b"a" * 1100 + b"\r\n\r\n")
def test_whatever_comes_is_read_in_c_as_in_python_or_not_at_all(
    scan_in_c: Callable[[bytes], Scanned | None], data: bytes
) -> None:
    found = scan_in_c(data)
    if found is not None:
        assert found == scan_in_python(data)
