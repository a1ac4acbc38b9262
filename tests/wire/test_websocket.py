"""WebSocket echo as clients meet it: a library's, and sockets for what no library sends.

Modules: protocols.websocket.connection, protocols.websocket.handshake, wire.frames, wire.deflate, worker.entries.
"""

import functools
import json
import os
import pathlib
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests.certificates import Certificates
from tests.servers import (
    COMMAND,
    PATIENCE,
    PYTHON,
    HttpClient,
    Server,
    fill,
    let_read,
    request,
    sending,
    wait_for,
)
from tests.websockets import (
    ACCEPT,
    BINARY,
    CLOSE,
    CONTINUATION,
    DEFLATE,
    KEY,
    PING,
    PONG,
    TEXT,
    Deflate,
    Frame,
    close,
    echo,
    frame,
    large,
    split,
    upgrade,
)
from tests.wire.test_access_log import logging_to

MIB = 1 << 20
GET = request("GET / HTTP/1.1")
on_each_loop = pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
pieces = pytest.mark.parametrize("piece", [0, 1, 7], ids=["whole", "byte by byte", "in sevens"])


class Raw(HttpClient):
    """A client that says what it is told to, on a connection that has been upgraded."""

    def __init__(self, server: Server, *fields: str, sent: bytes = b"", before: bytes = b"") -> None:
        super().__init__(server.connect())
        self.send(before + upgrade(*fields) + sent)
        self.before = b""
        while not self.before.endswith(b"\r\n\r\n") or b"HTTP/1.1 101" not in self.before:
            line = self.file.readline()
            assert line, self.before
            self.before += line
        _, _, head = self.before.rpartition(b"HTTP/1.1 101 Switching Protocols\r\n")
        self.fields = dict(line.lower().split(": ", 1) for line in head.decode().split("\r\n")[:-2])

    def read(self, size: int) -> bytes:
        data = self.file.read(size)
        assert len(data) == size, f"the connection ended after {data!r}"
        return data

    def frame(self) -> Frame:
        """The next one."""
        data = self.read(2)
        size = {126: 2, 127: 8}.get(data[1], 0)
        data += self.read(size)
        length = int.from_bytes(data[2:], "big") if size else data[1]
        return split(data + self.read(length))[0]

    def closed_with(self) -> int:
        """The code of the close that comes next, and last."""
        (last,) = split(self.rest())
        return last.code


def real(
    server: Server, compression: str | None = "deflate", subprotocols: list[Subprotocol] | None = None
) -> ClientConnection:
    """A client of the library websockets."""
    return connect(
        f"ws://127.0.0.1:{server.http}/chat", max_size=None, open_timeout=PATIENCE, compression=compression,
        subprotocols=subprotocols,
    )  # fmt: skip


# --- the handshake ---


@pieces
def test_handshake(server: Server, piece: int) -> None:
    with HttpClient(server.connect()) as client:
        client.send(upgrade(), piece)
        lines = []
        while (line := client.file.readline()) != b"\r\n":
            lines.append(line.decode().removesuffix("\r\n"))
        assert lines[0] == "HTTP/1.1 101 Switching Protocols"
        fields = dict(line.split(": ", 1) for line in lines[1:])
        assert fields["Server"] == "echoserver"
        assert "Date" in fields
        assert "X-Served-By" in fields
        assert (fields["Upgrade"], fields["Connection"]) == ("websocket", "Upgrade")
        assert fields["Sec-WebSocket-Accept"] == ACCEPT
        assert len(fields) == 6


@pytest.mark.parametrize("target", ["/", "/a/b?c=d", "http://elsewhere/x", "/healthz/", "/x?/readyz"])
def test_on_every_path(server: Server, target: str) -> None:
    with HttpClient(server.connect()) as client:
        client.send(upgrade(target=target))
        assert client.file.readline() == b"HTTP/1.1 101 Switching Protocols\r\n"


def test_frames_right_behind_the_handshake_and_requests_before_it(server: Server) -> None:
    post = request("POST / HTTP/1.1", "Content-Length: 3", content=b"abc")
    sent = frame(TEXT, b"one") + frame(BINARY, b"two")
    with Raw(server, before=GET * 2 + post, sent=sent + close()) as client:
        assert client.before.count(b"HTTP/1.1 200 OK\r\n") == 3
        assert client.before.index(b"abc") < client.before.index(b"HTTP/1.1 101")
        assert client.rest() == echo(TEXT, b"one") + echo(BINARY, b"two") + close(mask=None)


