"""What counts for the bench: the native client, wrk, and the look at a single echo. None of them believes a server."""

import contextlib
import dataclasses
import fcntl
import functools
import itertools
import os
import re
import selectors
import shutil
import socket
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self, cast

import pytest

from bench import clients, running
from bench.clients import Same, ThrownAway
from bench.figures import Round
from bench.loads import ACCEPT, HANDSHAKE, LOADS, Load, frame, pattern
from tests.bench.commands import counted
from tests.programs import needs
from tests.servers import PATIENCE, Server

# --- a server that does as it is told ---------------------------------------------------------------------------------


Reply = Callable[[int], Sequence[bytes | None]]
"""What a connection's exchange gets, by its number from 0: pieces, each read before the next one is sent; None: FIN."""


class Scripted:
    """Answers requests of one size as a script says; use it as a context manager.

    One thread does it all: what holds up one connection holds up all of them.
    """

    def __init__(self, where: Path | None, size: int, reply: Reply, *, hello: int = 0) -> None:
        """where: of its unix socket; None: a free port. hello: bytes of a request of another size before all others,
        which is the script's number -1."""
        self._listener = socket.socket(socket.AF_UNIX if where else socket.AF_INET)
        self._listener.bind(str(where) if where else ("127.0.0.1", 0))
        self._listener.listen(1024)
        self.where = str(where or self._listener.getsockname()[1])
        self.exchanges: list[int] = []  # that each connection has had
        self.requests: list[bytes] = []
        self._size, self._reply, self._hello = size, reply, hello
        self._ended, self._end = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.close()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()

    def connect(self) -> socket.socket:
        """A client's connection, to its unix socket."""
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(PATIENCE)
        connection.connect(self.where)
        return connection

    def _serve(self) -> None:
        with selectors.DefaultSelector() as selector, contextlib.ExitStack() as stack:
            for each in (self._listener, self._ended):
                selector.register(stack.enter_context(each), selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fileobj is self._ended:
                        return
                    if key.fileobj is self._listener:
                        connection = stack.enter_context(self._listener.accept()[0])
                        exchange = functools.partial(self._exchange, connection, len(self.exchanges), bytearray())
                        self.exchanges.append(-1 if self._hello else 0)
                        selector.register(connection, selectors.EVENT_READ, exchange)
                    elif not key.data():
                        selector.unregister(key.fileobj)
                        cast(socket.socket, key.fileobj).close()

    def _exchange(self, connection: socket.socket, number: int, got: bytearray) -> bool:
        """Read, and answer what is whole; whether the connection goes on."""
        with contextlib.suppress(ConnectionError):
            data = connection.recv(1 << 20)
            got += data
            while len(got) >= (size := self._size if self.exchanges[number] >= 0 else self._hello):
                self.requests.append(bytes(got[:size]))
                del got[:size]
                self.exchanges[number] += 1
                if not _send(connection, self._reply(self.exchanges[number] - 1)):
                    return False
            return bool(data)
        return False


def _send(connection: socket.socket, pieces: Sequence[bytes | None]) -> bool:
    """Whether the connection goes on."""
    for number, piece in enumerate(pieces):
        while number and _unread(connection):
            time.sleep(0)
        if piece is None:
            return False
        connection.sendall(piece)
    return True


def _unread(connection: socket.socket) -> int:
    """Bytes on a unix socket that the other side has not read, in memory that they take (unix(7), SIOCOUTQ)."""
    return int(struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)))[0])


# --- what it says -----------------------------------------------------------------------------------------------------

CONTENT = pattern(64)
POST = LOADS["post64"].sent


def response(content: bytes = CONTENT, *fields: str, status: str = "200 OK") -> bytes:
    """fields: without any, the content's length."""
    lines = [f"HTTP/1.1 {status}", *(fields or [f"Content-Length: {len(content)}"]), "", ""]
    return "\r\n".join(lines).encode() + content


def chunked(*chunks: bytes, status: str = "200 OK") -> bytes:
    coded = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))
    return response(coded, "Transfer-Encoding: chunked", status=status)


