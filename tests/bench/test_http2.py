"""HTTP/2 in the bench: blocks that are what they should be, clients that believe no server, and the limit server."""

import contextlib
import dataclasses
import functools
import json
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Self, cast

import pytest

from bench import arms, clients, http2, pools, running
from bench.clients import Same, ThrownAway
from bench.loads import LOADS, Load, pattern
from tests.bench.commands import counted
from tests.programs import needs
from tests.servers import PATIENCE

pytest.importorskip("h2", reason="h2 is not installed: pip install '.[bench]'")

from hpack import Decoder, Encoder

CPUS = os.sched_getaffinity(0)
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS, PADDED, PRIORITISED = 1, 4, 8, 32
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
OVER_HTTP2 = [each for each in LOADS.values() if each.protocol in clients.HTTP2]


# --- what a pool becomes ----------------------------------------------------------------------------------------------


def unpacked(data: bytes) -> list[tuple[bytes, bytes, bytes]]:
    """Block, content, and what has to be in the answer."""
    found = []
    while data:
        sizes = struct.unpack_from("<III", data)
        ends = [12, 12 + sizes[0], 12 + sizes[0] + sizes[1], 12 + sum(sizes)]
        assert len(data) >= ends[-1]
        found.append((data[ends[0] : ends[1]], data[ends[1] : ends[2]], data[ends[2] : ends[3]]))
        data = data[ends[3] :]
    return found


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sequence[bytes]]:
    """The first 300 requests of `mix` are all of them."""
    some = pools.pool("mix")[:300]
    monkeypatch.setattr(pools, "pool", lambda _: some)
    http2.packed.cache_clear()
    yield some
    http2.packed.cache_clear()


def decoded(decoder: Decoder, block: bytes) -> http2.Fields:
    return [cast(tuple[bytes, bytes], tuple(field)) for field in decoder.decode(block, raw=True)]