def test_on_a_connection_that_http_has_used(server: Server) -> None:
    with HttpClient(server.connect()) as client:
        for _ in range(3):
            assert client.ask(GET).content == GET
        chunked = request("POST / HTTP/1.1", "Transfer-Encoding: chunked", content=b"3\r\nabc\r\n")
        client.send(chunked)
        client.send(b"0\r\n\r\n" + upgrade() + frame(TEXT, b"hi"))
        assert client.answer().content == b"abc"
        while client.file.readline() != b"\r\n":
            pass
        assert client.file.read(4) == echo(TEXT, b"hi")


@pytest.mark.parametrize(
    ("fields", "agreed"),
    [
        ((), None),
        (("Sec-WebSocket-Protocol: chat, superchat",), "chat"),
        (("Sec-WebSocket-Protocol: b", "Sec-WebSocket-Protocol: a"), "b"),
    ],
)
def test_the_first_subprotocol_is_agreed_to(server: Server, fields: tuple[str, ...], agreed: str | None) -> None:
    with Raw(server, *fields) as client:
        assert client.fields.get("sec-websocket-protocol") == agreed


@pytest.mark.parametrize(
    ("offered", "agreed"),
    [
        ("permessage-deflate", "permessage-deflate; server_max_window_bits=12"),
        (
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate; server_max_window_bits=12; client_max_window_bits=12",
        ),
        ("permessage-deflate; server_max_window_bits=10", "permessage-deflate; server_max_window_bits=10"),
        (
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=12",
        ),
        ("permessage-deflate; server_max_window_bits=8", None),
        ("permessage-deflate; what=1", None),
        ("x-other", None),
        ("permessage-deflate; what=1, permessage-deflate", "permessage-deflate; server_max_window_bits=12"),
    ],
)
def test_deflate_is_negotiated(server: Server, offered: str, agreed: str | None) -> None:
    with Raw(server, f"Sec-WebSocket-Extensions: {offered}") as client:
        assert client.fields.get("sec-websocket-extensions") == agreed


BAD_HANDSHAKES = {
    "no key": upgrade().replace(b"Sec-WebSocket-Key", b"X"),
    "a short key": upgrade(key="c2hvcnQ="),
    "a key that is not base64": upgrade(key="!" * 24),
    "two keys": upgrade(f"Sec-WebSocket-Key: {KEY}"),
    "bad extensions": upgrade("Sec-WebSocket-Extensions: ;;"),
    "bad subprotocols": upgrade("Sec-WebSocket-Protocol: a b"),
    "another version": upgrade(version="8"),
    "no version": upgrade().replace(b"Sec-WebSocket-Version", b"X"),
}


@pytest.mark.parametrize("name", BAD_HANDSHAKES)
@pieces
def test_bad_handshakes(server: Server, name: str, piece: int) -> None:
    with HttpClient(server.connect()) as client:
        client.send(BAD_HANDSHAKES[name], piece)
        answer = client.answer()
        assert (answer.status, answer["connection"]) == (400, "close")
        assert answer["sec-websocket-version"] == ("13" if "version" in name else None)
        assert answer.content.startswith(b"400 Bad Request: the WebSocket handshake is not valid: expected ")
        assert answer.content.count(b"\n") == 1
        assert client.rest() == b""


IGNORED = {
    "no Connection": upgrade().replace(b"Connection: keep-alive, Upgrade", b"Connection: keep-alive"),
    "another protocol": upgrade().replace(b"Upgrade: websocket", b"Upgrade: websockets"),
    "another method": upgrade().replace(b"GET", b"PUT"),
    "HTTP/1.0": upgrade().replace(b"HTTP/1.1", b"HTTP/1.0"),
}


@pytest.mark.parametrize("name", IGNORED)
def test_upgrades_that_are_ignored(server: Server, name: str) -> None:
    with HttpClient(server.connect()) as client:
        assert client.ask(IGNORED[name]).content == IGNORED[name]
        assert client.ask(GET).content == GET


def test_upgrades_with_content_are_echoed(server: Server) -> None:
    with HttpClient(server.connect()) as client:
        assert client.ask(upgrade("Content-Length: 5") + b"hello").content == b"hello"
        assert client.ask(upgrade("Transfer-Encoding: chunked") + b"2\r\nhi\r\n0\r\n\r\n").content == b"hi"
        assert client.ask(upgrade(target="/healthz")).content == b"ok\n"