def changed(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def torn(data: bytes) -> list[bytes]:
    return [bytes([each]) for each in data]


def always(*pieces: bytes | None) -> Reply:
    return lambda _: pieces


def third(truth: bytes, *lie: bytes | None) -> Reply:
    """It lies from the third exchange after the first one on."""
    return lambda number: lie if number >= 3 else [truth]


def first(exchanges: int, truth: bytes) -> Reply:
    """It answers so many, and then no more."""
    return lambda number: [truth] if number < exchanges else []


FRAME = frame(CONTENT)
ACCEPTED = f"Sec-WebSocket-Accept: {ACCEPT.decode()}"


def welcome(*fields: str, status: str = "101 Switching Protocols") -> bytes:
    return response(b"", *(fields or ["Upgrade: websocket", "Connection: Upgrade", ACCEPTED]), status=status)


def message(*parts: bytes, kind: int = 2) -> bytes:
    """A server's message, each part in a frame."""
    frames = []
    for number, part in enumerate(parts):
        first = (0 if number else kind) | (0x80 if number == len(parts) - 1 else 0)
        sent = frame(part)
        head = sent[: len(sent) - len(part) - 4]
        frames.append(bytes([first, head[1] & 0x7F]) + head[2:] + part)
    return b"".join(frames)


def websocket(reply: Reply, *hello: bytes | None) -> Reply:
    """It begins with a handshake, the right one where none is given."""
    return lambda number: (hello or [welcome()]) if number < 0 else reply(number)


# --- the native client: what it counts --------------------------------------------------------------------------------


def run(
    program: str,
    *options: str,
    where: str,
    sent: bytes,
    folder: Path,
    seconds: Sequence[str] = ("0.05",),
    name: str = "request",
) -> subprocess.CompletedProcess[str]:
    """The native client, from its start to its end. name: of the file that it is given."""
    file = folder / name
    file.write_bytes(sent)
    return subprocess.run(
        [program, *options, where, str(file)], input="".join(f"{each}\n" for each in seconds),
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Where echoserver is: by protocol, and over what."""
    folder = tmp_path_factory.mktemp("echoserver")
    sockets = {f"{protocol} unix": f"{folder}/{protocol}" for protocol in ("http", "tcp")}
    with (
        Server() as server,
        Server("--http", f"unix:{sockets['http unix']}", "--tcp", f"unix:{sockets['tcp unix']}"),
    ):
        yield {"http": str(server.http), "tcp": str(server.tcp), "udp": str(server.udp), **sockets}


@pytest.mark.parametrize("options", [(), ("-c", "8"), ("-c", "8", "-a", "3"), ("-c", "8", "-r", "400")], ids=" ".join)
@pytest.mark.parametrize("where", ["http", "tcp", "http unix", "tcp unix"])
def test_the_client_against_the_server(
    native_client: str, addresses: dict[str, str], where: str, options: tuple[str, ...], tmp_path: Path
) -> None:
    options += ("-h",) * where.startswith("http")
    sent = POST if "-h" in options else pattern(4096)
    done = run(native_client, *options, where=addresses[where], sent=sent, folder=tmp_path, seconds=("0.05", "0.1"))
    short, long = counted(done)
    assert short["seconds"] >= 0.05
    assert long["seconds"] >= 0.1
    due = (20, 40) if "-r" in options else (0, 0)
    assert (short["due"], long["due"]) == due
    if "-r" in options:
        assert (short["requests"], long["requests"]) == due


@pytest.mark.parametrize("size", [0, 1, 300_000, 3 << 20])
@pytest.mark.parametrize("where", ["http", "tcp", "http unix", "tcp unix"])
def test_content_of_any_length(
    native_client: str, addresses: dict[str, str], where: str, size: int, tmp_path: Path
) -> None:
    if where.startswith("http"):
        fields = b"Host: localhost\r\nContent-Length: %d" % size
        sent = b"POST / HTTP/1.1\r\n%b\r\n\r\n%b" % (fields, pattern(size))
        done = run(native_client, "-h", "-c", "3", where=addresses[where], sent=sent, folder=tmp_path)
    else:
        done = run(native_client, "-c", "3", where=addresses[where], sent=pattern(size or 7), folder=tmp_path)
    counted(done)


@pytest.mark.parametrize(("options", "due"), [((), None), (("-r", "2000"), 200)], ids=["closed loop", "fixed rate"])
def test_the_server_has_seen_what_the_client_counts(
    native_client: str, options: tuple[str, ...], due: int | None, tmp_path: Path
) -> None:
    """Of 200 connections 5 are active: the others have had their one exchange, and stay open."""
    with Scripted(tmp_path / "s", len(POST), always(response())) as server:
        done = run(
            native_client, "-h", "-c", "200", "-a", "5", *options,
            where=server.where, sent=POST, folder=tmp_path, seconds=("0.1", "0.1"),
        )  # fmt: skip
    rounds = counted(done)
    assert len(server.exchanges) == 200
    assert server.exchanges[5:] == [1] * 195
    in_rounds = sum(server.exchanges) - 200
    requests = sum(each["requests"] for each in rounds)
    if due:
        assert [each["requests"] for each in rounds] == [due, due]
        assert in_rounds == requests
    else:
        assert requests <= in_rounds <= requests + 2 * 5, "what is under way at the end of a round is not counted"
        assert min(server.exchanges[:5]) > 1
    assert set(server.requests) == {POST}


TRUTHS = {
    "whole": [response()],
    "torn": torn(response()),
    "torn head": [*torn(response()[:-64]), CONTENT],
    "torn content": [response()[:-64], *torn(CONTENT)],
    "other fields": [response(CONTENT, "Date: today", "CONTENT-LENGTH:64", "Connection: keep-alive")],
    "a chunk": [chunked(CONTENT)],
    "chunks": [chunked(CONTENT[:1], CONTENT[1:17], CONTENT[17:])],
    "torn chunks": torn(chunked(CONTENT[:30], CONTENT[30:])),
}


@pytest.mark.parametrize("how", TRUTHS)
def test_the_same_echo_in_other_words(native_client: str, how: str, tmp_path: Path) -> None:
    with Scripted(tmp_path / "s", len(POST), always(*TRUTHS[how])) as server:
        done = run(native_client, "-h", "-c", "2", "-r", "100", where=server.where, sent=POST, folder=tmp_path)
    assert counted(done)[0]["requests"] == 5


MESSAGES = {
    "whole": [message(CONTENT)],
    "torn": torn(message(CONTENT)),
    "in frames": [message(CONTENT[:1], b"", CONTENT[1:9], CONTENT[9:])],
    "in frames, torn": torn(message(b"", CONTENT[:7], CONTENT[7:], b"")),
}


@pytest.mark.parametrize("how", MESSAGES)
def test_the_same_message_in_other_frames(native_client: str, how: str, tmp_path: Path) -> None:
    reply = websocket(always(*MESSAGES[how]))
    with Scripted(tmp_path / "s", len(FRAME), reply, hello=len(HANDSHAKE)) as server:
        done = run(native_client, "-w", "-c", "2", "-r", "100", where=server.where, sent=FRAME, folder=tmp_path)
    assert counted(done)[0]["requests"] == 5
    assert sum(server.exchanges) == 2 + 5, "the one with which each begins, and those that are counted"
    assert sorted(server.requests) == sorted([HANDSHAKE] * 2 + [FRAME] * 7)


def test_a_handshake_in_other_words(native_client: str, tmp_path: Path) -> None:
    words = welcome("Server: x", f"SEC-WEBSOCKET-ACCEPT:{ACCEPT.decode()}", "Upgrade: WebSocket")
    reply = websocket(always(message(CONTENT)), *torn(words))
    with Scripted(tmp_path / "s", len(FRAME), reply, hello=len(HANDSHAKE)) as server:
        done = run(native_client, "-w", "-c", "2", "-r", "100", where=server.where, sent=FRAME, folder=tmp_path)
    assert counted(done)[0]["requests"] == 5


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 300_000, 3 << 20])
@pytest.mark.parametrize("kind", [1, 2])
def test_messages_of_any_length(native_client: str, limit_server: str, size: int, kind: int, tmp_path: Path) -> None:
    sent = bytes([0x80 | kind]) + frame(pattern(size))[1:]
    where = str(tmp_path / "s")
    with running.Server("limit", [limit_server, where, "ws"], where, os.sched_getaffinity(0), tmp_path):
        done = run(native_client, "-w", "-c", "3", where=where, sent=sent, folder=tmp_path)
    counted(done)


def test_a_raw_echo_that_is_torn(native_client: str, tmp_path: Path) -> None:
    with Scripted(tmp_path / "s", 64, always(*torn(CONTENT))) as server:
        done = run(native_client, "-c", "2", "-r", "100", where=server.where, sent=CONTENT, folder=tmp_path)
    assert counted(done)[0]["requests"] == 5


# --- the native client: lies ------------------------------------------------------------------------------------------

HTTP_LIES: dict[str, tuple[str, Reply]] = {
    "one byte": ("a wrong echo after 0", always(response(changed(CONTENT)))),
    "one byte, later": ("a wrong echo after 2", third(response(), response(changed(CONTENT)))),
    "one byte, torn": ("a wrong echo after 0", always(*torn(response(changed(CONTENT))))),
    "status": ("a status other than 200 after 0", always(response(status="500 Internal Server Error"))),
    "status, later": ("a status other than 200 after 2", third(response(), response(status="503 Busy"))),
    "shorter": ("an echo of another length after 0", always(response(CONTENT[:-1]))),
    "longer": ("an echo of another length after 0", always(response(CONTENT + b"x"))),
    "a length too great": ("an echo of another length after 0", always(response(CONTENT, "Content-Length: 65"))),
    "more than it says": ("a long echo after 0", always(response() + b"x")),
    "no length": ("neither Content-Length nor chunked content after 0", always(response(CONTENT, "Server: x"))),
    "cut off": ("a connection was cut off after 0", always(response()[:-1], None)),
    "cut off in the head": ("a connection was cut off after 0", always(response()[:20], None)),
    "cut off, later": ("a connection was cut off after 2", third(response(), None)),
    "head": ("a head that is too long after 0", always(response(CONTENT, "Content-Length: 64", "X: " + 2000 * "x"))),
    "chunk, one byte": ("a wrong echo after 0", always(chunked(changed(CONTENT)))),
    "chunk, torn": ("a wrong echo after 0", always(*torn(chunked(CONTENT[:9], changed(CONTENT[9:]))))),
    "chunk, shorter": ("a short echo after 0", always(chunked(CONTENT[:-1]))),
    "chunk, longer": ("a wrong echo after 0", always(chunked(CONTENT + b"x"))),
    "one chunk more": ("a wrong echo after 0", always(chunked(CONTENT, b"x"))),
    "chunk, status": ("a status other than 200 after 0", always(chunked(CONTENT, status="404 Not Found"))),
    "chunk, much": ("a chunked response that is too long after 0", always(chunked(CONTENT * 20))),
}  # fmt: skip
RAW_LIES: dict[str, tuple[str, Reply]] = {
    "one byte": ("a wrong echo after 0", always(changed(CONTENT))),
    "one byte, later": ("a wrong echo after 2", third(CONTENT, changed(CONTENT))),
    "longer": ("bytes that nobody asked for after 0", always(CONTENT + b"x")),
    "shorter": ("a connection was cut off after 0", always(CONTENT[:-1], None)),
    "nothing": ("a connection was cut off after 0", always(None)),
    "cut off, later": ("a connection was cut off after 2", third(CONTENT, CONTENT[:1], None)),
}


ECHOED = message(CONTENT)
NOT_ACCEPTED = "a handshake with another Sec-WebSocket-Accept after 0"
CUT_OFF = "a connection was cut off after 0"
FRAME_LIES: dict[str, tuple[str, Reply]] = {
    "one byte": ("a wrong echo after 0", websocket(always(changed(ECHOED)))),
    "one byte, later": ("a wrong echo after 2", websocket(third(ECHOED, changed(ECHOED)))),
    "one byte, torn": ("a wrong echo after 0", websocket(always(*torn(changed(ECHOED))))),
    "one byte, second frame": ("a wrong echo after 0", websocket(always(message(CONTENT[:9], changed(CONTENT[9:]))))),
    "as it was sent": ("a masked frame after 0", websocket(always(FRAME))),
    "shorter": ("a short echo after 0", websocket(always(message(CONTENT[:-1])))),
    "empty": ("a short echo after 0", websocket(always(message(b"")))),
    "longer": ("a long echo after 0", websocket(always(message(CONTENT + b"x")))),
    "longer, frames": ("a long echo after 0", websocket(always(message(CONTENT, b"x")))),
    "a length without end": ("a long echo after 0", websocket(always(b"\x82\x7f" + 8 * b"\xff"))),
    "text": ("a frame of another type after 0", websocket(always(message(CONTENT, kind=1)))),
    "no continuation": ("a frame of another type after 0", websocket(always(b"\x02\x01\x00" + ECHOED))),
    "a continuation": ("a frame of another type after 0", websocket(always(message(CONTENT, kind=0)))),
    "compressed": ("a frame of another type after 0", websocket(always(message(CONTENT, kind=0x42)))),
    "a ping": ("a frame of another type after 0", websocket(always(message(b"", kind=9)))),
    "twice": ("bytes that nobody asked for after 0", websocket(always(ECHOED + ECHOED))),
    "cut off": (CUT_OFF, websocket(always(ECHOED[:-1], None))),
    "cut off in the header": (CUT_OFF, websocket(always(ECHOED[:1], None))),
    "cut off, later": ("a connection was cut off after 2", websocket(third(ECHOED, None))),
    "handshake, status": ("a status other than 101 after 0", websocket(always(), response())),
    "handshake, without": (NOT_ACCEPTED, websocket(always(), welcome("X: y"))),
    "handshake, another": (NOT_ACCEPTED, websocket(always(), welcome(ACCEPTED + "x"))),
    "handshake, extension": (
        "an extension that nobody asked for after 0",
        websocket(always(), welcome(ACCEPTED, "Sec-WebSocket-Extensions: permessage-deflate")),
    ),
    "handshake, long": ("a head that is too long after 0", websocket(always(), welcome("X: " + 2000 * "x"))),
    "handshake, cut off": (CUT_OFF, websocket(always(), welcome()[:-1], None)),
    "handshake, nothing": (CUT_OFF, websocket(always(), None)),
}  # fmt: skip


LIES: dict[str, tuple[dict[str, tuple[str, Reply]], tuple[str, ...], bytes, int]] = {
    "websocket": (FRAME_LIES, ("-w",), FRAME, len(HANDSHAKE)),
    "http": (HTTP_LIES, ("-h",), POST, 0),
    "tcp": (RAW_LIES, (), CONTENT, 0),
}
"""By protocol, with the client's options, what it sends, and how long what it sends before that is."""


@pytest.mark.parametrize(("protocol", "lie"), [(protocol, lie) for protocol in LIES for lie in LIES[protocol][0]])
def test_a_lie_ends_the_client(native_client: str, protocol: str, lie: str, tmp_path: Path) -> None:
    lies, options, sent, hello = LIES[protocol]
    why, reply = lies[lie]
    with Scripted(tmp_path / "s", len(sent), reply, hello=hello) as server:
        done = run(native_client, *options, where=server.where, sent=sent, folder=tmp_path)
    assert (done.returncode, done.stderr) == (1, f"client: {why} echoes\n")
    assert done.stdout == ("ready\n" if lie.endswith("later") else "")


def test_what_is_under_way_at_the_end_is_awaited_on_all_connections(native_client: str, tmp_path: Path) -> None:
    """A server that does one thing at a time waits for whom it answers: to read only the others would hold up both."""
    with Scripted(tmp_path / "s", 64, always(*torn(CONTENT))) as server:
        counted(run(native_client, "-c", "3", where=server.where, sent=CONTENT, folder=tmp_path, seconds=3 * ("0.02",)))
    assert min(server.exchanges) >= 4


def test_an_echo_that_comes_twice(native_client: str, tmp_path: Path) -> None:
    """Each second one is taken for the next answer, and it is the right one: but there is one too many at the end."""
    with Scripted(tmp_path / "s", 64, always(CONTENT + CONTENT)) as server:
        done = run(native_client, where=server.where, sent=CONTENT, folder=tmp_path)
    assert done.returncode == 1
    assert re.fullmatch(r"client: bytes that nobody asked for after \d+ echoes\n", done.stderr)


@pytest.mark.parametrize("options", [(), ("-r", "100"), ("-i", "10")], ids=["closed loop", "fixed rate", "paced"])
def test_bytes_on_a_connection_that_is_idle(native_client: str, options: tuple[str, ...], tmp_path: Path) -> None:
    """The last one's, which has had its one answer."""
    connections = itertools.count(1)

    def reply(number: int) -> list[bytes]:
        return [CONTENT + b"x"] if not number and next(connections) == 3 else [CONTENT]

    with Scripted(tmp_path / "s", 64, reply) as server:
        done = run(native_client, "-c", "3", "-a", "1", *options, where=server.where, sent=CONTENT, folder=tmp_path)
    assert done.returncode == 1
    assert re.fullmatch(r"client: bytes that nobody asked for after \d+ echoes\n", done.stderr)


@pytest.mark.parametrize("options", [(), ("-r", "100"), ("-i", "10")], ids=["closed loop", "fixed rate", "paced"])
def test_an_idle_connection_that_is_closed(native_client: str, options: tuple[str, ...], tmp_path: Path) -> None:
    """Otherwise a server that drops what is idle would be the one that needs the least for it."""
    opened: list[socket.socket] = []

    class Forgetful(Scripted):
        def _exchange(self, connection: socket.socket, number: int, got: bytearray) -> bool:
            opened.append(connection)
            if len(opened) == 10:
                opened[4].shutdown(socket.SHUT_RDWR)
            return super()._exchange(connection, number, got)

    with Forgetful(tmp_path / "s", 64, always(CONTENT)) as server:
        done = run(native_client, "-c", "20", "-a", "1", *options, where=server.where, sent=CONTENT, folder=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "client: a connection was cut off after 0 echoes\n"


def test_a_server_that_has_gone(native_client: str, tmp_path: Path) -> None:
    file = tmp_path / "request"
    file.write_bytes(CONTENT)
    with Scripted(tmp_path / "s", 64, always(CONTENT)) as server:
        process = subprocess.Popen(
            [native_client, server.where, str(file)], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    said = process.communicate("0.1\n", timeout=PATIENCE)
    assert (process.returncode, *said) == (1, "", "client: a write failed after 0 echoes: Broken pipe\n")


def test_nobody_listens(native_client: str, tmp_path: Path) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        done = run(native_client, where=str(bound.getsockname()[1]), sent=CONTENT, folder=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "client: cannot connect after 0 echoes: Connection refused\n"


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("1",),
        ("-x", "1", "f"),
        ("-c", "0", "1", "f"),
        ("1", "2", "3"),
        ("-h", "-w", "1", "f"),
        ("-r", "1", "-i", "1", "1", "f"),
        ("-u", "-h", "1", "f"),
        ("-u", "-p", "x", "1", "f"),
        ("-u", "/s", "f"),
    ],
    ids=" ".join,
)
def test_usage(native_client: str, words: tuple[str, ...]) -> None:
    done = subprocess.run([native_client, *words], capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert (done.returncode, done.stdout) == (2, "")


# --- the native client: time ------------------------------------------------------------------------------------------


def stalling(seconds: float) -> Reply:
    """Right answers, but the first exchange after the connections' first ones is held up, and all others with it."""
    stalls = iter((seconds,))

    def reply(number: int) -> list[bytes]:
        if number:
            time.sleep(next(stalls, 0))
        return [CONTENT]

    return reply


def test_no_coordinated_omission(native_client: str, tmp_path: Path) -> None:
    """Request i of 500 is due after i ms, and none is answered before the stall ends, which begins with the first one.

    So request i takes 400 - i ms or more: half of them, at least, take more than 150 ms.
    """
    with Scripted(tmp_path / "s", 64, stalling(0.4)) as server:
        done = run(native_client, "-c", "4", "-r", "1000", where=server.where, sent=CONTENT, folder=tmp_path,
                   seconds=("0.5",))  # fmt: skip
    (figures,) = counted(done)
    assert figures["requests"] == figures["due"] == 500
    assert figures["latency_us"]["50"] >= 100_000
    assert figures["latency_us"]["max"] >= 400_000


def test_a_closed_loop_omits_what_a_stall_keeps_from_being_sent(native_client: str, tmp_path: Path) -> None:
    """So latency is read at a fixed rate. The median is low because only so many exchanges can have taken so long."""
    with Scripted(tmp_path / "s", 64, stalling(0.4)) as server:
        done = run(native_client, "-c", "4", where=server.where, sent=CONTENT, folder=tmp_path, seconds=("0.6",))
    (figures,) = counted(done)
    long_ones = 4 * (figures["seconds"] / 0.1 + 1)
    assert figures["latency_us"]["max"] >= 400_000
    assert figures["latency_us"]["50"] < 100_000 or figures["requests"] <= 2 * long_ones


def test_a_request_is_sent_when_it_is_due(native_client: str, tmp_path: Path) -> None:
    """The first one at once: were it sent with the second one, each round's only request would take 250 ms."""
    with Scripted(tmp_path / "s", 64, always(CONTENT)) as server:
        done = run(native_client, "-r", "4", where=server.where, sent=CONTENT, folder=tmp_path, seconds=3 * ("0.25",))
    rounds = counted(done)
    assert [each["requests"] for each in rounds] == [1, 1, 1]
    assert min(each["latency_us"]["max"] for each in rounds) < 250_000


# --- the native client: paced -----------------------------------------------------------------------------------------


def test_a_round_trip_each(native_client: str, addresses: dict[str, str], tmp_path: Path) -> None:
    """What is due is so many in the time; what is late makes them fewer, and never more."""
    for options, due in ((("-i", "5"), 10), (("-i", "10", "-c", "3"), 15)):
        done = run(native_client, "-h", *options, where=addresses["http"], sent=POST, folder=tmp_path)
        (figures,) = counted(done)
        assert figures["due"] == due
        assert 0 < figures["requests"] <= due + 3


def test_a_stall_is_one_long_round_trip(native_client: str, tmp_path: Path) -> None:
    with Scripted(tmp_path / "s", 64, stalling(0.4)) as server:
        done = run(native_client, "-i", "5", where=server.where, sent=CONTENT, folder=tmp_path, seconds=("0.6",))
    (figures,) = counted(done)
    assert figures["latency_us"]["max"] >= 400_000
    assert figures["requests"] <= 45, "those that were due meanwhile are left out"


def test_what_is_under_way_at_the_end_counts(native_client: str, tmp_path: Path) -> None:
    with Scripted(tmp_path / "s", 64, stalling(0.4)) as server:
        done = run(native_client, "-i", "5", where=server.where, sent=CONTENT, folder=tmp_path, seconds=("0.1",))
    (figures,) = counted(done)
    assert figures["requests"] == 1
    assert figures["latency_us"]["max"] >= 400_000


def test_a_preamble(native_client: str, tmp_path: Path) -> None:
    with Server("--proxy-protocol", "on") as server:
        done = run(
            native_client, "-h", "-c", "2", "-i", "5", "-p", "PROXY UNKNOWN\r\n",
            where=str(server.http), sent=POST, folder=tmp_path,
        )  # fmt: skip
    counted(done)


# --- the native client: UDP -------------------------------------------------------------------------------------------


class Datagrams:
    """Answers each datagram with those that a script has for it, by its number from 0; use it as a context manager.

    received: those that have come.
    """

    def __init__(self, reply: Reply) -> None:
        self._socket = socket.socket(type=socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.where = str(self._socket.getsockname()[1])
        self.received: list[bytes] = []
        self._reply = reply
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with socket.socket(type=socket.SOCK_DGRAM) as last:
            last.sendto(b"end", self._socket.getsockname())
            self._thread.join(PATIENCE)
        self._socket.close()
        assert not self._thread.is_alive()

    def _serve(self) -> None:
        while (came := self._socket.recvfrom(1 << 16))[0] != b"end":
            data, sender = came
            self.received.append(data)
            for each in self._reply(len(self.received) - 1):
                assert each is not None
                self._socket.sendto(each, sender)


@pytest.mark.parametrize("options", [(), ("-c", "50"), ("-c", "8", "-a", "3", "-r", "400"), ("-c", "3", "-i", "10")],
                         ids=" ".join)  # fmt: skip
@pytest.mark.parametrize("size", [1, 64, 1400, 65_507])
def test_datagrams(
    native_client: str, addresses: dict[str, str], options: tuple[str, ...], size: int, tmp_path: Path
) -> None:
    if size > 1400 and "50" in options:
        pytest.skip("more than a socket's buffer takes at once: some may be lost")
    where = addresses["udp"]
    rounds = counted(run(native_client, "-u", *options, where=where, sent=pattern(size), folder=tmp_path))
    assert rounds[0]["requests"] > 0


def test_datagrams_that_were_seen_are_those_that_are_counted(native_client: str, tmp_path: Path) -> None:
    with Datagrams(lambda _: [CONTENT]) as server:
        done = run(native_client, "-u", "-c", "5", where=server.where, sent=CONTENT, folder=tmp_path)
    (figures,) = counted(done)
    assert figures["requests"] <= len(server.received) - 5 <= figures["requests"] + 5
    assert set(server.received) == {CONTENT}


LOST = "a datagram was lost (no answer within 2 s)"
UDP_LIES: dict[str, tuple[str, Reply]] = {
    "one byte": ("a wrong echo after 0", always(changed(CONTENT))),
    "one byte, later": ("a wrong echo after 2", third(CONTENT, changed(CONTENT))),
    "shorter": ("an echo of another length after 0", always(CONTENT[:-1])),
    "longer": ("an echo of another length after 0", always(CONTENT + b"x")),
    "empty": ("an echo of another length after 0", always(b"")),
    "in two": ("an echo of another length after 0", always(CONTENT[:32], CONTENT[32:])),
    "lost": (f"{LOST} after 0", always()),
    "lost, later": (f"{LOST} after 2", third(CONTENT)),
}  # fmt: skip


@pytest.mark.parametrize("lie", UDP_LIES)
def test_a_datagram_that_is_lost_or_altered_ends_the_client(native_client: str, lie: str, tmp_path: Path) -> None:
    why, reply = UDP_LIES[lie]
    with Datagrams(reply) as server:
        done = run(native_client, "-u", where=server.where, sent=CONTENT, folder=tmp_path)
    assert (done.returncode, done.stderr) == (1, f"client: {why} echoes\n")
    assert done.stdout == ("ready\n" if lie.endswith("later") else "")


def test_one_lost_datagram_among_many_is_not_forgotten(native_client: str, tmp_path: Path) -> None:
    """The others go on to the end of the round, and it does not count."""
    with Datagrams(lambda number: [] if number == 30 else [CONTENT]) as server:
        done = run(native_client, "-u", "-c", "10", where=server.where, sent=CONTENT, folder=tmp_path)
    assert done.returncode == 1
    assert re.fullmatch(re.escape(f"client: {LOST} after ") + r"\d+ echoes\n", done.stderr)
    assert len(server.received) > 31


def test_datagrams_that_come_twice(native_client: str, tmp_path: Path) -> None:
    """Each second one is taken for the next answer: but there are too many at the end."""
    with Datagrams(lambda _: [CONTENT, CONTENT]) as server:
        done = run(native_client, "-u", where=server.where, sent=CONTENT, folder=tmp_path)
    assert done.returncode == 1
    assert re.fullmatch(r"client: a datagram that nobody asked for after \d+ echoes\n", done.stderr)


def test_nobody_receives(native_client: str, tmp_path: Path) -> None:
    where = running.free_port(udp=True)
    done = run(native_client, "-u", where=where, sent=CONTENT, folder=tmp_path)
    assert done.stderr == "client: a datagram could not be delivered after 0 echoes: Connection refused\n"


@pytest.fixture(scope="module", autouse=True)
def unanswered(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[subprocess.Popen[str]]]:
    """Clients that wait for an answer, to their first request or to the next one. They do while other tests run."""
    processes: list[subprocess.Popen[str]] = []
    with contextlib.ExitStack() as stack:
        if shutil.which("cc"):
            program, folder = request.getfixturevalue("native_client"), tmp_path_factory.mktemp("unanswered")
            (folder / "request").write_bytes(CONTENT)
            for answers in (0, 1):
                server = stack.enter_context(Scripted(folder / str(answers), 64, first(answers, CONTENT)))
                process = stack.enter_context(
                    subprocess.Popen(
                        [program, server.where, str(folder / "request")], text=True,
                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                    )
                )  # fmt: skip
                stack.callback(process.kill)
                assert process.stdin is not None
                process.stdin.write("0.1\n")
                process.stdin.flush()
                processes.append(process)
        yield processes


# --- wrk --------------------------------------------------------------------------------------------------------------


class Watched:
    """Stands for a running server: where it is, and what it has used, which is a second each time."""

    def __init__(self, where: str) -> None:
        self.where = where
        self._used = itertools.count()

    def cpu_seconds(self) -> float:
        return float(next(self._used))


def round_of(load: Load, where: str, answer: bytes, folder: Path) -> Round | str:
    """A round with few connections; or why it was thrown away."""
    folder.mkdir()
    load = dataclasses.replace(load, connections=4)
    cpus = os.sched_getaffinity(0)
    client = clients.client(load, cast(running.Server, Watched(where)), Same(len(answer), load.answers), cpus, folder)
    try:
        return client(0.1)
    except ThrownAway as why:
        return str(why)


FIELDS, PIPELINED = LOADS["fields"], LOADS["pipe16"]


@needs("wrk")
def test_wrk(tmp_path: Path) -> None:
    """Its rounds take a second at least: here all of them take the same one."""
    size = len(FIELDS.sent)
    with contextlib.ExitStack() as stack:

        def scripted(size: int, *pieces: bytes | None) -> Scripted:
            return stack.enter_context(Scripted(None, size, always(*pieces)))

        truth, pipelined = scripted(size, response()), scripted(len(PIPELINED.sent), 16 * response())
        lies = {
            "shorter": scripted(size, response(CONTENT[:-1])),
            "status": scripted(size, response(status="500 Internal Server Error")),
            "cut off": scripted(size, None),
        }
        silent = stack.enter_context(socket.socket())
        silent.bind(("127.0.0.1", 0))
        pool = stack.enter_context(ThreadPoolExecutor())
        counts = pool.submit(round_of, FIELDS, truth.where, response(), tmp_path / "truth")
        counts_16 = pool.submit(round_of, PIPELINED, pipelined.where, 16 * response(), tmp_path / "16")
        said = {
            lie: pool.submit(round_of, FIELDS, server.where, response(), tmp_path / lie) for lie, server in lies.items()
        }
        refused = pool.submit(round_of, FIELDS, str(silent.getsockname()[1]), response(), tmp_path / "refused").result()
        whys = {lie: each.result() for lie, each in said.items()}
        for figures, server, answers in ((counts.result(), truth, 1), (counts_16.result(), pipelined, 16)):
            assert isinstance(figures, dict), figures
            requests = 1e6 / figures["cpu_us"]  # for it has used a second
            batches = len(server.requests)
            assert answers * (batches - 8) <= requests * 1.000001
            assert requests * 0.999999 <= answers * batches
            assert figures["rate"] == pytest.approx(requests, rel=0.5), "in a second or a little more"
            assert set(figures["latency_us"]) <= {"50", "75", "90", "99", "99.9", "max"}
            assert figures["client_cpu_us"] > 0
    assert len(set(truth.requests)) == len(truth.requests), "the number is another one in each"
    for request in truth.requests:
        assert re.sub(rb"(?<=-)\d{8}(?=\r\n)", b"@@@@@@@@", request) == FIELDS.sent
    assert set(pipelined.requests) == {PIPELINED.sent}
    assert isinstance(whys["shorter"], str)
    assert re.fullmatch(r"wrk: \d+ bytes for \d+ answers of 103: echoes of another length", whys["shorter"])
    assert isinstance(whys["status"], str)
    assert re.fullmatch(r"wrk: \d+ status errors", whys["status"])
    assert isinstance(whys["cut off"], str)
    assert re.fullmatch(r"wrk: \d+ read errors", whys["cut off"])
    assert isinstance(refused, str)
    assert re.match(r"wrk: unable to connect to 127\.0\.0\.1:\d+ Connection refused", refused)


# --- the look at a single echo ----------------------------------------------------------------------------------------

HEAD = b"GET /head HTTP/1.1\r\nHost: localhost\r\n\r\n"
ECHOES: dict[str, tuple[str, Sequence[bytes]]] = {
    "raw": ("tcp64", [CONTENT]),
    "raw, torn": ("tcp64", torn(CONTENT)),
    "large": ("post1m", [response(pattern(1 << 20))]),
    "in two": ("post64", [response()[:-64], CONTENT]),
    "torn": ("post64", torn(response())),
    "chunked": ("chunked", [chunked(CONTENT[:7], CONTENT[7:])]),
    "a head": ("get", [response(HEAD)]),
    "a head, torn": ("get", torn(response(HEAD))),
    "a head in other words": ("get", [response(b"host=localhost")]),
    "sixteen": ("pipe16", [16 * response()]),
    "sixteen, torn": ("pipe16", torn(16 * response())),
    "a message": ("ws64", [message(CONTENT)]),
    "a message, torn": ("ws64", torn(message(CONTENT))),
    "a message in frames": ("ws64", [message(CONTENT[:9], b"", CONTENT[9:])]),
    "a large message": ("ws1m", [message(pattern(1 << 20))]),
}
NO_ECHOES: dict[str, tuple[str, str, Sequence[bytes | None]]] = {
    "raw": ("tcp64", "what comes back is not what was sent", [changed(CONTENT)]),
    "raw, longer": ("tcp64", "what comes back is not what was sent", [CONTENT + b"x"]),
    "raw, shorter": ("tcp64", f"its answer ends after 63 bytes: {CONTENT[:63]!r}", [CONTENT[:63], None]),
    "a byte": ("post64", f"its content is no echo: {changed(CONTENT)!r}", [response(changed(CONTENT))]),
    "shorter": ("post64", f"its content is no echo: {CONTENT[:63]!r}", [response(CONTENT[:63])]),
    "status": ("post64", "it answers 404", [response(status="404 Not Found")]),
    "cut off": ("post64", "its answer ends after 102 bytes: ", [response()[:-1], None]),
    "cut off at once": ("post64", "its answer ends after 0 bytes: b''", [None]),
    "chunk": ("chunked", f"its content is no echo: {changed(CONTENT)!r}", [chunked(changed(CONTENT))]),
    "cut off in a chunk": ("chunked", "its answer ends after 113 bytes: ", [chunked(CONTENT)[:-9], None]),
    "another head": ("get", "its content is no echo: b'hello'", [response(b"hello")]),
    "one of sixteen": ("pipe16", "its content is no echo: ", [15 * response(), response(changed(CONTENT))]),
    "another message": ("ws64", "the message that comes back is not what was sent", [message(changed(CONTENT))]),
    "a message, text": ("ws64", "it sends a frame of another type, or masked: 8140", [message(CONTENT, kind=1)]),
    "a message, masked": ("ws64", "it sends a frame of another type, or masked: 82c0", [FRAME]),
    "two messages": ("ws64", "more than the message comes back", [2 * message(CONTENT)]),
    "a message, cut off": ("ws64", "its answer ends after 65 bytes: ", [message(CONTENT)[:-1], None]),
    "fifteen": ("pipe16", "its answer ends after 1545 bytes: ", [15 * response(), None]),
}


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        ([CONTENT], None),
        ([CONTENT, CONTENT], None),
        ([changed(CONTENT)], "what comes back is not what was sent"),
        ([CONTENT[:-1], CONTENT[-1:]], "what comes back is not what was sent"),
        ([b""], "its answer ends after 0 bytes: b''"),
        ([], "no answer to a single request: timed out"),
    ],
)
def test_an_echo_over_udp(reply: list[bytes], why: str | None) -> None:
    class Impatient(running.Running):
        def connect(self) -> socket.socket:
            connection = super().connect()
            connection.settimeout(PATIENCE if reply else 0.05)
            return connection

    with Datagrams(lambda _: reply) as server:
        it = Impatient("it", server.where, 0, udp=True)
        if why is None:
            assert clients.check(LOADS["udp64"], it) == Same(64)
        else:
            with pytest.raises(ThrownAway) as error:
                clients.check(LOADS["udp64"], it)
            assert str(error.value) == why


def check(load: Load, folder: Path, pieces: Sequence[bytes | None]) -> clients.Answers:
    hello, reply = (len(HANDSHAKE), websocket(always(*pieces))) if load.protocol == "ws" else (0, always(*pieces))
    with Scripted(folder / "s", len(load.sent), reply, hello=hello) as server:
        return clients.check(load, cast(running.Server, server))


@pytest.mark.parametrize("how", ECHOES)
def test_an_echo(how: str, tmp_path: Path) -> None:
    name, pieces = ECHOES[how]
    assert check(LOADS[name], tmp_path, pieces) == Same(sum(map(len, pieces)), LOADS[name].answers)


@pytest.mark.parametrize("how", NO_ECHOES)
def test_no_echo(how: str, tmp_path: Path) -> None:
    name, why, pieces = NO_ECHOES[how]
    with pytest.raises(ThrownAway) as error:
        check(LOADS[name], tmp_path, pieces)
    assert str(error.value).startswith(why)


NO_HANDSHAKES: dict[str, tuple[str, Sequence[bytes | None]]] = {
    "status": ("it answers a handshake with 'HTTP/1.1 200 OK'", [response()]),
    "without": ("its handshake has no Sec-WebSocket-Accept, or another one", [welcome("X: y")]),
    "another": ("its handshake has no Sec-WebSocket-Accept, or another one", [welcome(ACCEPTED + "x")]),
    "cut off": ("its handshake ends after 12 bytes: b'HTTP/1.1 101'", [welcome()[:12], None]),
}


@pytest.mark.parametrize("how", NO_HANDSHAKES)
def test_no_handshake(how: str, tmp_path: Path) -> None:
    why, pieces = NO_HANDSHAKES[how]
    reply = websocket(always(message(CONTENT)), *pieces)
    with (
        Scripted(tmp_path / "s", len(FRAME), reply, hello=len(HANDSHAKE)) as server,
        pytest.raises(ThrownAway) as error,
    ):
        clients.check(LOADS["ws64"], cast(running.Server, server))
    assert str(error.value) == why


def test_no_answer(tmp_path: Path) -> None:
    class Impatient(Scripted):
        def connect(self) -> socket.socket:
            connection = super().connect()
            connection.settimeout(0.05)
            return connection

    with (
        Impatient(tmp_path / "s", len(POST), always(response()[:-1])) as server,
        pytest.raises(ThrownAway, match=r"^no answer to a single request: timed out$"),
    ):
        clients.check(LOADS["post64"], cast(running.Server, server))


# --- memory -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("drops", [False, True])
def test_memory_counts_only_where_all_connections_are_still_open(
    native_client: str, drops: bool, tmp_path: Path
) -> None:
    """They are looked at after it has been read: what a server has dropped by then it would not pay for."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(Scripted(tmp_path / "s", len(POST), always(response())))

        class Measured:
            where = server.where

            def resident_bytes(self) -> int:
                if drops:
                    stack.close()
                return 4096

        def memory() -> int:
            it = cast(running.Server, Measured())
            return clients.resident_bytes(LOADS["memory"], it, 20, os.sched_getaffinity(0), tmp_path)

        if drops:
            with pytest.raises(ThrownAway, match=r"^client: .* after 0 echoes"):
                memory()
        else:
            assert memory() == 4096
            assert server.exchanges == [2] * 20


# --- the clients that wait --------------------------------------------------------------------------------------------


def test_no_answer_within_ten_seconds(native_client: str, unanswered: list[subprocess.Popen[str]]) -> None:
    """The last one here: they have waited all the while."""
    said = [process.communicate(timeout=PATIENCE) for process in unanswered]
    assert [process.returncode for process in unanswered] == [1, 1]
    why = "client: no answer within 10 s after 0 echoes\n"
    assert said == [("", why), ("ready\n", why)]