@pytest.mark.parametrize("encoding", http2.ENCODINGS)
def test_each_connection_has_a_part_that_it_can_send_again_and_again(small: Sequence[bytes], encoding: str) -> None:
    found = unpacked(http2.packed("mix", 7, encoding))
    assert len(found) == len(small)
    for number in range(7):
        own = slice(number * 300 // 7, (number + 1) * 300 // 7)
        decoder = Decoder()
        for _ in range(2):
            for sent, (block, content, within) in zip(small[own], found[own], strict=True):
                assert decoded(decoder, block) == http2.fields_of(sent)
                assert content == sent.partition(b"\r\n\r\n")[2]
                assert within == (b"" if content else dict(http2.fields_of(sent))[b"x-request-id"])


@pytest.mark.parametrize("encoding", http2.ENCODINGS)
def test_no_block_is_like_another(small: Sequence[bytes], encoding: str) -> None:
    """And each is long enough for the limit server to send it back, and for one frame."""
    blocks = [block for block, _, _ in unpacked(http2.packed("mix", 7, encoding))]
    assert len(set(blocks)) == len(blocks)
    assert 80 <= min(map(len, blocks)) <= max(map(len, blocks)) <= 16 << 10


def test_nothing_refers_to_what_nginx_has_put_into_the_table(small: Sequence[bytes]) -> None:
    """Each block can be read by itself; of those with a table some can't."""
    for encoding, alone in (("nginx", True), ("indexed", False)):
        blocks = [block for block, _, _ in unpacked(http2.packed("mix", 7, encoding))]
        read = []
        for sent, block in zip(small, blocks, strict=True):
            with contextlib.suppress(Exception):
                read.append(decoded(Decoder(), block) == http2.fields_of(sent))
        assert (len(read) == len(blocks) and all(read)) == alone


def test_the_bytes_that_nginx_sends() -> None:
    """RFC 7541, appendix C.4.1, has www.example.com by Huffman's code; what gets no shorter stays as it is."""
    sent = b"PUT /{} HTTP/1.1\r\nHost: www.example.com\r\nX: {}\r\n\r\n"
    assert http2.fields_of(sent) == [
        (b":method", b"PUT"), (b":scheme", b"http"), (b":path", b"/{}"), (b":authority", b"www.example.com"),
        (b"x", b"{}"),
    ]  # fmt: skip
    encode, before = http2._encoder("nginx")
    assert before == b""
    assert encode(http2.fields_of(sent)) == (
        b"\x42\x03PUT\x86\x44\x03/{}\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff\x00\x01x\x02{}"
    )
    assert encode([(b":method", b"GET"), (b":method", b"POST")]) == b"\x82\x83"


# --- a server that does as it is told ---------------------------------------------------------------------------------


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


def answer(stream: int, content: bytes, *, block: bytes = b"\x88") -> bytes:
    return frame(HEADERS, END_HEADERS, stream, block) + frame(DATA, END_STREAM, stream, content)


def called(stream: int, content: bytes, *, trailers: bytes = b"\x00\x0bgrpc-status\x010") -> bytes:
    """What answers a call of gRPC."""
    return (
        frame(HEADERS, END_HEADERS, stream, b"\x88") + frame(DATA, 0, stream, content)
        + frame(HEADERS, END_HEADERS | END_STREAM, stream, trailers)
    )  # fmt: skip


Reply = Callable[[int, bytes, bytes], bytes | None]
"""The frames that answer a request, by its stream, its block and its content; None: the connection is cut off."""


def echo(stream: int, block: bytes, content: bytes) -> bytes:
    return answer(stream, content or block)


GREETING = frame(SETTINGS, 0, 0) + frame(WINDOW_UPDATE, 0, 0, b"\x40\0\0\0")


class Scripted:
    """Answers over HTTP/2 by a script, one frame at a time; use it as a context manager."""

    def __init__(self, reply: Reply = echo, greeting: bytes = GREETING) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.where = str(self._listener.getsockname()[1])
        self.requests: list[tuple[bytes, bytes]] = []
        self.preambles: list[bytes] = []
        self._reply, self._greeting = reply, greeting
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(PATIENCE)
        self._listener.close()
        assert not self._thread.is_alive()

    def connect(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", int(self.where)))
        connection.settimeout(PATIENCE)
        return connection

    def _accept(self) -> None:
        with contextlib.ExitStack() as stack:
            while True:
                try:
                    connection = stack.enter_context(self._listener.accept()[0])
                except OSError:
                    return
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection, connection.makefile("rb") as file:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.preambles.append(file.read(len(PREFACE)))
            connection.sendall(self._greeting)
            begun: dict[int, tuple[bytes, bytes]] = {}
            while len(head := file.read(9)) == 9:
                payload = file.read(int.from_bytes(head[:3]))
                kind, flags, stream = head[3], head[4], int.from_bytes(head[5:])
                if kind == HEADERS:
                    begun[stream] = payload, b""
                elif kind == DATA:
                    begun[stream] = begun[stream][0], begun[stream][1] + payload
                if kind > HEADERS or not flags & END_STREAM:
                    continue
                self.requests.append(begun[stream])
                said = self._reply(stream, *begun.pop(stream))
                if said is None:
                    connection.shutdown(socket.SHUT_WR)
                    file.read()  # what is not read would reset the connection
                    return
                connection.sendall(said)


# --- the client of requests that differ -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def h2_client(cache: Path) -> str:
    return built("h2client")


@pytest.fixture(scope="module")
def limit_h2(cache: Path) -> str:
    return built("limit_h2")


def built(name: str) -> str:
    try:
        return arms.native(name)
    except arms.Missing as missing:
        pytest.skip(str(missing))


BLOCK = bytes.fromhex("828684") + b"\x41\x09localhost" + 90 * b"\x82"
CONTENT = pattern(64)
POOL = [(BLOCK, CONTENT, b""), (BLOCK, b"", b"5ca1ab1e")]


def pack(requests: Sequence[tuple[bytes, bytes, bytes]]) -> bytes:
    return b"".join(struct.pack("<III", *map(len, each)) + b"".join(each) for each in requests)


def run(
    client: str, *words: str, where: str, folder: Path, requests: Sequence[tuple[bytes, bytes, bytes]] = POOL,
    seconds: str = "0.1\n",
) -> subprocess.CompletedProcess[str]:  # fmt: skip
    (folder / "requests").write_bytes(pack(requests))
    return subprocess.run(
        [client, *words, where, str(folder / "requests")], input=seconds, capture_output=True, text=True, check=False,
        timeout=4 * PATIENCE,
    )  # fmt: skip


def test_requests_are_sent_in_order_and_counted(h2_client: str, tmp_path: Path) -> None:
    """Each connection has a part of its own; each stream counts once, and none is left."""
    requests = [(BLOCK + bytes([0x82 + each % 2]) * each, b"%d" % each, b"") for each in range(1, 21)]
    with Scripted() as server:
        done = run(h2_client, "-c", "2", "-m", "3", where=server.where, folder=tmp_path, requests=requests)
        assert done.stderr == ""
        seen = list(server.requests)
    ready, line = done.stdout.splitlines()
    counts = json.loads(line)
    assert ready == "ready"
    assert counts["requests"] == len(seen) - 2, "the first ones on each connection are not counted"
    assert {"50", "99", "max"} <= set(counts["latency_us"])
    assert counts["seconds"] >= 0.1
    assert server.preambles == [PREFACE, PREFACE]
    for own in (requests[:10], requests[10:]):
        sent = [content for block, content in seen if content in [each[1] for each in own]]
        assert len(sent) > 20
        assert sent == [own[each % 10][1] for each in range(len(sent))]


HONEST: dict[str, Reply] = {
    "the block": echo,
    "a text": lambda stream, block, content: answer(stream, content or b"x-request-id: 5ca1ab1e\r\n"),
    "in two": lambda stream, block, content: (
        frame(HEADERS, END_HEADERS, stream, b"\x88") + frame(DATA, 0, stream, content[:9] or block[:9])
        + frame(DATA, END_STREAM, stream, content[9:] or block[9:])
    ),
    "padded": lambda stream, block, content: (
        frame(HEADERS, END_HEADERS | PADDED | PRIORITISED, stream, b"\x03" + bytes(5) + b"\x88" + bytes(3))
        + frame(DATA, END_STREAM | PADDED, stream, b"\x05" + (content or block) + bytes(5))
    ),
    "trailers": lambda stream, block, content: (
        frame(HEADERS, END_HEADERS, stream, b"\x88") + frame(DATA, 0, stream, content or block)
        + frame(HEADERS, END_HEADERS | END_STREAM, stream, b"\x00\x01x\x01y")
    ),
    "a table of another size": lambda stream, block, content: answer(
        stream, content or block, block=b"\x20\x3f\xe1\x1f\x88"
    ),
    "continued": lambda stream, block, content: (
        frame(HEADERS, 0, stream, b"\x88") + frame(CONTINUATION, END_HEADERS, stream, b"\x00\x01x\x01y")
        + frame(DATA, END_STREAM, stream, content or block)
    ),
    "other frames": lambda stream, block, content: (
        frame(PING, 0, 0, bytes(8)) + frame(SETTINGS, 0, 0, b"\0\4\0\0\xff\xff") + frame(250, 0, 0, b"x")
        + frame(WINDOW_UPDATE, 0, stream, b"\0\0\0\1") + answer(stream, content or block)
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", HONEST)
def test_the_same_echo_in_other_frames(h2_client: str, how: str, tmp_path: Path) -> None:
    with Scripted(HONEST[how]) as server:
        done = run(h2_client, where=server.where, folder=tmp_path)
    assert (done.stderr, done.returncode) == ("", 0)
    assert counted(done)[0]["requests"] > 10


def changed(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


LIES: dict[str, tuple[str, Reply, bytes]] = {
    "status": ("a status other than 200", lambda stream, b, c: answer(stream, c, block=b"\x8d"), b""),
    "no status": ("a status other than 200", lambda stream, b, c: answer(stream, c, block=b"\x20"), b""),
    "no header": ("an answer without a status", lambda stream, b, c: frame(DATA, END_STREAM, stream, c), b""),
    "a byte": ("a wrong echo", lambda stream, b, c: answer(stream, changed(c or b)), b""),
    "shorter": ("an echo of another length", lambda stream, b, c: answer(stream, c[:-1]), b""),
    "much longer": (
        "an answer that is too long",
        lambda stream, b, c: frame(HEADERS, END_HEADERS, stream, b"\x88") + 3 * frame(DATA, 0, stream, bytes(16384)),
        b"",
    ),
    "another stream": ("an answer that nobody asked for", lambda stream, b, c: answer(stream + 2, c), b""),
    "reset": ("a stream was reset", lambda stream, b, c: frame(RST_STREAM, 0, stream, bytes(4)), b""),
    "going": ("the server said GOAWAY", lambda stream, b, c: frame(GOAWAY, 0, 0, bytes(8)), b""),
    "cut off": ("a connection was cut off", lambda stream, b, c: None, b""),
    "HTTP/1": ("something else than HTTP/2", echo, b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    "no settings": ("something else than HTTP/2", echo, frame(PING, 0, 0, bytes(8))),
    "a small table": ("a table for header fields that is too small", echo, frame(SETTINGS, 0, 0, b"\0\1\0\0\x0f\xff")),
    "few streams": ("fewer streams at a time than were asked for", echo, frame(SETTINGS, 0, 0, b"\0\3\0\0\0\1")),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_ends_the_client(h2_client: str, lie: str, tmp_path: Path) -> None:
    why, reply, greeting = LIES[lie]
    with Scripted(reply, greeting or GREETING) as server:
        done = run(h2_client, "-m", "2", where=server.where, folder=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"h2client: {why} after 0 echoes")


def test_a_lie_about_the_header_section_later(h2_client: str, tmp_path: Path) -> None:
    with Scripted(lambda stream, block, content: answer(stream, content or b"x-request-id: 5ca1ab1f")) as server:
        done = run(h2_client, where=server.where, folder=tmp_path)
    assert (done.returncode, done.stdout) == (1, "ready\n")
    assert done.stderr == "h2client: a wrong echo after 0 echoes\n"


def test_the_server_s_windows_are_kept(h2_client: str, tmp_path: Path) -> None:
    """The connection takes 65,535 bytes: then nothing is sent until it takes more."""
    lock, held, most = threading.Lock(), 0, 0

    def credited(stream: int, block: bytes, content: bytes) -> bytes:
        nonlocal held, most
        with lock:
            held += len(content)
            most = max(most, held)
            if held < 60_000:
                return answer(stream, content)
            credit, held = held, 0
        return answer(stream, content) + frame(WINDOW_UPDATE, 0, 0, credit.to_bytes(4))

    with Scripted(credited, frame(SETTINGS, 0, 0)) as server:
        done = run(h2_client, "-m", "5", where=server.where, folder=tmp_path, requests=[(BLOCK, pattern(16_000), b"")])
    assert (done.stderr, done.returncode) == ("", 0)
    assert counted(done)[0]["requests"] > 10
    assert most == 64_000


def test_nobody_listens(h2_client: str, tmp_path: Path) -> None:
    done = run(h2_client, where=running.free_port(), folder=tmp_path)
    assert done.stderr == "h2client: cannot connect after 0 echoes: Connection refused\n"


@pytest.mark.parametrize("requests", [[], POOL[:1]], ids=["none", "fewer than connections"])
def test_no_pool(h2_client: str, requests: Sequence[tuple[bytes, bytes, bytes]], tmp_path: Path) -> None:
    done = run(h2_client, "-c", "2", where="1", folder=tmp_path, requests=requests)
    assert (done.returncode, done.stderr) == (1, "h2client: no pool of requests, or one for each connection\n")


def test_usage(h2_client: str) -> None:
    for words in ((), ("1",), ("-c", "0", "1", "x"), ("-m", "0", "1", "x")):
        done = subprocess.run([h2_client, *words], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (2, "usage: h2client [-c N] [-m N] PORT FILE\n")


# --- the look at a single echo ----------------------------------------------------------------------------------------

POST, GET, CALL = LOADS["h2post64"], LOADS["h2get"], LOADS["grpc64"]
NO_ECHOES: dict[str, tuple[Load, str, Reply, bytes]] = {
    "a byte": (POST, f"its content is no echo: {changed(CONTENT)!r}", lambda s, b, c: answer(s, changed(c)), b""),
    "shorter": (POST, f"its content is no echo: {CONTENT[:-1]!r}", lambda s, b, c: answer(s, c[:-1]), b""),
    "status": (POST, "it answers 404", lambda s, b, c: answer(s, c, block=b"\x8d"), b""),
    "another head": (GET, "its content is no echo: b'hello'", lambda s, b, c: answer(s, b"hello"), b""),
    "cut off": (POST, "its answer ends after 0 bytes of content", lambda s, b, c: None, b""),
    "reset": (POST, "it ends the stream: error ", lambda s, b, c: frame(RST_STREAM, 0, s, bytes(3) + b"\7"), b""),
    "going": (POST, "it ends the connection: error ", lambda s, b, c: frame(GOAWAY, 0, 0, bytes(8)), b""),
    "a byte of a call": (
        CALL,
        f"its content is no echo: {changed(CALL.sent)!r}",
        lambda s, b, c: called(s, changed(c)),
        b"",
    ),
    "a status of gRPC": (
        CALL,
        "its trailers have no grpc-status of 0: {b'grpc-status': b'8'}",
        lambda s, b, c: called(s, c, trailers=b"\x00\x0bgrpc-status\x018"),
        b"",
    ),
    "no status of gRPC": (
        CALL,
        "its trailers have no grpc-status of 0: {b'x': b'y'}",
        lambda s, b, c: called(s, c, trailers=b"\x00\x01x\x01y"),
        b"",
    ),
    "no trailers": (CALL, "its trailers have no grpc-status of 0: {}", lambda s, b, c: answer(s, c), b""),
    "a status of gRPC elsewhere": (
        CALL,
        "its trailers have no grpc-status of 0: {}",
        lambda s, b, c: answer(s, c, block=b"\x88\x00\x0bgrpc-status\x010"),
        b"",
    ),
    "a call refused": (CALL, "it answers 404", lambda s, b, c: answer(s, c, block=b"\x8d"), b""),
    "what is none": (POST, "it does not speak HTTP/2: ", echo, frame(DATA, 0, 0, b"x")),
}


@pytest.mark.parametrize("how", NO_ECHOES)
def test_no_echo(how: str) -> None:
    load, why, reply, greeting = NO_ECHOES[how]
    with Scripted(reply, greeting or GREETING) as server, pytest.raises(ThrownAway) as error:
        clients.check(load, cast(running.Running, server))
    assert str(error.value).startswith(why)


def test_an_echo() -> None:
    with Scripted() as server:
        assert clients.check(POST, cast(running.Running, server)) == Same(64)
    with Scripted(lambda stream, block, content: answer(stream, b"host: localhost")) as server:
        assert clients.check(GET, cast(running.Running, server)) == Same(15)
        assert decoded(Decoder(), server.requests[0][0]) == [
            (b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/head"), (b":authority", b"localhost"),
            (b"user-agent", b"h2load"),
        ]  # fmt: skip
    with Scripted(lambda stream, block, content: called(stream, content)) as server:
        assert clients.check(CALL, cast(running.Running, server)) == Same(69)
        assert decoded(Decoder(), server.requests[0][0]) == [
            (b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/bench.Echo/Unary"),
            (b":authority", b"localhost"), (b"user-agent", b"h2load"), (b"content-type", b"application/grpc"),
            (b"te", b"trailers"), (b"content-length", b"69"),
        ]  # fmt: skip
        assert server.requests[0][1] == CALL.sent


def test_nobody_answers() -> None:
    nobody = running.Running("it", running.free_port(), 0)
    with pytest.raises(ThrownAway, match=r"^no answer to a single request: .*refused"):
        clients.check(POST, nobody)


# --- the limit server -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def limit(limit_h2: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[running.Running]:
    where = running.free_port()
    with running.Server("limit", [limit_h2, where], where, CPUS, tmp_path_factory.mktemp("limit")) as server:
        yield server


@pytest.mark.parametrize("load", [each for each in OVER_HTTP2 if each.protocol == "h2c"], ids=lambda each: each.name)
def test_the_limit_server_echoes_what_the_bench_sends(limit: running.Running, load: Load, h2_client: str) -> None:
    size = clients.check(load, limit)
    if load.content is not None:
        assert size == Same(load.content)


@pytest.mark.parametrize("encoding", http2.ENCODINGS)
def test_the_limit_server_and_requests_that_differ(
    limit: running.Running, h2_client: str, encoding: str, small: Sequence[bytes], tmp_path: Path
) -> None:
    (load,) = (each for each in OVER_HTTP2 if each.encoding == encoding)
    load = dataclasses.replace(load, connections=7)
    client = clients.client(load, limit, clients.check(load, limit), CPUS, tmp_path)
    assert client(0.1)["rate"] > 100


def test_a_client_of_the_limit_server_that_does_not_read_at_once(limit: running.Running) -> None:
    """What the kernel does not take is kept, in order."""
    count, size = 500, 16_384
    encoder = Encoder()
    with limit.connect() as connection, connection.makefile("rb") as file:
        connection.settimeout(PATIENCE)
        connection.sendall(PREFACE + frame(SETTINGS, 0, 0))
        sent = b"".join(
            frame(HEADERS, END_HEADERS, 2 * each + 1, encoder.encode([(":method", "POST")]))
            + frame(DATA, END_STREAM, 2 * each + 1, each.to_bytes(4) * (size // 4))
            for each in range(count)
        )
        sender = threading.Thread(target=connection.sendall, args=(sent,), daemon=True)
        sender.start()
        for each in range(count):
            content = b""
            while (head := file.read(9))[3] != DATA:
                file.read(int.from_bytes(head[:3]))
            content = file.read(int.from_bytes(head[:3]))
            assert (int.from_bytes(head[5:]), content) == (2 * each + 1, each.to_bytes(4) * (size // 4))
        sender.join(PATIENCE)


def test_why_the_limit_server_does_not_start(limit_h2: str) -> None:
    start = functools.partial(subprocess.run, capture_output=True, text=True, check=False, timeout=PATIENCE)
    done = start([limit_h2])
    assert (done.returncode, done.stderr) == (2, "usage: limit_h2 PORT\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = start([limit_h2, str(taken.getsockname()[1])])
    assert (done.returncode, done.stderr) == (3, "limit_h2: Address already in use\n")


# --- h2load -----------------------------------------------------------------------------------------------------------


@needs("h2load")
@pytest.mark.parametrize("name", ["h2get", "h2post64x10", "h2post64k"])
def test_h2load(name: str, limit: running.Running, tmp_path: Path) -> None:
    load = dataclasses.replace(LOADS[name], connections=4)
    figures = clients.client(load, limit, clients.check(load, limit), CPUS, tmp_path)(0.2)
    assert figures["rate"] > 100
    assert figures["cpu_us"] > 0
    assert figures["client_cpu_us"] > 0
    assert figures["latency_us"]["max"] > 0


@needs("h2load")
def test_h2load_sends_what_the_look_has_sent(tmp_path: Path) -> None:
    """The same fields, so that a header section that comes back is as long; and all that are counted."""

    def reply(stream: int, block: bytes, content: bytes) -> bytes:
        return called(stream, content) if content == CALL.sent else answer(stream, content or b"host: localhost")

    with Scripted(reply) as server:
        for load in (POST, GET, CALL):
            load = dataclasses.replace(load, connections=1)  # noqa: PLW2901
            it = cast(running.Running, Watched(server.where))
            size = clients.check(load, it)
            (looked_at,) = server.requests
            client = cast(clients.H2load, clients.client(load, it, cast(Same, size), CPUS, tmp_path))
            client._make(5)
            decoder = Decoder()
            heads = [dict(decoded(decoder, block)) for block, _ in server.requests[1:]]
            assert heads == 5 * [dict(decoded(Decoder(), looked_at[0]))]
            assert {content for _, content in server.requests} == {looked_at[1]}
            server.requests.clear()


class Watched:
    """Stands for a running server: where it is, and what it has used, which is more each time."""

    def __init__(self, where: str) -> None:
        self.where = where
        self._used = 0.0

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", int(self.where)), PATIENCE)

    def cpu_seconds(self) -> float:
        self._used += 1
        return self._used


SAYS = """
finished in 2.00ms, 1645.41 req/s, 211.30KB/s
requests: 4 total, 4 started, 4 done, 4 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 4 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 526B (526) total, 150B (150) headers (space savings 64.95%), 256B (256) data
                     min         max         mean         sd        +/- sd
time for request:      208us     1.50ms       512us       230us    75.00%
"""
UNTRUE = {
    ("4 succeeded", "3 succeeded"): "h2load: 3 of 4 requests succeeded, 4 with a 2xx",
    ("4 2xx, 0 3xx", "3 2xx, 1 3xx"): "h2load: 4 of 4 requests succeeded, 3 with a 2xx",
    ("(256) data", "(255) data"): "h2load: 255 bytes in 4 answers of 64: echoes of another length",
    (SAYS, "\ncould not resolve\n"): "h2load: could not resolve",
    (SAYS, "\n"): "h2load: it said nothing",
}


@pytest.fixture
def says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], clients.H2load]:
    """A client whose h2load says what it is told to say."""

    def make(text: str) -> clients.H2load:
        (tmp_path / "said").write_text(text, encoding="ascii")
        program = tmp_path / "h2load"
        program.write_text(f"#!/bin/sh\nexec cat {tmp_path}/said\n", encoding="ascii")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        server = cast(running.Running, Watched("1"))
        return clients.H2load(POST, server, Same(64), CPUS, tmp_path / "request")

    return make


def test_what_h2load_says(says: Callable[[str], clients.H2load]) -> None:
    figures = says(SAYS)._make(4)
    assert figures["rate"] == pytest.approx(2000)
    assert figures["cpu_us"] == pytest.approx(250_000)
    assert figures["latency_us"] == {"max": 1500}


@pytest.mark.parametrize("lie", UNTRUE, ids=lambda each: each[1].strip()[:20])
def test_rounds_of_h2load_that_do_not_count(says: Callable[[str], clients.H2load], lie: tuple[str, str]) -> None:
    with pytest.raises(ThrownAway) as error:
        says(SAYS.replace(*lie))._make(4)
    assert str(error.value) == UNTRUE[lie]


def test_a_round_of_h2load_takes_the_time_that_it_should(
    says: Callable[[str], clients.H2load], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As far as is known: it begins with few requests, and with more until they take a while."""
    client, made = says(SAYS), []

    def make(requests: int) -> dict[str, float]:
        made.append(requests)
        return {"rate": 1000 if requests < 3000 else 20_000}

    monkeypatch.setattr(client, "_make", make)
    client._load = dataclasses.replace(POST, connections=50)
    client(1.0)
    assert made == [50, 200, 800, 1000]
    client(4.0)
    client(1.0)
    assert made[4:] == [4000, 20_000]