@pytest.mark.parametrize("name", ["Upgrade: WebSocket", "Upgrade: h2c, websocket", "Content-Length: 0"])
def test_upgrades_that_are_not(server: Server, name: str) -> None:
    sent = upgrade(name) if "Content" in name else upgrade().replace(b"Upgrade: websocket", name.encode())
    with HttpClient(server.connect()) as client:
        client.send(sent)
        assert client.file.readline() == b"HTTP/1.1 101 Switching Protocols\r\n"


# --- frames ---

EURO = "€".encode()
CONVERSATIONS = {
    "nothing": (b"", b""),
    "text": (frame(TEXT, b"hello"), echo(TEXT, b"hello")),
    "text beyond ASCII": (frame(TEXT, EURO * 40), echo(TEXT, EURO * 40)),
    "binary": (frame(BINARY, b"\xff\x00"), echo(BINARY, b"\xff\x00")),
    "empty": (frame(TEXT) + frame(BINARY), echo(TEXT, b"") + echo(BINARY, b"")),
    "125 bytes": (frame(BINARY, bytes(125)), echo(BINARY, bytes(125))),
    "126 bytes": (frame(BINARY, bytes(126)), echo(BINARY, bytes(126))),
    "65535 bytes": (frame(BINARY, bytes(65535)), echo(BINARY, bytes(65535))),
    "65536 bytes": (frame(TEXT, b"x" * 65536), echo(TEXT, b"x" * 65536)),
    "long forms of a length": (
        frame(TEXT, b"a", form=2) + frame(BINARY, b"b", form=8), echo(TEXT, b"a") + echo(BINARY, b"b"),
    ),
    "fragments": (
        frame(TEXT, b"a", False) + frame(CONTINUATION, b"b", False) + frame(CONTINUATION, b"c"), echo(TEXT, b"abc"),
    ),
    "empty fragments": (
        frame(BINARY, b"", False) + frame(CONTINUATION, b"", False) + frame(CONTINUATION), echo(BINARY, b""),
    ),
    "a character in fragments": (
        frame(TEXT, EURO[:1], False) + frame(CONTINUATION, EURO[1:2], False) + frame(CONTINUATION, EURO[2:]),
        echo(TEXT, EURO),
    ),
    "ping": (frame(PING, b"p" * 125) + frame(PING), echo(PONG, b"p" * 125) + echo(PONG, b"")),
    "pong": (frame(PONG, b"unasked"), b""),
    "ping between fragments": (
        frame(TEXT, b"a", False) + frame(PING, b"now") + frame(CONTINUATION, b"b"),
        echo(PONG, b"now") + echo(TEXT, b"ab"),
    ),
    "many": (frame(TEXT, b"x") * 3000, echo(TEXT, b"x") * 3000),
}  # fmt: skip


@pytest.mark.parametrize("name", CONVERSATIONS)
@pieces
def test_conversations(server: Server, name: str, piece: int) -> None:
    sent, answered = CONVERSATIONS[name]
    if piece and len(sent) > 10_000:
        piece = 9973
    with Raw(server) as client, sending(client.socket, b""):
        client.send(sent + close(1000, b"bye"), piece)
        assert client.rest() == answered + close(1000, b"bye", mask=None)
    with Raw(server, before=GET, sent=sent + close()) as client:
        assert client.rest() == answered + close(mask=None)


FRAGMENT = frame(TEXT, b"a", False)
WRONG = {
    "rsv1": (frame(TEXT, b"a", rsv=4), 1002),
    "rsv2": (frame(TEXT, b"a", rsv=2), 1002),
    "rsv3": (frame(BINARY, b"a", rsv=1), 1002),
    "rsv of a ping": (frame(PING, b"a", rsv=4), 1002),
    **{f"opcode {opcode}": (frame(opcode, b"a"), 1002) for opcode in (3, 7, 11, 15)},
    "not masked": (frame(TEXT, b"a", mask=None), 1002),
    "a ping that is not masked": (frame(PING, b"a", mask=None), 1002),
    "a long ping": (frame(PING, bytes(126)), 1002),
    "a long close": (frame(CLOSE, b"\x03\xe8" + bytes(124)), 1002),
    "a fragmented ping": (frame(PING, b"", False), 1002),
    "a fragmented close": (frame(CLOSE, b"\x03\xe8", False), 1002),
    "nothing to continue": (frame(CONTINUATION, b"a"), 1002),
    "nothing to continue after a ping": (frame(PONG) + frame(CONTINUATION), 1002),
    "another message within one": (FRAGMENT + frame(TEXT, b"b"), 1002),
    "a fragmented message within one": (FRAGMENT + frame(BINARY, b"b", False), 1002),
    "a length of 64 bits": (b"\x82\xff" + b"\x80" + bytes(7) + bytes(4), 1002),
    "too long": (b"\x82\xff" + (16 * MIB + 1).to_bytes(8, "big") + bytes(4), 1009),
    "much too long": (b"\x81\xff" + (1 << 62).to_bytes(8, "big") + bytes(4), 1009),
    "too long together": (FRAGMENT + b"\x80\xff" + (16 * MIB).to_bytes(8, "big") + bytes(4), 1009),
    "not UTF-8": (frame(TEXT, b"\xff"), 1007),
    "not all of a character": (frame(TEXT, EURO[:2]), 1007),
    "not all of a character in fragments": (frame(TEXT, EURO[:1], False) + frame(CONTINUATION, EURO[1:2]), 1007),
    "a surrogate": (frame(TEXT, b"\xed\xa0\x80"), 1007),
    "an overlong character": (frame(TEXT, b"\xc0\x80"), 1007),
    "not UTF-8 in the second fragment": (FRAGMENT + frame(CONTINUATION, b"\xff", False), 1007),
    "a close of a byte": (frame(CLOSE, b"\x03"), 1002),
    "a reason that is not UTF-8": (close(1000, b"\xff"), 1007),
}


@pytest.mark.parametrize("name", WRONG)
@pieces
def test_what_is_wrong(server: Server, name: str, piece: int) -> None:
    """What was answered before is still sent; what comes behind is not looked at."""
    sent, code = WRONG[name]
    with Raw(server) as client:
        client.send(frame(TEXT, b"before") + sent, piece)
        client.send(frame(TEXT, b"write_queue") * 100)
        before, last = split(client.rest())
        assert before.payload == b"before"
        assert last.code == code
        assert len(last.payload) > 2, "it says why"


EARLY = {
    "rsv2": (b"\xa1\xff", 1002),
    "opcode 3": (b"\x83\xff", 1002),
    "not masked": (b"\x82\x7f", 1002),
    "a long ping": (b"\x89\xfe", 1002),
    "nothing to continue": (b"\x80\xff", 1002),
    "too long": (b"\x82\xff" + (1 << 40).to_bytes(8, "big"), 1009),
    "not UTF-8": (large(TEXT, b"x" * 100 + b"\xf4\x90" + b"x" * 1000)[:110], 1007),
    "not UTF-8 in a continuation": (
        frame(TEXT, EURO[:2], False) + large(CONTINUATION, b"(" + bytes(1000))[:9], 1007,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", EARLY)
@pytest.mark.parametrize("piece", [0, 1])
def test_what_is_wrong_is_closed_before_the_rest_has_come(server: Server, name: str, piece: int) -> None:
    sent, code = EARLY[name]
    with Raw(server) as client:
        client.send(sent, piece)
        assert client.frame().code == code


# --- close ---


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 3000, 3999, 4000, 4999])
def test_a_close_is_answered_with_its_code(server: Server, code: int) -> None:
    with Raw(server) as client:
        client.send(close(code, "Grüße".encode()))
        assert client.rest() == close(code, "Grüße".encode(), mask=None)


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65535])
def test_a_close_with_a_code_that_may_not_be_sent(server: Server, code: int) -> None:
    with Raw(server) as client:
        client.send(close(code))
        assert client.closed_with() == 1002


def test_a_close_without_a_code(server: Server) -> None:
    with Raw(server) as client:
        client.send(close(None))
        assert client.rest() == echo(CLOSE, b"")


@pieces
def test_a_close_within_a_message(server: Server, piece: int) -> None:
    with Raw(server) as client:
        client.send(FRAGMENT + close(1001) + frame(CONTINUATION, b"b"), piece)
        assert client.closed_with() == 1001


def test_what_comes_after_a_close_is_dropped_until_the_clients_fin(server: Server) -> None:
    with Raw(server) as client:
        client.send(close())
        assert client.rest() == close(mask=None)
        for _ in range(10):
            client.send(frame(TEXT, b"still here"))
        client.socket.shutdown(socket.SHUT_WR)
        assert client.socket.recv(1) == b""


def test_a_client_that_keeps_the_connection_after_its_close_is_cut(server: Server) -> None:
    with Raw(server) as client:
        client.send(close())
        assert client.rest() == close(mask=None)
        poll = select.poll()
        poll.register(client.socket, select.POLLHUP | select.POLLRDHUP)

        def is_cut() -> bool:
            try:
                client.socket.sendall(frame(PING))
            except OSError:
                return True
            return False

        wait_for(is_cut, "the server's end")


@pytest.mark.parametrize("sent", [b"", frame(TEXT, b"a"), FRAGMENT, frame(TEXT, b"abc")[:-1], b"\x81"])
def test_a_fin_without_a_close(server: Server, sent: bytes) -> None:
    with Raw(server) as client:
        client.send(sent)
        client.socket.shutdown(socket.SHUT_WR)
        assert client.rest() == (echo(TEXT, b"a") if sent == frame(TEXT, b"a") else b"")


# --- a library's client ---


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_a_librarys_client(server: Server, compression: str | None) -> None:
    with real(server, compression=compression, subprotocols=[Subprotocol("a"), Subprotocol("b")]) as client:
        assert client.subprotocol == "a"
        for message in ("", "hello", "Grüße € 😀" * 1000, b"", b"\0\xff" * 70_000, os.urandom(MIB), "x" * MIB):
            client.send(message)
            assert client.recv(PATIENCE) == message
        for fragments in (["a", "", "b€", "c"], [b"\xff", os.urandom(100_000)]):
            client.send(fragments)
            assert client.recv(PATIENCE) == fragments[0][:0].join(fragments)  # type: ignore[arg-type]
        assert client.ping().wait(PATIENCE)
        client.close(3001, "done")
    assert (client.close_code, client.close_reason) == (3001, "done")


def test_max_message__the_longest_by_default(server: Server) -> None:
    for compression, message in (
        (None, os.urandom(16 * MIB)),
        ("deflate", os.urandom(16 * MIB)),
        (None, "x" * MIB * 16),
    ):
        with real(server, compression=compression) as client:
            client.send(message)
            assert client.recv(PATIENCE) == message


def test_over_tls(certificates: Certificates) -> None:
    with (
        Server("--https", "0", *certificates.options) as server,
        connect(f"wss://127.0.0.1:{server.port('https')}/", ssl=certificates.trusting(), max_size=None) as client,
    ):
        for message in ("hello", os.urandom(MIB), "x" * MIB):
            client.send(message)
            assert client.recv(PATIENCE) == message
        client.close(1001)
        assert client.close_code == 1001


# --- permessage-deflate ---


@pytest.mark.parametrize("takeover", [True, False])
@pieces
def test_deflate(server: Server, piece: int, takeover: bool) -> None:
    fields = DEFLATE if takeover else f"{DEFLATE}; client_no_context_takeover; server_no_context_takeover"
    ours, theirs = Deflate(takeover=takeover), Deflate(takeover=takeover)
    messages = [b"hello" * 20, b"hello" * 20, b"", b"", os.urandom(200), EURO * 100]
    with Raw(server, fields) as client:
        for message in messages:
            opcode = TEXT if message.isascii() or message.startswith(EURO) else BINARY
            client.send(frame(opcode, ours.deflate(message), rsv=4), piece)
            answer = client.frame()
            assert (answer.opcode, answer.rsv, answer.fin) == (opcode, 4, True)
            assert theirs.inflate(answer.payload) == message


def test_deflated_fragments_and_what_is_not_deflated(server: Server) -> None:
    ours, theirs = Deflate(), Deflate()
    data = ours.deflate(b"hello, hello, hello")
    with Raw(server, DEFLATE) as client:
        client.send(frame(TEXT, data[:3], False, 4) + frame(PING, b"x") + frame(CONTINUATION, data[3:]))
        assert client.frame() == Frame(PONG, b"x")
        answer = client.frame()
        assert (answer.opcode, answer.rsv) == (TEXT, 4)
        assert theirs.inflate(answer.payload) == b"hello, hello, hello"
        client.send(frame(TEXT, b"plain") + frame(TEXT, b"pl", False) + frame(CONTINUATION, b"ain"))
        assert [client.frame(), client.frame()] == [Frame(TEXT, b"plain")] * 2


@pytest.mark.parametrize("bits", [9, 10, 15])
def test_window_bits(server: Server, bits: int) -> None:
    """What the client asked the server to use is enough to inflate what it sends."""
    field = f"Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits={bits}"
    ours, theirs = Deflate(15), Deflate(bits)
    message = os.urandom(5000) * 3
    with Raw(server, field) as client:
        for _ in range(3):
            client.send(frame(BINARY, ours.deflate(message), rsv=4))
            assert theirs.inflate(client.frame().payload) == message


def bomb(size: int, opcode: int = BINARY) -> bytes:
    return large(opcode, Deflate().deflate(bytes(size)), rsv=4)


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(BINARY, b"\xff\xff\xff", rsv=4), 1002),
        (functools.partial(bomb, 16 * MIB + 1), 1009),
        (functools.partial(bomb, 100 * MIB), 1009),
        (frame(TEXT, Deflate().deflate(b"\xff\xfe"), rsv=4), 1007),
        (FRAGMENT + frame(CONTINUATION, b"", rsv=4), 1002),
        (frame(PING, b"", rsv=4), 1002),
        (frame(TEXT, b"a", rsv=6), 1002),
    ],
    ids=["broken", "a byte too long", "a bomb", "not UTF-8", "a bit on a continuation", "on a ping", "rsv2"],
)
def test_what_is_wrong_with_deflate(server: Server, sent: bytes | Callable[[], bytes], code: int) -> None:
    sent = sent if isinstance(sent, bytes) else sent()
    with Raw(server, DEFLATE) as client, sending(client.socket, frame(TEXT, b"before") + sent):
        before, last = split(client.rest())
        assert before.payload == b"before"
        assert last.code == code


def test_bombs_let_others_be_served_and_cost_a_message_each(server: Server) -> None:
    one = large(BINARY, Deflate(takeover=False).deflate(bytes(16 * MIB)), rsv=4)
    let_read(server)
    before = server.resident()
    with Raw(server, DEFLATE + "; client_no_context_takeover; server_no_context_takeover") as client:
        with sending(client.socket, one * 8):
            for _ in range(8):
                assert client.frame() == Frame(BINARY, bytes(16 * MIB)), "so much is not compressed"
                let_read(server)
        assert server.resident() - before < 100 * MIB


def test_large_messages_of_two_clients_are_not_mixed_up(server: Server) -> None:
    """One is on its way when the next is complete; another client's comes meanwhile."""
    first, second, other = (each * MIB * size for each, size in ((b"A", 8), (b"B", 1), (b"C", 8)))
    with Raw(server) as slow, Raw(server) as quick:
        for message in (first, second):
            data = large(BINARY, message)
            slow.send(data[:1000])
            let_read(server)
            slow.send(data[1000:])
            let_read(server)
        data = large(BINARY, other)
        quick.send(data[:1000])
        let_read(server)
        with sending(quick.socket, data[1000:]):
            assert quick.frame() == Frame(BINARY, other)
        assert slow.frame() == Frame(BINARY, first)
        assert slow.frame() == Frame(BINARY, second)


# --- limits ---


@pytest.fixture(scope="module")
def small() -> Iterator[Server]:
    with Server("--max-message", "1000") as running:
        yield running


@pieces
def test_max_message__as_long_as_that(small: Server, piece: int) -> None:
    data = os.urandom(1000)
    with Raw(small, DEFLATE) as client:
        client.send(
            frame(BINARY, data) + frame(BINARY, data[:400], False) + frame(CONTINUATION, data[400:], False)
            + frame(PING, bytes(125)) + frame(CONTINUATION) + frame(BINARY, Deflate().deflate(data), rsv=4),
            piece,
        )  # fmt: skip
        got = [client.frame() for _ in range(4)]
        assert got[:3] == [Frame(BINARY, data), Frame(PONG, bytes(125)), Frame(BINARY, data)]
        assert Deflate().inflate(got[3].payload) == data


STORED = Deflate().deflate(os.urandom(1001))


@pytest.mark.parametrize(
    "sent",
    [
        frame(BINARY, bytes(1001)),
        frame(BINARY, bytes(1001))[:8],
        frame(BINARY, bytes(600), False) + frame(CONTINUATION, bytes(401)),
        frame(BINARY, bytes(1000), False) + frame(CONTINUATION, b"x", False),
        frame(BINARY, Deflate().deflate(bytes(1001)), rsv=4),
        frame(BINARY, STORED[:500], False, 4) + frame(CONTINUATION, STORED[500:]),
    ],
    ids=["a frame", "its header", "fragments", "a fragment", "inflated", "inflated fragments"],
)
def test_max_message__longer_ones_close_with_1009(small: Server, sent: bytes) -> None:
    with Raw(small, DEFLATE) as client:
        client.send(sent)
        assert client.closed_with() == 1009


@on_each_loop
def test_max_connections__an_upgrade_beyond_them_gets_503(loop: str) -> None:
    with Server("--loop", loop, "--max-connections", "2") as server, Raw(server) as first, Raw(server) as second:
        with HttpClient(server.connect()) as third:
            third.send(upgrade())
            assert third.answer().status == 503
        for client in (first, second):
            client.send(frame(TEXT, b"here"))
            assert client.frame() == Frame(TEXT, b"here")


@on_each_loop
def test_buffer_limit__a_client_that_does_not_read(loop: str) -> None:
    """What is kept for it is bounded, and nothing is lost."""
    with Server("--loop", loop, "--buffer-limit", "1MiB") as server, Raw(server) as client:
        message = large(BINARY, bytes(10_000))
        before = server.resident()
        sent = fill(client.socket, message * 6)
        assert server.resident() - before < 12 * MIB
        whole, part = divmod(sent, len(message))
        with sending(client.socket, message[part:] if part else b""):
            for _ in range(whole + bool(part)):
                assert client.frame() == Frame(BINARY, bytes(10_000))
        client.send(frame(TEXT, b"go on"))
        assert client.frame() == Frame(TEXT, b"go on")


@on_each_loop
def test_buffer_total__messages_of_many_that_are_not_whole(loop: str) -> None:
    """--buffer-total bounds what is kept of them all: who adds to it then is closed with 1013."""
    with Server("--loop", loop, "--buffer-total", "1MiB", "--buffer-limit", "1MiB") as server:
        part = large(BINARY, bytes(10 * MIB), False)[: 300 << 10]
        clients = [Raw(server) for _ in range(8)]
        codes = []
        for client in clients:
            with sending(client.socket, part):
                pass
        for client in clients:
            let_read(server)
            if select.select([client.socket], [], [], 0)[0]:
                codes.append(client.frame().code)
        assert codes
        assert set(codes) == {1013}
        for client in clients:
            client.__exit__()
        with Raw(server, sent=frame(TEXT, b"again")) as client:
            assert client.frame() == Frame(TEXT, b"again")


# --- deadlines ---


def timeouts(server: Server, deadline: str) -> float:
    with HttpClient(server.connect()) as client:
        page = client.ask(request("GET /metrics HTTP/1.1")).content.decode()
    prefix = f'echoserver_timeouts_total{{deadline="{deadline}",worker="0"}} '
    (value,) = (line.removeprefix(prefix) for line in page.splitlines() if line.startswith(prefix))
    return float(value)


@on_each_loop
@pytest.mark.parametrize("sent", [b"", FRAGMENT, frame(TEXT, b"abc")[:-1]], ids=["idle", "in a message", "in a frame"])
def test_idle_timeout__closes_with_a_reason(loop: str, sent: bytes) -> None:
    with Server("--loop", loop, "--idle-timeout", "1s") as server, Raw(server, sent=sent) as client:
        assert client.frame() == Frame(CLOSE, b"\x03\xe9idle timeout")
        client.send(close(1001))
        assert client.rest() == b""
        assert timeouts(server, "idle") == 1


@on_each_loop
def test_a_client_that_does_not_answer_a_close_is_cut(loop: str) -> None:
    with Server("--loop", loop, "--idle-timeout", "1s") as server, Raw(server) as client:
        assert client.frame().code == 1001
        for _ in range(3):
            client.send(frame(TEXT, b"not a close") + frame(PING, b"x"))
        assert [client.frame() for _ in range(3)] == [Frame(PONG, b"x")] * 3
        assert client.rest() == b""


@on_each_loop
def test_ws_ping__a_client_that_does_not_answer_is_closed(loop: str) -> None:
    with Server("--loop", loop, "--ws-ping", "600ms") as server, Raw(server) as client:
        for _ in range(3):
            assert client.frame() == Frame(PING, b"")
            client.send(frame(PONG))
        client.send(frame(TEXT, b"here"))
        assert client.frame() == Frame(TEXT, b"here")
        assert client.frame() == Frame(PING, b"")
        assert client.frame() == Frame(CLOSE, b"\x03\xf3keepalive ping timeout")
        assert client.rest() == b""
        assert timeouts(server, "ping") == 1


def test_ws_ping__a_librarys_client_answers() -> None:
    with Server("--ws-ping", "600ms") as server, real(server) as client:
        with pytest.raises(TimeoutError):
            client.recv(3)
        client.send("still here")
        assert client.recv(PATIENCE) == "still here"
        assert timeouts(server, "ping") == 0


# --- signals ---


@on_each_loop
def test_drain(loop: str) -> None:
    with (
        Server("--loop", loop) as server,
        Raw(server) as idle,
        Raw(server, sent=FRAGMENT) as busy,
        real(server) as live,
    ):
        let_read(server)
        server.process.send_signal(signal.SIGTERM)
        assert idle.frame().code == 1001
        idle.send(close(1001))
        assert idle.rest() == b""
        with pytest.raises(ConnectionClosed):
            live.recv(PATIENCE)
        assert live.close_code == 1001
        busy.send(frame(CONTINUATION, b"b"))
        assert busy.frame() == Frame(TEXT, b"ab")
        assert busy.frame().code == 1001
        busy.send(close(1001))
        assert busy.rest() == b""
        assert server.wait() == 0


@on_each_loop
def test_a_client_that_never_is_quiet_is_told_that_the_server_stops(loop: str) -> None:
    with Server("--loop", loop) as server, Raw(server) as client:
        server.process.send_signal(signal.SIGTERM)
        answers = [Frame(TEXT, b"x")]
        while answers[-1] == Frame(TEXT, b"x"):
            client.send(frame(TEXT, b"x"))
            answers.append(client.frame())
            time.sleep(0.05)
        assert answers[-1].code == 1001
        client.send(close(1001))
        assert client.rest() == b""
        assert server.wait() == 0


def test_connections_stay_when_workers_are_replaced() -> None:
    with Server("--workers", "2") as server, Raw(server) as client:
        former = set(server.children())
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: server.said("reloaded"), "the reload")
        assert set(server.children()) & former
        for _ in range(3):
            client.send(frame(TEXT, b"still here"))
            assert client.frame() == Frame(TEXT, b"still here")
        client.send(close())
        assert client.closed_with() == 1000
        wait_for(lambda: not former & set(server.children()), "the end of the former workers")


# --- what is installed, logged, and the server's own ---


@pytest.mark.skipif(COMMAND != PYTHON, reason="nothing can be hidden from another command")
@on_each_loop
def test_without_the_extra(loop: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['websockets'] = None\n")
    path = f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"
    with Server("--loop", loop, environment={"PYTHONPATH": path}) as server, HttpClient(server.connect()) as client:
        client.send(GET + upgrade() + frame(TEXT, b"hello"))
        assert client.answer().status == 200
        answer = client.answer()
        assert (answer.status, answer["connection"]) == (501, "close")
        assert (
            answer.content
            == b"501 Not Implemented: WebSocket is not installed: expected pip install 'echoserver[websocket]'\n"
        )
        assert client.rest() == b""


def test_admin__there_is_no_websocket() -> None:
    with Server("--admin", "0") as server, HttpClient(server.connect("admin")) as client:
        client.send(upgrade())
        assert client.answer().status == 404


@pytest.mark.parametrize("proxied", [False, True])
def test_access_log(tmp_path: pathlib.Path, proxied: bool) -> None:
    path = tmp_path / "log"
    options = ("--access-log", "json", "--proxy-protocol", "on" if proxied else "off")
    before = b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 80\r\n" if proxied else b""
    with logging_to(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), *options) as server:
        with Raw(server, "User-Agent: x", before=before + GET, sent=frame(TEXT, b"abc") + FRAGMENT) as client:
            client.send(frame(CONTINUATION, b"bc") + close())
            client.rest()
        wait_for(lambda: path.read_bytes().count(b"\n") == 2, "both lines")
    http, line = (json.loads(each) for each in path.read_text().splitlines())
    assert (http["protocol"], http["status"]) == ("http", 200)
    assert (line["protocol"], line["status"], line["method"], line["target"]) == ("websocket", 101, "GET", "/chat")
    assert (line["bytes_in"], line["bytes_out"], line["user_agent"]) == (6, 6, "x")
    assert line["client"] == http["client"] == ("192.0.2.7" if proxied else "127.0.0.1")
    assert line["port"] == http["port"]


def test_connections_are_counted_as_what_they_become(server: Server) -> None:
    def opened(protocol: str) -> float:
        with HttpClient(server.connect()) as client:
            page = client.ask(request("GET /metrics HTTP/1.1")).content.decode()
        (line,) = (
            each for each in page.splitlines()
            if each.startswith(f'echoserver_connections_open{{protocol="{protocol}",worker="0"}} ')
        )  # fmt: skip
        return float(line.rpartition(" ")[2])

    before = opened("websocket")
    with Raw(server):
        assert opened("websocket") == before + 1
        assert opened("http") == 1
    wait_for(lambda: opened("websocket") == before, "its end")
